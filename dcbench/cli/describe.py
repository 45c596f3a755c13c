"""``dcbench describe``: everything about one name."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from dcbench.cli.options import load_plugins
from dcbench.cli.output import json_option, make_console, print_json

if TYPE_CHECKING:
    from dcbench.plugins import PluginInfo, Registry
    from dcbench.suites.file import Suite

LABELS = {"long": "compiles", "official": "enters tables"}
"""What fields are called where their names say little."""


@click.command()
@click.argument("name")
@json_option
def describe(name: str, as_json: bool) -> None:
    """Describe one name, whatever its kind (`dcbench list` has all of them), with every option."""
    from dcbench.core.component import Component
    from dcbench.core.spec import BUDGETS
    from dcbench.evaluate.protocols import PROTOCOLS, get_protocol
    from dcbench.suites.file import load_suite
    from dcbench.utils.errors import unknown_name

    plugins = load_plugins()
    result: list[dict[str, Any]] = []
    for registry in plugins.registries().values():
        if (same := registry.find(name)) is not None:
            result.append(_component_facts(registry, same))
    if name.partition(":")[0] in PROTOCOLS:
        facts = asdict(get_protocol(name, plugins.make_architecture))
        result.append(
            {"kind": "protocol", **{k: str(v) if isinstance(v, Component) else v for k, v in facts.items()}}
        )
    if name in BUDGETS:
        result.append({"kind": "budget", **asdict(BUDGETS[name])})
    if (same := plugins.suites.find(name)) is not None:
        result.append(_suite_facts(load_suite(plugins.suite_path(same)), plugins.suites.origins[same]))
    if not result:
        known = {*chain(*plugins.registries().values()), *PROTOCOLS, *BUDGETS, *plugins.suites}
        raise plugins.missing(unknown_name("name", name, known))
    if as_json:
        print_json(result)
        return
    for index, facts in enumerate(result):
        click.echo(nl=index > 0)
        _print_one(facts, facts.pop("options", []))


def _component_facts(registry: Registry[Any], name: str) -> dict[str, Any]:
    component, origin = registry.get(name), registry.origins[name]
    unsuitable, quick = getattr(component, "unsuitable", ()), getattr(component, "quick", {}).items()
    return {
        "kind": registry.kind,
        "name": name,
        "summary": component.summary(),
        "remarks": component.remarks(),
        "citation": component.citation,
        "version": component.version,
        "sha256": getattr(component, "sha256", ""),
        "unsuitable": ", ".join(sorted(unsuitable)),
        "main_score": getattr(component, "main", ""),
        "quick_budget": ", ".join(f"{key}={value}" for key, value in quick),
        "spelling": f"{component.argument.upper()},option=value".removeprefix(","),
        "from": f"{origin.distribution} {origin.version} ({origin.module})",
        "options": component.option_rows(),
    }


def _suite_facts(suite: Suite, origin: PluginInfo) -> dict[str, Any]:
    """Return what the suite's file says, with lists and options as text."""
    facts: dict[str, Any] = {"kind": "suite", "name": suite.name}
    for key, value in suite.file.model_dump(mode="json").items():
        if isinstance(value, dict):
            value = [f"{name}={each}" for name, each in value.items()]
        if isinstance(value, list):
            value = (" " if key == "notes" else ", ").join(map(str, value))
        facts["method_options" if key == "options" else key] = value
    return {**facts, "from": f"{origin.distribution} {origin.version} ({suite.path})"}


def _print_one(facts: dict[str, Any], options: list[dict[str, str]]) -> None:
    """Print the facts, then a paragraph per option, which reads better than a table of long cells."""
    wrapped = partial(_wrapped, make_console().width)
    for key, value in facts.items():
        if value not in ("", None) and key != "spelling":
            if isinstance(value, dict):
                value = ", ".join(f"{name}: {each}" for name, each in value.items())
            text = ("yes" if value else "no") if isinstance(value, bool) else value
            label = f"{LABELS.get(key, key.replace('_', ' ')):>16}  "
            click.echo(wrapped(str(text), label, " " * len(label)))
    if options:
        spelling = "-o name=value" if facts["kind"] == "method" else f"{facts['name']}:{facts['spelling']}"
        click.echo(f"\nOptions, as in {spelling}:")
    for row in options:
        click.echo(f"\n  {row['option']}  ({row['type']}, default: {row['default']})")
        for text in (row["meaning"], f"from {row['source']}" * bool(row["source"])):
            click.echo(wrapped(text, " " * 6, " " * 6), nl=bool(text))


def _wrapped(width: int, text: str, first: str, others: str) -> str:
    """Return a text on lines of a width, each indented, with words left whole."""
    wrapper = textwrap.TextWrapper(width, first, others, break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(text)
