"""``dcbench leaderboard``: tables from records."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dcbench.cli.output import json_option, print_json, print_scores

folder_argument = click.argument(
    "folder", default="leaderboards", type=click.Path(exists=True, file_okay=False, path_type=Path)
)


@click.group()
def leaderboard() -> None:
    """Build, check and show tables made from records.

    FOLDER is any folder with records.jsonl files in or below it: leaderboards/ (the default) or the results
    of a run. Quick and failed records never enter a built table.
    """


@leaderboard.command()
@folder_argument
def build(folder: Path) -> None:
    """Write FOLDER/tables: a Markdown page per data set, and all scores as CSV."""
    from dcbench.leaderboard import find_records, official
    from dcbench.report.files import build as build_tables

    records = find_records(folder)
    written = build_tables(folder)
    for path in written:
        click.echo(f"wrote {path}")
    if not written:
        click.echo(f"no table: {folder} has no official records")
    left_out = len(records) - len(official(records))
    if left_out:
        click.echo(f"left out {left_out} of {len(records)} records: quick or failed")


@leaderboard.command()
@folder_argument
@json_option
def check(folder: Path, as_json: bool) -> None:
    """Check that FOLDER/tables is what the records give; exit code 1 if not."""
    from dcbench.report.files import differences

    problems = differences(folder)
    if as_json:
        print_json({"ok": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            click.echo(f"{folder}: {problem}", err=True)
        click.echo(f"Run `dcbench leaderboard build {folder}`.", err=True)
    else:
        click.echo(f"{folder}: the tables are what the records give")
    sys.exit(1 if problems else 0)


@leaderboard.command()
@folder_argument
@click.option("--dataset", "-d", help="Only this data set.")
@click.option("--ipc", type=click.IntRange(min=1), help="Only this many images per class, and sets of any size.")
@json_option
def show(folder: Path, dataset: str | None, ipc: int | None, as_json: bool) -> None:
    """Show all successful records of FOLDER as a table, quick ones included."""
    from dcbench.errors import DcbenchError, unknown_name
    from dcbench.leaderboard import find_records, rows

    table = rows(find_records(folder))
    if dataset is not None and dataset not in {row.dataset for row in table}:
        raise unknown_name("data set in these records", dataset, {row.dataset for row in table})
    table = [row for row in table if dataset in (None, row.dataset) and (ipc is None or row.ipc in (None, ipc))]
    if not table and not as_json:
        raise DcbenchError(f"{folder} has no records of that kind.")
    print_scores(table, str(folder), as_json)
