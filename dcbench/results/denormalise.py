"""From normalised space back to pixels, for looking at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_pixels(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Undo the normalisation.

    Synthetic images go beyond the pixel range, and clipping them there leaves silhouettes. So an image that
    does is compressed: from its 5th to its 95th percentile, or the pixel range where that is wider. Real
    images stay as they are.

    Args:
        images: float32, shape (N, C, H, W), in normalised space.
        mean, std: of each channel, in units of the pixel range [0, 1].

    Returns:
        uint8, shape (N, C, H, W). Computed in float64, so that pages made from it are the same everywhere.
    """
    if not len(images):
        return torch.zeros(images.shape, dtype=torch.uint8)
    means, stds = (torch.tensor(each, dtype=torch.float64).view(1, -1, 1, 1) for each in (mean, std))
    pixels = images.double() * stds + means
    flat = pixels.flatten(1)
    low = flat.quantile(0.05, dim=1).clamp(max=0).view(-1, 1, 1, 1)
    high = flat.quantile(0.95, dim=1).clamp(min=1).view(-1, 1, 1, 1)
    return ((pixels - low) / (high - low)).clamp(0, 1).mul(255).round().to(torch.uint8)
