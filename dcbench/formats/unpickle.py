"""Reading files of ``torch.save`` as data: tensors, numbers and plain containers, and nothing that runs.

torch's ``weights_only`` reads them, and refuses whatever else a pickle may hold. numpy's numbers are allowed,
because the published files state accuracies in them. torch ignores the checksums of a zip, so they are checked
first. The format of before torch 1.6 has none, and damage to the numbers in it goes unnoticed.
"""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np
import torch

from dcbench.utils.errors import DcbenchError, first_line

_SCALAR = np.float64(0).__reduce__()[0]
NUMPY_NUMBERS: list[Any] = [
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # before and from numpy 2 on
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"},
]


def load_data(path: Path) -> Any:
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
