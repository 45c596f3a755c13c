"""``dcbench list``: what is there to choose from."""

from __future__ import annotations

import click

from dcbench.cli.options import load_plugins
from dcbench.cli.output import json_option, print_rows

KINDS = ("datasets", "architectures", "methods", "protocols", "budgets", "suites")


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS), required=False)
@json_option
def list_(kind: str | None, as_json: bool) -> None:
    """List data sets, architectures, methods, protocols, budgets and suites."""
    from dcbench.core.spec import BUDGETS
    from dcbench.evaluate.protocols import PROTOCOLS
    from dcbench.suites.file import summary

    plugins = load_plugins()
    rows = []
    for plural, registry in plugins.registries().items():
        for name in registry:
            origin = registry.origins[name].distribution
            rows.append(_row(plural, name, registry.get(name).summary(), origin))
    for protocol in PROTOCOLS.values():
        rows.append(_row("protocols", protocol.name, protocol.summary, "core"))
    for budget in BUDGETS.values():
        rows.append(_row("budgets", budget.name, budget.summary, "core"))
    for name in plugins.suites:
        origin = plugins.suites.origins[name].distribution
        rows.append(_row("suites", name, summary(plugins.suite_path(name)), origin))
    print_rows([row for row in rows if kind in (None, row["kind"])], as_json)


def _row(kind: str, name: str, summary: str, origin: str) -> dict[str, str]:
    return {"kind": kind, "name": name, "summary": summary, "from": origin}
