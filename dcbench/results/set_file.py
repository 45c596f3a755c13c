"""The file of a condensed set: safetensors, with a JSON header that says where the set comes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from dcbench.core.condensed_set import CondensedSet, select_images
from dcbench.core.split import ResidentSplit
from dcbench.results.set_header import FORMAT, StoredTensor, checked_header, hash_content, parse_header, reading
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import write_atomically


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
    # Views of one tensor are refused by safetensors.
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    stated = {**header, "format": FORMAT}
    stated["content_sha256"] = content_sha256(stated, tensors)
    # One metadata entry: safetensors keeps several in no fixed order, and the bytes are to be repeatable.
    write_atomically(path, save_tensors(tensors, metadata={"dcbench": json.dumps(stated, sort_keys=True)}))


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
        header, tensors, _ = _read(path)
        history = {k.removeprefix("history."): v for k, v in tensors.items() if k.startswith("history.")}
        if "images" in tensors:
            indices = tensors.get("indices")
            zca = bool(header.get("normalisation", {}).get("zca"))
            condensed = CondensedSet(tensors["images"], tensors["labels"], indices, history, zca)
        else:
            split = train(header["spec"]["dataset"]) if callable(train) else train
            condensed = replace(
                select_images(split, tensors["indices"]), labels=tensors["labels"], history=history
            )
        _check_hash(path, condensed, header)
    return condensed, header


def stated_sha256(path: Path) -> str:
    """Return the hash of a condensed set that its file states; it is not checked."""
    with reading(path), safe_open(path, framework="pt") as file:
        return str(parse_header(file.metadata() or {})["set_sha256"])


def without_images(path: Path) -> bytes:
    """Return the bytes of a condensed set's file; of a coreset without the images, which its indices restore."""
    with reading(path):
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


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str]]:
    """Return the header without ``content_sha256``, the tensors, which agree with it, and the metadata."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    stored = {name: _stored(tensor) for name, tensor in tensors.items()}
    return checked_header(path, metadata, stored), tensors, metadata


def content_sha256(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash all tensors but the images, with names, types and shapes, and a header but for its own such hash."""
    return hash_content(header, {name: _stored(tensor) for name, tensor in tensors.items()})


def _stored(tensor: Tensor) -> StoredTensor:
    """Return a tensor as its file has it."""
    data = tensor.contiguous().flatten().view(torch.uint8).numpy().data
    return str(tensor.dtype), tuple(tensor.shape), data


def _check_hash(path: Path, condensed: CondensedSet, header: Mapping[str, Any]) -> None:
    if condensed.sha256() != header["set_sha256"]:
        raise DcbenchError(f"{path} is damaged: its tensors do not match the hash in its header.")
