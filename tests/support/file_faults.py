"""Faults in the n-th file operation within a folder: the process ends there, or the system says no."""

from __future__ import annotations

import builtins
import errno
import io
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
ENDED = 99
"""Exit code of a process that a fault ended."""


def end():
    """End the process at once, as SIGKILL does: nothing is flushed, nothing cleaned up."""
    os._exit(ENDED)


def disk_full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Faults:
    """Counts the operations on files of a folder: opening for writing, writing, flushing, renaming, removing.

    Attributes:
        operations: what was done, in order, as words with the file's name.
    """

    def __init__(self, folder, at=None, strike=None, midway=False):
        """Strike before operation number ``at``, counted from 0; where ``midway``, in the middle of that write."""
        self.folder = str(folder)
        self.operations = []
        self._at, self._strike, self._midway = at, strike, midway
        self._names = {}  # of the files behind handles
        self._originals = os.open, io.open

    @contextmanager
    def active(self):
        replaced = {
            (os, "open"): self._os_open,
            (os, "fsync"): self._on_handle("fsync"),
            (os, "replace"): self._on_path("replace"),
            (os, "unlink"): self._on_path("unlink"),
            (os, "mkdir"): self._on_path("mkdir"),
            (io, "open"): self._open,
            (builtins, "open"): self._open,
        }
        with ExitStack() as stack:
            for (module, name), function in replaced.items():
                stack.enter_context(patch.object(module, name, function))
            yield self

    def count(self, operation, path, file=None, data=b""):
        """Take note of an operation that is about to be done, and strike if it is its turn."""
        self.operations.append((operation, Path(path).name))
        if len(self.operations) - 1 != self._at:
            return
        if self._midway and file is not None:
            file.write(data[: len(data) // 2])
            file.flush()
        self._strike()

    def _within(self, path):
        return isinstance(path, str | Path) and str(path).startswith(self.folder)

    def _os_open(self, path, flags, *arguments, **named):
        if self._within(path) and flags & WRITING:
            self.count("open", path)
        handle = self._originals[0](path, flags, *arguments, **named)
        self._names[handle] = str(path) if self._within(path) else None
        return handle

    def _on_path(self, name):
        original = getattr(os, name)

        def operation(path, *arguments, **named):
            # Making a folder that is there does nothing, and its failure is none.
            if self._within(path) and not (name == "mkdir" and os.path.isdir(path)):
                self.count(name, path)
            return original(path, *arguments, **named)

        return operation

    def _on_handle(self, name):
        original = getattr(os, name)

        def operation(handle):
            if self._names.get(handle):
                self.count(name, self._names[handle])
            return original(handle)

        return operation

    def _open(self, file, mode="r", *arguments, **named):
        path = self._names.get(file) if isinstance(file, int) else file
        ours = self._within(path) and set(mode) & set("wax+")
        if ours and not isinstance(file, int):
            self.count("open", path)
        opened = self._originals[1](file, mode, *arguments, **named)
        if not ours:
            return opened
        self._names[opened.fileno()] = str(path)
        return Watched(opened, str(path), self)


class Watched:
    """A file whose writes are counted."""

    def __init__(self, file, path, faults):
        self._file, self._path, self._faults = file, path, faults

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def __iter__(self):
        return iter(self._file)

    def write(self, data):
        self._faults.count("write", self._path, self._file, data)
        return self._file.write(data)

    def truncate(self, size):
        self._faults.count("truncate", self._path)
        return self._file.truncate(size)
