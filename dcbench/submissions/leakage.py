"""Whether a condensed set holds test images, plain, mixed with training images, or with noise."""

from __future__ import annotations

from functools import lru_cache

import torch
from scipy.stats import binom
from torch import Tensor

from dcbench.core.condensed_set import CondensedSet
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.split import ResidentSplit

NEAR = 0.5
"""An image is taken for a test image when it is this much nearer to one than to any training image."""
SUSPECT_RATE = 0.01
"""Of so many training images the nearest test image is suspiciously near, compared with the nearest other one."""
FALSE_ALARM = 0.001
"""How often a set of training images may have more suspects than chance explains."""
SAMPLE = 1000
"""Training images that tell what is suspiciously near."""
CHUNK = 2048


def count_test_images(condensed: CondensedSet, data: LoadedDataset) -> int:
    """Count the images of a set that are taken for test images.

    Copies are, by `NEAR`. All suspects are, by the distances among the data set's own images, if they are more
    than in all but `FALSE_ALARM` of the sets of training images. So most sets of test images are found that are
    mixed with smaller parts of training images of their class, or in noise. Distances are Euclidean, in the space
    of the set. The test does not prove that a method has not seen the test split.
    """
    if condensed.indices is not None:  # these are training images, which was checked
        return 0
    images = condensed.images.to(data.device).flatten(1)
    ratio = _nearest(images, data.test_split(condensed.zca)) / _nearest(images, data.train_split(condensed.zca))
    suspects = int((ratio < _suspicious(data, condensed.zca)).sum())
    usual = int(binom.isf(FALSE_ALARM, len(images), SUSPECT_RATE))
    return suspects if suspects > usual else int((ratio < NEAR).sum())


@lru_cache(8)
def _suspicious(data: LoadedDataset, zca: bool) -> float:
    """Return the distance to the nearest test image over that to the nearest training image that few are below."""
    train, test = data.train_split(zca), data.test_split(zca)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(train), generator=generator)[:SAMPLE].to(data.device)
    images = train.normalised(chosen).flatten(1)
    ratio = _nearest(images, test) / _nearest(images, train, 2)
    return float(ratio.nan_to_num(1.0).quantile(SUSPECT_RATE).clamp(max=1))


def _nearest(images: Tensor, split: ResidentSplit, rank: int = 1) -> Tensor:
    """Return the distance of each image to the nearest of a split, or to the second nearest: shape (n,)."""
    nearest = torch.full((len(images), rank), torch.inf, device=images.device)
    for start in range(0, len(split), CHUNK):  # a whole split in float32 may be gigabytes
        batch = split.normalised(slice(start, start + CHUNK)).flatten(1)
        together = torch.cat([nearest, torch.cdist(images, batch)], 1)
        nearest = together.topk(rank, 1, largest=False).values
    return nearest[:, -1]
