"""A split on the device: images stay uint8, and a batch is normalised when it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from dcbench.core.dataset import DatasetInfo, Split
from dcbench.utils.devices import send


@dataclass(frozen=True)
class ResidentSplit:
    """A split on the device: images, uint8, shape (N, C, H, W); labels, int64, shape (N,)."""

    images: Tensor
    labels: Tensor
    info: DatasetInfo

    @classmethod
    def place(cls, split: Split, info: DatasetInfo, device: torch.device) -> ResidentSplit:
        """Return a split, moved to the device."""
        return cls(split.images.to(device), split.labels.to(device), info)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    def part(self, indices: Tensor) -> Self:
        """Return the split of the images at ``indices``: int64, shape (n,), on any device."""
        indices = send(indices, self.device)
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    @cached_property
    def class_indices(self) -> tuple[Tensor, ...]:
        """Indices of the images of each class, in order of appearance: int64 on the CPU."""
        labels = self.labels.cpu()
        return tuple(torch.nonzero(labels == label).flatten() for label in range(self.info.num_classes))

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        mean, std = torch.tensor([self.info.mean, self.info.std], device=self.device).view(2, 1, -1, 1, 1)
        return mean, std

    def normalised(self, indices: Tensor | slice) -> Tensor:
        """Return images in normalised space, (pixel / 255 - mean) / std: float32, shape (n, C, H, W)."""
        return self.normalise(self.raw(indices))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return pixels in [0, 1], float32, shape (n, C, H, W), in normalised space; gradients pass through."""
        mean, std = self._statistics
        return (pixels - mean).div_(std)

    def raw(self, indices: Tensor | slice) -> Tensor:
        """Return images as pixels in [0, 1]: float32, shape (n, C, H, W)."""
        chosen = send(indices, self.device) if isinstance(indices, Tensor) else indices
        return self.images[chosen].float().div_(255)

    def draw_indices(self, label: int, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` different images of a class, or all of them if the class has fewer.

        Returns int64 indices on the CPU, shape (min(n, size of the class),).
        """
        members = self.class_indices[label]
        return members[torch.randperm(len(members), generator=generator)[:n]]

    def draw(self, label: int, n: int, generator: torch.Generator) -> Tensor:
        """Draw normalised images of a class, as `draw_indices` does: float32, shape (n, C, H, W)."""
        return self.normalised(self.draw_indices(label, n, generator))
