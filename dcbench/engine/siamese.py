"""Differentiable siamese augmentation: real and synthetic images are changed in the same way.

Zhao, Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021. A strategy is spelt as its
operations joined by ``_``. A batch gets one of them, drawn uniformly; its parameters are drawn once for the whole
batch (siamese) or once per image. Operations work in normalised space, with the authors' parameters:

``color``   brightness, saturation and contrast, one after the other
``crop``    shift by up to an eighth of the side, in whole pixels: 4 for 28 and 32 pixels, 1 for 8; zeros come in
``cutout``  set a square of half the side to zero: 14 for 28 pixels, 16 for 32, 4 for 8; cut off at the edge
``flip``    left and right, for half of the draws
``scale``   stretch height and width, each by a factor from 1/1.2 to 1.2; bilinear, zeros outside
``rotate``  by up to 15 degrees; bilinear, zeros outside

Every operation is a function of the images and of uniform draws ``u`` from [0, 1), float64 on the CPU, of shape
(3, n): n is 1 for all images alike, or the number of images. Rows that an operation does not need are drawn, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dcbench.core.dataset import DatasetInfo
from dcbench.utils.devices import send
from dcbench.utils.errors import DcbenchError, unknown_name

BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP, CUTOUT, SCALE, DEGREES = 0.125, 0.5, 1.2, 15.0

View = Callable[[Tensor], Tensor]
"""What is done to a batch of images, (n, C, H, W): the same to every batch that it is given."""


def color(images: Tensor, u: Tensor) -> Tensor:
    """Change brightness by u[0], saturation by u[1] and contrast by u[2]; one channel has no saturation.

    Saturation leaves the grey image as it is, and so the mean; therefore all three are one sum.
    """
    bright, saturation, contrast = (_weights(each, images) for each in u)
    bright, saturation, contrast = (bright - 0.5) * BRIGHTNESS, saturation * SATURATION, contrast + CONTRAST
    grey = images.mean(dim=1, keepdim=True)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    return contrast * saturation * images + (contrast * (1 - saturation) * grey + (1 - contrast) * mean + bright)


def crop(images: Tensor, u: Tensor) -> Tensor:
    """Shift by whole pixels, up or down by u[0], to the left or right by u[1]."""
    height, width = images.shape[-2:]
    down, right = _part(height, CROP), _part(width, CROP)
    padded = F.pad(images, (right, right, down, down))
    rows, columns = _integers(u[0], 2 * down + 1), _integers(u[1], 2 * right + 1)
    if len(rows) == 1:
        row, column = int(rows), int(columns)
        # Contiguous, because how a tensor lies in memory may change how it is computed with.
        return padded[..., row : row + height, column : column + width].contiguous()
    rows, columns = rows[:, None] + torch.arange(height), columns[:, None] + torch.arange(width)
    return _pixels(padded, rows[:, :, None], columns[:, None, :])


def cutout(images: Tensor, u: Tensor) -> Tensor:
    """Set a square to zero whose centre is in the row of u[0] and the column of u[1]."""
    inside = [
        _within(size, _integers(draws, size + 1 - _part(size, CUTOUT) % 2), _part(size, CUTOUT))
        for size, draws in zip(images.shape[-2:], u[:2], strict=True)
    ]
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images * send((~hole).to(images.dtype), images.device)


def flip(images: Tensor, u: Tensor) -> Tensor:
    """Flip left and right where u[0] is below 0.5."""
    flipped = u[0] < 0.5
    if len(flipped) == 1:
        return images.flip(3) if flipped else images
    return torch.where(send(flipped, images.device)[:, None, None, None], images.flip(3), images)


def scale(images: Tensor, u: Tensor, align_corners: bool = False) -> Tensor:
    """Sample a part of the width that u[0] stands for and of the height that u[1] stands for: below 1 enlarges."""
    factors = u[:2] * (SCALE - 1 / SCALE) + 1 / SCALE
    theta = torch.zeros(u.shape[1], 2, 3, dtype=u.dtype)
    theta[:, 0, 0], theta[:, 1, 1] = factors[0], factors[1]
    return _resampled(images, theta, align_corners)


def rotate(images: Tensor, u: Tensor, align_corners: bool = False) -> Tensor:
    """Rotate by the angle that u[0] stands for, between -15 and 15 degrees."""
    angle = (u[0] - 0.5) * 2 * DEGREES * math.pi / 180
    theta = torch.zeros(u.shape[1], 2, 3, dtype=u.dtype)
    theta[:, 0, 0], theta[:, 0, 1] = angle.cos(), -angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin(), angle.cos()
    return _resampled(images, theta, align_corners)


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}
FULL = "_".join(OPERATIONS)
SMALLEST = {"crop": 4, "cutout": 2}
"""The smallest side in pixels for an operation: below, crop would shift nothing and cutout would leave nothing."""


@dataclass(frozen=True)
class SiameseAugmentation:
    """Draws from a strategy.

    Attributes:
        strategy: operations joined by ``_``, such as `FULL`.
        align_corners: of the resampling in scale and rotate: false as in the authors' code, true as in that of
            trajectory matching (Cazenavette et al., CVPR 2022).

    Raises:
        DcbenchError: for an operation that does not exist; it names the nearest.
    """

    strategy: str
    align_corners: bool = False

    def __post_init__(self) -> None:
        """Check the strategy."""
        operations_of(self.strategy)

    def draw(self, generator: torch.Generator, n: int = 1) -> View:
        """Draw what to do to a batch: the same to all its images, or with n parameters to a batch of n images.

        Give the view to the real and to the synthetic images of a class, which makes it siamese.

        Args:
            generator: a CPU generator; the draws do not depend on the device.
            n: how many parameters are drawn.
        """
        operations = operations_of(self.strategy)
        operation = operations[int(torch.randint(len(operations), (1,), generator=generator))]
        u = torch.rand(3, n, dtype=torch.float64, generator=generator)
        resamples = {"align_corners": self.align_corners} if operation in ("scale", "rotate") else {}
        return partial(OPERATIONS[operation], u=u, **resamples)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return a batch changed by one operation, with parameters of its own for each image."""
        return self.draw(generator, len(images))(images)


