"""Finding images and labels in what a file holds: the forms that condensed sets are kept in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcbench.formats.pixels import Pixels
from dcbench.utils.errors import DcbenchError

PAIRS = (("images", "labels"), ("syn_imgs", "syn_labels"), ("image_syn", "label_syn"), ("x", "y"))
"""Names under which files keep a set's images and labels together."""
IMAGES = ("images", "syn_imgs", "image_syn", "x", "data", "x_train", "image", "imgs")
LABELS = ("labels", "syn_labels", "label_syn", "y", "target", "targets", "y_train", "label")
"""Names for either, which count where none of `PAIRS` is complete."""
RATES = ("lr", "syn_lr", "learning_rate")
"""Names of the learning rate that was learned with a set."""


@dataclass(frozen=True)
class ForeignSet:
    """One set as its file has it.

    Attributes:
        images: uint8 or floating, of any layout.
        labels: of any type of numbers, of shape (N,), (N, 1) or (N, K); None where they are said to be in order.
        pixels: what they are by the file's form; None where that does not say.
        certain: whether that is certain, as for uint8, and not only the habit of those who use the form.
        lr: the learning rate that was learned with it.
    """

    images: Tensor
    labels: Tensor | None
    pixels: Pixels | None = None
    certain: bool = False
    lr: float | None = None


def find_sets(content: Any, path: Path) -> tuple[tuple[ForeignSet, ...], tuple[str | None, ...]]:
    """Return the sets in what a file holds, and the names in it that were used."""
    if isinstance(content, Mapping) and isinstance(content.get("data"), Sequence):
        # The authors' code keeps what it trains on, which is normalised; it has no whitening.
        sets = _several(content["data"], "normalised" if "accs_all_exps" in content else None, path)
        if sets:
            return sets, ("data", "accs_all_exps")
    if one := _one(content, None, path):
        return (one,), (*_names(content), name_of(content, RATES)) if isinstance(content, Mapping) else ()
    return _several(content, None, path), ()


def _several(value: Any, pixels: Pixels | None, path: Path) -> tuple[ForeignSet, ...]:
    if not isinstance(value, Sequence):
        return ()
    sets = [_one(each, pixels, path) for each in value]
    if len(sets) > 1 and all(sets) and all(isinstance(each, Sequence) and len(each) == 3 for each in value):
        raise DcbenchError(
            f"{path} has a list of {len(sets)} steps (images, labels, learning rate) that are to be taken in this "
            "order (Wang et al., Dataset Distillation, 2018). No protocol here keeps to an order. To score a step "
            "as a set, save it in a file of its own."
        )
    return tuple(each for each in sets if each) if all(sets) else ()


def _one(value: Any, pixels: Pixels | None, path: Path) -> ForeignSet | None:
    """Return a set: a dictionary with images and labels; a pair, maybe with a rate; a list of (image, label)."""
    if isinstance(value, Mapping):
        names = _names(value)
        return _pair(value[names[0]], value[names[1]], pixels, rate_in(value, path)) if names else None
    if not isinstance(value, Sequence) or not value:
        return None
    rate = _number(value[2]) if len(value) == 3 else None
    if (len(value) == 2 or rate is not None) and (pair := _pair(value[0], value[1], pixels, rate)):
        return pair
    if all(isinstance(each, Sequence) and len(each) == 2 and _number(each[1]) is not None for each in value):
        return _pair([image for image, _ in value], [_number(label) for _, label in value], pixels, None)
    return None


def _names(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the names of a set's images and labels; empty where there is no such pair, or more than one."""

    def complete(pairs: Any) -> list[tuple[str, str]]:
        return [(a, b) for a, b in pairs if _pair(content.get(a), content.get(b), None, None)]

    pairs = complete(PAIRS) or complete((a, b) for a in IMAGES for b in LABELS)
    return pairs[0] if len(pairs) == 1 else ()


def _pair(images: Any, labels: Any, pixels: Pixels | None, lr: float | None) -> ForeignSet | None:
    images, labels = as_images(images), as_labels(labels)
    return None if images is None or labels is None else one_set(images, labels, pixels, lr)


def one_set(images: Tensor, labels: Tensor | None, pixels: Pixels | None, lr: float | None) -> ForeignSet:
    """Return a set of images and labels; uint8 is raw, whatever the form says of the pixels."""
    raw = images.dtype == torch.uint8
    return ForeignSet(images.detach(), labels, "raw" if raw else pixels, certain=raw, lr=lr)


def lone_images(content: Any) -> Tensor | None:
    """Return the images of a file that has no labels."""
    return as_images(first_of(content, IMAGES)) if name_of(content, LABELS) is None else None


def name_of(content: Any, names: Sequence[str]) -> str | None:
    """Return the first of the names under which a dictionary has something."""
    here = (name for name in names if isinstance(content, Mapping) and content.get(name) is not None)
    return next(here, None)


def first_of(content: Any, names: Sequence[str]) -> Any:
    """Return what a dictionary has under the first of the names that is there; what is no dictionary as it is."""
    return content.get(name_of(content, names)) if isinstance(content, Mapping) else content


def as_images(value: Any) -> Tensor | None:
    """Return images, of three dimensions or four, given as one tensor or as a list of tensors."""
    value = stacked(value)
    return value if isinstance(value, Tensor) and value.ndim in (3, 4) else None


def as_labels(value: Any) -> Tensor | None:
    """Return labels, given as one tensor, as a list of tensors, or of numbers."""
    if isinstance(value, Sequence) and value and all(_number(each) is not None for each in value):
        return torch.tensor([float(each) for each in value], dtype=torch.float64)
    value = stacked(value)
    return value.detach() if isinstance(value, Tensor) and value.ndim <= 2 else None


def stacked(value: Any) -> Any:
    """Return a list of tensors of one shape as one tensor; other things as they are."""
    if isinstance(value, Sequence) and value and all(isinstance(each, Tensor) for each in value):
        with suppress(RuntimeError, NotImplementedError, KeyError):  # of different shapes, or of strange types
            return torch.stack([*value])
    return value


def _number(value: Any) -> float | None:
    """Return a number, also in a tensor of one; of float32 its shortest decimal, 0.02 and not 0.0199999996."""
    with suppress(TypeError, ValueError, RuntimeError, OverflowError, NotImplementedError):
        if isinstance(value, Tensor) and value.numel() == 1:
            return float(str(value.detach().reshape(()).numpy()))
        if isinstance(value, Real):
            return float(value)
    return None


def rate_in(content: Any, path: Path) -> float | None:
    """Return the learning rate that a dictionary has."""
    name = name_of(content, RATES)
    return None if name is None else as_rate(content[name], path)


def as_rate(value: Any, path: Path) -> float:
    """Return a learning rate; a `DcbenchError` refuses several, and what is no number."""
    found = _number(value)
    if found is None:
        raise DcbenchError(f"{path} has a learning rate that is not one number: networks are trained at one rate.")
    return found


def stated_accuracies(content: Any) -> dict[str, tuple[float, ...]]:
    """Return the accuracies that a file of the authors' form states, by the name of a network."""
    stated = content.get("accs_all_exps") if isinstance(content, Mapping) else None
    accuracies = {}
    for name, values in stated.items() if isinstance(stated, Mapping) else ():
        with suppress(TypeError, ValueError, OverflowError):  # what is no list of numbers is no accuracy
            accuracies[str(name)] = tuple(map(float, values))
    return {name: values for name, values in accuracies.items() if values}
