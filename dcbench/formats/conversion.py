"""From a foreign set as its file has it to a condensed set in the data set's space."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcbench.core.condensed_set import CondensedSet, check_set
from dcbench.core.dataset import DatasetInfo
from dcbench.core.dataset_form import GREY_WEIGHTS, DatasetForm
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.formats.foreign import Statement
from dcbench.formats.forms import ForeignSet
from dcbench.formats.labels import in_order, to_labels
from dcbench.formats.pixels import (
    Pixels,
    are_shifted,
    better_word,
    beyond,
    can_be_pixels,
    scaled,
    statistics_problem,
)
from dcbench.utils.errors import DcbenchError


def to_condensed(foreign: ForeignSet, data: LoadedDataset, said: Statement, path: Path) -> CondensedSet:
    """Bring a foreign set to the data set's normalised space, and check it.

    Args:
        foreign: the set as its file has it.
        data: the data set; its test split is not used.
        said: what the user says of the set; a warning names what does not fit.
        path: named in a `DcbenchError`, where the set does not fit or nobody says what its pixels are.
    """
    info = data.info
    if said.grey and info.channels != 1:
        raise DcbenchError(f"--grey is for grey data sets, and {info.name} is in colour.")
    images = _to_nchw(foreign.images, info, said.grey, path)
    pixels = _pixels(foreign, said, info, path)
    if (said.pixels or said.mean) and not foreign.certain:
        _doubt(images, pixels, said, data, path)
    images = _normalise(images, pixels, info, said, path)
    n, brings = len(images), dict(said.brings)
    if foreign.lr is not None and "lr" not in brings:
        if not 0 < foreign.lr < math.inf:
            raise DcbenchError(f"{path} has a learning rate of {foreign.lr:g}: give one above 0 with --lr.")
        brings["lr"] = foreign.lr
    if said.labels_are == "logits":
        brings.setdefault("temperature", 1.0)
    are = "logits" if "temperature" in brings and said.labels_are is None else said.labels_are
    if foreign.labels is None:
        labels, remark = in_order(n, info, path), ""
    else:
        labels, remark = to_labels(foreign.labels, n, info, are, path)
    if remark:
        warnings.warn(f"{path}: {remark}.", stacklevel=2)
    condensed = CondensedSet(images, labels, zca=pixels == "zca", **brings)  # type: ignore[arg-type]
    try:
        check_set(condensed, data.train, None)
    except ValueError as error:
        raise DcbenchError(f"{path} is no condensed set of {info.name}: {error}.") from None
    return condensed


def _pixels(foreign: ForeignSet, said: Statement, info: DatasetInfo, path: Path) -> Pixels:
    claimed = said.pixels
    if said.mean:
        if foreign.certain or claimed not in (None, "normalised"):
            what = foreign.pixels if foreign.certain else claimed
            raise DcbenchError(f"{path} has {what} images: --mean and --std are of normalised ones.")
        if problem := statistics_problem(info, said.mean, said.std):
            raise DcbenchError(f"--mean and --std {problem}.")
        return "normalised"
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


def _to_nchw(images: Tensor, info: DatasetInfo, grey: bool, path: Path) -> Tensor:
    wanted, shape = (info.channels, *info.size), images.shape[1:]
    if shape == wanted:
        return images
    if shape == (*info.size, info.channels):
        return images.permute(0, 3, 1, 2)
    if info.channels == 1 and shape == info.size:
        return images.unsqueeze(1)
    colours = images.permute(0, 3, 1, 2) if shape == (*info.size, 3) else images
    hint = _fitting_form(shape, info)
    if info.channels == 1 and colours.shape[1:] == (3, *info.size):
        if bool((colours == colours[:, :1]).all()):
            return colours[:, :1]
        if grey:
            weights = torch.tensor(GREY_WEIGHTS).view(1, 3, 1, 1) / 2**16
            mixed = (colours * weights).sum(dim=1, keepdim=True)
            return mixed.round().to(torch.uint8) if images.dtype == torch.uint8 else mixed
        hint = f"--grey makes colours grey; {hint}"
    found, expected = ("x".join(map(str, each)) for each in (shape, wanted))
    raise DcbenchError(f"{path} has images of {found}, {info.name} has {expected}. {hint}".strip())


def _fitting_form(shape: torch.Size, info: DatasetInfo) -> str:
    """Return a sentence that names the form of the data set with images of a shape; empty if there is none."""
    channels, *size = (1, *shape) if len(shape) == 2 else shape if shape[0] in (1, 3) else (shape[-1], *shape[:-1])
    if channels not in (1, 3) or max(size) > 9999:
        return ""
    name, _, options = info.name.partition(":")
    kept = [each for each in options.split(",") if each and not each.startswith(("size=", "channels="))]
    changes: dict[str, Any] = {"channels": channels} if channels != info.channels else {}
    if (*size,) != info.size:
        changes["size"] = "x".join(map(str, size))
    form = DatasetForm(**changes)
    return f"-d {form.spelled_after(':'.join([name, ','.join(kept)]) if kept else name)} has images of that size."


def _doubt(images: Tensor, claimed: Pixels, said: Statement, data: LoadedDataset, path: Path) -> None:
    """Warn where another word for the pixels, or other statistics, clearly fit better than those of the user."""
    images = images.float()
    if not bool(torch.isfinite(images).all()):
        return
    statistics = (said.mean, said.std) if said.mean else (data.info.mean, data.info.std)
    word = better_word(images, claimed, data.train, lambda: data.train_split(zca=True), statistics)
    if word:
        better = f"They are like {word} ones: say --{word}."
    elif claimed == "normalised" and are_shifted(images, data.train, *statistics):
        better = "If they were normalised by other statistics, say which: --mean and --std."
    else:
        return
    low, high, mean = (float(value) for value in (images.min(), images.max(), images.mean()))
    warnings.warn(
        f"{path}: pixels from {low:.3g} to {high:.3g} with a mean of {mean:.3g} are not like those of "
        f"{data.info.name} when they are {claimed}. {better}",
        stacklevel=3,
    )


def _normalise(images: Tensor, pixels: Pixels, info: DatasetInfo, said: Statement, path: Path) -> Tensor:
    if said.mean:
        centre, scale = (torch.tensor(values).view(1, -1, 1, 1) for values in (said.mean, said.std))
        return scaled(images.float() * scale + centre, info.mean, info.std).contiguous()
    if pixels != "raw":
        return images.float().contiguous()
    if images.dtype == torch.uint8:
        images = images.float() / 255
    elif not bool(((images >= 0) & (images <= 1)).all()):
        _check_unclamped(images, path)
    return scaled(images.float(), info.mean, info.std).contiguous()


def _check_unclamped(images: Tensor, path: Path) -> None:
    """Refuse what cannot be raw pixels; warn of pixels outside [0, 1]."""
    far, count = beyond(images)
    low, high, n = float(images.min()), float(images.max()), images.numel()
    if not can_be_pixels(images):
        hint = "if they go up to 255, save them as uint8" if low >= 0 else "normalised ones are called so"
        raise DcbenchError(
            f"{path} has raw pixels from {low:.3g} to {high:.3g}. They must lie in [0, 1], but for a few that a "
            f"method did not clamp, and {count} of {n} do not: {hint}."
        )
    warnings.warn(
        f"{path}: {count} of {n} raw pixels lie outside [0, 1], by up to {far:.3g}. They are used as they are.",
        stacklevel=4,
    )
