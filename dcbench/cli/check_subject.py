"""The component that `dcbench plugin check` checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dcbench.checks import (
    ARCHITECTURE_CHECKS,
    COMPONENT_CHECKS,
    DATASET_CHECKS,
    MEASURE_CHECKS,
    METHOD_CHECKS,
    Check,
    Result,
    run_checks,
)
from dcbench.core.component import Component, Spelling
from dcbench.core.method import Method
from dcbench.plugins import Plugins, Registry
from dcbench.utils.errors import DcbenchError, unknown_name


@dataclass(frozen=True)
class CheckSubject:
    """A component with its options, the checks of its kind, and a title: kind, name and distribution."""

    title: str
    component: Component
    checks: tuple[Check, ...]

    def run(self) -> list[Result]:
        """Run the checks."""
        return run_checks(self.checks, self.component)


def find_subject(plugins: Plugins, text: str, kind: str | None, options: Mapping[str, str]) -> CheckSubject:
    """Find what a user names: ``text``, with its options in it, but for a method.

    The kind is that of a plugin, or None for whichever has the name; the options are a method's.

    Raises:
        DcbenchError: when there is none of that name, several, or an option does not fit.
    """
    name = Spelling.of(text).name
    kinds: dict[str, tuple[Registry[Any], tuple[Check, ...]]] = {
        "method": (plugins.methods, METHOD_CHECKS),
        "dataset": (plugins.datasets, DATASET_CHECKS),
        "architecture": (plugins.architectures, ARCHITECTURE_CHECKS),
        "measure": (plugins.measures, MEASURE_CHECKS),
        "observer": (plugins.observers, COMPONENT_CHECKS),
    }
    matching = [each for each, (registry, _) in kinds.items() if kind in (None, each) and registry.find(name)]
    if not matching:
        known = [each for this, (registry, _) in kinds.items() if kind in (None, this) for each in registry]
        raise _not_found(plugins, name, kind or "component", known)
    if len(matching) > 1:
        both = " and ".join(f"{'an' if each[0] in 'aeiou' else 'a'} {each}" for each in matching)
        raise DcbenchError(f"{name!r} is the name of {both}. Say which: --kind {matching[0]}.")
    registry, checks = kinds[matching[0]]
    cls, origin = registry.get(name), registry.origins[registry.find(name) or name]
    title = f"{matching[0]} {cls.name}, from {origin.distribution} {origin.version} ({origin.module})"
    return CheckSubject(title, _configure(cls, text, options), checks)


def _configure(cls: type[Component], text: str, options: Mapping[str, str]) -> Component:
    """Return the component with its options; for a method, also those of the quick budget."""
    if not issubclass(cls, Method):
        if options:
            raise DcbenchError(f"-o is for methods; options of a {cls.kind} are written {cls.name}:option=value.")
        return cls.from_spelling(text)
    if Spelling.of(text).name != text:
        raise DcbenchError(f"{text}: options of a method are written -o name=value, not in its name.")
    prefix = f"{cls.name}."
    return cls.configure({**cls.quick, **{key.removeprefix(prefix): value for key, value in options.items()}})


def _not_found(plugins: Plugins, name: str, kind: str, known: list[str]) -> DcbenchError:
    """Return the error for an unknown name, which may be that of a plugin."""
    for info in plugins.infos:
        if name.replace("-", "_") not in (each.replace("-", "_") for each in (info.name, info.distribution)):
            continue
        if info.error:
            return DcbenchError(f"plugin {info.name!r} of {info.distribution} failed to load: {info.error}")
        if info.provides:
            provided = ", ".join(info.provides)
            return DcbenchError(f"{name!r} is a plugin. Check what it provides, one by one: {provided}.")
    return DcbenchError(
        f"{plugins.missing(unknown_name(kind, name, known))} What is not installed is not found: "
        "`pip install -e FOLDER` installs the plugin whose pyproject.toml is in FOLDER."
    )
