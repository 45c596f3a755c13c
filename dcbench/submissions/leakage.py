"""Whether a condensed set holds test images."""

from __future__ import annotations

import torch
from torch import Tensor

from dcbench.core.condensed_set import CondensedSet
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.split import ResidentSplit

NEAR = 0.5
"""An image is taken for a test image when it is this much nearer to one than to any training image."""

CHUNK = 2048


def count_test_images(condensed: CondensedSet, data: LoadedDataset) -> int:
    """Count the images of a set that are far nearer to a test image than to any training image.

    Distances are Euclidean, in the space of the set. The test finds copies, and copies with small changes. It does
    not prove that a method has not seen the test split.
    """
    if condensed.indices is not None:  # these are training images, which was checked
        return 0
    images = condensed.images.to(data.device).flatten(1)
    test, train = data.test_split(condensed.zca), data.train_split(condensed.zca)
    to_test, to_train = (_nearest(images, split) for split in (test, train))
    return int((to_test < NEAR * to_train).sum())


def _nearest(images: Tensor, split: ResidentSplit) -> Tensor:
    """Return the distance of each image to the nearest of a split: shape (n,)."""
    nearest = torch.full((len(images),), torch.inf, device=images.device)
    for start in range(0, len(split), CHUNK):  # a whole split in float32 may be gigabytes
        batch = split.normalised(slice(start, start + CHUNK)).flatten(1)
        nearest = torch.minimum(nearest, torch.cdist(images, batch).min(1).values)
    return nearest
