"""What the file of a condensed set says of itself, and the hash that protects it; without torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import safe_open

from dcbench.utils.errors import DcbenchError, newer_format

FORMAT = "dcbench-set/2"
"""Its header has ``content_sha256``, the hash of the rest of the header and of all tensors but the images, which
``set_sha256`` covers: images may be taken out of the file of a coreset."""
BRINGING_FORMAT = "dcbench-set/3"
"""Of a set that brings more than images and labels: its header has ``brings``."""
FIRST_FORMAT = "dcbench-set/1"
"""Written before there was ``content_sha256``, and still read; some damage goes unnoticed in it."""
FORMATS = re.compile(r"dcbench-set/[1-9][0-9]{0,5}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Bring what a damaged or forged file raises to one message that names it."""
    try:
        yield
    except (DcbenchError, MemoryError):
        raise
    except KeyError as error:
        raise DcbenchError(f"{path} is not a condensed set: it has no {error}.") from None
    except Exception as error:  # there is hardly one that a damaged or forged file cannot raise
        raise DcbenchError(f"{path} cannot be read as a condensed set: {error}.") from None


def parse_header(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the header of a condensed set from the metadata of its file."""
    header = json.loads(metadata["dcbench"])
    if not isinstance(header, dict) or not FORMATS.fullmatch(str(header.get("format"))):
        raise ValueError(f"its format is not {FORMAT}")
    return header


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]], dict[str, str]]:
    """Return the header without ``content_sha256``, the arrays, and the metadata that has the header.

    A `DcbenchError` says that header and arrays do not fit each other. `check_hash` is still to be called.
    """
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = parse_header(metadata)
    stated = header.pop("content_sha256", None)
    if stated is None and header["format"] != FIRST_FORMAT:
        raise KeyError("content_sha256")
    if stated is not None and stated != content_sha256(header, arrays):
        raise DcbenchError(f"{path} is damaged: its content does not match the hash in its header.")
    if header["format"] not in (FIRST_FORMAT, FORMAT, BRINGING_FORMAT):
        raise newer_format(f"{path}, a {header['format']},")
    return header, arrays, metadata


def stated_brings(header: Mapping[str, Any]) -> dict[str, float]:
    """Return `CondensedSet.brings` as the header of a set states it."""
    brings = header.get("brings", {})
    if not all(isinstance(value, int | float) for value in brings.values()):
        raise ValueError("it brings something that is not a number")
    return dict(brings)


def check_hash(path: Path, header: Mapping[str, Any], set_sha256: str) -> None:
    """Raise a `DcbenchError` where images and labels have another hash than the header states."""
    if set_sha256 != header["set_sha256"]:
        raise DcbenchError(f"{path} is damaged: its tensors do not match the hash in its header.")


def content_sha256(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Hash all arrays but the images, with names, types and shapes, and a header but for its own such hash."""
    rest = {name: value for name, value in header.items() if name != "content_sha256"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(arrays.keys() - {"images"}):
        array = arrays[name]
        digest.update(json.dumps([name, f"torch.{array.dtype}", list(array.shape)]).encode())
        digest.update(array.data)
    return digest.hexdigest()
