"""Test images in a condensed set, as they are or slightly changed."""

from __future__ import annotations

import torch
from torch import Tensor

from dcbench.cells import Bench
from dcbench.condensed import CondensedSet

NEAR = 0.5
"""An image is taken for a test image when it is this much nearer to one than to any training image."""
CHUNK = 256


def count_test_images(condensed: CondensedSet, bench: Bench) -> int:
    """Count the images of a set that are far nearer to a test image than to any training image.

    Distances are Euclidean, in the space of the set. It finds copies, and copies with little changes; it is no
    proof that a method has not seen the test split.
    """
    if condensed.indices is not None:  # training images, which was checked
        return 0
    images = condensed.images.to(bench.device).flatten(1)
    test, train = bench.test_for(condensed), bench.train_for(condensed)
    to_test, to_train = (_nearest(images, split.normalised(slice(None)).flatten(1)) for split in (test, train))
    return int((to_test < NEAR * to_train).sum())


def _nearest(images: Tensor, others: Tensor) -> Tensor:
    """Return the distance of each image to the nearest of the others: shape (n,)."""
    found = []
    for part in torch.split(images, CHUNK):
        nearest = [torch.cdist(part, batch).min(1).values for batch in torch.split(others, 10 * CHUNK)]
        found.append(torch.stack(nearest).min(0).values)
    return torch.cat(found)
