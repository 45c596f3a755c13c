"""Where files are, and writes that a kill cannot leave half done."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from dcbench.errors import DcbenchError

_chosen_data_root: ContextVar[Path | None] = ContextVar("data root", default=None)


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, flush it to the disk, then rename it into place."""
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
        Path(name).unlink(missing_ok=True)
        raise


def default_data_root() -> Path:
    """Return where data sets are kept unless the user says otherwise: DCBENCH_DATA, else a cache folder."""
    import platformdirs

    given = _chosen_data_root.get() or os.environ.get("DCBENCH_DATA")
    return Path(given) if given else Path(platformdirs.user_cache_dir("dcbench")) / "data"


@contextmanager
def using_data_root(root: Path | None) -> Iterator[None]:
    """Let `default_data_root` return a folder within; with None, do nothing."""
    token = _chosen_data_root.set(root or _chosen_data_root.get())
    try:
        yield
    finally:
        _chosen_data_root.reset(token)


def slug(text: str) -> str:
    """Return a name as part of a file name: nothing in it leads out of a folder."""
    return re.sub(r"[^A-Za-z0-9.=+_-]", "-", text).lstrip(".")[:60] or "-"


def ensure_writable(folder: Path) -> None:
    """Create the folder if need be.

    Raises:
        DcbenchError: when nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise DcbenchError(
            f"results cannot be written to {folder}: {reason}. Choose another with --results."
        ) from None
