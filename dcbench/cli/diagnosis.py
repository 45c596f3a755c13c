"""Looking a machine over: packages, disks, devices, plugins, results and data sets. What takes long comes last.

A package is imported where it is needed: a missing one is then a finding, and no finding waits for an import.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dcbench import DISTRIBUTION, __version__
from dcbench.utils.errors import DcbenchError, NewerFormat, first_line

if TYPE_CHECKING:
    from dcbench.core.dataset import Dataset
    from dcbench.plugins import Plugins

GIB = 2**30
LITTLE_DISK, NO_DISK = 2 * GIB, GIB // 10
DRIVER = Path("/proc/driver/nvidia/version")
UPGRADE = "Upgrade dcbench, or choose another folder with --results."
COMPILERS = ("c++", "g++", "clang++")
NAMESAKE = "dcbench"
"""An unrelated distribution on PyPI that has our import name."""


@dataclass(frozen=True)
class Finding:
    """One thing that ``dcbench doctor`` looked at.

    Attributes:
        subject: the thing.
        result: what was found, in words.
        status: ``note`` is worth knowing; ``wrong`` needs the remedy.
        remedy: what to do about it; empty where it is fine.
        section: what it belongs to.
    """

    subject: str
    result: str
    status: Literal["fine", "note", "wrong"] = "fine"
    remedy: str = ""
    section: str = ""


def examine(load_plugins: Callable[[], Plugins], data_root: Path, results: Path) -> Iterator[Finding]:
    """Look at everything. Nothing is downloaded, and neither data nor results are changed.

    The plugins must be loaded without being strict, so that those that failed are among them.
    """
    plugins = cache(load_plugins)
    sections: dict[str, Iterable[Finding]] = {
        "Installation": _installation(),
        "Disk": (
            _folder("data root", data_root, "Say where data sets are with --data-root or DCBENCH_DATA."),
            _folder("results", results, "Choose another folder with --results."),
        ),
        "Devices": _devices(),
        "Plugins": _plugins(plugins),
        "Results": _results(results),
        "Data": _data(plugins, data_root),
    }
    for section, findings in sections.items():
        try:
            for finding in findings:
                yield replace(finding, section=section)
        except ImportError as error:
            result = f"{error}: the rest is not looked at"
            yield Finding("imports", result, "wrong", "Repair the packages first.", section)
            return


def _installation() -> Iterator[Finding]:
    """Compare the installed packages with what dcbench requires: their metadata can always be read."""
    yield Finding("dcbench", f"{__version__} in {Path(__file__).parent.parent}")
    yield Finding("Python", f"{sys.version.split()[0]}, {sys.executable}")
    try:
        needed = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # only the code is there, on PYTHONPATH for example
        result = "is not installed, so no plugin is found, not even its own"
        yield Finding(DISTRIBUTION, result, "wrong", f"pip install {DISTRIBUTION}")
        return
    from packaging.requirements import Requirement

    installed = []
    for requirement in map(Requirement, needed):
        optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        present = _version(requirement.name)
        if present:
            installed.append(f"{requirement.name} {present}")
        if (optional and not present) or requirement.specifier.contains(present or "", prereleases=True):
            continue
        result = f"is {present}, not {requirement.specifier}" if present else "is missing"
        remedy = f"pip install '{requirement.name}{requirement.specifier}'"
        yield Finding(requirement.name, result, "wrong", remedy)
    yield Finding("packages", ", ".join(installed))
    if other := _version(NAMESAKE):
        result = f"{other}, an unrelated package with the same import name, is installed, too"
        remedy = f"pip uninstall {NAMESAKE}, then pip install --force-reinstall --no-deps {DISTRIBUTION}"
        yield Finding(f"{NAMESAKE} of PyPI", result, "wrong", remedy)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _folder(subject: str, folder: Path, remedy: str) -> Finding:
    """Look at a folder that is or will be written to."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding(subject, f"{folder} cannot be reached: {error.strerror}", "wrong", remedy)
    result = f"{folder}, {'' if there == folder else 'not there yet, '}{_size(free)} of disk free"
    if not there.is_dir():
        return Finding(subject, f"{there} is not a folder", "wrong", remedy)
    if free < NO_DISK:
        return Finding(subject, result, "wrong", f"Make room. {remedy}")
    if not os.access(there, os.W_OK):
        return Finding(subject, f"{result}, and cannot be written to", "note", remedy)
    if free < LITTLE_DISK:
        return Finding(subject, result, "note", f"A data set or many condensed sets may not fit. {remedy}")
    return Finding(subject, result)


