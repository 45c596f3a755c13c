"""Labels of sets made elsewhere: which are classes, which are probabilities, and which are neither."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dcbench.core.condensed_set import are_probabilities
from dcbench.core.dataset import DatasetInfo
from dcbench.utils.errors import DcbenchError

LabelsAre = Literal["logits", "classes"]
"""What rows of numbers are said to be: logits, or classes by their largest entry."""


def in_order(n: int, info: DatasetInfo, path: Path) -> Tensor:
    """Return labels, int64 of shape (n,), of images that are sorted by class, with as many of each."""
    if n % info.num_classes:
        raise DcbenchError(
            f"{path} has {n} images, which do not divide by the {info.num_classes} classes of {info.name}: "
            "--labels in-order is for images sorted by class, with as many of each."
        )
    return torch.arange(info.num_classes).repeat_interleave(n // info.num_classes)


def to_labels(labels: Tensor, n: int, info: DatasetInfo, are: LabelsAre | None, path: Path) -> tuple[Tensor, str]:
    """Return labels as the evaluation takes them, and a remark where that was recognised and not said.

    Args:
        labels: numbers of shape (n,), (n, 1) or (n, K).
        n: the number of images.
        info: of the data set, with its number of classes, K.
        are: what the user says of rows of numbers.
        path: named in a `DcbenchError`, where the labels do not fit.

    Returns:
        int64 of shape (n,), or float32 of shape (n, K), probabilities or logits; one-hot rows are classes.
    """
    if labels.shape == (n, 1):
        labels = labels.flatten()
    if labels.shape == (n,):
        if not bool((labels == labels.long()).all()):
            raise DcbenchError(f"{path} has labels that are not whole numbers.")
        return labels.long(), ""
    if labels.shape != (n, info.num_classes):
        expected = f"({n},) or ({n}, {info.num_classes})"
        raise DcbenchError(f"{path} has labels of shape {tuple(labels.shape)}; expected {expected}.")
    rows = labels.float().contiguous()
    if are == "logits":
        return rows, ""
    if are == "classes":
        return rows.argmax(dim=1), ""
    if are_probabilities(rows):
        return (rows.argmax(dim=1), "") if bool(((rows == 0) | (rows == 1)).all()) else (rows, "")
    if (values := _one_hot_values(rows)) is not None:
        high, low = values
        remark = f"its labels are {high:.3g} for one class and {low:.3g} for the others: they are taken as classes"
        return rows.argmax(dim=1), remark
    raise DcbenchError(_neither(rows, path))


def _one_hot_values(rows: Tensor) -> tuple[float, float] | None:
    """Return the two values of rows that are one-hot but for scale and shift, as KIP and FRePo have them."""
    ordered = rows.sort(dim=1, descending=True).values
    high, low = ordered[:, :1], ordered[:, 1:]
    if not low.numel():
        return None
    gap = float(high.min() - low.max())
    spread = max(float(high.max() - high.min()), float(low.max() - low.min()))
    return (float(high.mean()), float(low.mean())) if spread < 1e-3 * gap else None


def _neither(rows: Tensor, path: Path) -> str:
    low, high = float(rows.min()), float(rows.max())
    guess = "targets of a regression (KIP, FRePo)" if max(-low, high) < 2 else "logits (DATM)"
    return (
        f"{path} has soft labels that are no probabilities, from {low:.3g} to {high:.3g}: they look like {guess}. "
        "--labels-are logits trains on their softmax, at --temperature 1 unless another is given; "
        "--labels-are classes takes the largest of each row. No protocol here trains on targets of a regression."
    )
