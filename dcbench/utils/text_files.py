"""Reading the small text files that people write and send: cards, rules, suites, published numbers."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dcbench.utils.errors import DcbenchError, unknown_name

M = TypeVar("M", bound=BaseModel)


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, without a byte-order mark; a `DcbenchError` names an unreadable file."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DcbenchError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DcbenchError(f"{path} cannot be read: it is not UTF-8.") from None


def read_toml(path: Path, model: type[M]) -> M:
    """Return what a TOML file says; see `checked`."""
    return checked(path, model, lambda: tomllib.loads(read_text(path)))


def checked(path: Path, model: type[M], read: Callable[[], Any]) -> M:
    """Return what a file says, or raise a `DcbenchError` that names the file and what is wrong in it."""
    try:
        return model.model_validate(read())
    except ValidationError as error:
        raise mistake(f"{path}", "key", model, error) from None
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError
        raise DcbenchError(f"{path} is not {path.suffix[1:].upper()}: {error}.") from None


def mistake(where: str, kind: str, model: type[BaseModel], error: ValidationError) -> DcbenchError:
    """Say what is wrong with a file: a misspelt key rather than the missing one that it may be.

    Args:
        where: the file, and the line if that is known.
        kind: of what is named: ``key`` or ``column``.
        model, error: what the file should have been, and what is wrong.
    """
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    place = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        return DcbenchError(f"{where}: {unknown_name(kind, place, model.model_fields)}")
    named = f"{kind} {place!r}: " if place else ""
    return DcbenchError(f"{where}: {named}{problem['msg'].removeprefix('Value error, ')}.")
