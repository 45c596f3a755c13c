"""The pixels of stored condensed images, for looking at; without torch, so that tables are made quickly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize

from dcbench.results.set_header import StoredTensor, checked_header, hash_set, reading
from dcbench.utils.errors import DcbenchError

TORCH_TYPES = {
    "BOOL": "torch.bool",
    "U8": "torch.uint8",
    "I8": "torch.int8",
    "I16": "torch.int16",
    "I32": "torch.int32",
    "I64": "torch.int64",
    "F16": "torch.float16",
    "BF16": "torch.bfloat16",
    "F32": "torch.float32",
    "F64": "torch.float64",
}
"""By the names that files have for them."""


def stored_pixels(path: Path, most: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | str:
    """Return the first images of every class of a stored set, for looking at, as they are in the file.

    Args:
        path: the file.
        most: images of each class.

    Returns:
        Images, uint8 of shape (n, C, H, W), de-normalised, and their classes, int64 of shape (n,),
        class by class; or why there is nothing to look at, where the file has no images, as of a coreset kept by
        its indices alone, or they are whitened.

    Raises:
        DcbenchError: naming the file, when it is unreadable, damaged or not a condensed set.
    """
    with reading(path):
        header, tensors = _read(path)
        if "images" not in tensors:
            return "its set is kept without its images"
        if header["normalisation"]["zca"]:
            return "its images are whitened"
        if hash_set(tensors["images"], tensors["labels"], zca=False) != header["set_sha256"]:
            raise DcbenchError(f"{path} is damaged: its tensors do not match the hash in its header.")
        images, labels = _arrays(tensors)
        mean, std = _normalisation(header, images.shape[1])
        order = np.concatenate([np.flatnonzero(labels == each)[:most] for each in range(len(header["classes"]))])
        if not len(order):
            raise ValueError("its labels are of none of its classes")
        return to_pixels(images[order], mean, std), labels[order]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """Return the header and the tensors, which agree with it."""
    data = path.read_bytes()
    # Checks that all that is claimed is in the file.
    stored: list[tuple[str, dict[str, Any]]] = deserialize(data)  # type: ignore[no-untyped-call]
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    tensors = {
        name: (TORCH_TYPES.get(each["dtype"], each["dtype"]), tuple(each["shape"]), each["data"])
        for name, each in stored
    }
    return checked_header(path, metadata, tensors), tensors


def _arrays(tensors: Mapping[str, StoredTensor]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return images and classes; raise a `ValueError` where they are not what pictures are made of."""
    dtype, shape, data = tensors["images"]
    if len(shape) != 4 or dtype != "torch.float32" or 0 in shape:
        raise ValueError("its images are not float32 of shape (N, C, H, W)")
    images = np.frombuffer(data, "<f4").reshape(shape)
    dtype, shape, data = tensors["labels"]
    kinds = {(1, "torch.int64"): "<i8", (2, "torch.float32"): "<f4"}
    kind = kinds.get((len(shape), dtype))
    if kind is None or shape[0] != len(images) or 0 in shape:
        raise ValueError("its labels are neither int64 of shape (N,) nor float32 of shape (N, K)")
    labels = np.frombuffer(data, kind).reshape(shape)
    return images, labels if labels.ndim == 1 else labels.argmax(axis=1)


def _normalisation(header: Mapping[str, Any], channels: int) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation of each channel that a header states."""
    if not isinstance(header["classes"], list) or not header["classes"]:
        raise ValueError("its classes are not a list of names")
    mean, std = (header["normalisation"][name] for name in ("mean", "std"))
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, list) or len(values) != channels:
            raise ValueError(f"its {name} is not a number for each channel")
    return mean, std


def to_pixels(images: NDArray[np.float32], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.uint8]:
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
    in_order = np.sort(pixels.reshape(len(pixels), math.prod(pixels.shape[1:])), axis=1)
    low, high = np.minimum(_quantile(in_order, 0.05), 0), np.maximum(_quantile(in_order, 0.95), 1)
    with np.errstate(invalid="ignore"):  # images that are not finite are shown as they come
        shares: NDArray[np.float64] = ((pixels - low) / (high - low)).clip(0, 1)
        return np.rint(shares * 255).astype(np.uint8)


def _quantile(in_order: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return a quantile of each image by linear interpolation, as torch does: shape (N, 1, 1, 1)."""
    rank = share * (in_order.shape[1] - 1)
    below, above = in_order[:, int(rank)], in_order[:, int(np.ceil(rank))]
    weight = rank - int(rank)
    step = above - below
    between: NDArray[np.float64] = below + weight * step if weight < 0.5 else above - step * (1 - weight)
    return between.reshape(-1, 1, 1, 1)
