"""Looking a machine over: what is installed, what computes, where data and results are, and what is wrong."""

from __future__ import annotations

import os
import shutil
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from dcbench.cli.installation import Finding
from dcbench.condense.checkpoint import is_intact
from dcbench.core.dataset import Dataset
from dcbench.core.loaded_dataset import load_dataset
from dcbench.engine.compiled import can_compile
from dcbench.engine.memory import free_memory
from dcbench.plugins import DISABLE, Plugins
from dcbench.results.artefacts import FOLDERS, Artefacts
from dcbench.results.provenance import describe_device
from dcbench.results.records import Record
from dcbench.results.set_file import without_images
from dcbench.results.store import RECORDS, read_records, trial_key
from dcbench.utils.errors import DcbenchError, NewerFormat

GIB = 2**30
NEWER = "Upgrade dcbench, or choose another folder with --results."
LITTLE_DISK, NO_DISK = 2 * GIB, GIB // 10
LITTLE_MEMORY = 2 * GIB
DRIVER = Path("/proc/driver/nvidia/version")


def examine(plugins: Plugins, data_root: Path, results: Path) -> Iterator[Finding]:
    """Look at all but the installation. Nothing is downloaded, and neither data nor results are changed.

    Args:
        plugins: loaded without being strict, so that those that failed are among them.
        data_root: see `dcbench.utils.files.default_data_root`.
        results: the results folder, which need not be there.
    """
    yield from _devices()
    yield from _plugins(plugins)
    yield from _data(plugins, data_root)
    yield from _results(results)


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
    disabled: dict[tuple[str, str], list[str]] = defaultdict(list)
    for info in plugins.infos:
        where = f"{info.distribution} {info.version}"
        if info.error:
            mend = f"Mend it, pip uninstall {info.distribution}, or leave it out: {DISABLE}={info.name}"
            yield Finding(section, info.name, f"of {where} failed to load: {info.error}", "wrong", mend)
        elif info.disabled:
            disabled[where, info.disabled].append(info.name)
        else:
            loaded[where] += len(info.provides)
    for (where, by), names in sorted(disabled.items()):
        found = f"{', '.join(names)} of {where}: not to be used, says {by}"
        yield Finding(section, "disabled", found, "note", "Leave that out to have them again.")
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
        mend = "If its files are whole, it is a defect of the plugin: tell its authors."
        return Finding(section, dataset.name, str(error), "wrong", mend)
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
    looked = _folder(section, "folder", folder, "Choose another with --results.")
    yield looked
    if looked.status == "wrong" or not folder.is_dir():
        return
    yield from _misplaced(section, folder)
    if (folder / RECORDS).exists():
        yield from _records(section, folder)
    sets = sorted((folder / "sets").glob("*.safetensors"))
    bad = [error for path in sets if (error := _set_problem(path))]
    mend = "Remove it, and add --force to the command that made it: it is made and evaluated again."
    for error in bad:
        said = NEWER if isinstance(error, NewerFormat) else mend
        yield Finding(section, "condensed set", str(error), "wrong", said)
    if sets:
        yield Finding(section, "condensed sets", f"{len(sets)}, {len(sets) - len(bad)} of them whole")
    unfinished = sorted((folder / "checkpoints").glob("*.safetensors"))
    torn = [problem for path in unfinished if (problem := _checkpoint_problem(path))]
    mend = "Remove it: that condensation begins again."
    yield from (Finding(section, "checkpoint", problem, "wrong", mend) for problem in torn)
    if len(unfinished) > len(torn):
        count = len(unfinished) - len(torn)
        yield Finding(section, "unfinished", f"{count}, which the same command goes on with", "note")
    old = list(Artefacts(folder).left_over())
    if old:
        found = f"{len(old)} of killed runs; the next run removes what they left"
        yield Finding(section, "left over", found, "note")


def _misplaced(section: str, folder: Path) -> Iterator[Finding]:
    """Look for files where folders belong, and the other way round."""
    for name in (*FOLDERS, ".locks"):
        if (folder / name).exists() and not (folder / name).is_dir():
            yield Finding(section, name, f"{folder / name} is not a folder", "wrong", "Move it away.")
    for path in (folder / RECORDS, folder / f".{RECORDS}.lock"):
        if path.is_dir():
            yield Finding(section, path.name, f"{path} is a folder", "wrong", "Move it away.")


def _records(section: str, folder: Path) -> Iterator[Finding]:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            records = read_records(folder / RECORDS, strict=False)
    except DcbenchError as error:
        if not (folder / RECORDS).is_dir():
            mend = NEWER if isinstance(error, NewerFormat) else "Choose another folder with --results."
            yield Finding(section, "records", str(error), "wrong", mend)
        return
    for each in caught:
        mend = "Remove what is damaged, and run the same command again."
        yield Finding(section, "records", f"{each.message}", "wrong", mend)
    failed = _failed(records)
    found = f"{len(records)}, {f'{failed} of failures' if failed else 'no failure'}"
    mend = f"Look into {folder / 'failures'}; the same command tries again." if failed else ""
    yield Finding(section, "records", found, "note" if failed else "fine", mend)
    # The names of sets end with the beginning of their key.
    there = {path.stem.rpartition("_")[2] for path in (folder / "sets").glob("*.safetensors")}
    gone = {record.condense_key for record in records if record.status == "ok"}
    gone = {key for key in gone if key[:12] not in there}
    if gone:
        mend = "--force makes them again, for what needs them: submitting, or pictures."
        yield Finding(section, "sets gone", f"{len(gone)} that records are of", "note", mend)


def _failed(records: Sequence[Record]) -> int:
    """Count what failed and has not succeeded since."""
    done = {trial_key(record) for record in records if record.status == "ok"}
    made = {record.condense_key for record in records if record.status == "ok"}
    failed = [record for record in records if record.status == "failed"]
    trials = {trial_key(record) for record in failed if record.evaluation_network} - done
    return len(trials) + len({record.condense_key for record in failed if not record.evaluation_network} - made)


def _checkpoint_problem(path: Path) -> str:
    try:
        return "" if is_intact(path.read_bytes()) else f"{path} is damaged"
    except FileNotFoundError:  # a run has just done without it
        return ""
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"


def _set_problem(path: Path) -> DcbenchError | None:
    try:
        without_images(path)
    except DcbenchError as error:
        return error
    return None


def _folder(section: str, subject: str, folder: Path, mend: str) -> Finding:
    """Look at a folder that is or will be written to."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding(section, subject, f"{folder} cannot be reached: {error.strerror}", "wrong", mend)
    found = f"{folder}, {'' if there == folder else 'not there yet, '}{_size(free)} of disk free"
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
