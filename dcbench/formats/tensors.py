"""Condensed sets in memory: tensors and arrays, taken as a file that was made elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from dcbench.formats.foreign import IMAGE_TYPES, LABEL_TYPES, ForeignFile, ForeignSet, Pixels
from dcbench.utils.errors import DcbenchError


def from_tensors(images: Any, labels: Any, pixels: Pixels | None) -> ForeignFile:
    """Return tensors, or what torch makes tensors of, as if they had been read from a file.

    Args:
        images: uint8 or floating, shape (N, C, H, W).
        labels: of shape (N,) or (N, K).
        pixels: what the user says that the images' values are; uint8 is raw.

    Raises:
        DcbenchError: for other shapes or types, or where it is open what the values are.
    """
    try:
        tensors = [torch.as_tensor(each).detach().cpu().contiguous() for each in (images, labels)]
    except (TypeError, ValueError, RuntimeError) as error:
        raise DcbenchError(f"images and labels must be tensors or arrays: {error}") from None
    for what, tensor, types in zip(("images", "labels"), tensors, (IMAGE_TYPES, LABEL_TYPES), strict=True):
        if tensor.dtype not in types:
            raise DcbenchError(f"{what} are {tensor.dtype}: {', '.join(map(str, types))} will do.")
    if tensors[0].ndim != 4 or len(tensors[0]) != len(tensors[1]) or not len(tensors[0]):
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise DcbenchError(
            f"images must be of shape (N, C, H, W) and labels (N,) or (N, K), N above 0: found {shapes}."
        )
    raw = tensors[0].dtype == torch.uint8
    if not raw and pixels is None:
        raise DcbenchError(
            "say what the images' values are: raw=True for pixels from 0 to 1, normalised=True for values "
            "normalised as those of the data set are, or zca=True for pixels that were ZCA-whitened."
        )
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    one = ForeignSet(tensors[0], tensors[1], "raw" if raw else None, certain=raw)
    return ForeignFile(Path("tensors"), digest.hexdigest(), (one,))