def suitable_strategy(info: DatasetInfo, strategy: str = FULL) -> str:
    """Return a strategy without the operations that do not suit a data set.

    Raises:
        DcbenchError: for an operation that does not exist, in the strategy or among the unsuitable, for images
            that are too small for one, or where nothing is left.
    """
    for each in sorted(set(info.unsuitable) - OPERATIONS.keys()):
        raise unknown_name(f"augmentation among those unsuitable for {info.name}:", each, OPERATIONS)
    left = [each for each in operations_of(strategy) if each not in info.unsuitable]
    if not left:
        raise DcbenchError(f"augmentation {strategy!r} does not suit {info.name}: no operation is left.")
    for operation in left:
        least = SMALLEST.get(operation, 1)
        if min(info.size) < least:
            height, width = info.size
            raise DcbenchError(
                f"augmentation {operation!r} needs images of at least {least}x{least} pixels; {info.name} has "
                f"{height}x{width}."
            )
    return "_".join(left)


def operations_of(strategy: str, known: Collection[str] = OPERATIONS.keys()) -> list[str]:
    """Split a strategy into its operations; for one that is not known, a `DcbenchError` names the nearest."""
    operations = strategy.split("_")
    for operation in operations:
        if operation not in known:
            raise unknown_name("augmentation", operation, known)
    return operations


def _weights(draws: Tensor, images: Tensor) -> Tensor:
    """Return draws for arithmetic with images: shape (n, 1, 1, 1)."""
    return send(draws.to(images.dtype), images.device)[:, None, None, None]


def _part(size: int, ratio: float) -> int:
    return int(size * ratio + 0.5)


def _integers(draws: Tensor, count: int) -> Tensor:
    """Return the integers from 0 to count - 1 that uniform draws stand for."""
    return (draws * count).long()


def _within(size: int, centres: Tensor, length: int) -> Tensor:
    """Return which of ``size`` pixels lie in intervals about their centres: shape (n, size)."""
    pixels, starts = torch.arange(size), centres[:, None] - length // 2
    return (pixels >= starts) & (pixels < starts + length)


def _pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images (n, C, H, W) made of these pixels; rows and columns broadcast to (n, H, W) or (1, H, W)."""
    n, channels, _, width = images.shape
    places = send(rows, images.device) * width + send(columns, images.device)
    flat = places.flatten(1)[:, None].expand(n, channels, -1)
    return images.flatten(2).gather(2, flat).view(n, channels, *places.shape[1:])


def _resampled(images: Tensor, theta: Tensor, align_corners: bool) -> Tensor:
    """Sample images bilinearly at the points of affine maps from output to input coordinates, (n, 2, 3).

    Where torch is to repeat itself, pixels are gathered, because a GPU sums the gradients of grid_sample in any
    order.
    """
    size = [len(theta), *images.shape[1:]]
    if not (images.requires_grad and torch.are_deterministic_algorithms_enabled()):
        grid = F.affine_grid(send(theta.to(images.dtype), images.device), size, align_corners=align_corners)
        return F.grid_sample(images, grid.expand(len(images), -1, -1, -1), align_corners=align_corners)
    points = F.affine_grid(theta, size, align_corners=align_corners).flip(-1)  # rows first
    sides = torch.tensor(images.shape[-2:])
    points = (points + 1) * (sides - 1) / 2 if align_corners else ((points + 1) * sides - 1) / 2
    points = points.clamp(torch.full((2,), -1), sides)  # where all that is sampled is the border, or outside of it
    padded, result = F.pad(images, (1, 2, 1, 2)), torch.zeros_like(images)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        nearest = points.floor() + torch.tensor(corner)
        weights = (1 - (points - nearest).abs()).prod(dim=-1).to(images.dtype)
        rows, columns = (nearest.long() + 1).unbind(-1)
        result = result + send(weights, images.device)[:, None] * _pixels(padded, rows, columns)
    return result
