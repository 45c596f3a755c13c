"""Condensed sets made elsewhere: what is read of a file, without running anything in it.

Forms that are known, and what each says of the pixels:

``*.pt``, ``*.pth``
    the format of Zhao, Mopuri, Bilen (``{'data': [[images, labels], …], 'accs_all_exps': …}``, several sets
    per file, normalised); a pair of tensors, or a dictionary with ``images`` and ``labels`` or the like; or the
    images alone, with the labels in a file of the same name with ``labels`` for ``images``
``*.npz``
    arrays ``images`` and ``labels``; uint8 is raw
``*.safetensors``
    tensors ``images`` and ``labels``
a folder
    of images, in a folder per class named after the class or its number; raw

Pickles are read by torch's restricted unpickler, which makes tensors and plain containers; numpy's scalars are
rebuilt here, from a fixed list of types. Anything else in a pickle is refused.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dcbench.datasets import DatasetInfo
from dcbench.errors import DcbenchError

Pixels = Literal["normalised", "raw", "zca"]
"""Normalised with the data set's mean and deviation; raw; or normalised and then ZCA-whitened."""

PAIRS = (("images", "labels"), ("syn_imgs", "syn_labels"), ("image_syn", "label_syn"), ("x", "y"))
"""Names under which files keep a set's images and labels."""

