"""From a foreign set as its file has it to a condensed set in the data set's space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dcbench.core.condensed_set import CondensedSet, are_probabilities, check_set
from dcbench.core.dataset import DatasetInfo
from dcbench.core.split import ResidentSplit
from dcbench.formats.foreign import ForeignSet, Pixels
from dcbench.utils.errors import DcbenchError


def to_condensed(
    foreign: ForeignSet, train: ResidentSplit, claimed: Pixels | None, brings: Mapping[str, float], path: Path
) -> CondensedSet:
    """Bring a foreign set to the data set's normalised space, and check it.

    Args:
        foreign: the set as its file has it.
        train: the training split of the data set.
        claimed: what the user says its pixels are.
        brings: what the user says it brings with it, see `CondensedSet.brings`.
        path: named in a `DcbenchError`, where the set does not fit or nobody says what its pixels are.
    """
    images = _to_nchw(foreign.images, train.info, path)
    pixels = _pixels(foreign, claimed, path)
    images = _normalise(images, pixels, train.info, path)
    labels = _to_labels(foreign.labels, len(images), train.info, "temperature" in brings, path)
    condensed = CondensedSet(images, labels, zca=pixels == "zca", **brings)  # type: ignore[arg-type]
    try:
        check_set(condensed, train, None)
    except ValueError as error:
        raise DcbenchError(f"{path} is no condensed set of {train.info.name}: {error}.") from None
    return condensed


def _pixels(foreign: ForeignSet, claimed: Pixels | None, path: Path) -> Pixels:
    if foreign.certain and claimed not in (None, foreign.pixels):
        raise DcbenchError(f"{path} has {foreign.pixels} images: {claimed} contradicts that.")
    pixels = claimed or foreign.pixels
    if pixels is None:
        low, high = float(foreign.images.min()), float(foreign.images.max())
        raise DcbenchError(
            f"{path} does not say what its pixels are (they lie in {low:.3g}..{high:.3g}): say raw for values "
            "in [0, 1], normalised for values from which the data set's mean was subtracted and which were "
            "divided by its deviation, or zca for values in [0, 1] that were then ZCA-whitened."
        )
    return pixels


def _to_nchw(images: Tensor, info: DatasetInfo, path: Path) -> Tensor:
    wanted = (info.channels, *info.size)
    if images.shape[1:] == wanted:
        return images
    if images.shape[1:] == (*info.size, info.channels):
        return images.permute(0, 3, 1, 2)
    if info.channels == 1 and images.shape[1:] == info.size:
        return images.unsqueeze(1)
    found, expected = ("x".join(map(str, shape)) for shape in (images.shape[1:], wanted))
    raise DcbenchError(f"{path} has images of {found}, {info.name} has {expected}.")


def _normalise(images: Tensor, pixels: Pixels, info: DatasetInfo, path: Path) -> Tensor:
    if pixels != "raw":
        return images.float().contiguous()
    if images.dtype == torch.uint8:
        images = images.float() / 255
    elif not bool(((images >= 0) & (images <= 1)).all()):
        raise DcbenchError(
            f"{path} has raw pixels from {float(images.min()):.3g} to {float(images.max()):.3g}; "
            "as floating-point numbers they must lie in [0, 1]."
        )
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (info.mean, info.std))
    return ((images.float() - mean) / std).contiguous()


def _to_labels(labels: Tensor, n: int, info: DatasetInfo, logits: bool, path: Path) -> Tensor:
    """Return labels as int64 of shape (n,) or, soft ones, float32 of shape (n, K); one-hot rows are hard."""
    if labels.shape == (n, 1):
        labels = labels.flatten()
    if labels.shape == (n,):
        if not bool((labels == labels.long()).all()):
            raise DcbenchError(f"{path} has labels that are not whole numbers.")
        return labels.long()
    if labels.shape != (n, info.num_classes):
        expected = f"({n},) or ({n}, {info.num_classes})"
        raise DcbenchError(f"{path} has labels of shape {tuple(labels.shape)}; expected {expected}.")
    soft = labels.float()
    if logits:
        return soft.contiguous()
    if not are_probabilities(soft):
        raise DcbenchError(
            f"{path} has soft labels that are no probabilities: rows of them must add up to 1. Of logits, "
            "say at which temperature networks are trained on their softmax."
        )
    if bool(((soft == 0) | (soft == 1)).all()):
        return soft.argmax(dim=1)
    return soft.contiguous()
