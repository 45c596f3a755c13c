"""Blurs."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .levels import Images, whole_levels


def defocus_blur(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Convolve with a disk, whose edge a Gaussian of 3x3 pixels smooths; mirrored at the border pixel."""
    radius, sigma = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    away = np.arange(-2, 3)
    disk = (away**2 + away[:, None] ** 2 <= radius**2).astype(float)
    gauss = np.exp(-(away[1:-1] ** 2) / (2 * sigma**2))
    kernel = ndimage.convolve(disk / disk.sum(), np.outer(gauss, gauss) / gauss.sum() ** 2, mode="constant")
    return np.asarray(ndimage.convolve(images, kernel[None, :, :, None], mode="mirror"))


def glass_blur(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Smooth, let each pixel take the place of itself or of a neighbour above or to the left, smooth again.

    The authors' loop means to swap two pixels. It writes both through views of one array, and so copies one.
    """
    sigma, passes = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]
    count, height, width, _ = images.shape
    images = whole_levels(_smoothed(images, sigma)) / 255
    draws = rng.randint(-1, 1, size=(passes, count, height - 2, width - 2, 2))
    for shift in draws[:, :, ::-1, ::-1]:  # because the authors draw from the last pixel to the first
        rows = np.arange(2, height)[:, None] + shift[..., 1]
        columns = np.arange(2, width) + shift[..., 0]
        images[:, 2:, 2:] = images[np.arange(count)[:, None, None], rows, columns]
    return _smoothed(images, sigma)


def motion_blur(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Blur to one side, in a direction up to 45 degrees from the horizontal."""
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    return moved(images, radius, sigma, rng.uniform(-45, 45, size=len(images)))


def zoom_blur(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Return the mean of the image and of its enlargements."""
    most = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    factors = np.arange(1, most, 0.01)
    return np.asarray(images + sum(zoomed(images, each) for each in factors)) / (len(factors) + 1)


def moved(images: Images, radius: int, sigma: float, angles: NDArray[np.float64]) -> Images:
    """Blur as ImageMagick's MotionBlurImage does, to 8 bits: half a Gaussian, to one side, edges repeated.

    Args:
        images: shape (N, H, W, C).
        radius: of the kernel, of which ImageMagick reads 2 * radius + 1 pixels on its one side.
        sigma: of the Gaussian, in pixels.
        angles: shape (N,), in degrees.
    """
    count, height, width, _ = images.shape
    steps, angles = np.arange(2 * radius + 1), np.deg2rad(angles)[:, None]
    kernel = np.exp(-(steps**2) / (2 * sigma**2))
    blurred = np.zeros_like(images)
    down, right = np.ceil(steps * np.sin(angles) - 0.5), np.ceil(steps * np.cos(angles) - 0.5)
    for weight, y, x in zip(kernel / kernel.sum(), down.T[..., None], right.T[..., None], strict=True):
        rows = np.clip(np.arange(height) + y, 0, height - 1).astype(int)
        columns = np.clip(np.arange(width) + x, 0, width - 1).astype(int)
        blurred += weight * images[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None]]
    return whole_levels(blurred) / 255


def zoomed(images: Images, factor: float) -> Images:
    """Enlarge the middle of images to their size: bilinear, the corners of both on each other."""
    vertical, horizontal = (_enlargement(side, factor) for side in images.shape[1:3])
    return np.asarray(np.einsum("yh,nhwc,xw->nyxc", vertical, images, horizontal, optimize=True))


def _enlargement(side: int, factor: float) -> NDArray[np.float64]:
    """Return the matrix, (side, side), that enlarges the middle of a line of pixels to all of it."""
    kept = int(np.ceil(side / factor))
    first = (side - kept) // 2
    whole = ndimage.zoom(np.eye(side)[first : first + kept], (factor, 1), order=1)
    first = (len(whole) - side) // 2
    return np.asarray(whole[first : first + side])


def _smoothed(images: Images, sigma: float) -> Images:
    return np.asarray(ndimage.gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest"))
