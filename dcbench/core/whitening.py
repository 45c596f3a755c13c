"""ZCA whitening, for condensed sets that were made in whitened space.

It is the whitening of Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022. It is
fitted on the training pixels in [0, 1], without another normalisation, and applied to training and test images: x
-> (x - mean) W with W = U (S + eps)^(-1/2) U^T from the covariance U S U^T of the pixels, eps = 0.1. Do not use it
for sets of methods that whiten in another way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dcbench.core.split import ResidentSplit

EPS = 0.1
NAME = "pixels in [0, 1], eps 0.1"
"""What records state about it."""
BATCH = 2000


@dataclass(frozen=True)
class Whitening:
    """A fitted whitening.

    Attributes:
        mean: float32, shape (D,), of the training pixels in [0, 1], D = C * H * W.
        matrix: float32, shape (D, D), symmetric.
    """

    mean: Tensor
    matrix: Tensor

    @classmethod
    def fit(cls, train: ResidentSplit, eps: float = EPS) -> Whitening:
        """Fit on a training split, in float64."""
        dimension = train.images[0].numel()
        total = torch.zeros(dimension, dtype=torch.float64, device=train.device)
        products = torch.zeros(dimension, dimension, dtype=torch.float64, device=train.device)
        for start in range(0, len(train), BATCH):
            rows = train.images[start : start + BATCH].flatten(1).double() / 255
            total += rows.sum(dim=0)
            products += rows.T @ rows
        mean = total / len(train)
        covariance = (products - len(train) * torch.outer(mean, mean)) / max(1, len(train) - 1)
        values, vectors = torch.linalg.eigh(covariance)
        matrix = (vectors * (values.clamp(min=0) + eps).rsqrt()) @ vectors.T
        return cls(mean.float(), matrix.float())

    def __call__(self, images: Tensor) -> Tensor:
        """Return whitened images, from pixels in [0, 1]: float32, shape (n, C, H, W)."""
        return ((images.flatten(1) - self.mean) @ self.matrix).view_as(images)


@dataclass(frozen=True)
class WhitenedSplit(ResidentSplit):
    """A split on the device that returns whitened images."""

    whitening: Whitening

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return whitened images, from pixels in [0, 1]: float32, shape (n, C, H, W)."""
        return self.whitening(pixels)


def whiten(train: ResidentSplit) -> WhitenedSplit:
    """Return a training split that returns whitened images, by a whitening that is fitted on it."""
    return WhitenedSplit(train.images, train.labels, train.info, Whitening.fit(train))
