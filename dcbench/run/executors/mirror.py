"""The files of a cell on a machine that does not see the results folder: sent there, and their changes back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dcbench.core.spec import CondenseSpec
from dcbench.results.artefacts import Artefacts
from dcbench.utils.files import remove, write_atomically


@dataclass(frozen=True)
class FileChange:
    """A file was written, or removed.

    Attributes:
        path: relative to the results folder, with slashes.
        data: what it holds now; None when it is removed.
    """

    path: str
    data: bytes | None


def files_of(spec: CondenseSpec, artefacts: Artefacts) -> dict[str, bytes]:
    """Return what there is of the files of a cell, by their paths relative to the folder."""
    paths = [path for path in artefacts.paths(spec) if path.exists()]
    return {path.relative_to(artefacts.root).as_posix(): path.read_bytes() for path in paths}


def take_in(change: FileChange, artefacts: Artefacts) -> None:
    """Do to a folder what was done to its mirror.

    Raises:
        StorageError: when the file cannot be written.
        ValueError: for a path that leads out of the folder.
    """
    path = PurePosixPath(change.path)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{change.path} is no file of the results")
    target = artefacts.root / path
    if change.data is None:
        remove(target)
    else:
        write_atomically(target, change.data)


class Mirror:
    """A folder that has the files of one cell, and what has happened to them since it was last asked."""

    def __init__(self, root: Path, files: Mapping[str, bytes]) -> None:
        """Lay the files out in an empty folder."""
        self.artefacts = Artefacts(root)
        for path, data in files.items():
            take_in(FileChange(path, data), self.artefacts)
        self._seen = self._look()

    def changes(self) -> Iterator[FileChange]:
        """Yield what has changed since the last time, files that were written in the order of their writing.

        Nobody may be writing meanwhile.
        """
        before, self._seen = self._seen, self._look()
        written = [path for path, state in self._seen.items() if before.get(path) != state]
        for path in sorted(written, key=self._seen.__getitem__):
            yield FileChange(path, (self.artefacts.root / path).read_bytes())
        for path in before.keys() - self._seen.keys():
            yield FileChange(path, None)

    def _look(self) -> dict[str, tuple[int, int, int]]:
        """Return for each file what is another whenever it is written anew; the time comes first."""
        found = {}
        for folder in self.artefacts.root.iterdir():
            for entry in os.scandir(folder):
                if not entry.name.startswith("."):
                    state = entry.stat()
                    found[f"{folder.name}/{entry.name}"] = (state.st_mtime_ns, state.st_ino, state.st_size)
        return found
