"""Trained networks on a Ray cluster: an actor on the node of the run hands them out and takes them in.

A worker asks for each network that it needs. It gets the files that the results have of it, and trains it if it is
not among them; others wait meanwhile. So each network is trained once, by whichever node.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from filelock import BaseFileLock
from ray.exceptions import RayError, RayTaskError

from dcbench.results.artefacts import Artefacts
from dcbench.utils.errors import StorageError
from dcbench.utils.files import remove, write_atomically

if TYPE_CHECKING:
    from dcbench.core.trained_network import NetworkSpec

POLL_SECONDS = 0.5

Files = Mapping[str, bytes | None]
"""Files by their paths relative to the results, with slashes; None for one that was removed."""


def read_files(root: Path, paths: Iterable[str]) -> dict[str, bytes]:
    """Return the files that there are."""
    return {path: (root / path).read_bytes() for path in paths if (root / path).exists()}


def write_files(root: Path, files: Files) -> None:
    """Write and remove files. Raises a `StorageError` when one cannot be written."""
    for path, data in files.items():
        if data is None:
            remove(root / path)
        else:
            write_atomically(root / path, data)


class NetworkKeeper:
    """The actor. It holds the locks of networks that are being trained, so that other runs wait for them, too."""

    def __init__(self, root: Path) -> None:
        """Take the results folder."""
        self._artefacts = Artefacts(root)
        self._locks: dict[tuple[int, str], BaseFileLock] = {}

    def ask(self, cell: int, key: str, paths: Sequence[str]) -> Files | None:
        """Lock a network for the worker on a cell; return its files that are there, or None if another has it."""
        if (cell, key) not in self._locks:  # Ray asks again when an answer was lost
            lock = self._artefacts.try_lock(key)
            if lock is None:
                return None
            self._locks[cell, key] = lock
        return read_files(self._artefacts.root, paths)

    def give_back(self, cell: int, key: str, files: Files | None) -> None:
        """Release a network, and keep its files that have changed; None where the worker has failed.

        Raises:
            StorageError: when they cannot be written.
        """
        try:
            if files is not None:
                write_files(self._artefacts.root, files)
                self._artefacts.remove_lock(key)
        finally:
            if lock := self._locks.pop((cell, key), None):
                lock.release()

    def give_up(self, cell: int) -> None:
        """Release the networks of a cell whose worker has died."""
        for held in [held for held in self._locks if held[0] == cell]:
            self._locks.pop(held).release()


class RayArtefacts(Artefacts):
    """The folder of a worker: trained networks come from the keeper, and go there."""

    def __init__(self, root: Path, keeper: Any, cell: int) -> None:
        """Take the folder, the handle of the actor, and the number of the cell."""
        super().__init__(root)
        self._keeper, self._cell = keeper, cell

    @contextmanager
    def training(self, spec: NetworkSpec, waits: bool) -> Iterator[bool]:
        """Hold the right to train a network within, with the files that there are of it."""
        key, paths = spec.key(), [path.relative_to(self.root).as_posix() for path in self.network_paths(spec)]
        while (given := _call(self._keeper.ask, self._cell, key, paths)) is None:
            if not waits:
                yield False
                return
            time.sleep(POLL_SECONDS)
        changed = None
        try:
            write_files(self.root, given)
            yield True
            files = dict.fromkeys(paths) | read_files(self.root, paths)
            changed = {path: data for path, data in files.items() if data != given.get(path)}
        finally:
            _call(self._keeper.give_back, self._cell, key, changed)


def _call(method: Any, *arguments: Any) -> Any:
    """Call a method of the actor. Raises a `StorageError` when the results cannot be reached or written."""
    try:
        return ray.get(method.remote(*arguments))
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise StorageError(f"the results of the run cannot be reached: {error}") from error
