"""``dcbench describe``: everything about one name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from dcbench.cli.output import json_option, print_json


@click.command()
@click.argument("name")
@json_option
def describe(name: str, as_json: bool) -> None:
    """Describe a data set, architecture, method, protocol or budget, with every option."""
    from dcbench.budgets import BUDGETS
    from dcbench.errors import unknown_name
    from dcbench.plugins import Plugins
    from dcbench.protocols import PROTOCOLS

    plugins = Plugins.load()
    registries = plugins.registries().values()
    found: list[dict[str, Any]] = []
    for registry in registries:
        if name in registry.classes:
            component = registry.get(name)
            origin = registry.origins[name]
            found.append(
                {
                    "kind": registry.kind,
                    "name": name,
                    "summary": component.summary(),
                    "citation": component.citation,
                    "version": component.version,
                    "quick_budget": ", ".join(f"{k}={v}" for k, v in getattr(component, "quick", {}).items()),
                    "from": f"{origin.distribution} {origin.version} ({origin.module})",
                    "options": component.option_rows(),
                }
            )
    for kind, constants in (("protocol", PROTOCOLS), ("budget", BUDGETS)):
        if name in constants:
            found.append({"kind": kind, **asdict(constants[name])})
    if not found:
        known = [*(each for registry in registries for each in registry), *PROTOCOLS, *BUDGETS]
        raise plugins.missing(unknown_name("name", name, known))
    if as_json:
        print_json(found)
        return
    for each in found:
        _print_one(each, each.pop("options", []))


def _print_one(facts: dict[str, Any], options: list[dict[str, str]]) -> None:
    """Print the facts, then a paragraph per option, which reads better than a table of long cells."""
    for key, value in facts.items():
        if value not in ("", None):
            click.echo(f"{key.replace('_', ' '):>16}  {value}")
    if options:
        click.echo("\nOptions, as in -o name=value:")
    for row in options:
        click.echo(f"\n  {row['option']}  ({row['type']}, default: {row['default']})")
        click.echo(f"      {row['meaning']}")
        if row["source"]:
            click.echo(f"      from {row['source']}")
