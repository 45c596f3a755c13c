"""Reading the small text files that people write and send: cards, suites, published numbers."""

from __future__ import annotations

from pathlib import Path

from dcbench.errors import DcbenchError

MOST_BYTES = 2**22
"""Of a file that a person wrote; a suite of all data sets and networks takes a hundredth of it."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a file of at most so many, of a longer one without reading on.

    Raises:
        DcbenchError: naming the file, when it cannot be read or is longer.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise DcbenchError(f"{path} cannot be read: it is a device or a pipe.")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise DcbenchError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > most:
        raise DcbenchError(f"{path} cannot be read: it is longer than {most:,} bytes.")
    return data


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Return the text of a file in UTF-8, without a byte-order mark, as `read_bytes` reads it.

    Raises:
        DcbenchError: naming the file, when it cannot be read, is longer, or is not UTF-8.
    """
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DcbenchError(f"{path} cannot be read: it is not UTF-8.") from None
