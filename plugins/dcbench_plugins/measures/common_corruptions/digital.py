"""Changes that cameras, screens and files make, and elastic deformation."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from .levels import Images


def brightness(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Add to the value in HSV, which is the largest channel; the others grow in proportion to it."""
    added = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    value = images.max(axis=3, keepdims=True)
    brighter = np.minimum(value + added, 1)
    return np.asarray(np.divide(images, value, out=np.ones_like(images), where=value > 0) * brighter)


def contrast(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Bring all pixels nearer to the mean of their channel."""
    kept = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    means = images.mean(axis=(1, 2), keepdims=True)
    return np.asarray((images - means) * kept + means)


def elastic_transform(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Map three points to places near them, affinely; then move every pixel by smooth noise; bilinear.

    The authors' affine step rounds places to a 32nd of a pixel (OpenCV); this one does not.
    """
    count, height, width, _ = images.shape
    shares = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
    strength, sigma, jitter = (min(height, width) * each for each in shares[severity - 1])
    y, x = np.mgrid[:height, :width]
    away = min(height, width) // 3
    points = np.add([width // 2, height // 2], [[away, away], [away, -away], [-away, -away]])
    placed = points + rng.uniform(-jitter, jitter, size=(count, 3, 2))
    back = np.linalg.solve(np.dstack([placed, np.ones((count, 3, 1))]), np.broadcast_to(points, placed.shape))
    sources = np.dstack([x, y, np.ones_like(x)]) @ back[:, None]
    images = _sampled(images, sources, at_border="mirrored at the border pixel")
    noise = rng.uniform(-1, 1, size=(count, 2, height, width))
    shift = strength * ndimage.gaussian_filter(noise, (0, 0, sigma, sigma), mode="reflect", truncate=3)
    return _sampled(images, np.dstack([x, y]) + np.moveaxis(shift, 1, 3), at_border="mirrored at its edge")


def pixelate(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Make the image smaller and larger again, each pixel the mean of those that it covers, by Pillow."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]

    def pixelated(picture: Image.Image) -> Image.Image:
        small = (int(picture.width * share), int(picture.height * share))
        return picture.resize(small, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BOX)

    return _each(images, pixelated)


def jpeg_compression(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Save the image as JPEG, by Pillow."""
    quality = (80, 65, 58, 50, 40)[severity - 1]

    def compressed(picture: Image.Image) -> Image.Image:
        file = BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(images, compressed)


def _each(images: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    """Return images that are changed one by one, as pictures."""
    pixels = np.round(images * 255).astype(np.uint8)
    pictures = (Image.fromarray(each.squeeze(axis=2) if each.shape[2] == 1 else each) for each in pixels)
    return np.stack([np.asarray(change(each)) for each in pictures]).reshape(images.shape) / 255


def _sampled(images: Images, places: NDArray[np.float64], at_border: str) -> Images:
    """Return the values of images at places (x, y) in pixels, shape (N, H, W, 2): bilinear, mirrored outside."""
    sides = np.array([images.shape[2], images.shape[1]])
    on_pixel = at_border == "mirrored at the border pixel"
    grid = 2 * places / (sides - 1) - 1 if on_pixel else (2 * places + 1) / sides - 1
    there = torch.from_numpy(images.transpose(0, 3, 1, 2))
    found = F.grid_sample(there, torch.from_numpy(grid), padding_mode="reflection", align_corners=on_pixel)
    return np.asarray(found.permute(0, 2, 3, 1))