def _devices() -> Iterator[Finding]:
    missing = [] if Path(sysconfig.get_path("include"), "Python.h").exists() else ["Python's headers"]
    if not (os.environ.get("CXX") or any(map(shutil.which, COMPILERS))):
        missing.append("a C++ compiler")
    if missing:
        remedy = f"For faster long runs on the CPU, install {' and '.join(missing)}."
        yield Finding("compiler", "torch cannot compile networks here", "note", remedy)
    import torch

    from dcbench.results.provenance import describe_device

    kind, _, words = describe_device(torch.device("cpu")).partition(": ")
    yield Finding(kind, words)
    if torch.cuda.is_available():
        yield from map(_gpu, range(torch.cuda.device_count()))
    elif DRIVER.exists():
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        remedy = "Install the torch that pytorch.org names for this driver."
        yield Finding("cuda", f"there is an NVIDIA driver, but torch {built}", "wrong", remedy)
    else:
        yield Finding("cuda", "none: --device auto is the CPU")
    try:  # a torchvision that was built for another torch fails when it is imported
        importlib.import_module("torchvision")
    except Exception as error:
        remedy = "Install a torch and a torchvision that were released together."
        yield Finding("torchvision", f"cannot be imported: {first_line(error)}", "wrong", remedy)


def _gpu(index: int) -> Finding:
    import torch

    device = torch.device("cuda", index)
    try:
        torch.zeros(8, device=device).add(1).sum().item()
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError as error:
        remedy = "Look at it with nvidia-smi: it may be full, or lost to the driver. --device cpu does without it."
        return Finding(str(device), f"cannot be used: {first_line(error)}", "wrong", remedy)
    return Finding(str(device), f"{torch.cuda.get_device_name(device)}, {_size(free)} of {_size(total)} free")


def _plugins(plugins: Callable[[], Plugins]) -> Iterator[Finding]:
    from dcbench.plugins import DISABLE

    loaded: Counter[tuple[str, str]] = Counter()
    for info in plugins().infos:
        package = f"of {info.distribution} {info.version}"
        if info.error:
            remedy = f"Repair it, pip uninstall {info.distribution}, or leave it out: {DISABLE}={info.name}"
            yield Finding(info.name, f"{package} failed to load: {info.error}", "wrong", remedy)
        elif info.disabled:
            remedy = "Leave that out to have it again."
            yield Finding(info.name, f"{package} is disabled by {info.disabled}", "note", remedy)
        else:
            loaded[info.distribution, info.version] += len(info.provides)
    for (name, number), count in sorted(loaded.items()):
        yield Finding(name, f"{number}, provides {count}: dcbench plugin list")


def _results(folder: Path) -> Iterator[Finding]:
    from dcbench.results.network_file import read_networks
    from dcbench.results.set_file import without_images
    from dcbench.results.store import RECORDS, read_records

    if (path := folder / RECORDS).exists():
        try:
            with warnings.catch_warnings(record=True, action="always") as caught:
                records = read_records(path, strict=False)
            for each in caught:
                remedy = "Remove what is damaged, and run the same command again."
                yield Finding("records", f"{each.message}", "wrong", remedy)
            yield Finding("records", f"{len(records)}")
        except DcbenchError as error:
            yield Finding("records", str(error), "wrong", "Move it away, or choose another with --results.")
    paths, whole = sorted((folder / "sets").glob("*.safetensors")), 0
    for path in paths:
        try:
            without_images(path)
            whole += 1
        except DcbenchError as error:
            remedy = "Remove it, and add --force to the command that made it: it is made and evaluated again."
            yield _damaged("condensed set", error, remedy)
    if paths:
        yield Finding("condensed sets", f"{len(paths)}, {whole} of them whole")
    networks, errors = read_networks(folder)
    for problem in errors.values():
        remedy = "`dcbench networks remove --damaged`: what needs it trains it again."
        yield _damaged("trained network", problem, remedy)
    if networks or errors:
        size = sum(each.path.stat().st_size for each in networks) / 2**20
        result = f"{len(networks) + len(errors)}, {len(networks)} of them whole, which take {size:,.1f} MiB"
        yield Finding("trained networks", f"{result}: dcbench networks list")


def _damaged(subject: str, error: DcbenchError, remedy: str) -> Finding:
    """Return the finding on a file that cannot be read: damaged, unless it is of a newer dcbench."""
    return Finding(subject, str(error), "wrong", UPGRADE if isinstance(error, NewerFormat) else remedy)


def _data(plugins: Callable[[], Plugins], root: Path) -> Iterator[Finding]:
    for name in plugins().datasets:
        with suppress(DcbenchError):  # of one that reads a file that the user has to name
            yield _dataset(plugins().make_dataset(name), root)


def _dataset(dataset: Dataset, root: Path) -> Finding:
    from dcbench.core.loaded_dataset import load_dataset

    try:
        here = dataset.is_here(root)
        info = load_dataset(dataset, root).info if here else None
    except Exception as error:  # whatever a plugin may raise
        prefix = "" if isinstance(error, DcbenchError) else f"its is_here fails: {type(error).__name__}: "
        remedy = "If its files are whole, it is a defect of the plugin: tell its authors."
        return Finding(dataset.name, f"{prefix}{error}", "wrong", remedy)
    if here is None:
        return Finding(dataset.name, "does not say whether it has to be downloaded")
    if info is None:
        return Finding(dataset.name, "not here: the first run that needs it downloads it")
    size = "x".join(map(str, (info.channels, *info.size)))
    state = "whole" if dataset.sha256 else "can be read"
    return Finding(dataset.name, f"{state}: {info.num_classes} classes of {size}")


def _size(count: int) -> str:
    return f"{count / GIB:,.1f} GiB"
