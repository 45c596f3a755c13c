"""Where files are, and writes that a kill cannot leave half done."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dcbench.utils.errors import DcbenchError, StorageError

LEFT_OVER_SECONDS = 3600.0
"""A temporary file of this age is of a killed process, because no write takes an hour."""
ASIDE = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")
"""Names of the temporary files of `write_atomically`."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file in one piece: beside ``path``, flushed to the disk, then renamed into place.

    A `StorageError` means that it cannot be written; what was there before still is.
    """
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):  # on a disk that has become read-only, say: the first error counts
                os.unlink(name)
            raise
        sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file if it is there. Raises `StorageError` when it cannot be removed."""
    with storing(path):
        path.unlink(missing_ok=True)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn errors of the system within into a `StorageError` that names the file and the reason."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}.") from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk: until then, losing power may undo a rename."""
    if os.name != "posix":  # elsewhere folders cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that have no such thing
            raise
    finally:
        os.close(handle)


def left_over(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the temporary files that killed processes left in some folders, but not in the folders within them.

    A young file is left alone, because another process may be writing it.
    """
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            with suppress(FileNotFoundError):  # another process clears, too
                old = time.time() - path.lstat().st_mtime > LEFT_OVER_SECONDS
                if old and ASIDE.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode):
                    yield path


def default_data_root() -> Path:
    """Return where data sets are kept unless the user says otherwise: DCBENCH_DATA, else a cache folder."""
    import platformdirs

    given = os.environ.get("DCBENCH_DATA")
    return Path(given) if given else Path(platformdirs.user_cache_dir("dcbench")) / "data"


def slug(text: str) -> str:
    """Return a name as part of a file name: nothing in it leads out of a folder."""
    return re.sub(r"[^A-Za-z0-9.=+_-]", "-", text).lstrip(".")[:60] or "-"


def ensure_writable(folder: Path) -> None:
    """Create a folder if need be; raise a `DcbenchError` where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise DcbenchError(f"{folder} cannot be written: {reason}. Choose another folder.") from None
