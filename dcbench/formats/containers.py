"""What holds tensors: the files that are read, and nothing in them is run.

torch's ``weights_only`` reads files of ``torch.save``, and refuses whatever else a pickle may hold. Numbers of
numpy are allowed, because the published files state accuracies in them. torch ignores the checksums of a zip, so
they are checked first. The format of before torch 1.6 has none, and damage to the numbers in it goes unnoticed.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dcbench.formats.forms import IMAGES, LABELS, RATES
from dcbench.formats.npz import open_arrays
from dcbench.utils.errors import DcbenchError, first_line

_SCALAR = np.float64(0).__reduce__()[0]
NUMPY_NUMBERS: list[Any] = [
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # before and from numpy 2 on
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"},
]


def read_content(path: Path) -> Any:
    """Return what a file holds: of an ``.npz`` file the arrays of known names, and None for each other."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".pt": _load_data,
        ".pth": _load_data,
        ".npz": _read_npz,
        ".safetensors": _read_safetensors,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(readers)
        raise DcbenchError(f"{path}: a condensed set is a file of type {known}, or a folder of images per class.")
    return reader(path)


def _read_npz(path: Path) -> dict[str, Tensor | None]:
    names = {*IMAGES, *LABELS, *RATES}
    with open_arrays(path) as arrays:
        return {name: torch.from_numpy(arrays.read(name)) if name in names else None for name in arrays.names}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, RuntimeError, MemoryError) as error:
        raise DcbenchError(f"{path} cannot be read as a safetensors file: {first_line(error)}.") from None


def _load_data(path: Path) -> Any:
    """Return what a file of `torch.save` holds; a `DcbenchError` says that it is damaged or more than data."""
    try:
        if is_zipfile(path):
            with ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"{damaged} in it does not match its checksum: the file is damaged")
        with torch.serialization.safe_globals(NUMPY_NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's, about the inside of the file
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"(?:GLOBAL|Unsupported (?:global|class|operand))[: ]*(?:GLOBAL )?(\S+)", str(error))
        what = f" ({refused[1]})" if refused else ""
        raise DcbenchError(
            f"{path} is refused: it holds more than tensors, numbers and plain containers{what}, "
            "and reading that could run code. Nothing was run."
        ) from None
    except Exception as error:  # there is hardly one that a damaged pickle cannot raise
        raise DcbenchError(f"{path} cannot be read as a torch file: {first_line(error)}.") from None
