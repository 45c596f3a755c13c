"""What methods are checked with: a training split and two networks that need no plugin, and take milliseconds."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from dcbench.core.architecture import Architecture
from dcbench.core.component import option
from dcbench.core.dataset import Dataset, DatasetInfo, LoadedDataset, Split, Splits, load_dataset

CLASS_COUNTS = (12, 9, 7)
"""Training images per class: not as many of each, so that nobody relies on that."""
SIZE = (8, 8)
CHANNELS = 3


class CheckImages(Dataset):
    """Three classes of coloured noise, each with a bright block in a place of its own, in no order."""

    name = "check_images"

    test_seed: int = option(0, "another seed gives another test split, and the same training split")

    def load(self, root: Path) -> Splits:
        """Draw both splits; ``root`` is not used."""
        train = _draw(CLASS_COUNTS, torch.Generator().manual_seed(20210504))
        test = _draw((4, 4, 4), torch.Generator().manual_seed(self.test_seed))
        return Splits(train, test, ("left", "middle", "right"))


def load_fixture(test_seed: int = 0) -> LoadedDataset:
    """Return the data set that methods are checked on: 28 images of 3x8x8 in 3 classes to train on."""
    return load_dataset(CheckImages(test_seed=test_seed), Path())


def _draw(counts: tuple[int, ...], generator: torch.Generator) -> Split:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    images = torch.randint(0, 160, (len(labels), CHANNELS, *SIZE), generator=generator)
    for label in range(len(counts)):
        images[labels == label, :, 2:6, 2 * label + 1 : 2 * label + 3] += 90
    return Split(images.to(torch.uint8), labels)


class CheckNetwork(Architecture):
    """A small convolution, normalisation, ReLU, pooling and a linear classifier: what ConvNets are made of."""

    name = "check_network"

    width: int = option(6, "channels of the convolution", ge=1)

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return the network."""
        features = self.width * (info.size[0] // 2) * (info.size[1] // 2)
        return nn.Sequential(
            nn.Conv2d(info.channels, self.width, 3, padding=1),
            nn.GroupNorm(self.width, self.width),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(features, info.num_classes),
        )
