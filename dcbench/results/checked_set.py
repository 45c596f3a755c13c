"""Condensed sets in dcbench's own files: what they say of themselves, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from dcbench.core.condensed_set import CondensedSet, Origin, check_set
from dcbench.core.dataset import DatasetInfo
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.spec import CondenseSpec
from dcbench.results.records import IMPORTED
from dcbench.results.set_file import load_set
from dcbench.results.store import RECORDS, read_records
from dcbench.utils.errors import DcbenchError


@dataclass(frozen=True)
class CheckedSet:
    """A condensed set as a file of dcbench has it, with what was condensed and where the method comes from."""

    condensed: CondensedSet
    spec: CondenseSpec
    origin: Origin


def read_checked_set(path: Path, data: LoadedDataset) -> CheckedSet:
    """Read a condensed set and check it against what it says of itself, and against the data.

    A `DcbenchError` says what is wrong: it is damaged, or its data, normalisation, classes, size or key differ.
    """
    condensed, stated = load_set(path, data.train)
    info = data.info
    try:
        spec = CondenseSpec.model_validate(stated["spec"])
        key, origin = spec.key(), _origin(path, stated, spec)
        mean, std = (tuple(stated["normalisation"][key]) for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DcbenchError(f"{path} does not say where it comes from: {type(error).__name__} {error}.") from None
    made_from, ours = (spec.dataset, spec.dataset_sha256), (info.name, info.sha256)
    origins = "{} {:.12}, not from {} {:.12}".format(*made_from, *ours)
    normalised, right = f"{mean} and {std}", f"{info.mean} and {info.std}"
    problems = (
        (made_from != ours, f"was made from {origins}"),
        (stated.get("condense_key") != key, "says another key than its spec has"),
        (normalised != right, f"is normalised by {normalised}, {info.name} by {right}"),
        (stated.get("classes") != [*info.class_names], "has other classes than the data set"),
        (stated.get("train_size") != len(data.train), "says another number of training images than there are"),
        (not {*origin.changed_options} <= {*spec.options}, "names changed options that it does not have"),
    )
    for is_so, problem in problems:
        if is_so:
            raise DcbenchError(f"{path} {problem}.")
    try:
        if origin.distribution == IMPORTED:
            _check_imported(condensed, spec, origin, data)
        else:
            check_set(condensed, data.train, spec.ipc)
    except ValueError as error:
        raise DcbenchError(f"{path} is not what it says: {error}.") from None
    return CheckedSet(condensed, spec, origin)


def size_of_imported(condensed: CondensedSet, info: DatasetInfo) -> int:
    """Return the images per class that a set made elsewhere counts as: by its total, rounded up."""
    return math.ceil(len(condensed.images) / info.num_classes)


def unevenness(condensed: CondensedSet, info: DatasetInfo) -> str:
    """Return the least and the most images that a class has, e.g. ``0 to 3``.

    It is empty where all have as many, and with soft labels, where an image is of no one class.
    """
    if condensed.labels.ndim == 2:
        return ""
    counts = torch.bincount(condensed.labels, minlength=info.num_classes)
    return "" if counts.min() == counts.max() else f"{int(counts.min())} to {int(counts.max())}"


def _check_imported(condensed: CondensedSet, spec: CondenseSpec, origin: Origin, data: LoadedDataset) -> None:
    """Check a set made elsewhere. Its classes may have different numbers of images, if its row says so."""
    check_set(condensed, data.train, None)
    size, uneven = size_of_imported(condensed, data.info), unevenness(condensed, data.info)
    if spec.ipc != size:
        raise ValueError(f"it counts as {size} images per class, and says {spec.ipc}")
    shown = str(spec.options.get("per_class", "")) if "per_class" in origin.changed_options else ""
    if shown != uneven:
        actual, stated = uneven or "as many", shown or "as many"
        raise ValueError(f"its classes have {actual} images each, and its row says {stated}")


def _origin(path: Path, stated: Mapping[str, Any], spec: CondenseSpec) -> Origin:
    """Return the origin that a set's header states, or that of its records, because old headers state none."""
    if "origin" in stated:
        return TypeAdapter(Origin).validate_python(stated["origin"])
    records = path.parent.parent / RECORDS
    for record in read_records(records, strict=False) if records.exists() else ():
        if record.condense_key == spec.key():
            changed = tuple(record.changed_options)
            source, network = record.source_sha256, record.sources.get("matching_network", "")
            return Origin(record.plugin, record.plugin_version, source, changed, record.seeded, network)
    raise ValueError(f"neither its header nor {records} has its origin")
