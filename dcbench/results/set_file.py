"""The file of a condensed set: safetensors, with a JSON header that says where the set comes from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from dcbench.core.condensed_set import CondensedSet, select_images
from dcbench.core.split import ResidentSplit
from dcbench.results.picture import to_pixels
from dcbench.utils.errors import DcbenchError, newer_format
from dcbench.utils.files import write_atomically

FORMAT = "dcbench-set/2"
"""Its header has ``content_sha256``, the hash of the rest of the header and of all tensors but the images, which
``set_sha256`` covers: images may be taken out of the file of a coreset."""

FIRST_FORMAT = "dcbench-set/1"
"""Written before there was ``content_sha256``, and still read: there, of indices, history and the header's own
fields, damage that makes sense goes unnoticed."""

FORMATS = re.compile(r"dcbench-set/[1-9][0-9]{0,5}")

UNREADABLE = (OSError, SafetensorError, ValueError, IndexError, TypeError, RecursionError)
"""What a damaged or forged file raises. Memory that runs out is no fault of a file, and not among these."""

MOST_OF_A_PICTURE = 2**24
"""Values of an image of which a picture is made; torch computes the quantiles of no more."""


def save_set(path: Path, condensed: CondensedSet, header: Mapping[str, Any]) -> None:
    """Write a condensed set as safetensors, its provenance in the metadata, in one piece or not at all.

    The images are left out where the set is the whole training split, which would only be copied.
    """
    tensors = {f"history.{name}": curve for name, curve in condensed.history.items()}
    tensors["labels"] = condensed.labels
    if condensed.indices is not None:
        tensors["indices"] = condensed.indices
    if condensed.indices is None or len(condensed.indices) < header["train_size"]:
        tensors["images"] = condensed.images
    # Views of one tensor are refused by safetensors.
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    stated = {**header, "format": FORMAT}
    stated["content_sha256"] = content_sha256(stated, tensors)
    # One metadata entry: safetensors keeps several in no fixed order, and the bytes are to be repeatable.
    write_atomically(path, save_tensors(tensors, metadata={"dcbench": json.dumps(stated, sort_keys=True)}))


def load_set(path: Path, train: ResidentSplit) -> tuple[CondensedSet, dict[str, Any]]:
    """Read a condensed set and its header, and check both against the hashes in the header.

    Args:
        path: the file.
        train: the training split, from which a set stored by its indices alone is restored.

    Raises:
        DcbenchError: naming the file, when it is unreadable, damaged or not a condensed set.
    """
    with _reading(path):
        header, tensors, _ = _read(path)
        history = {k.removeprefix("history."): v for k, v in tensors.items() if k.startswith("history.")}
        if "images" in tensors:
            indices = tensors.get("indices")
            zca = bool(header.get("normalisation", {}).get("zca"))
            condensed = CondensedSet(tensors["images"], tensors["labels"], indices, history, zca)
        else:
            condensed = replace(
                select_images(train, tensors["indices"]), labels=tensors["labels"], history=history
            )
        _check_hash(path, condensed, header)
    return condensed, header


def stated_sha256(path: Path) -> str:
    """Return the hash of a condensed set that its file states, which is not checked.

    Raises:
        DcbenchError: naming the file, when it is unreadable or not a condensed set.
    """
    with _reading(path), safe_open(path, framework="pt") as file:
        return str(_header(file.metadata() or {})["set_sha256"])


def without_images(path: Path) -> bytes:
    """Return the file of a condensed set, of a coreset without the images, which its indices restore.

    Raises:
        DcbenchError: naming the file, when it is unreadable, damaged or not a condensed set.
    """
    with _reading(path):
        data = path.read_bytes()
        header, tensors, metadata = _read(path)
        if "images" not in tensors:
            return data
        zca = bool(header.get("normalisation", {}).get("zca"))
        _check_hash(path, CondensedSet(tensors["images"], tensors["labels"], zca=zca), header)
        if "indices" not in tensors:
            return data
        del tensors["images"]
        return save_tensors(dict(sorted(tensors.items())), metadata=metadata)


def stored_pixels(path: Path, most: int) -> tuple[Tensor, Tensor] | str:
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
    with _reading(path):
        header, tensors, _ = _read(path)
        if "images" not in tensors:
            return "its set is kept without its images"
        if header["normalisation"]["zca"]:
            return "its images are whitened"
        condensed = CondensedSet(tensors["images"], tensors["labels"])
        _check_for_picture(condensed, header)
        _check_hash(path, condensed, header)
        labels = condensed.labels if condensed.labels.ndim == 1 else condensed.labels.argmax(dim=1)
        order = torch.cat(
            [torch.nonzero(labels == label).flatten()[:most] for label in range(len(header["classes"]))]
        )
        mean, std = (header["normalisation"][name] for name in ("mean", "std"))
        # One by one: torch takes quantiles of so many values and no more, the whole batch counted.
        if not len(order):
            raise ValueError("its labels are of none of its classes")
        pixels = torch.cat([to_pixels(each[None], mean, std) for each in condensed.images[order]])
    return pixels, labels[order]


def _check_for_picture(condensed: CondensedSet, header: Mapping[str, Any]) -> None:
    """Raise a `ValueError` where images or labels are not what pictures are made of."""
    images, labels, normalisation = condensed.images, condensed.labels, header["normalisation"]
    if images.ndim != 4 or images.dtype != torch.float32 or not images.numel():
        raise ValueError("its images are not float32 of shape (N, C, H, W)")
    if images[0].numel() > MOST_OF_A_PICTURE:
        raise ValueError(f"its images are of more than {MOST_OF_A_PICTURE} values")
    kinds = ((1, torch.int64), (2, torch.float32))
    if (labels.ndim, labels.dtype) not in kinds or len(labels) != len(images) or not labels.numel():
        raise ValueError("its labels are neither int64 of shape (N,) nor float32 of shape (N, K)")
    if not isinstance(header["classes"], list) or not header["classes"]:
        raise ValueError("its classes are not a list of names")
    for name in ("mean", "std"):
        values = normalisation[name]
        if not isinstance(values, list) or len(values) != images.shape[1]:
            raise ValueError(f"its {name} is not a number for each channel")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Bring what a damaged or forged file raises to one message that names it."""
    try:
        yield
    except KeyError as error:
        raise DcbenchError(f"{path} is not a condensed set: it has no {error}.") from None
    except UNREADABLE as error:
        raise DcbenchError(f"{path} cannot be read as a condensed set: {error}.") from None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str]]:
    """Return the header without ``content_sha256``, the tensors, which agree with it, and the metadata.

    Safetensors itself checks that all that is claimed is in the file.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        header = _header(metadata)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    stated = header.pop("content_sha256", None)
    if stated is None and header["format"] != FIRST_FORMAT:
        raise KeyError("content_sha256")
    if stated is not None and stated != content_sha256(header, tensors):
        raise DcbenchError(f"{path} is damaged: its content does not match the hash in its header.")
    if header["format"] not in (FIRST_FORMAT, FORMAT):
        raise newer_format(f"{path}, a {header['format']},")
    return header, tensors, metadata


def content_sha256(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash all tensors but the images, with names, types and shapes, and a header but for its own such hash."""
    rest = {name: value for name, value in header.items() if name != "content_sha256"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(tensors.keys() - {"images"}):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_hash(path: Path, condensed: CondensedSet, header: Mapping[str, Any]) -> None:
    if condensed.sha256() != header["set_sha256"]:
        raise DcbenchError(f"{path} is damaged: its tensors do not match the hash in its header.")


def _header(metadata: Mapping[str, str]) -> dict[str, Any]:
    header = json.loads(metadata["dcbench"])
    if not isinstance(header, dict) or not FORMATS.fullmatch(str(header.get("format"))):
        raise ValueError(f"its format is not {FORMAT}")
    if not isinstance(header.get("normalisation", {}), dict):
        raise ValueError("its normalisation is not an object")
    return header
