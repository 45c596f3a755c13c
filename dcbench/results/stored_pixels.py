"""The pixels of stored condensed images, for looking at; without torch, so that tables are made quickly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dcbench.results.set_header import check_hash, read_file, reading, stated_brings
from dcbench.utils.hashes import hash_set


def stored_pixels(path: Path, most: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | str:
    """Return the first images of every class of a stored set, for looking at.

    Args:
        path: the file. A `DcbenchError` names it when it is unreadable, damaged or not a condensed set.
        most: images of each class.

    Returns:
        Images, uint8 of shape (n, C, H, W), de-normalised, and their classes, int64 of shape (n,), class by class;
        or why there are none to look at: a coreset may be kept by its indices alone, or images may be whitened.
    """
    with reading(path):
        header, arrays, _ = read_file(path)
        if "images" not in arrays:
            return "its set is kept without its images"
        if header["normalisation"]["zca"]:
            return "its images are whitened"
        images, labels = arrays["images"], arrays["labels"]
        check_hash(path, header, hash_set(images, labels, zca=False, brings=stated_brings(header)))
        mean, std = (np.array(header["normalisation"][name], np.float64) for name in ("mean", "std"))
        labels = labels if labels.ndim == 1 else labels.argmax(axis=1)
        if images.dtype != np.float32 or images.ndim != 4 or not images.size:
            raise ValueError("its images are not float32 of shape (N, C, H, W)")
        if labels.shape != images.shape[:1] or not mean.shape == std.shape == images.shape[1:2]:
            raise ValueError("its labels or its normalisation are not of the shape of its images")
        order = np.concatenate([np.flatnonzero(labels == each)[:most] for each in range(len(header["classes"]))])
        if not len(order):
            raise ValueError("its labels are of none of its classes")
        return to_pixels(images[order], mean, std), labels[order]


def to_pixels(images: NDArray[np.float32], mean: ArrayLike, std: ArrayLike) -> NDArray[np.uint8]:
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
    means, stds = (np.array(each, np.float64).reshape(1, -1, 1, 1) for each in (mean, std))
    pixels = images.astype(np.float64) * stds + means
    flat = pixels.reshape(len(pixels), math.prod(pixels.shape[1:]))
    quantiles = np.quantile(flat, (0.05, 0.95), axis=1).reshape(2, -1, 1, 1, 1)
    low, high = np.minimum(quantiles[0], 0), np.maximum(quantiles[1], 1)
    with np.errstate(invalid="ignore"):  # images that are not finite are shown as they come
        shares: NDArray[np.float64] = ((pixels - low) / (high - low)).clip(0, 1)
        return np.rint(shares * 255).astype(np.uint8)
