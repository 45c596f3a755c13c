"""Condensed sets made elsewhere: reading their files, without running anything in them.

The known forms, and what each says of the pixels:

``*.pt``, ``*.pth``
    the format of Zhao, Mopuri, Bilen (``{'data': [[images, labels], …], 'accs_all_exps': …}``, several sets
    per file; taken as normalised, which is what their code saves, unless the user says otherwise); a pair of
    tensors, or a dictionary with ``images`` and ``labels`` or the like; or the images alone, with the labels in a
    file of the same name with ``labels`` for ``images``
``*.npz``
    arrays ``images`` and ``labels``; uint8 is raw
``*.safetensors``
    tensors ``images`` and ``labels``
a folder
    of images, in a folder per class named after the class or its number; raw

uint8 is raw in all of them. Where a file has only images, the user names the file with the labels.

`dcbench.formats.unpickle` reads pickles, and runs nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dcbench.core.dataset import DatasetInfo
from dcbench.formats.images import IMAGE_ENDINGS, open_image
from dcbench.formats.npz import open_arrays
from dcbench.formats.unpickle import load_data
from dcbench.utils.errors import DcbenchError, first_line

Pixels = Literal["normalised", "raw", "zca"]
"""Normalised with the data set's mean and deviation; raw; or raw and then ZCA-whitened."""

PAIRS = (("images", "labels"), ("syn_imgs", "syn_labels"), ("image_syn", "label_syn"), ("x", "y"))
"""Names under which files keep a set's images and labels."""

IMAGE_TYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
LABEL_TYPES = (*IMAGE_TYPES, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class ForeignSet:
    """One set as its file has it.

    Attributes:
        images, labels: uint8 or floating, of any layout; integer or floating, of shape (N,), (N, 1) or (N, K).
        pixels: what they are by the file's form; None where that does not say.
        certain: whether that is certain, as for uint8, and not only the habit of those who use the form.
    """

    images: Tensor
    labels: Tensor
    pixels: Pixels | None
    certain: bool = False


@dataclass(frozen=True)
class ForeignFile:
    """What a file holds.

    Attributes:
        path: the file or folder.
        sha256: hash of the file, or of the names and contents of a folder's files.
        sets: at least one.
        stated: accuracies that the file states, as fractions, by the name of a network.
    """

    path: Path
    sha256: str
    sets: tuple[ForeignSet, ...]
    stated: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def read_foreign(path: Path, info: DatasetInfo, labels: Path | None = None) -> ForeignFile:
    """Read a condensed set made elsewhere.

    Args:
        path: the file or folder. A `DcbenchError` says that it is unreadable, of no known form, or more than data.
        info: of the data set, whose class names a folder's subfolders go by.
        labels: the file with the labels, where ``path`` has the images alone and the name does not tell.
    """
    try:
        if path.is_dir():
            return _read_folder(path, info)
        digest = hashlib.sha256(path.read_bytes())
        content = _lone(_read_content(path), 0)
        if isinstance(content, Tensor):
            partner = labels or _partner(path)
            digest.update(partner.read_bytes())
            content = (content, _lone(_read_content(partner), 1))
        elif labels:
            raise DcbenchError(f"{path} has labels of its own, or no images: other labels are for images alone.")
    except OSError as error:
        raise DcbenchError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from None
    sets = _sets(content)
    if not sets:
        raise DcbenchError(
            f"{path} has no condensed set of a known form: neither pairs of images and labels under 'data', nor "
            f"{' nor '.join(repr(' and '.join(pair)) for pair in PAIRS)}, nor a pair of tensors."
        )
    sets = tuple(_in_memory(each, path) for each in sets)
    return ForeignFile(path, digest.hexdigest(), sets, _stated(content))


def _in_memory(foreign: ForeignSet, path: Path) -> ForeignSet:
    """Return a set that is no longer part of a file; refuse tensors that are empty or not plain numbers."""
    for what, tensor, types in (("images", foreign.images, IMAGE_TYPES), ("labels", foreign.labels, LABEL_TYPES)):
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in types:
            kind = f"{tensor.dtype}".removeprefix("torch.")
            raise DcbenchError(f"{path} has {what} of type {kind} ({tensor.layout}): use uint8 or float32, say.")
        if not tensor.numel():
            raise DcbenchError(f"{path} has no {what}: a tensor of shape {tuple(tensor.shape)}.")
    # torch may note that numbers are to be negated, and numpy cannot read that.
    images, labels = (each.resolve_neg().clone() for each in (foreign.images, foreign.labels))
    return replace(foreign, images=images, labels=labels)


def _lone(content: Any, which: int) -> Any:
    """Return the images (``which`` 0) of a file that has no labels for them, or the labels (1) of a file."""
    if isinstance(content, Mapping):
        for pair in PAIRS:
            if isinstance(content.get(pair[which]), Tensor) and (which == 1 or pair[1] not in content):
                return content[pair[which]]
    return content


def _read_content(path: Path) -> Any:
    readers: dict[str, Callable[[Path], Any]]
    readers = {".pt": load_data, ".pth": load_data, ".npz": _read_npz, ".safetensors": _read_safetensors}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(readers)
        raise DcbenchError(f"{path}: a condensed set is a file of type {known}, or a folder of images per class.")
    return reader(path)


def _read_npz(path: Path) -> dict[str, Tensor]:
    with open_arrays(path) as arrays:
        wanted = [name for pair in PAIRS for name in pair if name in arrays.names]
        return {name: torch.from_numpy(arrays.read(name)) for name in wanted}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, RuntimeError, MemoryError) as error:
        raise DcbenchError(f"{path} cannot be read as a safetensors file: {first_line(error)}.") from None


