"""Seeing what a component does besides returning: settings it changes, files and data it reads."""

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

SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "working directory": (os.getcwd, os.chdir),
}
"""What a component may not change: how to read each, and how to set it back."""

GENERATORS: dict[str, Callable[[], Any]] = {
    "torch's global generator": lambda: torch.get_rng_state().numpy().tobytes(),
    "NumPy's global generator": lambda: repr(np.random.get_state(legacy=False)),  # noqa: NPY002
    "Python's random module": random.getstate,
}


@dataclass
class Observed:
    """What was seen.

    Attributes:
        settings: those of `SETTINGS` that were changed, each with before and after.
        generators: those of `GENERATORS` that were drawn from, or seeded.
        datasets: names of the data sets that were loaded.
        read: files that were opened for reading, except code and the system's own, and machines connected to.
    """

    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    generators: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)


_observed: list[Observed] = []
"""Who watches now; the last one is told."""


@contextmanager
def watching(seed: int) -> Iterator[Observed]:
    """Watch what is done within; afterwards, put settings and NumPy's and Python's generators back.

    Args:
        seed: of NumPy's and Python's global generators, which dcbench itself neither seeds nor draws from.
    """
    observed = Observed()
    numpy_before, python_before = np.random.get_state(), random.getstate()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    settings = {name: read() for name, (read, _) in SETTINGS.items()}
    generators = {name: read() for name, read in GENERATORS.items()}
    _install_hook()
    _observed.append(observed)
    try:
        with _noting_loads(observed):
            yield observed
    finally:
        _observed.pop()
        for name, (read, restore) in SETTINGS.items():
            if (now := read()) != settings[name]:
                observed.settings[name] = (settings[name], now)
                restore(settings[name])
        observed.generators += [name for name, read in GENERATORS.items() if read() != generators[name]]
        random.setstate(python_before)
        np.random.set_state(numpy_before)  # noqa: NPY002


@contextmanager
def _noting_loads(observed: Observed) -> Iterator[None]:
    """Note which data sets' `load` is called within."""

    def noting(original: Callable[[Dataset, Path], Any]) -> Callable[[Dataset, Path], Any]:
        @wraps(original)
        def load(self: Dataset, root: Path) -> Any:
            observed.datasets.append(self.name)
            return original(self, root)

        return load

    originals = {cls: vars(cls)["load"] for cls in _subclasses(Dataset) if "load" in vars(cls)}
    for cls, original in originals.items():
        cls.load = noting(original)
    try:
        yield
    finally:
        for cls, original in originals.items():
            cls.load = original


def _subclasses(cls: type[Any]) -> set[type[Any]]:
    return {each for sub in cls.__subclasses__() for each in ({sub} | _subclasses(sub))}


@cache
def _install_hook() -> None:
    sys.addaudithook(_hook)  # it cannot be removed, and does nothing while nobody watches


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Note the files that are opened and the machines that are connected to."""
    if not _observed:
        return
    if event == "socket.connect":
        _observed[-1].read.append(str(arguments[1]))
    elif event == "open":
        path, mode, flags = arguments
        writes = "w" in mode if isinstance(mode, str) else bool(flags and flags & (os.O_WRONLY | os.O_RDWR))
        if isinstance(path, str | bytes) and not writes and _is_data(os.fsdecode(path)):
            _observed[-1].read.append(os.path.abspath(os.fsdecode(path)))


def _is_data(path: str) -> bool:
    return not (path.endswith(CODE) or path.startswith(SYSTEM) or os.path.isdir(path))
