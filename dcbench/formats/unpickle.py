"""Reading what torch saved, as data: tensors, numbers and plain containers, and nothing that runs.

torch's restricted unpickler makes tensors and plain containers; numpy's scalars are rebuilt here, from a fixed
list of types. Anything else in a pickle is refused.

torch takes a file at its word. Here the checksums are checked first, which torch leaves out, and its tensors lie
in the file until they have been looked at: what is claimed and not there is refused, and takes no memory. The
format of before torch 1.6 has no checksums, and damage to the numbers in it goes unnoticed.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import numpy as np
import torch

from dcbench.utils.errors import DcbenchError


def load_data(path: Path) -> Any:
    """Return what a file of `torch.save` holds.

    Raises:
        DcbenchError: when it is damaged, or holds more than data.
    """
    scalars = [(_numpy_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    try:
        with torch.serialization.safe_globals([*scalars, (_NumpyType, "numpy.dtype")]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's, about the inside of the file
            # As torch tells it, and as others do: what either takes for a zip has to be whole.
            packed = _begins_as_zip(path) or is_zipfile(path)
            if packed:
                _check_zip(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=packed)
            _check_memory(content, path)
            return content
    except pickle.UnpicklingError as error:
        refused = re.search(r"(?:GLOBAL|Unsupported (?:global|class|operand))[: ]*(?:GLOBAL )?(\S+)", str(error))
        what = f" ({refused[1]})" if refused else ""
        raise DcbenchError(
            f"{path} is refused: it holds more than tensors, numbers and plain containers{what}, "
            "and reading that could run code. Nothing was run."
        ) from None
    except Exception as error:  # there is hardly one that a damaged pickle cannot raise
        reason = first_line(error)
        if isinstance(error, RuntimeError) and re.search("resize storage|allocate memory", reason):
            reason = "a tensor in it claims more bytes than the file has"
        raise DcbenchError(f"{path} cannot be read as a torch file: {reason}.") from None


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _check_zip(path: Path) -> None:
    """Raise a `ValueError` where members are not as `torch.save` leaves them, whole and uncompressed."""
    with ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError(f"{member.filename} in it is compressed, which torch.save does not do")
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise ValueError("what is in it claims more bytes than the file has")
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"{damaged} in it does not match its checksum: the file is damaged")


def _check_memory(content: Any, path: Path) -> None:
    """Raise a `ValueError` where a tensor has more memory than the file has bytes: it is not from there."""
    most, seen, left = path.stat().st_size, set(), [content]
    while left:
        each = left.pop()
        if id(each) in seen:  # a list may hold itself, or another any number of times
            continue
        seen.add(id(each))
        if isinstance(each, torch.Tensor):
            if each.layout == torch.strided and each.untyped_storage().nbytes() > most:
                raise ValueError(f"a tensor in it claims more bytes than the file has ({tuple(each.shape)})")
        elif isinstance(each, Mapping):
            left += each.values()
        elif isinstance(each, list | tuple):
            left += each


class _NumpyType:
    """Stands for `numpy.dtype` while a pickle is read: knows numbers and nothing else."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biuf][1248]", code):
            raise pickle.UnpicklingError(f"Unsupported operand numpy.dtype({code!r})")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Take the byte order; the rest describes arrays of records, which numbers are not."""
        self.code = {"<": "<", ">": ">"}.get(str(state[1]), "") + self.code


def _numpy_scalar(kind: Any, data: Any) -> float | int:
    """Rebuild a numpy scalar from its type and bytes, as a Python number."""
    if not isinstance(kind, _NumpyType):
        raise pickle.UnpicklingError("Unsupported operand numpy scalar")
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes) or len(raw) != np.dtype(kind.code).itemsize:
        raise pickle.UnpicklingError("Unsupported operand numpy scalar")
    number: float | int = np.frombuffer(raw, kind.code)[0].item()
    return number


def first_line(error: Exception) -> str:
    """Return an error's message without what follows its first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