def _partner(path: Path) -> Path:
    """Return the file of labels that goes with a file of images."""
    partner = path.with_name(re.sub("image", "label", path.name))
    if partner == path or not partner.exists():
        raise DcbenchError(f"{path} has images alone: name the file with their labels with --labels.")
    return partner


def _sets(content: Any) -> tuple[ForeignSet, ...]:
    """Find the pairs of images and labels in what a file holds."""
    pixels: Pixels | None = None
    if isinstance(content, Mapping) and isinstance(content.get("data"), Sequence):
        # The authors' code keeps what it trains on, which is normalised; it has no whitening.
        pixels = "normalised" if "accs_all_exps" in content else None
        content = content["data"]
    elif isinstance(content, Mapping):
        named = [(content[a], content[b]) for a, b in PAIRS if isinstance(content.get(a), Tensor) and b in content]
        content = named if len(named) == 1 else ()
    elif single := _pair(content, None):
        return (single,)
    pairs = [_pair(each, pixels) for each in content] if isinstance(content, Sequence) else [None]
    return tuple(pair for pair in pairs if pair) if all(pairs) else ()


def _pair(value: Any, pixels: Pixels | None) -> ForeignSet | None:
    if not isinstance(value, Sequence) or len(value) != 2:
        return None
    images, labels = value
    if not (isinstance(images, Tensor) and isinstance(labels, Tensor) and images.ndim >= 3):
        return None
    if images.dtype == torch.uint8:
        return ForeignSet(images, labels.detach(), "raw", certain=True)
    return ForeignSet(images.detach(), labels.detach(), pixels)


def _stated(content: Any) -> dict[str, tuple[float, ...]]:
    stated = content.get("accs_all_exps") if isinstance(content, Mapping) else None
    accuracies = {}
    for name, values in stated.items() if isinstance(stated, Mapping) else ():
        with suppress(TypeError, ValueError, OverflowError):  # what is no list of numbers is no accuracy
            accuracies[str(name)] = tuple(map(float, values))
    return {name: values for name, values in accuracies.items() if values}


def _read_folder(path: Path, info: DatasetInfo) -> ForeignFile:
    """Read a folder per class, in label order, named after the class or its number; hidden ones are left out."""
    folders = sorted(each for each in path.iterdir() if each.is_dir() and each.name[0] != ".")
    names = {name: label for label, name in enumerate(info.class_names)}
    numbers = {str(label): label for label in range(info.num_classes)}
    known = names if all(each.name in names for each in folders) else numbers
    strange = [each.name for each in folders if each.name not in known]
    if not folders or strange:
        what = f"has a folder {strange[0]!r}" if strange else "has no folders"
        raise DcbenchError(f"{path} {what}: a folder per class is named {', '.join(info.class_names)}.")
    digest, images, labels = hashlib.sha256(), [], []
    for folder in sorted(folders, key=lambda each: known[each.name]):
        for file in sorted(each for each in folder.iterdir() if each.name[0] != "."):
            if file.suffix.lower() not in IMAGE_ENDINGS:
                raise DcbenchError(f"{file} is not an image ({', '.join(IMAGE_ENDINGS)}): remove it or hide it.")
            digest.update(f"{folder.name}/{file.name}".encode() + file.read_bytes())
            images.append(torch.from_numpy(_read_image(file, info)))
            labels.append(known[folder.name])
    if not images:
        raise DcbenchError(f"{path} has no images.")
    only = ForeignSet(torch.stack(images), torch.tensor(labels), "raw", certain=True)
    return ForeignFile(path, digest.hexdigest(), (only,))


def _read_image(file: Path, info: DatasetInfo) -> NDArray[np.uint8]:
    """Return the pixels of an image of just the data set's size and channels: uint8, (H, W) or (H, W, 3)."""
    modes = ("L", "1") if info.channels == 1 else ("RGB", "P")
    with open_image(file) as image:
        if image.has_transparency_data or image.mode not in modes:
            raise ValueError(
                f"it is of mode {image.mode}; {info.name} is of mode {modes[0]}, without transparency"
            )
        if (image.height, image.width) != info.size:
            found, expected = (f"{height}x{width}" for height, width in ((image.height, image.width), info.size))
            raise ValueError(f"it has {found} pixels, {info.name} has {expected}")
        return np.array(image.convert("L" if info.channels == 1 else "RGB"))


def from_tensors(images: Any, labels: Any) -> ForeignFile:
    """Return tensors, or what torch makes tensors of, as if they had been read from a file.

    Args:
        images: uint8 or floating, shape (N, C, H, W). A `DcbenchError` refuses others.
        labels: of shape (N,) or (N, K).
    """
    try:
        tensors = [torch.as_tensor(each).detach().cpu().contiguous() for each in (images, labels)]
    except (TypeError, ValueError, RuntimeError) as error:
        raise DcbenchError(f"images and labels must be tensors or arrays: {error}") from None
    if tensors[0].ndim != 4 or len(tensors[0]) != len(tensors[1]):
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise DcbenchError(f"images must be of shape (N, C, H, W) and labels (N,) or (N, K): found {shapes}.")
    raw = tensors[0].dtype == torch.uint8
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    path = Path("tensors")
    only = _in_memory(ForeignSet(tensors[0], tensors[1], "raw" if raw else None, certain=raw), path)
    return ForeignFile(path, digest.hexdigest(), (only,))
