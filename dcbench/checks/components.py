"""The part of the contract that all components share: a name, a version, and options."""

from __future__ import annotations

import json
import re
from typing import TypeVar

from dcbench.checks.check import CheckFailed
from dcbench.core.component import Component
from dcbench.utils.errors import DcbenchError

C = TypeVar("C", bound=Component)

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def class_of(component: C | type[C]) -> type[C]:
    """Return the class of a component that is given as a class or an instance."""
    return component if isinstance(component, type) else type(component)


def configured(component: C | type[C]) -> C:
    """Return an instance as it is, and of a class the instance with its defaults.

    Raises:
        DcbenchError: for a class that needs an argument, such as a path.
    """
    return component.parse("") if isinstance(component, type) else component


def has_a_name_a_version_and_a_summary(component: Component | type[Component]) -> None:
    """It has a name, a version and a summary."""
    cls = class_of(component)
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise CheckFailed(f"name = {name!r}", f'use lower-case words joined by underscores, as in "my_{cls.kind}"')
    if not isinstance(cls.version, str) or not cls.version:
        raise CheckFailed(f"version = {cls.version!r}", 'write version = "1"')
    if "__doc__" not in vars(cls) or not cls.summary():
        raise CheckFailed("no docstring", f"say in a sentence below `class {cls.__name__}` what it is")


def options_are_documented(component: Component | type[Component]) -> str | None:
    """Every option has a meaning and a default; only the option that `argument` names needs no default."""
    cls = class_of(component)
    for name, field in cls.model_fields.items():
        if not field.description:
            advice = f'declare it {name}: … = option(default, "what it means, with its unit")'
            raise CheckFailed(f"no description of option {name!r}", advice)
        if field.is_required() and name != cls.argument:
            advice = f'give a default, or say argument = "{name}" if users write it after the colon'
            raise CheckFailed(f"no default for option {name!r}", advice)
    return None if cls.model_fields else "it has no options"


def options_survive_json(component: Component | type[Component]) -> None:
    """Options saved as JSON and read again give the same component."""
    cls = class_of(component)
    if isinstance(component, type) and any(field.is_required() for field in cls.model_fields.values()):
        return  # a class alone has no values to record
    try:
        recorded = json.loads(json.dumps(configured(component).model_dump(mode="json"), allow_nan=False))
        again = cls.configure(recorded).model_dump(mode="json")
    except (TypeError, ValueError, DcbenchError) as error:
        advice = "use numbers, strings, booleans, lists of those, and Literal for choices; check the defaults"
        raise CheckFailed(f"{type(error).__name__}: {error}", advice) from None
    if again != recorded:
        raise CheckFailed(f"{again}, not {recorded}", "let validators leave their own result as it is")


COMPONENT_CHECKS = (
    has_a_name_a_version_and_a_summary,
    options_are_documented,
    options_survive_json,
)
