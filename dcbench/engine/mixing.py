"""Augmentation as knowledge distillation uses it: crops that are enlarged, and pieces of other images.

All draws come from the generator, on the CPU, whatever the device; images are float, shape (n, C, H, W), in
normalised space.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dcbench.utils.devices import send

RATIOS = 3 / 4, 4 / 3
"""Width to height of a crop, as torchvision's RandomResizedCrop has it."""
ATTEMPTS = 10
"""Draws of a crop, of which the first that fits counts; if none does, the whole image is taken."""


def crop_and_resize(images: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """Return random crops, one of each image, enlarged to the size of the images.

    As torchvision's RandomResizedCrop: the area is uniform between a part of the image's and all of it, the ratio
    of the sides is log-uniform, the place uniform; the sides and places are whole pixels.

    Args:
        images: on any device.
        smallest: the smallest area, as a fraction; at 1 nothing is cropped or drawn.
        generator: of the draws.
    """
    if smallest == 1:
        return images
    n, _, height, width = images.shape
    u = torch.rand(4, n, ATTEMPTS, dtype=torch.float64, generator=generator)
    area = (smallest + (1 - smallest) * u[0]) * height * width
    low, high = map(math.log, RATIOS)
    ratio = (low + (high - low) * u[1]).exp()
    sides = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()]).round()  # height, width
    whole = torch.tensor([height, width], dtype=sides.dtype).view(2, 1)
    fits = (sides <= whole[..., None]).all(dim=0)
    first = fits.to(torch.int8).argmax(dim=1)
    rows = torch.arange(n)
    sides = torch.where(fits.any(dim=1), sides[:, rows, first], whole)
    starts = (u[2:, rows, first] * (whole - sides + 1)).floor()
    # From output to input coordinates, in which an image reaches from -1 to 1.
    theta = torch.zeros(n, 2, 3, dtype=u.dtype)
    theta[:, 1, 1], theta[:, 0, 0] = sides / whole
    theta[:, 1, 2], theta[:, 0, 2] = (2 * starts + sides) / whole - 1
    grid = F.affine_grid(send(theta.to(images.dtype), images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def cutmix(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images of which one rectangle comes from another image of the batch.

    Yun et al., CutMix, ICCV 2019, with beta 1: one rectangle for the batch, whose area is a uniform part of the
    image's, less what lies beyond the edge; which image it comes from is a random permutation.

    Args:
        images: on any device; not changed.
        generator: of the draws.
    """
    n, _, height, width = images.shape
    partners = send(torch.randperm(n, generator=generator), images.device)
    kept, *places = torch.rand(3, dtype=torch.float64, generator=generator).tolist()
    (top, bottom), (left, right) = (
        (max(0, centre - half), min(side, centre + half))
        for side, centre, half in (
            (side, int(place * side), int(side * math.sqrt(1 - kept)) // 2)
            for side, place in zip((height, width), places, strict=True)
        )
    )
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partners, :, top:bottom, left:right]
    return mixed
