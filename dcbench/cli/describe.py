"""``dcbench describe``: everything about one name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from dcbench.cli.output import json_option, print_json, print_rows


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
    registries = (plugins.methods, plugins.architectures, plugins.datasets)
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
        options = each.pop("options", None)
        for key, value in each.items():
            if value not in ("", None):
                click.echo(f"{key.replace('_', ' '):>17}  {value}")
        if options:
            print_rows(options, as_json=False)
        elif options is not None:
            click.echo(f"{'options':>17}  none")
