"""The draws of the authors' siamese augmentation, drawn again, because they come from torch's global generator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from dcbench.engine.siamese import FULL, OPERATIONS


def uniform(operation: str, side: int) -> Callable[[int], Tensor]:
    """Return how the authors draw one number for each of n images, as uniform draws; a side is in pixels."""
    if operation == "crop":
        most = int(side * 0.125 + 0.5)
        return lambda n: (torch.randint(-most, most + 1, (n,)) + most + 0.5) / (2 * most + 1)
    if operation == "cutout":
        centres = side + 1 - int(side * 0.5 + 0.5) % 2
        return lambda n: (torch.randint(0, centres, (n,)) + 0.5) / centres
    return torch.rand


def redraw(operation: str, seed: int, images: Tensor, alike: bool) -> Tensor:
    """Return the uniform draws of `DiffAugment`: after a seed of their own each if alike, else one by one."""
    torch.manual_seed(seed)
    torch.randint(1, (1,))  # which operation
    rows = []
    for index in range(3):
        if alike:
            torch.manual_seed(seed + 1 + index)
        rows.append(uniform(operation, images.shape[2 if index == 0 else 3])(len(images)))
    return torch.stack(rows).double()[:, : 1 if alike else None]


def redrawn_view(seed: int, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what `DiffAugment` does to images after a seed, by our operations."""
    operations = FULL.split("_")
    torch.manual_seed(seed)
    operation = operations[int(torch.randint(len(operations), (1,)))]
    return partial(OPERATIONS[operation], u=redraw(operation, seed, images, alike=True))
