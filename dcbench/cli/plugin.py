"""``dcbench plugin``: what is installed, and what failed to load."""

from __future__ import annotations

import click

from dcbench.cli.output import json_option, print_rows


@click.group()
def plugin() -> None:
    """See which plugins are installed."""


@plugin.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List every plugin with its distribution, what it provides, and why it failed to load if it did."""
    from dcbench.plugins import Plugins

    rows = [
        {
            "plugin": info.name,
            "distribution": info.distribution,
            "version": info.version,
            "provides": ", ".join(info.provides),
            "error": info.error,
        }
        for info in Plugins.load(strict=False).infos
    ]
    print_rows(rows, as_json)
