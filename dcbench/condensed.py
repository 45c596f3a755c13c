"""The condensed set: what every method returns, what the evaluation trains on, and its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from dcbench.data import ResidentSplit
from dcbench.denormalise import to_pixels
from dcbench.errors import DcbenchError
from dcbench.files import write_atomically

FORMAT = "dcbench-set/1"
UNREADABLE = (OSError, SafetensorError, ValueError, IndexError, TypeError, RecursionError)
"""What a damaged or forged file raises. Memory that runs out is no fault of a file, and not among these."""
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
        zca: whether the images are in the whitened space of `dcbench.whitening`, where networks trained on them
            are then tested.
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
    """

    distribution: str
    version: str
    source_sha256: str
    changed_options: tuple[str, ...] = ()
    seeded: bool = True


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
        indices = condensed.indices
        if indices.dtype != torch.int64 or bool((indices < 0).any()) or bool((indices >= len(train)).any()):
            raise ValueError(f"indices must be int64 and lie in 0..{len(train) - 1}")
        chosen = CondensedSet.select(train, indices)
        if not (torch.equal(chosen.images, images) and torch.equal(chosen.labels, labels)):
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
    # One metadata entry: safetensors keeps several in no fixed order, and the bytes are to be repeatable.
    text = json.dumps({"format": FORMAT, **header}, sort_keys=True)
    write_atomically(path, save_tensors(tensors, metadata={"dcbench": text}))


def load_set(path: Path, train: ResidentSplit) -> tuple[CondensedSet, dict[str, Any]]:
    """Read a condensed set and its header, and check the tensors against the hash in the header.

    Args:
        path: the file.
        train: the training split, from which a set stored by its indices alone is restored.

    Raises:
        DcbenchError: naming the file, when it is unreadable, damaged or not a condensed set.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        history = {k.removeprefix("history."): v for k, v in tensors.items() if k.startswith("history.")}
        if "images" in tensors:
            indices = tensors.get("indices")
            zca = bool(header.get("normalisation", {}).get("zca"))
            condensed = CondensedSet(tensors["images"], tensors["labels"], indices, history, zca)
        else:
            if tensors["indices"].dtype != torch.int64 or tensors["indices"].ndim != 1:
                raise ValueError("its indices are not int64 of shape (N,)")
            chosen = CondensedSet.select(train, tensors["indices"])
            condensed = replace(chosen, labels=tensors["labels"], history=history)
        intact = condensed.sha256() == header["set_sha256"]
    except KeyError as error:
        raise DcbenchError(f"{path} is not a condensed set: it has no {error}.") from None
    except UNREADABLE as error:
        raise DcbenchError(f"{path} cannot be read as a condensed set: {error}.") from None
    if not intact:
        raise DcbenchError(f"{path} is damaged: its tensors do not match the hash in its header.")
    return condensed, header


def without_images(path: Path) -> bytes:
    """Return the file of a condensed set, of a coreset without the images, which its indices restore.

    Raises:
        DcbenchError: naming the file, when it cannot be read.
    """
    try:
        data = path.read_bytes()
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata(), set(file.keys())
            if not {"images", "indices"} <= names:
                return data
            tensors = {name: file.get_tensor(name) for name in sorted(names - {"images"})}
    except (OSError, SafetensorError) as error:
        raise DcbenchError(f"{path} cannot be read as a condensed set: {error}.") from None
    return save_tensors(tensors, metadata=metadata)


def stored_pixels(path: Path, most: int) -> tuple[Tensor, Tensor] | None:
    """Return the first images of every class of a stored set, for looking at, as they are in the file.

    Args:
        path: the file.
        most: images of each class.

    Returns:
        Images, uint8 of shape (n, C, H, W), de-normalised, and their classes, int64 of shape (n,),
        class by class; None where the file has no images, as of a coreset kept by its indices alone, or they are
        whitened.

    Raises:
        DcbenchError: naming the file, when it is unreadable, damaged or not a condensed set.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header, names = _header(file.metadata()), file.keys()
            if "images" not in names or header["normalisation"]["zca"]:
                return None
            condensed = CondensedSet(file.get_tensor("images"), file.get_tensor("labels"))
        if condensed.images.ndim != 4 or condensed.images.dtype != torch.float32:
            raise ValueError("its images are not float32 of shape (N, C, H, W)")
        if (condensed.labels.ndim, condensed.labels.dtype) not in ((1, torch.int64), (2, torch.float32)):
            raise ValueError("its labels are neither int64 of shape (N,) nor float32 of shape (N, K)")
        mean, std = (header["normalisation"][key] for key in ("mean", "std"))
        if condensed.sha256() != header["set_sha256"]:
            raise ValueError("its tensors do not match the hash in its header")
        labels = condensed.labels if condensed.labels.ndim == 1 else condensed.labels.argmax(dim=1)
        order = torch.cat(
            [torch.nonzero(labels == label).flatten()[:most] for label in range(len(header["classes"]))]
        )
        pixels = to_pixels(condensed.images[order], mean, std)
    except (*UNREADABLE, KeyError) as error:
        reason = f"{type(error).__name__} {error}"
        raise DcbenchError(f"{path} cannot be read as a condensed set: {reason}.") from None
    return pixels, labels[order]


def _header(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    header = json.loads((metadata or {})["dcbench"])
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    if not isinstance(header.get("normalisation", {}), dict):
        raise ValueError("its normalisation is not an object")
    return header
