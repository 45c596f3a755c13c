"""Condensed sets made elsewhere: finding images and labels in their files, without running anything in them.

README.md has a table of the forms that are read. The authors' form of gradient matching (``{'data': [[images,
labels], …], 'accs_all_exps': …}``) is taken as normalised, which is what their code saves, unless the user says
otherwise; uint8 is raw in all forms.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from dcbench.core.dataset import DatasetInfo
from dcbench.formats.containers import read_content
from dcbench.formats.folder import read_folder
from dcbench.formats.forms import (
    IMAGES,
    LABELS,
    RATES,
    ForeignSet,
    as_labels,
    as_rate,
    find_sets,
    first_of,
    lone_images,
    name_of,
    one_set,
    rate_in,
    stacked,
    stated_accuracies,
)
from dcbench.formats.labels import LabelsAre
from dcbench.formats.pixels import Pixels
from dcbench.utils.errors import DcbenchError

IMAGE_TYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
LABEL_TYPES = (*IMAGE_TYPES, torch.bool, torch.int8, torch.int16, torch.int32, torch.int64)

FACTS = ("mean", "std", "classes")
"""What `dcbench.formats.export` says beside a set, all of which the data set says, too."""
IN_ORDER: Literal["in-order"] = "in-order"
"""Said of labels: the images are sorted by class, with as many of each."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a user says of sets made elsewhere, because their files do not say it.

    Attributes:
        pixels: what the images' values are.
        mean, std: of each channel, by which they were normalised, if not by those of the data set.
        grey: for a grey data set, whether images in colour become grey.
        labels: the file that has them, or `IN_ORDER`.
        labels_are: what rows of numbers are.
        brings: see `dcbench.core.condensed_set.CondensedSet.brings`.
    """

    pixels: Pixels | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    grey: bool = False
    labels: Path | Literal["in-order"] | None = None
    labels_are: LabelsAre | None = None
    brings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ForeignFile:
    """What a file holds.

    Attributes:
        path: the file or folder.
        sha256: hash of the file, or of the names and contents of a folder's files.
        sets: at least one.
        stated: accuracies that the file states, as fractions, by the name of a network.
        unused: names of what else is in it.
    """

    path: Path
    sha256: str
    sets: tuple[ForeignSet, ...]
    stated: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


def read_foreign(path: Path, info: DatasetInfo, said: Statement | None = None) -> ForeignFile:
    """Read a condensed set made elsewhere.

    Args:
        path: the file or folder. A `DcbenchError` says that it is unreadable, of no known form, or more than data.
        info: of the data set, by whose class names a folder's subfolders go.
        said: what the file does not say: its labels, and whether colours become grey.
    """
    said = said or Statement()
    try:
        if path.is_dir():
            if said.labels:
                raise DcbenchError(f"{path} has labels of its own, its folders: leave out --labels.")
            images, labels, sha256 = read_folder(path, info, said.grey)
            return ForeignFile(path, sha256, (ForeignSet(images, labels, "raw", certain=True),))
        return _read_file(path, said.labels)
    except OSError as error:
        raise DcbenchError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from None


def _read_file(path: Path, said: Path | Literal["in-order"] | None) -> ForeignFile:
    digest, content = hashlib.sha256(path.read_bytes()), read_content(path)
    sets, used = find_sets(content, path)
    if sets and said:
        raise DcbenchError(f"{path} has labels of its own, and --labels is for images alone.")
    if not sets and (images := lone_images(content)) is not None:
        labels = None
        if said != IN_ORDER:
            partner = said or _partner(path)
            digest.update(partner.read_bytes())
            if (labels := as_labels(first_of(read_content(partner), LABELS))) is None:
                raise DcbenchError(f"{partner} has no labels: numbers of shape (N,) or (N, K), say as 'labels'.")
        sets = (one_set(images, labels, None, rate_in(content, path)),)
        used = (name_of(content, IMAGES), name_of(content, RATES))
    if not sets:
        held = f", but {', '.join(map(repr, list(content)[:10]))}" if isinstance(content, Mapping) else ""
        raise DcbenchError(
            f"{path} has no condensed set of a known form{held}. Known are images under one of the names "
            f"{', '.join(IMAGES)} with labels under one of {', '.join(LABELS)}; a pair of them; a list of pairs."
        )
    if len(sets) == 1 and sets[0].lr is None and (beside := _beside(path, "images?", "lr")):
        sets = (replace(sets[0], lr=as_rate(first_of(read_content(beside), RATES), beside)),)
    named = list(content) if isinstance(content, Mapping) else []
    used = (*used, *(FACTS if all(name in named for name in FACTS) else ()))
    unused = tuple(str(name) for name in named if name not in used)
    sets = tuple(_in_memory(each, path) for each in sets)
    return ForeignFile(path, digest.hexdigest(), sets, stated_accuracies(content), unused)


def _in_memory(foreign: ForeignSet, path: Path) -> ForeignSet:
    """Return a set that is no longer part of a file; refuse tensors that are empty or not plain numbers."""
    kept = {}
    for what, types in (("images", IMAGE_TYPES), ("labels", LABEL_TYPES)):
        if (tensor := getattr(foreign, what)) is None:
            continue
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in types:
            kind = f"{tensor.dtype}".removeprefix("torch.")
            raise DcbenchError(f"{path} has {what} of type {kind} ({tensor.layout}): use uint8 or float32, say.")
        if not tensor.numel():
            raise DcbenchError(f"{path} has no {what}: a tensor of shape {tuple(tensor.shape)}.")
        # torch may note that numbers are to be negated, and numpy cannot read that.
        kept[what] = tensor.resolve_neg().clone()
    return replace(foreign, **kept)


def _beside(path: Path, pattern: str, word: str) -> Path | None:
    """Return the file beside one of images whose name has a word in place of a pattern, if it is there."""
    partner = path.with_name(re.sub(pattern, word, path.name))
    return partner if partner != path and partner.exists() else None


def _partner(path: Path) -> Path:
    if found := _beside(path, "image", "label"):
        return found
    raise DcbenchError(
        f"{path} has images alone: name the file with their labels with --labels, or say --labels in-order of "
        "images that are sorted by class, with as many of each."
    )


def from_tensors(images: Any, labels: Any) -> ForeignFile:
    """Return tensors, or what torch makes tensors of, as if they had been read from a file.

    Args:
        images: uint8 or floating, shape (N, C, H, W). A `DcbenchError` refuses others.
        labels: of shape (N,) or (N, K), or `IN_ORDER`.
    """
    given = [images] if isinstance(labels, str) and labels == IN_ORDER else [images, labels]
    try:
        tensors = [torch.as_tensor(stacked(each)).detach().cpu().contiguous() for each in given]
    except (TypeError, ValueError, RuntimeError) as error:
        raise DcbenchError(f"images and labels must be tensors or arrays: {error}") from None
    if tensors[0].ndim != 4 or len({len(tensor) if tensor.ndim else 0 for tensor in tensors}) > 1:
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise DcbenchError(f"images must be of shape (N, C, H, W) and labels (N,) or (N, K): found {shapes}.")
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    path, raw = Path("tensors"), tensors[0].dtype == torch.uint8
    only = ForeignSet(tensors[0], tensors[1] if len(tensors) > 1 else None, "raw" if raw else None, certain=raw)
    return ForeignFile(path, digest.hexdigest(), (_in_memory(only, path),))
