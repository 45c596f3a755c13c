"""What the pixels of a set made elsewhere are, and whether that fits the training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dcbench.core.dataset import DatasetInfo
from dcbench.core.split import ResidentSplit

Pixels = Literal["normalised", "raw", "zca"]
"""Normalised with a mean and a deviation; raw; or raw and then ZCA-whitened."""

SAMPLE = 1000
"""About so many training images are looked at."""
MISFIT = 0.5
"""`Look.misfit` from which on a word is doubted."""
SHIFTED = 1.0
"""Deviations between the means of images and of training images, from which on other statistics are likely."""
NEAR = 0.25
"""How far outside [0, 1] raw pixels are still near."""
WHITENED = 3 * 32 * 32
"""Larger images are not whitened for a comparison: that takes minutes."""


def beyond(images: Tensor) -> tuple[float, int]:
    """Return how far raw pixels lie outside [0, 1] at most, and the number of those that do."""
    outside = (images - images.clamp(0, 1)).abs()
    return float(outside.max()), int((outside > 0).sum())


def can_be_pixels(images: Tensor) -> bool:
    """Say whether numbers can be raw pixels that a method did not clamp: most near [0, 1], none beyond [-1, 2].

    Near, because most pixels of digits are background, all of which may lie a little below 0.
    """
    outside = (images - images.clamp(0, 1)).abs()
    return float(outside.max()) <= 1 and int((outside > NEAR).sum()) <= images.numel() / 2


def scaled(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return raw pixels, (N, C, H, W), normalised by a mean and a deviation of each channel."""
    centre, scale = (torch.tensor(values, device=images.device).view(1, -1, 1, 1) for values in (mean, std))
    return (images - centre) / scale


@dataclass(frozen=True)
class Look:
    """What images look like: mean and deviation of each channel, and how neighbouring pixels correlate."""

    mean: Tensor
    std: Tensor
    correlation: float

    @classmethod
    def of(cls, images: Tensor) -> Look:
        """Return that of images, floating, (N, C, H, W)."""
        mean = images.mean(dim=(0, 2, 3))
        centred = images - mean.view(1, -1, 1, 1)
        square = centred.square().mean()
        neighbours = (centred[..., 1:] * centred[..., :-1]).mean() / square if images.shape[3] > 1 else square * 0
        return cls(mean.cpu(), centred.square().mean(dim=(0, 2, 3)).sqrt().cpu(), float(neighbours))

    def misfit(self, real: Look) -> float:
        """Return how unlike real images a condensed set looks; 0 for alike.

        Condensed images have more contrast than real ones, so a larger deviation counts half.
        """
        ratio = (self.std.clamp(min=1e-6) / real.std.clamp(min=1e-6)).log()
        contrast = torch.where(ratio > 0, ratio / 2, -ratio)
        return float(contrast.mean()) + self.shift(real) + 2 * abs(self.correlation - real.correlation)

    def shift(self, real: Look) -> float:
        """Return how far the means are apart, in deviations."""
        return float(((self.mean - real.mean).abs() / torch.maximum(self.std, real.std).clamp(min=1e-6)).mean())


def better_word(
    images: Tensor,
    claimed: Pixels,
    train: ResidentSplit,
    whitened: Callable[[], ResidentSplit],
    normalised_by: tuple[Sequence[float], Sequence[float]],
) -> Pixels | None:
    """Return the word for pixels that clearly fits better than that of the user; None where there is none.

    The images are compared with the training images, as they are under each word.

    Args:
        images: as the file has them, floating, finite, (N, C, H, W).
        claimed: the word of the user.
        train: the training split.
        whitened: returns it whitened. That takes time, so it is called only where it matters.
        normalised_by: mean and deviation of each channel that ``normalised`` stands for.
    """
    if claimed != "raw" and bool(((images >= 0) & (images <= 1)).all()):
        return "raw"  # no training image is like that under the other words
    chosen = torch.arange(0, len(train), max(1, len(train) // SAMPLE))
    real = train.images[chosen.to(train.device)].float() / 255
    under: dict[Pixels, Callable[[], Tensor]] = {
        "raw": lambda: real,
        "normalised": lambda: scaled(real, *normalised_by),
        "zca": lambda: whitened().normalised(chosen),
    }
    found = Look.of(images)
    misfit = found.misfit(Look.of(under[claimed]()))
    if not misfit > MISFIT:
        return None
    contrast = float(found.std.mean())
    if claimed != "zca" and (contrast > 1 or images[0].numel() > WHITENED):  # whitened images have less contrast
        del under["zca"]
    others = {word: found.misfit(Look.of(make())) for word, make in under.items() if word != claimed}
    best = min(others, key=lambda word: others[word])
    return best if others[best] < misfit / 2 and (best != "raw" or can_be_pixels(images)) else None


def are_shifted(images: Tensor, train: ResidentSplit, mean: Sequence[float], std: Sequence[float]) -> bool:
    """Say whether images, floating, (N, C, H, W), were clearly not normalised by this mean and deviation."""
    chosen = torch.arange(0, len(train), max(1, len(train) // SAMPLE)).to(train.device)
    return Look.of(images).shift(Look.of(scaled(train.images[chosen].float() / 255, mean, std))) > SHIFTED


def statistics_problem(info: DatasetInfo, mean: Sequence[float], std: Sequence[float]) -> str:
    """Return what is wrong with a mean and a deviation that a user states; empty if nothing is."""
    if not len(mean) == len(std) == info.channels:
        return f"need {info.channels} number{'s' * (info.channels > 1)} each, one for each channel of {info.name}"
    if not all(0 <= value <= 1 for value in mean) or not all(0 < value <= 1 for value in std):
        return "are of pixels in [0, 1]: divide those of pixels up to 255 by 255"
    return ""
