"""The file of a condensed set: safetensors, with a JSON header that says where the set comes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.numpy import save as save_arrays
from safetensors.torch import save as save_tensors
from torch import Tensor

from dcbench.core.condensed_set import CondensedSet
from dcbench.core.split import ResidentSplit
from dcbench.results.set_header import (
    BRINGING_FORMAT,
    FORMAT,
    check_hash,
    content_sha256,
    parse_header,
    read_file,
    reading,
    stated_brings,
)
from dcbench.utils.files import write_atomically
from dcbench.utils.hashes import hash_set


def save_set(path: Path, condensed: CondensedSet, header: Mapping[str, Any]) -> None:
    """Write a condensed set as safetensors, its provenance in the metadata, in one piece or not at all.

    The images are left out where the set is the whole training split, which would only be copied.
    """
    tensors = {f"history.{name}": curve for name, curve in condensed.history.items()}
    tensors |= {name: each.float() for name, each in tensors.items() if each.dtype == torch.bfloat16}
    tensors["labels"] = condensed.labels
    if condensed.indices is not None:
        tensors["indices"] = condensed.indices
    if condensed.indices is None or len(condensed.indices) < header["train_size"]:
        tensors["images"] = condensed.images
    stated = {**header, "format": BRINGING_FORMAT if condensed.brings else FORMAT}
    stated |= {"brings": condensed.brings} if condensed.brings else {}
    write_tensors(path, tensors, stated)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors with a header, to which the hash of both is added, in one piece or not at all."""
    # Views of one tensor are refused by safetensors.
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    digest = content_sha256(header, {name: each.numpy() for name, each in tensors.items()})
    # One metadata entry: safetensors keeps several in no fixed order, and the bytes are to be repeatable.
    text = json.dumps({**header, "content_sha256": digest}, sort_keys=True)
    write_atomically(path, save_tensors(tensors, metadata={"dcbench": text}))


def load_set(
    path: Path, train: ResidentSplit | Callable[[str], ResidentSplit]
) -> tuple[CondensedSet, dict[str, Any]]:
    """Read a condensed set and its header, and check both against the hashes in the header.

    Args:
        path: the file. A `DcbenchError` names it when it is unreadable, damaged or not a condensed set.
        train: the training split, from which a set stored by its indices alone is restored; or a function that
            returns it for the name of the data set.
    """
    with reading(path):
        header, arrays, _ = read_file(path)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        history = {k.removeprefix("history."): v for k, v in tensors.items() if k.startswith("history.")}
        if "images" in tensors:
            indices = tensors.get("indices")
            zca, brings = _is_whitened(header), stated_brings(header)
            condensed = CondensedSet(tensors["images"], tensors["labels"], indices, history, zca, **brings)  # type: ignore[arg-type]
        else:
            split = train(header["spec"]["dataset"]) if callable(train) else train
            coreset = CondensedSet.select(split, tensors["indices"])
            condensed = replace(coreset, labels=tensors["labels"], history=history)
        check_hash(path, header, condensed.sha256())
    return condensed, header


def stated_sha256(path: Path) -> str:
    """Return the hash of a condensed set that its file states; it is not checked."""
    with reading(path), safe_open(path, framework="pt") as file:
        return str(parse_header(file.metadata() or {})["set_sha256"])


def without_images(path: Path) -> bytes:
    """Return the bytes of a condensed set's file; of a coreset without the images, which its indices restore."""
    with reading(path):
        data = path.read_bytes()
        header, arrays, metadata = read_file(path)
        if "images" not in arrays:
            return data
        brings = stated_brings(header)
        check_hash(path, header, hash_set(arrays["images"], arrays["labels"], _is_whitened(header), brings))
        if "indices" not in arrays:
            return data
        del arrays["images"]
        return save_arrays(dict(sorted(arrays.items())), metadata=metadata)


def _is_whitened(header: Mapping[str, Any]) -> bool:
    return bool(header.get("normalisation", {}).get("zca"))
