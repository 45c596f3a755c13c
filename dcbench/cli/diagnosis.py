"""Looking a machine over: disks, devices, plugins, results and data sets. What takes long comes last.

What is imported is imported where it is needed, so that a finding is told before the next import.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sysconfig
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dcbench.cli.installation import Finding, Status
from dcbench.utils.errors import DcbenchError, NewerFormat

if TYPE_CHECKING:
    from dcbench.core.dataset import Dataset
    from dcbench.plugins import Plugins

GIB = 2**30
LITTLE_DISK, NO_DISK = 2 * GIB, GIB // 10
DRIVER = Path("/proc/driver/nvidia/version")
COMPILERS = ("c++", "g++", "clang++")


def examine(load_plugins: Callable[[], Plugins], data_root: Path, results: Path) -> Iterator[Finding]:
    """Look at all but the installation. Nothing is downloaded, and neither data nor results are changed.

    Args:
        load_plugins: loads the plugins without being strict, so that those that failed are among them.
        data_root: see `dcbench.utils.files.default_data_root`.
        results: the results folder, which need not be there.
    """
    yield _folder("data root", data_root, "Say where data sets are with --data-root or DCBENCH_DATA.")
    yield _folder("results", results, "Choose another folder with --results.")
    yield from _devices()
    plugins = load_plugins()
    yield from _plugins(plugins)
    yield from _records(results)
    yield from _sets(results)
    for name in plugins.datasets:
        try:
            dataset = plugins.make_dataset(name)
        except DcbenchError:  # it reads a file that the user has to name
            continue
        yield _dataset(dataset, data_root)


def _folder(subject: str, folder: Path, remedy: str) -> Finding:
    """Look at a folder that is or will be written to."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding("Disk", subject, f"{folder} cannot be reached: {error.strerror}", "wrong", remedy)
    result = f"{folder}, {'' if there == folder else 'not there yet, '}{_size(free)} of disk free"
    status: Status = "fine"
    if not there.is_dir():
        status, result = "wrong", f"{there} is not a folder"
    elif free < NO_DISK:
        status, remedy = "wrong", f"Make room. {remedy}"
    elif not os.access(there, os.W_OK):
        status, result = "note", f"{result}, and cannot be written to"
    elif free < LITTLE_DISK:
        status, remedy = "note", "A data set or many condensed sets may not fit."
    return Finding("Disk", subject, result, status, "" if status == "fine" else remedy)


def _devices() -> Iterator[Finding]:
    section = "Devices"
    if not (os.environ.get("CXX") or any(map(shutil.which, COMPILERS))):
        missing = "a C++ compiler"
    else:
        missing = "" if Path(sysconfig.get_path("include"), "Python.h").exists() else "Python's headers"
    if missing:
        remedy = f"For faster long runs on the CPU, install {missing}."
        yield Finding(section, "compiler", "torch cannot compile networks here", "note", remedy)
    import torch

    from dcbench.results.provenance import describe_device

    kind, _, words = describe_device(torch.device("cpu")).partition(": ")
    yield Finding(section, kind, words)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield _gpu(section, index)
    elif DRIVER.exists():
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        remedy = "Install the torch that pytorch.org names for this driver."
        yield Finding(section, "cuda", f"there is an NVIDIA driver, but torch {built}", "wrong", remedy)
    else:
        yield Finding(section, "cuda", "none: --device auto is the CPU")
    try:  # a torchvision that was built for another torch fails when it is imported
        importlib.import_module("torchvision")
    except Exception as error:
        remedy = "Install a torch and a torchvision that were released together."
        yield Finding(section, "torchvision", f"cannot be imported: {_first_line(error)}", "wrong", remedy)


def _gpu(section: str, index: int) -> Finding:
    import torch

    device = torch.device("cuda", index)
    try:
        torch.zeros(8, device=device).add(1).sum().item()
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError as error:
        remedy = "Look at it with nvidia-smi: it may be full, or lost to the driver. --device cpu does without it."
        return Finding(section, str(device), f"cannot be used: {_first_line(error)}", "wrong", remedy)
    name = torch.cuda.get_device_name(device)
    return Finding(section, str(device), f"{name}, {_size(free)} of {_size(total)} free")


def _plugins(plugins: Plugins) -> Iterator[Finding]:
    from dcbench.plugins import DISABLE

    section = "Plugins"
    loaded: Counter[str] = Counter()
    for info in plugins.infos:
        package = f"{info.distribution} {info.version}"
        if info.error:
            remedy = f"Repair it, pip uninstall {info.distribution}, or leave it out: {DISABLE}={info.name}"
            yield Finding(section, info.name, f"of {package} failed to load: {info.error}", "wrong", remedy)
        elif info.disabled:
            result = f"of {package} is disabled by {info.disabled}"
            yield Finding(section, info.name, result, "note", "Leave that out to have it again.")
        else:
            loaded[package] += len(info.provides)
    for package, count in sorted(loaded.items()):
        name, _, number = package.rpartition(" ")
        yield Finding(section, name, f"{number}, provides {count}: dcbench plugin list")


def _records(folder: Path) -> Iterator[Finding]:
    from dcbench.results.store import RECORDS, read_records

    path = folder / RECORDS
    if not path.exists():
        return
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            records = read_records(path, strict=False)
    except DcbenchError as error:
        yield Finding("Results", "records", str(error), "wrong", "Move it away, or choose another with --results.")
        return
    for each in caught:
        remedy = "Remove what is damaged, and run the same command again."
        yield Finding("Results", "records", f"{each.message}", "wrong", remedy)
    yield Finding("Results", "records", f"{len(records)}")


def _sets(folder: Path) -> Iterator[Finding]:
    from dcbench.results.set_file import without_images

    paths, whole = sorted((folder / "sets").glob("*.safetensors")), 0
    for path in paths:
        try:
            without_images(path)
            whole += 1
        except DcbenchError as error:
            remedy = "Remove it, and add --force to the command that made it: it is made and evaluated again."
            if isinstance(error, NewerFormat):
                remedy = "Upgrade dcbench, or choose another folder with --results."
            yield Finding("Results", "condensed set", str(error), "wrong", remedy)
    if paths:
        yield Finding("Results", "condensed sets", f"{len(paths)}, {whole} of them whole")


def _dataset(dataset: Dataset, root: Path) -> Finding:
    from dcbench.core.loaded_dataset import load_dataset

    try:
        here = dataset.is_here(root)
        info = load_dataset(dataset, root).info if here else None
    except Exception as error:  # whatever a plugin may raise
        result = (
            str(error)
            if isinstance(error, DcbenchError)
            else f"its is_here fails: {type(error).__name__}: {error}"
        )
        remedy = "If its files are whole, it is a defect of the plugin: tell its authors."
        return Finding("Data", dataset.name, result, "wrong", remedy)
    if here is None:
        return Finding("Data", dataset.name, "does not say whether it has to be downloaded")
    if info is None:
        return Finding("Data", dataset.name, "not here: the first run that needs it downloads it")
    size = "x".join(map(str, (info.channels, *info.size)))
    known = "whole" if dataset.sha256 else "can be read"
    return Finding("Data", dataset.name, f"{known}: {info.num_classes} classes of {size}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _size(count: int) -> str:
    return f"{count / GIB:,.1f} GiB"
