"""The condensed set: what every method returns, what the evaluation trains on, and its file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from dcbench.core.split import ResidentSplit
from dcbench.results.denormalise import to_pixels
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
HARD_LABELS, SOFT_LABELS = "hard-label", "soft-label"
"""The tracks: never ranked together."""


@dataclass(frozen=True)
class CondensedSet:
    """A condensed set.

    Attributes:
        images: float32, shape (N, C, H, W), in normalised space, detached, on the CPU.
        labels: int64, shape (N,), or soft: float32, shape (N, K).
        indices: for a coreset, the chosen images' positions in the training split: int64, shape (N,). The
            images and labels must then be just those; a coreset with labels of its own has no indices.
        history: named curves of the condensation, e.g. its loss: float tensors of shape (steps,).
        zca: whether the images are in the whitened space of `dcbench.core.whitening`, where networks trained on
            them are then tested.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor | None = None
    history: Mapping[str, Tensor] = field(default_factory=dict)
    zca: bool = False

    @classmethod
    def select(cls, train: ResidentSplit, indices: Tensor) -> CondensedSet:
        """Return the coreset of the given training images."""
        indices = indices.cpu()
        return cls(train.normalised(indices).cpu(), train.labels.cpu()[indices], indices=indices)

    @property
    def track(self) -> str:
        """The ranking it belongs to: ``hard-label`` or ``soft-label``."""
        return HARD_LABELS if self.labels.ndim == 1 else SOFT_LABELS

    @property
    def storage_bytes(self) -> int:
        """Bytes of the images and labels as tensors."""
        return self.images.nbytes + self.labels.nbytes

    def sha256(self) -> str:
        """Hash the images and labels: shapes, types and values, and whether they are whitened; nothing else."""
        digest = hashlib.sha256(b"zca" if self.zca else b"")
        for tensor in (self.images, self.labels):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Origin:
    """Where a condensed set comes from.

    Attributes:
        distribution, version: the package that brought the method.
        source_sha256: hash of the method's file, or of the file a set made elsewhere was read from.
        changed_options: names of the options that are not the method's defaults in this setting, sorted.
        seeded: whether another seed would give another set.
        network_source_sha256: hash of the matching network's file; empty where there is none, or it is not known.
    """

    distribution: str
    version: str
    source_sha256: str
    changed_options: tuple[str, ...] = ()
    seeded: bool = True
    network_source_sha256: str = ""

    @property
    def code(self) -> str:
        """What a state of the work depends on: the code of the method and that of its network."""
        return self.source_sha256 + self.network_source_sha256


def check_set(condensed: CondensedSet, train: ResidentSplit, ipc: int | None) -> None:
    """Check that a method returned a usable condensed set.

    Args:
        condensed: what the method returned.
        train: the training split it was given.
        ipc: images per class, or None where the method decides for itself.

    Raises:
        ValueError: saying what was expected and what was found.
    """
    info = train.info
    shape = (info.channels, *info.size)
    images, labels = condensed.images, condensed.labels
    if images.dtype != torch.float32 or images.shape[1:] != shape or images.requires_grad:
        raise ValueError(
            f"images must be detached float32 of shape (N, {', '.join(map(str, shape))}), "
            f"found {images.dtype} of {tuple(images.shape)}"
        )
    if not len(images):
        raise ValueError("there are no images")
    if images.device.type != "cpu" or labels.device.type != "cpu":
        raise ValueError("images and labels must be on the CPU")
    if not bool(torch.isfinite(labels).all()) or labels.requires_grad:
        raise ValueError("labels must be finite and detached")
    if not bool(torch.isfinite(images).all()):
        raise ValueError("images must be finite, found NaN or infinity")
    for name, curve in condensed.history.items():
        if not isinstance(curve, Tensor) or curve.ndim != 1 or curve.device.type != "cpu":
            raise ValueError(f"history {name!r} must be a tensor of shape (steps,) on the CPU")
    if condensed.indices is not None:
        chosen = _select(train, condensed.indices)
        same_type = labels.dtype == chosen.labels.dtype  # torch cannot compare all types with each other
        if not (same_type and torch.equal(chosen.images, images) and torch.equal(chosen.labels, labels)):
            raise ValueError("images and labels must be those that indices choose")
    if labels.ndim == 2:
        if labels.dtype != torch.float32 or labels.shape != (len(images), info.num_classes):
            raise ValueError(f"soft labels must be float32 of shape ({len(images)}, {info.num_classes})")
        if ipc is not None and len(images) != ipc * info.num_classes:
            raise ValueError(f"expected {ipc * info.num_classes} images, found {len(images)}")
        return
    if labels.dtype != torch.int64 or labels.shape != (len(images),):
        raise ValueError(
            f"labels must be int64 of shape ({len(images)},), found {labels.dtype} of {tuple(labels.shape)}"
        )
    if bool((labels < 0).any()) or bool((labels >= info.num_classes).any()):
        raise ValueError(f"labels must lie in 0..{info.num_classes - 1}")
    counts = torch.bincount(labels, minlength=info.num_classes)
    if ipc is not None and not bool((counts == ipc).all()):
        raise ValueError(f"expected exactly {ipc} images of every class, found {counts.tolist()}")


def _select(train: ResidentSplit, indices: Tensor) -> CondensedSet:
    """Return a coreset, as `CondensedSet.select` does, of indices that need not be any.

    Raises:
        ValueError: where they are not. More of them than there are images would take any amount of memory.
    """
    if indices.dtype != torch.int64 or indices.ndim != 1:
        raise ValueError("indices must be int64 of shape (N,)")
    if len(indices) > len(train):
        raise ValueError(f"there are {len(indices)} indices and {len(train)} training images")
    if bool((indices < 0).any()) or bool((indices >= len(train)).any()):
        raise ValueError(f"indices must lie in 0..{len(train) - 1}")
    return CondensedSet.select(train, indices)


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
            condensed = replace(_select(train, tensors["indices"]), labels=tensors["labels"], history=history)
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
