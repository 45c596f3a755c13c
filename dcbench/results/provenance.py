"""Where a result comes from: code, machine, memory."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import platform
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from types import CodeType
from typing import Any

import psutil
import torch
from torch import nn

import dcbench
from dcbench.core.architecture import Architecture
from dcbench.core.condensed_set import Origin
from dcbench.core.measure import Measure
from dcbench.engine.memory import return_freed_memory

_PLAIN = int | float | complex | str | bytes


def now() -> str:
    """Return the time in UTC, to the microsecond, in ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@cache
def source_sha256(cls: type) -> str:
    """Return the hash of the file that defines a component's class; of its code where there is no such file.

    Where bases of its own are in other files, these count: all but Python's and dcbench's base of that kind. What
    is read first stands for the process: a file that is edited meanwhile is not the code that runs.
    """
    kind = next((base for base in cls.__mro__ if "kind" in vars(base)), object)
    own = [
        each for each in cls.__mro__ if each not in kind.__mro__ and _package(each) not in sys.stdlib_module_names
    ]
    try:
        files = dict.fromkeys(map(inspect.getfile, own))
        digests = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]
    except (OSError, TypeError):  # typed in, not read from a file
        return code_sha256(cls)
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def code_sha256(thing: Any) -> str:
    """Return the hash of the compiled code of a class or a function, and of what it uses of its own module.

    For what has no file, such as a cell of a notebook. It is the same for the same code and version of Python.
    """
    parts: list[str] = []
    _collect_code(thing, {}, parts, set())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _collect_code(thing: Any, names: Mapping[str, Any], parts: list[str], seen: set[int]) -> None:
    """Add what decides what a thing does; ``names`` has the values that its code may use."""
    within: list[Any] = []
    if thing is None or isinstance(thing, _PLAIN):
        parts.append(repr(thing))
    elif isinstance(thing, frozenset):  # its own order is another one in each process
        parts += sorted(map(repr, thing))
    elif isinstance(thing, tuple):
        within += thing
    elif id(thing) in seen:
        return
    elif isinstance(thing, partial):
        within += [thing.func, thing.args, *sorted(thing.keywords.items())]
    elif isinstance(thing, type):
        within += [base for base in thing.__bases__ if base.__module__ == thing.__module__]
        for name, value in sorted(vars(thing).items()):
            within += [name, getattr(value, "__func__", getattr(value, "fget", value))]
    elif inspect.isfunction(thing):
        names = {**thing.__globals__, **inspect.getclosurevars(thing).nonlocals}
        within += [thing.__defaults__, *(thing.__kwdefaults__ or {}).items(), thing.__code__]
    elif isinstance(thing, CodeType):
        used = [names.get(name) for name in (*thing.co_names, *thing.co_freevars)]
        own = [
            each for each in used if getattr(each, "__module__", names.get("__name__")) == names.get("__name__")
        ]
        within += [thing.co_code, thing.co_names, thing.co_consts, *own]
    seen.add(id(thing))
    for each in within:
        _collect_code(each, names, parts, seen)


def packages_behind(architecture: type, network: nn.Module) -> dict[str, str]:
    """Return the versions of the packages that a network is made of, by name; torch's is left out.

    The architecture's plugin is among them, and timm, say, where the plugin takes its models from there.
    """
    modules = {_package(type(module)) for module in network.modules()}
    found = map(_distribution, {*modules, _package(architecture)} - {"torch"})
    return dict(sorted(filter(None, found)))


def changed_packages(architecture: type, recorded: Mapping[str, str]) -> list[str]:
    """Return which of the packages behind a network are of another version now than was recorded.

    That of the architecture's plugin is not looked at: the hash of its file says more.
    """
    own = _distribution(_package(architecture))
    others = {name: version for name, version in recorded.items() if not own or name != own[0]}
    return [name for name, version in others.items() if _installed(name) != version]


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


@cache
def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        return None


@cache
def _distribution(package: str) -> tuple[str, str] | None:
    """Return the name and the version of what an importable package was installed with."""
    for plugin in metadata.entry_points(group="dcbench"):  # a package that is edited in place lists no modules
        if plugin.module.partition(".")[0] == package and plugin.dist:
            return plugin.dist.name, plugin.dist.version
    names = metadata.packages_distributions().get(package, ())
    return (names[0], metadata.version(names[0])) if names else None


def digests_of_code(packages: Collection[str]) -> dict[str, str]:
    """Return the hashes of the source files of all imported modules of some packages, by the modules' names."""
    modules = [(name, module) for name, module in sys.modules.items() if name.partition(".")[0] in packages]
    files = ((name, getattr(module, "__file__", None)) for name, module in modules)
    return {name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for name, file in files if file}


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Return the commit of dcbench's checkout, and whether it has changes; twice None where there is none."""
    folder = Path(dcbench.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None, None
    try:
        sha, changes = (
            subprocess.run(["git", *words.split()], cwd=folder, check=True, capture_output=True, text=True).stdout
            for words in ("rev-parse HEAD", "status --porcelain -- dcbench plugins pyproject.toml")
        )
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return sha.strip(), bool(changes)


def describe_device(device: torch.device, threads: int | None = None) -> str:
    """Return the device in words, e.g. ``cpu: AMD EPYC, 2 threads``; this thread's number unless told another."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    threads = threads or torch.get_num_threads()
    return f"{device.type}: {_processor()}, {threads} thread{'s' if threads > 1 else ''}"


@cache
def _processor() -> str:
    with contextlib.suppress(OSError):
        if named := re.search(r"^model name\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return named[1].strip()
    return platform.processor() or platform.machine()


class PeakMemory:
    """The most memory in use since this object was made, in bytes.

    On CUDA it is what torch allocated on the device; elsewhere the resident memory of the process: Python, torch
    and the data included, what was freed before returned to the system. Only Linux can start the measurement anew;
    elsewhere the peak is that of the process so far.
    """

    def __init__(self, device: torch.device) -> None:
        """Start to measure."""
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        return_freed_memory()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def read(self) -> int:
        """Return the peak."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        with contextlib.suppress(OSError):  # getrusage does not start anew
            status = Path("/proc/self/status").read_text()
            return 1024 * int(status.partition("VmHWM:")[2].split()[0])
        if sys.platform == "win32":
            return int(psutil.Process().memory_info().peak_wset)
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def sources(origin: Origin, network: Architecture | None, measure: Measure | None = None) -> dict[str, str]:
    """Return the hashes of the code behind both networks and the measure, where they are known.

    A measure of the core has none, as protocols have none.
    """
    evaluation = source_sha256(type(network)) if network else ""
    behind = {"matching_network": origin.network_source_sha256, "evaluation_network": evaluation}
    if measure and not type(measure).__module__.startswith("dcbench."):
        behind["measure"] = source_sha256(type(measure))
    return {part: digest for part, digest in behind.items() if digest}
