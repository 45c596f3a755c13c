"""The part of the contract that all components share: a name, a version, and options."""

from __future__ import annotations

import json
import re

from pydantic import ValidationError

from dcbench.checks.check import CheckFailed
from dcbench.core.component import Component
from dcbench.utils.errors import DcbenchError

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def class_of(component: Component | type[Component]) -> type[Component]:
    """Return the class of a component that is given as a class or an instance."""
    return component if isinstance(component, type) else type(component)


def has_a_name_a_version_and_a_summary(component: Component | type[Component]) -> None:
    """It has a name, a version and a summary."""
    cls = class_of(component)
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise CheckFailed(
            "a name of lower-case letters, digits and single underscores, which starts with a letter",
            repr(name),
            f'write name = "my_{cls.kind}" in {cls.__name__}',
        )
    if not isinstance(cls.version, str) or not cls.version:
        raise CheckFailed("a version, a string that is not empty", repr(cls.version), 'write version = "1"')
    if "__doc__" not in vars(cls) or not cls.summary():
        raise CheckFailed(
            "a docstring, whose first line `dcbench list` shows",
            "none",
            f"say in a sentence below `class {cls.__name__}` what it is",
        )


def options_are_documented(component: Component | type[Component]) -> str | None:
    """Every option has a meaning, and all but a bare argument have a default."""
    cls = class_of(component)
    for name, field in cls.model_fields.items():
        if not (field.description or "").strip():
            raise CheckFailed(
                f"a description of option {name!r}, which `dcbench describe {cls.name}` shows",
                "none",
                f'declare it {name}: … = option(default, "what it means, with its unit")',
            )
        if field.is_required() and name != cls.argument:
            raise CheckFailed(
                f"a default for option {name!r}",
                "none: whoever names it without that option gets an error",
                f'give a default, or say argument = "{name}" if it is what users write after the colon',
            )
    return None if cls.model_fields else "it has no options"


def options_survive_json(component: Component | type[Component]) -> None:
    """Options are recorded as JSON, and those recorded give the same component."""
    cls = class_of(component)
    given = component if isinstance(component, Component) else defaults(cls)
    if given is None:
        return
    try:
        recorded = json.loads(json.dumps(given.model_dump(mode="json"), allow_nan=False))
        again = cls.configure(recorded)
    except (TypeError, ValueError, DcbenchError) as error:
        raise CheckFailed(
            "options that can be written as JSON and read again",
            f"{type(error).__name__}: {error}",
            "use numbers, strings, booleans, lists of those, and Literal for choices",
        ) from None
    if again.model_dump(mode="json") != recorded:
        raise CheckFailed(
            f"the recorded options {recorded} to give these options again",
            str(again.model_dump(mode="json")),
            "let a validator leave alone what it has made itself",
        )


def defaults(cls: type[Component]) -> Component | None:
    """Return the component with its defaults, or None where it needs an argument.

    Raises:
        CheckFailed: when the defaults are not valid values.
    """
    if any(field.is_required() for field in cls.model_fields.values()):
        return None
    try:
        component = cls()
        cls.configure(component.model_dump(mode="json"))
    except (ValidationError, DcbenchError) as error:
        raise CheckFailed(
            "defaults that are valid values", _one_line(error), "change the default or its constraint"
        ) from None
    return component


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


COMPONENT_CHECKS = (
    has_a_name_a_version_and_a_summary,
    options_are_documented,
    options_survive_json,
)
