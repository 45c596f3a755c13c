"""Seeing what a method does besides returning: settings it changes, and the files and data it reads."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcbench.core.dataset import Dataset

CODE = (".py", ".pyc", ".so", ".pyd", ".dll", ".pth", ".dylib", ".h")
"""Endings of files that Python and its libraries read when code is imported, compiled or shown in a traceback."""
SYSTEM = ("/proc/", "/sys/", "/dev/")

Setting = tuple[Callable[[], Any], Callable[[Any], Any]]

SETTINGS: dict[str, Setting] = {
    "grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "working directory": (os.getcwd, os.chdir),
}
"""What a method must leave as it found it: how to read each, and how to set it back."""


def torch_state() -> bytes:
    """Return the state of torch's global CPU generator."""
    return torch.get_rng_state().numpy().tobytes()


GENERATORS: dict[str, Callable[[], Any]] = {
    "torch's global generator": torch_state,
    "NumPy's global generator": lambda: repr(np.random.get_state(legacy=False)),  # noqa: NPY002
    "Python's random module": random.getstate,
}


@dataclass
class Observed:
    """What was seen.

    Attributes:
        settings: those of `SETTINGS` that were not left as they were, each with before and after.
        generators: those of `GENERATORS` that were drawn from, or seeded.
        datasets: names of the data sets that were loaded.
        files: files that were opened for reading, code and the system's own aside.
        hosts: machines that were connected to.
    """

    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    generators: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)


@contextmanager
def watching(seed: int) -> Iterator[Observed]:
    """Watch what is done within; settings and global generators are put back afterwards.

    Args:
        seed: of NumPy's and Python's global generators, which dcbench itself neither seeds nor draws from.
    """
    observed = Observed()
    numpy_before, python_before = np.random.get_state(), random.getstate()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    settings = {name: read() for name, (read, _) in SETTINGS.items()}
    generators = {name: read() for name, read in GENERATORS.items()}
    try:
        with _loads(observed), _opened(observed):
            yield observed
    finally:
        for name, (read, restore) in SETTINGS.items():
            if read() != settings[name]:
                observed.settings[name] = (settings[name], read())
                restore(settings[name])
        observed.generators += [name for name, read in GENERATORS.items() if read() != generators[name]]
        random.setstate(python_before)
        np.random.set_state(numpy_before)  # noqa: NPY002


@contextmanager
def _loads(observed: Observed) -> Iterator[None]:
    """Note which data sets' `load` is called within."""
    originals = {cls: vars(cls)["load"] for cls in _subclasses(Dataset) if "load" in vars(cls)}
    for cls, original in originals.items():
        setattr(cls, "load", _noting(original, observed))  # noqa: B010
    try:
        yield
    finally:
        for cls, original in originals.items():
            setattr(cls, "load", original)  # noqa: B010


def _noting(original: Callable[..., Any], observed: Observed) -> Callable[..., Any]:
    @wraps(original)
    def load(self: Dataset, root: Path) -> Any:
        observed.datasets.append(self.name)
        return original(self, root)

    return load


def _subclasses(cls: type[Any]) -> set[type[Any]]:
    return {each for sub in cls.__subclasses__() for each in ({sub} | _subclasses(sub))}


_watchers: list[Observed] = []


@contextmanager
def _opened(observed: Observed) -> Iterator[None]:
    """Note which files are opened and which machines connected to within, as Python's audit events tell."""
    _install_hook()
    _watchers.append(observed)
    try:
        yield
    finally:
        _watchers.remove(observed)


@cache
def _install_hook() -> None:
    sys.addaudithook(_hook)  # which stays, and does nothing while nobody watches


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watchers:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = "w" in mode if isinstance(mode, str) else bool(flags and flags & (os.O_WRONLY | os.O_RDWR))
        if isinstance(path, str | bytes) and not writes and _is_data(os.fsdecode(path)):
            _watchers[-1].files.append(os.path.abspath(os.fsdecode(path)))
    elif event == "socket.connect":
        _watchers[-1].hosts.append(str(arguments[1]))


def _is_data(path: str) -> bool:
    return not (path.endswith(CODE) or path.startswith(SYSTEM) or os.path.isdir(path))
