"""What data sets, architectures and methods have in common: a name, a version and documented options."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from dcbench.utils.errors import DcbenchError, unknown_name

_OPTION = re.compile(r"\s*(?P<key>[A-Za-z_]\w*)\s*=(?P<value>.*)", re.DOTALL)


def option(
    default: Any, description: str, *, source: str = "", added_later: bool = False, **constraints: Any
) -> Any:
    """Declare one option of a component: a pydantic field with a meaning and a source.

    Args:
        default: the value when the user says nothing. ``None`` stands for a value that depends on the
            setting and is filled in by `Method.resolve`.
        description: what the option means, with its unit.
        source: where the default comes from (paper, equation, table).
        added_later: whether there are results from before the option existed. Specs and records then leave it out
            at its default, so that these results keep their keys.
        constraints: pydantic's own, such as ``ge=1``.
    """
    if added_later:
        constraints["exclude_if"] = lambda value: value == default
    return Field(default, description=description, json_schema_extra={"source": source}, **constraints)


class Spelling(NamedTuple):
    """The parts of what users write and records state: ``name@version:options``, the last two optional.

    Without a version the installed one is meant. `Component.parse` reads the options.
    """

    name: str
    version: str
    options: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Take a spelling apart."""
        head, _, options = text.partition(":")
        name, _, version = head.partition("@")
        return cls(name, version, options)


class Component(BaseModel):
    """A frozen, typed set of options with a name. The base of `Dataset`, `Architecture` and `Method`.

    The fields of a subclass are its options. Unknown options are refused, values are validated, and an
    instance never changes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    kind: ClassVar[str]
    name: ClassVar[str]
    """The name users type: lower case, digits and underscores, unique among its kind."""
    version: ClassVar[str] = "1"
    """Raised whenever the same options would give different results; part of every key."""
    citation: ClassVar[str] = ""
    """Where it was published: authors, title, venue, year."""
    argument: ClassVar[str] = ""
    """The option that users write bare after the colon, as in ``npz:PATH``; empty for none."""

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring."""
        return (cls.__doc__ or "").strip().split("\n")[0]

    @classmethod
    def remarks(cls) -> str:
        """Return what else the docstring says before its sections, as one line."""
        rest = inspect.cleandoc(cls.__doc__ or "").partition("\n")[2]
        return " ".join(rest.partition("\n\nClass attributes:")[0].split())

    @classmethod
    def is_argument(cls, text: str) -> bool:
        """Return whether a user who writes ``text`` alone may mean ``name:text``; a message then says so."""
        return False

    @classmethod
    def option_fields(cls) -> dict[str, FieldInfo]:
        """Return the options that users may give, by name."""
        return cls.model_fields

    @classmethod
    def from_spelling(cls, text: str) -> Self:
        """Build an instance from its whole spelling, as users and records have it: the inverse of ``str``.

        A `DcbenchError` says that it is of another version than this one, or that its options do not fit.
        """
        spelling = Spelling.of(text)
        if spelling.version not in ("", cls.version):
            raise DcbenchError(
                f"{cls.kind} {text!r} is of version {spelling.version}, and version {cls.version} is installed: "
                "the recorded results were made with another version, and cannot be made again here. "
                f"Use {cls.name!r} for the installed version."
            )
        return cls.parse(spelling.options)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Build an instance from ``option=value,option=value``, which users write after ``name:``.

        The `argument`, if there is one, stands before the options. What does not fit raises a `DcbenchError`.
        """
        parts = text.removesuffix(",").split(",") if text else []
        options: dict[str, str] = {}
        while parts and (match := _OPTION.fullmatch(parts[-1])):
            # A path may have the form of an option, but not the name of one.
            if cls.argument and len(parts) == 1 and match["key"] not in cls.option_fields():
                break
            if match["key"] in options:
                raise DcbenchError(f"{cls.name}:{text}: option {match['key']!r} is given twice.")
            options[match["key"]] = match["value"]
            parts.pop()
        if parts and not cls.argument:
            raise DcbenchError(f"{cls.name}:{text}: {parts[-1]!r} is not of the form option=value.")
        if cls.argument and not any(parts):
            what = cls.argument.upper()
            raise DcbenchError(f"{cls.kind} {cls.name!r} needs a {cls.argument}, as in {cls.name}:{what}.")
        return cls.configure({**options, cls.argument: ",".join(parts)} if parts else options)

    @classmethod
    def configure(cls, options: Mapping[str, Any]) -> Self:
        """Build an instance from options as a user gives them; a `DcbenchError` names one that does not fit."""
        fields = cls.option_fields()
        for key in options:
            if key not in fields:
                raise unknown_name(f"option of {cls.kind} {cls.name}", key, fields)
        try:
            return cls._from_values({key: _parse(value, fields[key]) for key, value in options.items()})
        except ValidationError as error:
            raise DcbenchError(_first_problem(cls, error)) from None

    @classmethod
    def _from_values(cls, values: dict[str, Any]) -> Self:
        return cls.model_validate(values)

    @classmethod
    def option_rows(cls) -> list[dict[str, str]]:
        """Describe every option: name, type, default, meaning and source, in order of declaration."""
        return [
            {
                "option": key,
                "type": _type_name(field),
                "default": _default_text(field),
                "meaning": field.description or "",
                "source": _source(field),
            }
            for key, field in cls.option_fields().items()
        ]

    def changed_options(self, default: Self) -> dict[str, Any]:
        """Return the options in which this instance differs from ``default``."""
        ours, theirs = (each.model_dump(mode="json", warnings=False) for each in (self, default))
        return {key: value for key, value in ours.items() if key not in theirs or value != theirs[key]}

    def __hash__(self) -> int:
        """Return the same hash for equal components, whatever the types of their options."""
        return hash((type(self), repr(self)))

    def __str__(self) -> str:
        """Return the canonical spelling: ``name``, ``name@2`` or ``name:norm=batch,width=64``."""
        version = "" if self.version == "1" else f"@{self.version}"
        changed = self.changed_options(type(self).model_construct())
        argument = [str(changed.pop(self.argument))] if self.argument in changed else []
        options = ",".join(argument + [f"{key}={changed[key]}" for key in sorted(changed)])
        return f"{self.name}{version}{':' + options if options else ''}"


def _parse(value: Any, field: FieldInfo) -> Any:
    """Read a string from the command line as JSON where its field is not itself a string."""
    if not isinstance(value, str):
        return value
    if value.lower() == "none" and type(None) in get_args(field.annotation):
        return None
    if str in (field.annotation, *get_args(field.annotation)) or value in get_args(field.annotation):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):  # a number of too many digits raises ValueError
        return value
    # pydantic would take true for the number 1.
    is_wrong = isinstance(parsed, bool) and bool not in (field.annotation, *get_args(field.annotation))
    return value if is_wrong else parsed


def _first_problem(cls: type[Component], error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"]) or "options"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"option {place!r} of {cls.kind} {cls.name!r}: {message}, got {problem['input']!r}."


def _source(field: FieldInfo) -> str:
    return str(field.json_schema_extra.get("source", "")) if isinstance(field.json_schema_extra, dict) else ""


def _type_name(field: FieldInfo) -> str:
    members = [each for each in get_args(field.annotation) if each is not type(None)]
    # Of `X | None`, X; of Literal["a", "b"] and Literal["a"] | None, the choices.
    shown = field.annotation if get_origin(field.annotation) is Literal or not members else members[0]
    if get_origin(shown) is Literal:
        return " | ".join(map(str, get_args(shown)))
    return getattr(shown, "__name__", str(shown))


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "to be given"
    return "by setting" if field.default is None else str(field.default)
