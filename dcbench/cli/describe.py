"""``dcbench describe``: everything about one name."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dcbench.cli.options import load_plugins
from dcbench.cli.output import json_option, print_json

if TYPE_CHECKING:
    from dcbench.plugins import PluginInfo
    from dcbench.suites.file import Suite


IN_WORDS = {"long": "compiles", "official": "enters tables"}
"""What fields are called where their names say little."""


@click.command()
@click.argument("name")
@json_option
def describe(name: str, as_json: bool) -> None:
    """Describe a data set, architecture, method, protocol, budget or suite, with every option."""
    from dcbench.core.spec import BUDGETS
    from dcbench.evaluate.protocols import PROTOCOLS
    from dcbench.suites.file import load_suite
    from dcbench.utils.errors import unknown_name

    plugins = load_plugins()
    registries = plugins.registries().values()
    found: list[dict[str, Any]] = []
    for registry in registries:
        if (same := registry.find(name)) is not None:
            component, origin = registry.get(same), registry.origins[same]
            found.append(
                {
                    "kind": registry.kind,
                    "name": same,
                    "summary": component.summary(),
                    "remarks": component.remarks(),
                    "citation": component.citation,
                    "version": component.version,
                    "sha256": getattr(component, "sha256", ""),
                    "augmentation": ", ".join(
                        f"{k}: {v}" for k, v in getattr(component, "augmentation", {}).items()
                    ),
                    "quick_budget": ", ".join(f"{k}={v}" for k, v in getattr(component, "quick", {}).items()),
                    "spelling": f"{component.argument.upper()},option=value".removeprefix(","),
                    "from": f"{origin.distribution} {origin.version} ({origin.module})",
                    "options": component.option_rows(),
                }
            )
    for kind, constants in (("protocol", PROTOCOLS), ("budget", BUDGETS)):
        if name in constants:
            found.append({"kind": kind, **asdict(constants[name])})
    if (same := plugins.suites.find(name)) is not None:
        found.append(_suite_facts(load_suite(plugins.suite_path(same)), plugins.suites.origins[same]))
    if not found:
        known = [*(each for registry in registries for each in registry), *PROTOCOLS, *BUDGETS, *plugins.suites]
        raise plugins.missing(unknown_name("name", name, known))
    if as_json:
        print_json(found)
        return
    for each in found:
        _print_one(each, each.pop("options", []))


def _suite_facts(suite: Suite, origin: PluginInfo) -> dict[str, Any]:
    """Return what the suite's file says, lists and options spelt out."""
    facts: dict[str, Any] = {"kind": "suite", "name": suite.name}
    for key, value in suite.file.model_dump(mode="json").items():
        listed = [f"{name}={each}" for name, each in value.items()] if isinstance(value, dict) else value
        spelt = (" " if key == "notes" else ", ").join(map(str, listed)) if isinstance(listed, list) else listed
        facts["method_options" if key == "options" else key] = spelt
    return {**facts, "from": f"{origin.distribution} {origin.version} ({suite.path})"}


def _print_one(facts: dict[str, Any], options: list[dict[str, str]]) -> None:
    """Print the facts, then a paragraph per option, which reads better than a table of long cells."""
    for key, value in facts.items():
        if value not in ("", None) and key != "spelling":
            said = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
            click.echo(f"{IN_WORDS.get(key, key.replace('_', ' ')):>16}  {said}")
    if options:
        spelt = "-o name=value" if facts["kind"] == "method" else f"{facts['name']}:{facts['spelling']}"
        click.echo(f"\nOptions, as in {spelt}:")
    for row in options:
        click.echo(f"\n  {row['option']}  ({row['type']}, default: {row['default']})")
        click.echo(f"      {row['meaning']}")
        if row["source"]:
            click.echo(f"      from {row['source']}")
