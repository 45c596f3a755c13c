"""Weather, the same on all channels but for the colour of frost."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .blur import moved, zoomed
from .levels import Images, whole_levels

PHOTOGRAPHS = ("frost1", "frost2", "frost2", "frost4", "frost5")
"""The authors provide six, draw from the first five, and their third is their second."""


def snow(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Whiten the image, add flakes: noise above a threshold, enlarged and moved, once as it is and once turned."""
    mean, deviation, zoom, threshold, radius, sigma, kept = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    flakes = zoomed(rng.normal(mean, deviation, size=(*images.shape[:3], 1)), zoom)
    flakes = whole_levels(np.where(flakes < threshold, 0, flakes)) / 255
    flakes = moved(flakes, radius, sigma, rng.uniform(-135, -45, size=len(images)))
    whitened = np.maximum(images, _luma(images) * 1.5 + 0.5)
    return kept * images + (1 - kept) * whitened + flakes + flakes[:, ::-1, ::-1]


def frost(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Add a part of a photograph of frost, which is grey where the images are."""
    of_image, of_frost = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    _, height, width, channels = images.shape
    crops = []
    for _ in images:
        photograph = _photograph(PHOTOGRAPHS[rng.randint(5)], max(height, width))
        top = rng.randint(0, photograph.shape[0] - height)
        left = rng.randint(0, photograph.shape[1] - width)
        crops.append(photograph[top : top + height, left : left + width])
    frozen = np.stack(crops) / 255
    return of_image * images + of_frost * (_luma(frozen) if channels == 1 else frozen)


def fog(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Add a plasma fractal, and darken so that the brightest pixel stays as it is."""
    strength, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    count, height, width, _ = images.shape
    clouds = _plasma(count, max(height, width), decay, rng)[:, :height, :width, None]
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    return np.asarray((images + strength * clouds) * brightest / (brightest + strength))


def _luma(images: Images) -> Images:
    """Return grey images, (N, H, W, 1), by ITU-R BT.601."""
    return images if images.shape[-1] == 1 else (images @ [0.299, 0.587, 0.114])[..., None]


@cache
def _photograph(name: str, side: int) -> NDArray[np.uint8]:
    """Return every fifth pixel of a photograph, (h, w, 3), enlarged where images are larger than 32 pixels."""
    with Image.open(Path(__file__).parent / "frost" / f"{name}.png") as picture:
        scale = max(1, side / 32)
        return np.asarray(picture.resize((round(picture.width * scale), round(picture.height * scale))))


def _plasma(count: int, side: int, decay: float, rng: np.random.RandomState) -> NDArray[np.float64]:
    """Return height maps in [0, 1], (count, S, S), S the next power of 2, by the diamond-square algorithm.

    Edges are joined: the row below the last is the first. The noise is uniform between plus and minus the square
    of a number, 100 at first, that is divided by the decay at each halving of the distance between points.
    """
    size = step = 2 ** int(np.ceil(np.log2(side)))
    heights, noise = np.zeros((count, size, size)), 100.0

    def mean(total: NDArray[np.float64]) -> NDArray[np.float64]:
        return total / 4 + noise * rng.uniform(-noise, noise, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=1)
        heights[:, half::step, half::step] = mean(pairs + np.roll(pairs, -1, axis=2))
        centres = heights[:, half::step, half::step]
        above_below = centres + np.roll(centres, 1, axis=1)
        heights[:, ::step, half::step] = mean(above_below + corners + np.roll(corners, -1, axis=2))
        left_right = centres + np.roll(centres, 1, axis=2)
        heights[:, half::step, ::step] = mean(left_right + corners + np.roll(corners, -1, axis=1))
        step, noise = half, noise / decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    return np.asarray(heights / heights.max(axis=(1, 2), keepdims=True))
