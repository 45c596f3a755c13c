"""What holds tensors: the files that are read, and nothing in them is run.

`dcbench.formats.unpickle` reads pickles.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dcbench.formats.npz import open_arrays
from dcbench.formats.unpickle import load_data
from dcbench.utils.errors import DcbenchError, first_line


def read_content(path: Path, names: Collection[str]) -> Any:
    """Return what a file holds: of an ``.npz`` file the arrays of these names, and None for each other one."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".pt": load_data,
        ".pth": load_data,
        ".npz": lambda path: _read_npz(path, names),
        ".safetensors": _read_safetensors,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(readers)
        raise DcbenchError(f"{path}: a condensed set is a file of type {known}, or a folder of images per class.")
    return reader(path)


def _read_npz(path: Path, names: Collection[str]) -> dict[str, Tensor | None]:
    with open_arrays(path) as arrays:
        return {name: torch.from_numpy(arrays.read(name)) if name in names else None for name in arrays.names}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, RuntimeError, MemoryError) as error:
        raise DcbenchError(f"{path} cannot be read as a safetensors file: {first_line(error)}.") from None
