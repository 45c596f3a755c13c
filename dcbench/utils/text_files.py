"""Reading the small text files that people write and send: cards, rules, suites, published numbers."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from dcbench.utils.errors import DcbenchError, unknown_name

M = TypeVar("M", bound=BaseModel)

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


def read_toml(path: Path, model: type[M]) -> M:
    """Return what a TOML file says, as `read_text` reads it.

    Raises:
        DcbenchError: naming the file and what is wrong: that it cannot be read or is not TOML, or the key.
    """
    try:
        content = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:  # the first a number of too many digits is, too
        raise DcbenchError(f"{path} is not TOML: {error}.") from None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise mistake(f"{path}", "key", model, error) from None
    except (ValueError, RecursionError) as error:
        raise DcbenchError(f"{path} cannot be used: {error}.") from None


def mistake(where: str, kind: str, model: type[BaseModel], error: ValidationError) -> DcbenchError:
    """Say what is wrong with a file: a misspelt key rather than the missing one that it may be.

    Args:
        where: the file, and the line if that is known.
        kind: of what is named: ``key`` or ``column``.
        model: what the file should have been.
        error: what is wrong.
    """
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    *outer, last = problem["loc"] or ("",)
    if problem["type"] == "extra_forbidden":
        inside = f"{kind} {'.'.join(map(str, outer))!r}: " if outer else ""
        known = _within(model, outer).model_fields
        return DcbenchError(f"{where}: {inside}{unknown_name(kind, str(last), known)}")
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return DcbenchError(f"{where}: {kind} {key!r} is missing.")
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    named = f"{kind} {key!r}: " if key else ""
    return DcbenchError(f"{where}: {named}{message}, got {_shown(problem['input'])}.")


def _within(model: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel]:
    """Return the model at a place in another: of ``methods`` and 0, that of the items of ``methods``."""
    for part in place:
        field = model.model_fields.get(str(part))
        model = next(_models(field.annotation), model) if field else model
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # hexadecimal, there is no limit to the digits that are read
        return "a number of too many digits"
    return text if len(text) <= 80 else f"{text[:77]}..."
