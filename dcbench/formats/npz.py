"""Reading ``.npz`` files that others made: what a header claims is checked before any of it is read.

Nothing is ever unpickled. Every member's checksum is checked, so that what is read is what was written.
"""

from __future__ import annotations

import lzma
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dcbench.utils.errors import DcbenchError

DAMAGE = (BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError)
"""What is raised for files that are no zip, cut off or encrypted."""

UNPACKED_FREELY = 2**28
"""Bytes that a file of any size may unpack to."""
MOST_UNPACKED = 100
"""How many times its size a file may unpack to beyond that: images shrink to a tenth or so, bombs to a 1,000th."""


class ArrayFile:
    """The arrays of an open ``.npz`` file.

    Attributes:
        names: of its arrays, in their order.
    """

    def __init__(self, archive: ZipFile, size: int) -> None:
        """Take an open zip of so many bytes."""
        self._archive, self._size = archive, size
        self.names = [each.removesuffix(".npy") for each in archive.namelist() if each.endswith(".npy")]

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and dtype of an array without reading it.

        Raises:
            ValueError: when it is not there, holds objects, or claims another size than the file has.
        """
        if name not in self.names:
            raise ValueError(f"it has no array {name!r}, but {self.names[:10]}.")
        member = self._archive.getinfo(f"{name}.npy")
        self._check_size(name, member)
        with self._archive.open(member) as stream:
            version = npy.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"{name} is written in version {version} of the .npy format, not 1.0 or 2.0.")
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(stream)
            size = member.file_size - stream.tell()
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, and these are never unpickled.")
        if not dtype.itemsize:
            raise ValueError(f"{name} is of dtype {dtype}, whose values have no bytes.")
        if any(each < 0 for each in shape) or math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{name} claims the shape {shape} of dtype {dtype}, but has {size} bytes.")
        return shape, dtype

    def read(self, name: str) -> NDArray[Any]:
        """Return an array, its header checked as by `header`.

        Raises:
            ValueError: as there.
        """
        self.header(name)
        with self._archive.open(f"{name}.npy") as stream:
            array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
            if stream.read(1):  # the checksum is checked at the end alone
                raise ValueError(f"{name} goes on after its last value.")
        return array

    def _check_size(self, name: str, member: ZipInfo) -> None:
        unpacked = member.file_size
        if unpacked > UNPACKED_FREELY and unpacked > MOST_UNPACKED * min(member.compress_size, self._size):
            raise ValueError(
                f"{name} would unpack from {member.compress_size:,} to {unpacked:,} bytes, which no images do. "
                "If these are what they are meant to be, write them with numpy.savez, uncompressed."
            )


@contextmanager
def open_arrays(path: Path, expected: str = "") -> Iterator[ArrayFile]:
    """Open an ``.npz`` file for reading.

    Args:
        path: the file.
        expected: a sentence on what is expected of it, for messages on what it is instead.

    Raises:
        DcbenchError: naming the file, when it is not there or damaged, for a `ValueError` within the block too.
    """
    try:
        with ZipFile(path) as archive:
            yield ArrayFile(archive, path.stat().st_size)
    except DAMAGE as error:
        raise DcbenchError(f"{path} is not a whole .npz file: {_sentence(error)}") from None
    except MemoryError:
        raise DcbenchError(f"{path} does not fit in memory.") from None
    except OSError as error:
        raise DcbenchError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, SyntaxError, TypeError, RecursionError, OverflowError) as error:
        raise DcbenchError(f"{path} cannot be used: {_sentence(error)} {expected}".rstrip()) from None


def _sentence(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".") + "."
