"""Differentiable augmentation of image batches, drawn per image from a given generator.

A strategy is spelt as its operations joined by ``_``; each image gets one of them, drawn uniformly. This
is the evaluation augmentation of gradient matching (Zhao, Mopuri, Bilen, ICLR 2021) with its parameters:

``crop``    shift by -4 to 3 pixels, as the authors do; the border is filled with the batch's channel means
``scale``   stretch height and width, each by a factor from 0.8 to 1.2, about the centre; filled with zeros
``rotate``  by -45 to 44 degrees, as the authors do; filled with the batch's mean

Every operation is one affine resampling with bilinear interpolation, so a batch takes one pass. (The
authors' code goes image by image, with nearest-neighbour scaling and cubic rotation.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dcbench.engine.siamese import operations_of
from dcbench.utils.devices import send

CROP_PIXELS = 4
SCALE_RATIO = 0.2
ROTATE_DEGREES = 45

OPERATIONS = ("crop", "scale", "rotate")


def augment(images: Tensor, strategy: str, generator: torch.Generator) -> Tensor:
    """Return an augmented batch.

    Args:
        images: float, shape (N, C, H, W), in normalised space.
        strategy: operations joined by ``_``, e.g. ``crop_scale_rotate``; empty for none.
        generator: a CPU generator; the draws do not depend on the device.

    Raises:
        DcbenchError: for an operation that does not exist; it names the nearest.
    """
    if not strategy:
        return images
    operations = operations_of(strategy, OPERATIONS)
    n, _, height, width = images.shape
    choice = torch.randint(len(operations), (n,), generator=generator)
    theta = torch.zeros(n, 2, 3)
    for index, operation in enumerate(operations):
        matrices = _matrices(operation, n, height, width, generator)
        theta[choice == index] = matrices[choice == index]
    fill = _fills(images, operations, choice)
    grid = F.affine_grid(send(theta, images.device).to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images - fill, grid, padding_mode="zeros", align_corners=False) + fill


def _matrices(operation: str, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw the maps from output to input coordinates in [-1, 1]: shape (n, 2, 3)."""
    theta = torch.eye(2, 3).repeat(n, 1, 1)
    if operation == "crop":
        shift = torch.randint(2 * CROP_PIXELS, (n, 2), generator=generator) - CROP_PIXELS
        theta[:, 0, 2] = 2.0 * shift[:, 0] / width
        theta[:, 1, 2] = 2.0 * shift[:, 1] / height
    elif operation == "scale":
        factor = 1 + SCALE_RATIO * (2 * torch.rand(n, 2, generator=generator) - 1)
        theta[:, 0, 0] = 1 / factor[:, 0]
        theta[:, 1, 1] = 1 / factor[:, 1]
    else:
        degrees = torch.randint(-ROTATE_DEGREES, ROTATE_DEGREES, (n,), generator=generator)
        cosine, sine = torch.cos(degrees * math.pi / 180), torch.sin(degrees * math.pi / 180)
        # In [-1, 1] coordinates a rotation of a non-square image needs the aspect ratio.
        theta[:, 0, 0], theta[:, 0, 1] = cosine, -sine * height / width
        theta[:, 1, 0], theta[:, 1, 1] = sine * width / height, cosine
    return theta


def _fills(images: Tensor, operations: Sequence[str], choice: Tensor) -> Tensor:
    """Return what is around each image: shape (N, C, 1, 1)."""
    channel_means = images.detach().mean(dim=(0, 2, 3), keepdim=True)
    by_operation = {
        "crop": channel_means,
        "scale": torch.zeros_like(channel_means),
        "rotate": channel_means.mean().expand_as(channel_means),
    }
    table = torch.cat([by_operation[operation] for operation in operations])
    return table[send(choice, images.device)]
