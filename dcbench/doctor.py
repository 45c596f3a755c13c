"""Looking a machine over: what is installed, what computes, where data and results are, and what is wrong."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement

from dcbench import __version__
from dcbench.checkpoint import is_intact
from dcbench.compiled import can_compile
from dcbench.condensed import without_images
from dcbench.datasets import Dataset, load_dataset
from dcbench.errors import DcbenchError
from dcbench.files import left_over
from dcbench.out_of_memory import free_memory
from dcbench.plugins import DISABLE, OWN_DISTRIBUTION, Plugins
from dcbench.provenance import describe_device, git_state
from dcbench.store import RECORDS, read_records

Status = Literal["fine", "note", "wrong"]

GIB = 2**30
LITTLE_DISK, NO_DISK = 2 * GIB, GIB // 10
LITTLE_MEMORY = 2 * GIB
NAMESAKE = "dcbench"
"""A distribution on PyPI that is another's, and has our import name."""
DRIVER = Path("/proc/driver/nvidia/version")
DAMAGED = "Run the same command again: what is damaged is not used, and is made anew."


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: what it belongs to.
        subject: the thing.
        found: what is so, in words.
        status: ``note`` is worth knowing; ``wrong`` is to be mended.
        mend: what to do about it; empty where it is fine.
    """

    section: str
    subject: str
    found: str
    status: Status = "fine"
    mend: str = ""


def examine(plugins: Plugins, data_root: Path, results: Path) -> Iterator[Finding]:
    """Look at everything, one after the other. Nothing is downloaded, and no file is changed or made.

    Args:
        plugins: loaded without being strict, so that those that failed are among them.
        data_root: see `dcbench.files.default_data_root`.
        results: the results folder, which need not be there.
    """
    yield from _installation()
    yield from _devices()
    yield from _plugins(plugins)
    yield from _data(plugins, data_root)
    yield from _results(results)


def _installation() -> Iterator[Finding]:
    section = "Installation"
    sha, dirty = git_state()
    commit = f", commit {sha[:7]}{' with changes' if dirty else ''}" if sha else ""
    yield Finding(section, "dcbench", f"{__version__} in {Path(__file__).parent}{commit}")
    yield Finding(section, "Python", f"{sys.version.split()[0]}, {sys.executable}")
    try:
        requirements = requires(OWN_DISTRIBUTION) or []
    except PackageNotFoundError:  # the code alone is there, on PYTHONPATH say
        found, mend = (
            "is not installed, so no plugin is found, not even its own",
            f"pip install {OWN_DISTRIBUTION}",
        )
        yield Finding(section, OWN_DISTRIBUTION, found, "wrong", mend)
        return
    installed = []
    for requirement in map(Requirement, requirements):
        optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            if not optional:
                yield Finding(section, requirement.name, "is missing", "wrong", f"pip install '{requirement}'")
            continue
        installed.append(f"{requirement.name} {found}")
        if not requirement.specifier.contains(found, prereleases=True):
            mend = f"pip install '{requirement.name}{requirement.specifier}'"
            yield Finding(section, requirement.name, f"is {found}, not {requirement.specifier}", "wrong", mend)
    yield Finding(section, "packages", ", ".join(installed))
    try:  # one that was built for another torch fails when it is imported
        importlib.import_module("torchvision")
    except Exception as error:
        found = f"cannot be imported: {str(error).strip().splitlines()[0]}"
        mend = "Install a torch and a torchvision that were released together."
        yield Finding(section, "torchvision", found, "wrong", mend)
    try:
        found = f"{version(NAMESAKE)}, an unrelated package with the same import name, is installed, too"
    except PackageNotFoundError:
        return
    mend = f"pip uninstall {NAMESAKE}, then pip install --force-reinstall {OWN_DISTRIBUTION}"
    yield Finding(section, f"{NAMESAKE} of PyPI", found, "wrong", mend)


def _devices() -> Iterator[Finding]:
    section = "Devices"
    cpu = torch.device("cpu")
    kind, _, words = describe_device(cpu).partition(": ")
    yield Finding(section, kind, words)
    memory = free_memory(cpu)
    if memory is not None:
        mend = "Larger networks and data sets will not fit: end other programs." if memory < LITTLE_MEMORY else ""
        yield Finding(section, "memory", f"{_size(memory)} can be had", "note" if mend else "fine", mend)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield _gpu(section, torch.device("cuda", index))
    elif DRIVER.exists():
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        mend = "Install the torch that pytorch.org names for this driver."
        yield Finding(section, "cuda", f"there is an NVIDIA driver, but torch {built}", "wrong", mend)
    else:
        yield Finding(section, "cuda", "none: --device auto is the CPU")
    if can_compile():
        yield Finding(section, "compiler", "torch compiles networks")
    else:
        mend = "For faster long runs on the CPU, install a C++ compiler and Python's headers."
        yield Finding(section, "compiler", "torch cannot compile networks here", "note", mend)


def _gpu(section: str, device: torch.device) -> Finding:
    try:
        torch.zeros(8, device=device).add(1).sum().item()
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError as error:
        mend = "Look at it with nvidia-smi: it may be full, or lost to the driver; --device cpu does without."
        return Finding(section, str(device), f"cannot be used: {str(error).splitlines()[0]}", "wrong", mend)
    name = torch.cuda.get_device_name(device)
    return Finding(section, str(device), f"{name}, {_size(free)} of {_size(total)} free")


def _plugins(plugins: Plugins) -> Iterator[Finding]:
    section = "Plugins"
    loaded: Counter[str] = Counter()
    for info in plugins.infos:
        where = f"{info.distribution} {info.version}"
        if info.error:
            mend = f"Mend it, pip uninstall {info.distribution}, or leave it out: {DISABLE}={info.name}"
            yield Finding(section, info.name, f"of {where} failed to load: {info.error}", "wrong", mend)
        elif info.disabled:
            yield Finding(section, info.name, f"of {where} is disabled by {info.disabled}", "note")
        else:
            loaded[where] += len(info.provides)
    for where, count in sorted(loaded.items()):
        name, _, number = where.rpartition(" ")
        yield Finding(section, name, f"{number}, provides {count}: dcbench plugin list")


def _data(plugins: Plugins, root: Path) -> Iterator[Finding]:
    section = "Data"
    yield _folder(section, "data root", root, "Say where data sets are with --data-root or DCBENCH_DATA.")
    for name in plugins.datasets:
        try:
            dataset = plugins.make_dataset(name)
        except DcbenchError:  # one that a user's file makes, which it has to name
            continue
        yield _dataset(section, dataset, root)


def _dataset(section: str, dataset: Dataset, root: Path) -> Finding:
    try:
        here = dataset.is_here(root)
        info = load_dataset(dataset, root).info if here else None
    except DcbenchError as error:
        return Finding(section, dataset.name, str(error), "wrong", "Nothing was done about it.")
    except Exception as error:
        found = f"its is_here fails: {type(error).__name__}: {error}"
        return Finding(section, dataset.name, found, "wrong", "It is a defect of the plugin: tell its authors.")
    if here is None:
        return Finding(section, dataset.name, "does not say whether it has to be downloaded")
    if info is None:
        return Finding(section, dataset.name, "not here: the first run that needs it downloads it")
    size = "x".join(map(str, (info.channels, *info.size)))
    known = "whole" if dataset.sha256 else "can be read"
    return Finding(section, dataset.name, f"{known}: {info.num_classes} classes of {size}")


def _results(folder: Path) -> Iterator[Finding]:
    section = "Results"
    yield _folder(section, "folder", folder, "Choose another with --results.")
    if not folder.is_dir():
        return
    if (folder / RECORDS).exists():
        yield _records(section, folder)
    sets = sorted((folder / "sets").glob("*.safetensors"))
    bad = [problem for path in sets if (problem := _set_problem(path))]
    yield from (Finding(section, "condensed set", problem, "wrong", DAMAGED) for problem in bad)
    if sets:
        yield Finding(section, "condensed sets", f"{len(sets)}, {len(sets) - len(bad)} of them whole")
    unfinished = sorted((folder / "checkpoints").glob("*.safetensors"))
    torn = [path for path in unfinished if not is_intact(path.read_bytes())]
    yield from (Finding(section, "checkpoint", f"{path} is damaged", "wrong", DAMAGED) for path in torn)
    if len(unfinished) > len(torn):
        count = len(unfinished) - len(torn)
        yield Finding(section, "unfinished", f"{count}, which the same command goes on with", "note")
    old = list(left_over(folder))
    if old:
        found = f"{len(old)} of killed runs; the next run removes what they left"
        yield Finding(section, "left over", found, "note")


def _records(section: str, folder: Path) -> Finding:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            records = read_records(folder / RECORDS, strict=False)
    except DcbenchError as error:
        return Finding(section, "records", str(error), "wrong", "Choose another folder with --results.")
    if caught:
        return Finding(section, "records", f"{caught[0].message}", "wrong", "Run the same command again.")
    counts = Counter(record.status for record in records)
    failed = len(records) - counts["ok"]
    found = f"{len(records)}, {failed or 'none'} of failures"
    mend = f"Look into {folder / 'failures'}; the same command tries again." if failed else ""
    return Finding(section, "records", found, "note" if failed else "fine", mend)


def _set_problem(path: Path) -> str:
    try:
        without_images(path)
    except DcbenchError as error:
        return str(error)
    return ""


def _folder(section: str, subject: str, folder: Path, mend: str) -> Finding:
    """Look at a folder that is or will be written to."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{folder}, {'' if folder.exists() else 'not there yet, '}{_size(free)} of disk free"
    if not there.is_dir():
        return Finding(section, subject, f"{there} is not a folder", "wrong", mend)
    if free < NO_DISK:
        return Finding(section, subject, found, "wrong", f"Make room. {mend}")
    if not os.access(there, os.W_OK):
        return Finding(section, subject, f"{found}, and cannot be written to", "note", mend)
    if free < LITTLE_DISK:
        return Finding(section, subject, found, "note", "A data set or many condensed sets may not fit.")
    return Finding(section, subject, found)


def _size(count: int) -> str:
    return f"{count / GIB:,.1f} GiB"
