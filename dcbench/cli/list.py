"""``dcbench list``: what is there to choose from."""

from __future__ import annotations

import click

from dcbench.cli.options import load_plugins
from dcbench.cli.output import json_option, print_rows

KINDS = ("datasets", "architectures", "methods", "measures", "observers", "protocols", "budgets", "suites")


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS), required=False)
@json_option
def list_(kind: str | None, as_json: bool) -> None:
    """List data sets, architectures, methods, measures, observers, protocols, budgets and suites."""
    from dcbench.core.spec import BUDGETS
    from dcbench.evaluate.protocols import PROTOCOLS
    from dcbench.suites.file import summary

    plugins = load_plugins()
    rows = [
        (plural, name, registry.get(name).summary(), registry.origins[name].distribution)
        for plural, registry in plugins.registries().items()
        for name in registry
    ]
    rows += [("protocols", each.name, each.summary, "core") for each in PROTOCOLS.values()]
    rows += [("budgets", each.name, each.summary, "core") for each in BUDGETS.values()]
    for name in plugins.suites:
        origin = plugins.suites.origins[name].distribution
        rows.append(("suites", name, summary(plugins.suite_path(name)), origin))
    keys = ("kind", "name", "summary", "from")
    print_rows([dict(zip(keys, row, strict=True)) for row in rows if kind in (None, row[0])], as_json)
