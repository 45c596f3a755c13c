"""What the file of a condensed set, or of a network, says of itself, and its hash; without torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
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
FORMATS = (FORMAT, BRINGING_FORMAT, FIRST_FORMAT)


@contextmanager
def reading(path: Path, what: str = "a condensed set") -> Iterator[None]:
    """Bring what a damaged or forged file raises to one message that names it."""
    try:
        yield
    except (DcbenchError, MemoryError):
        raise
    except KeyError as error:
        raise DcbenchError(f"{path} is not {what}: it has no {error}.") from None
    except Exception as error:  # there is hardly one that a damaged or forged file cannot raise
        raise DcbenchError(f"{path} cannot be read as {what}: {error}.") from None


def parse_header(metadata: Mapping[str, str], format: str = FORMAT) -> dict[str, Any]:
    """Return the header from the metadata of a file of a format, in any version of it."""
    header = json.loads(metadata["dcbench"])
    kind = re.escape(format.partition("/")[0])
    if not isinstance(header, dict) or not re.fullmatch(rf"{kind}/[1-9][0-9]{{0,5}}", str(header.get("format"))):
        raise ValueError(f"its format is not {format}")
    return header


def read_file(
    path: Path, formats: Sequence[str] = FORMATS
) -> tuple[dict[str, Any], dict[str, NDArray[Any]], dict[str, str]]:
    """Return the header without ``content_sha256``, the arrays, and the metadata that has the header.

    A `DcbenchError` says that header and arrays do not fit each other, or that the file is of none of the formats
    but of a newer one. Of a set, `check_hash` is still to be called.
    """
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = parse_header(metadata, formats[0])
    stated = header.pop("content_sha256", None)
    if stated is None and header["format"] != FIRST_FORMAT:
        raise KeyError("content_sha256")
    if stated is not None and stated != content_sha256(header, arrays):
        raise DcbenchError(f"{path} is damaged: its content does not match the hash in its header.")
    if header["format"] not in formats:
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