IMAGE_FILES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class ForeignSet:
    """One set as its file has it.

    Attributes:
        images: uint8 or floating, of any layout.
        labels: of any type; shape (N,), (N, 1) or (N, K).
        pixels: what the file says they are; None where it does not say.
    """

    images: Tensor
    labels: Tensor
    pixels: Pixels | None


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
        path: the file or folder.
        info: of the data set, whose class names a folder's subfolders go by.
        labels: the file with the labels, where ``path`` has the images alone and the name does not tell.

    Raises:
        DcbenchError: when it cannot be read, is of no known form, or holds more than data.
    """
    try:
        if path.is_dir():
            return _read_folder(path, info)
        digest = hashlib.sha256(path.read_bytes())
        content = _read_content(path)
        if isinstance(content, Tensor):
            partner = labels or _partner(path)
            digest.update(partner.read_bytes())
            content = (content, _read_content(partner))
    except OSError as error:
        raise DcbenchError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from None
    sets = _sets(content)
    if not sets:
        raise DcbenchError(
            f"{path} has no condensed set of a known form: neither pairs of images and labels under 'data', nor "
            f"{' nor '.join(repr(' and '.join(pair)) for pair in PAIRS)}, nor a pair of tensors."
        )
    return ForeignFile(path, digest.hexdigest(), sets, _stated(content))


def _read_content(path: Path) -> Any:
    readers: dict[str, Callable[[Path], Any]] = {
        ".pt": _read_torch,
        ".pth": _read_torch,
        ".npz": _read_npz,
        ".safetensors": _read_safetensors,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(readers)
        raise DcbenchError(f"{path}: a condensed set is a file of type {known}, or a folder of images per class.")
    return reader(path)


def _read_torch(path: Path) -> Any:
    scalars = [(_numpy_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    try:
        with torch.serialization.safe_globals([*scalars, (_NumpyType, "numpy.dtype")]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"(?:GLOBAL|Unsupported (?:global|class|operand))[: ]*(?:GLOBAL )?(\S+)", str(error))
        what = f" ({refused[1]})" if refused else ""
        raise DcbenchError(
            f"{path} is refused: it holds more than tensors, numbers and plain containers{what}, "
            "and reading that could run code. Nothing was run."
        ) from None
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, AttributeError, IndexError) as error:
        raise DcbenchError(f"{path} cannot be read as a torch file: {_first_line(error)}.") from None


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}
    except (ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DcbenchError(f"{path} cannot be read as an npz file: {_first_line(error)}.") from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DcbenchError(f"{path} cannot be read as a safetensors file: {_first_line(error)}.") from None


def _partner(path: Path) -> Path:
    """Return the file of labels that goes with a file of images."""
    partner = path.with_name(re.sub("image", "label", path.name))
    if partner == path or not partner.exists():
        raise DcbenchError(f"{path} has images alone: name the file with their labels with --labels.")
    return partner


def _sets(content: Any) -> tuple[ForeignSet, ...]:
    """Find the pairs of images and labels in what a file holds."""
    if isinstance(content, Mapping):
        if isinstance(content.get("data"), Sequence):
            # Their code keeps what it trains on, which is normalised; it has no whitening.
            pixels: Pixels | None = "normalised" if "accs_all_exps" in content else None
            pairs = [_pair(each, pixels) for each in content["data"]]
            return tuple(pair for pair in pairs if pair) if all(pairs) else ()
        found = [_pair((content[a], content[b])) for a, b in PAIRS if a in content and b in content]
        return tuple(pair for pair in found[:1] if pair)
    if isinstance(content, Sequence) and not isinstance(content, str):
        if single := _pair(content):
            return (single,)
        pairs = [_pair(each) for each in content]
        return tuple(pair for pair in pairs if pair) if all(pairs) else ()
    return ()


def _pair(value: Any, pixels: Pixels | None = None) -> ForeignSet | None:
    if not isinstance(value, Sequence) or len(value) != 2:
        return None
    images, labels = value
    if not (isinstance(images, Tensor) and isinstance(labels, Tensor) and images.ndim >= 3):
        return None
    images, labels = images.detach(), labels.detach()
    return ForeignSet(images, labels, "raw" if images.dtype == torch.uint8 else pixels)


def _stated(content: Any) -> dict[str, tuple[float, ...]]:
    stated = content.get("accs_all_exps") if isinstance(content, Mapping) else None
    if not isinstance(stated, Mapping):
        return {}
    return {
        str(name): tuple(float(value) for value in values)
        for name, values in stated.items()
        if isinstance(values, Sequence) and values and all(isinstance(value, int | float) for value in values)
    }


def _read_folder(path: Path, info: DatasetInfo) -> ForeignFile:
    """Read a folder per class, in label order; class folders go by the class's name or number."""
    from PIL import Image, UnidentifiedImageError

    folders = sorted(each for each in path.iterdir() if each.is_dir())
    names = {name: label for label, name in enumerate(info.class_names)}
    numbers = {str(label): label for label in range(info.num_classes)}
    known = names if all(each.name in names for each in folders) else numbers
    strange = [each.name for each in folders if each.name not in known]
    if not folders or strange:
        what = f"has a folder {strange[0]!r}" if strange else "has no folders"
        raise DcbenchError(f"{path} {what}: a folder per class is named {', '.join(info.class_names)}.")
    digest, images, labels = hashlib.sha256(), [], []
    for folder in sorted(folders, key=lambda each: known[each.name]):
        for file in sorted(each for each in folder.iterdir() if each.suffix.lower() in IMAGE_FILES):
            digest.update(f"{folder.name}/{file.name}".encode() + file.read_bytes())
            try:
                with Image.open(file) as image:
                    pixels = np.asarray(image.convert("L" if info.channels == 1 else "RGB"))
            except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
                raise DcbenchError(f"{file} cannot be read as an image: {_first_line(error)}.") from None
            if pixels.shape[:2] != info.size:
                raise DcbenchError(
                    f"{file} has {pixels.shape[0]}x{pixels.shape[1]} pixels, {info.name} has "
                    f"{info.size[0]}x{info.size[1]}."
                )
            images.append(torch.from_numpy(pixels.copy()))
            labels.append(known[folder.name])
    if not images:
        raise DcbenchError(f"{path} has no images.")
    return ForeignFile(path, digest.hexdigest(), (ForeignSet(torch.stack(images), torch.tensor(labels), "raw"),))


class _NumpyType:
    """Stands for `numpy.dtype` while a pickle is read: knows numbers and nothing else."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biuf][1248]", code):
            raise pickle.UnpicklingError(f"Unsupported operand numpy.dtype({code!r})")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Take the byte order; the rest describes arrays of records, which numbers are not."""
        self.code = {"<": "<", ">": ">"}.get(str(state[1]), "") + self.code


def _numpy_scalar(kind: Any, data: Any) -> float | int:
    """Rebuild a numpy scalar from its type and bytes, as a Python number."""
    if not isinstance(kind, _NumpyType):
        raise pickle.UnpicklingError("Unsupported operand numpy scalar")
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes) or len(raw) != np.dtype(kind.code).itemsize:
        raise pickle.UnpicklingError("Unsupported operand numpy scalar")
    number: float | int = np.frombuffer(raw, kind.code)[0].item()
    return number


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
