"""Reading ``.npz`` files that others made: nothing is unpickled, and the checksum of every array is checked."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dcbench.utils.errors import DcbenchError, first_line

DAMAGE = (BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError)
"""What is raised for files that are no zip, cut off or encrypted."""


class ArrayFile:
    """The arrays of an open ``.npz`` file.

    Attributes:
        names: of its arrays, in their order.
    """

    def __init__(self, archive: ZipFile) -> None:
        """Take an open zip."""
        self._archive = archive
        for each in archive.namelist():
            with archive.open(each):  # refuses a name that is another one in the zip's directory
                pass
        self.names = [each.removesuffix(".npy") for each in archive.namelist() if each.endswith(".npy")]

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and dtype of an array; raises a `ValueError` as `read` does."""
        array = self.read(name)
        return array.shape, array.dtype

    def read(self, name: str) -> NDArray[Any]:
        """Return an array; a `ValueError` says that it is not there, holds objects or is damaged."""
        if name not in self.names:
            raise ValueError(f"it has no array {name!r}, but {self.names[:10]}.")
        with self._archive.open(f"{name}.npy") as stream:
            try:
                array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            if stream.read(1):  # zipfile checks the checksum when it comes to the end
                raise ValueError(f"{name} goes on after its last value.")
        return array


@contextmanager
def open_arrays(path: Path, expected: str = "") -> Iterator[ArrayFile]:
    """Open an ``.npz`` file for reading.

    Args:
        path: the file. A `DcbenchError` names it when it is not there or damaged, or for a `ValueError` within the
            block.
        expected: a sentence on what is expected of it, for messages on what it is instead.
    """
    try:
        with ZipFile(path) as archive:
            yield ArrayFile(archive)
    except DAMAGE as error:
        raise DcbenchError(f"{path} is not a whole .npz file: {first_line(error)}.") from None
    except MemoryError:
        raise DcbenchError(f"{path} does not fit in memory.") from None
    except OSError as error:
        raise DcbenchError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, SyntaxError, TypeError, RecursionError, OverflowError) as error:
        raise DcbenchError(f"{path} cannot be used: {first_line(error)}. {expected}".rstrip()) from None
