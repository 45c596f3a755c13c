"""Seeing what a component does besides returning: settings it changes, files and data it reads."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from dcbench.core.dataset import Dataset

NOT_DATA = (".py", ".pyc", ".so", ".pyd", ".dll", ".pth", ".dylib", ".h")
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
        settings: those of `SETTINGS` that were changed, each with its value before and after.
        generators: those of `GENERATORS` that were drawn from, or seeded.
        datasets: names of the data sets that were loaded.
        read: files that were opened for reading, except code and the system's own, and machines connected to.
    """

    settings: list[str] = field(default_factory=list)
    generators: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)


_watchers: list[Observed] = []


@contextmanager
def watching(seed: int) -> Iterator[Observed]:
    """Watch what is done within; afterwards, put settings and NumPy's and Python's generators back.

    Args:
        seed: of NumPy's and Python's global generators, which dcbench itself neither seeds nor draws from.
    """
    _install_hook()
    observed = Observed()
    numpy_before, python_before = np.random.get_state(), random.getstate()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    settings = {name: read() for name, (read, _) in SETTINGS.items()}
    generators = {name: read() for name, read in GENERATORS.items()}
    with ExitStack() as patches:
        for cls in _subclasses(Dataset):
            if "load" in vars(cls):
                patches.enter_context(patch.object(cls, "load", _noting(vars(cls)["load"], observed)))
        _watchers.append(observed)
        try:
            yield observed
        finally:
            _watchers.remove(observed)
            for name, (read, restore) in SETTINGS.items():
                before, now = settings[name], read()
                if now != before:
                    observed.settings.append(f"{name} is {now} (was {before})")
                    restore(before)
            observed.generators += [name for name, read in GENERATORS.items() if read() != generators[name]]
            random.setstate(python_before)
            np.random.set_state(numpy_before)  # noqa: NPY002


def _noting(load: Callable[[Dataset, Path], Any], observed: Observed) -> Callable[[Dataset, Path], Any]:
    """Return a `Dataset.load` that notes its call."""

    def noting(self: Dataset, root: Path) -> Any:
        observed.datasets.append(self.name)
        return load(self, root)

    return noting


def _subclasses(cls: type[Any]) -> set[type[Any]]:
    return {each for sub in cls.__subclasses__() for each in ({sub} | _subclasses(sub))}


@cache
def _install_hook() -> None:
    sys.addaudithook(_hook)  # it cannot be removed, and does nothing while nobody watches


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Note the files that are opened for reading, and the machines that are connected to."""
    if not _watchers:
        return
    if event == "socket.connect":
        _watchers[-1].read.append(str(arguments[1]))
    elif event == "open" and isinstance(arguments[0], str | bytes):
        path, writes = os.fsdecode(arguments[0]), (arguments[2] or 0) & (os.O_WRONLY | os.O_CREAT)
        if not (writes or path.endswith(NOT_DATA) or path.startswith(SYSTEM) or os.path.isdir(path)):
            _watchers[-1].read.append(os.path.abspath(path))
