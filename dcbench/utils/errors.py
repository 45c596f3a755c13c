"""The one exception for mistakes that a user can make, and finding what a user names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DcbenchError(Exception):
    """A mistake of the user's or a missing piece of their machine: said in one message, exit code 2.

    Plugins raise it too, for options or settings they cannot serve. Anything else that a plugin raises
    is taken as a defect of the plugin and recorded as a failure.
    """


class StorageError(DcbenchError):
    """A file that cannot be written, because the disk is full, say. It ends a run, since all cells need it."""


class NewerFormat(DcbenchError):
    """A file of a newer dcbench: intact, and to be left as it is."""


def newer_format(what: str) -> NewerFormat:
    """Return the error for a file, or a line of one, that is of a newer dcbench."""
    return NewerFormat(f"{what} is of a newer dcbench: upgrade this one, or use other results.")


def unknown_name(kind: str, name: str, known: Iterable[str], meant: Iterable[str] = ()) -> DcbenchError:
    """Return the error for an unknown ``name`` of a ``kind``: it suggests the nearest known name and lists all.

    What is ``meant``, where that is known, is suggested instead.
    """
    names = sorted(known)
    near = list(meant) or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    choices = f" Known: {', '.join(names)}." if names else " There are none."
    return DcbenchError(f"unknown {kind} {name!r}.{hint}{choices}")


def find_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the ``known`` name of this ``kind`` that a user means; '-' and '_' are the same.

    Where there is none, a `DcbenchError` suggests the nearest.
    """
    names = sorted(known)
    if name in names:
        return name
    same = [each for each in names if each.replace("-", "_") == name.replace("-", "_")]
    if len(same) != 1:
        raise unknown_name(kind, name, names)
    return same[0]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
