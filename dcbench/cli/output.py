"""Printing tables, for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from dcbench.leaderboard.continual import Curve
    from dcbench.leaderboard.scores import Row
    from dcbench.leaderboard.standings import Standings

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2))


def print_scores(table: Sequence[Row], title: str, as_json: bool, standings: Sequence[Standings]) -> None:
    """Print cross-architecture tables, one for each protocol, budget and track."""
    if as_json:
        from dcbench.leaderboard.report.data import row_data

        print_json([row_data(row) for row in table])
        return
    from dcbench.leaderboard.report.terminal import LEGEND, terminal_tables

    console, tables = make_console(), terminal_tables(table, title, standings)
    # A terminal too narrow for all networks breaks lines; columns left out would be worse.
    least = [shown.__rich_measure__(console, console.options).minimum for shown in tables]
    console.width = max(console.width, *least)
    console.print(*tables, f"[dim]{LEGEND}[/dim]")


def print_curves(curves: Sequence[Curve], as_json: bool) -> None:
    """Print the tables of continual learning."""
    from dcbench.leaderboard.report.curves import CURVES_LEGEND, curve_lines, curve_tables

    if as_json:
        print_json([asdict(each) for each in curves])
        return
    for title, some in curve_tables(curves):
        click.echo(f"{some[0].dataset}: {title}")
        print_rows(curve_lines(some), False)
    if curves:
        click.echo(CURVES_LEGEND)


def print_rows(rows: Sequence[dict[str, str]], as_json: bool) -> None:
    """Print a plain table, a column per key."""
    if as_json:
        print_json(rows)
        return
    import rich.box
    from rich.markup import escape
    from rich.table import Table

    shown = Table(box=rich.box.SIMPLE_HEAD)
    for key in rows[0] if rows else []:
        shown.add_column(key, overflow="fold")
    for row in rows:
        shown.add_row(*map(escape, row.values()))
    make_console().print(shown)


def make_console() -> Console:
    """Return a console of the terminal's width, or a wide one where there is no terminal."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=120)
