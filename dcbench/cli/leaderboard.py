"""``dcbench leaderboard``: tables from records, and submissions to them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dcbench.cli.options import EXISTING_FOLDER, POSITIVE
from dcbench.cli.output import json_option, print_curves, print_json, print_scores
from dcbench.cli.submit import submit
from dcbench.cli.verify import verify

folder_argument = click.argument("folder", default="leaderboards", type=EXISTING_FOLDER)


@click.group(commands=[submit, verify])
def leaderboard() -> None:
    """Build, check and show tables made from records; submit to them, and verify submissions.

    FOLDER is any folder with records.jsonl files in or below it: leaderboards/ (the default) or the results
    of a run. Quick and failed records never enter a built table. FOLDER/rules.toml says what a row needs to be
    ranked.
    """


@leaderboard.command()
@folder_argument
def build(folder: Path) -> None:
    """Write FOLDER/tables: a Markdown page per data set, all scores as CSV, and index.html.

    Tables between marks in the READMEs that FOLDER/rules.toml names are written, too.
    """
    from dcbench.leaderboard.report.files import NO_TABLE
    from dcbench.leaderboard.report.files import build as build_tables
    from dcbench.leaderboard.rules import RULES
    from dcbench.leaderboard.scores import official
    from dcbench.results.submission import find_submissions

    records = [record for submission in find_submissions(folder) for record in submission.records]
    written = build_tables(folder)
    for path in written:
        click.echo(f"wrote {path}")
    if not written:
        click.echo(f"{folder}: {NO_TABLE}")
    elif not (folder / RULES).exists():
        click.echo(
            f"{folder} has no {RULES}, so rows are measured against no floor and no ceiling. To stand beside the "
            f"rows that ship with dcbench, run `dcbench leaderboard submit {folder}` in a clone, then build there."
        )
    if left_out := len(records) - len(official(records)):
        click.echo(f"left out {left_out} of {len(records)} records: quick, failed, or of held-out images")


@leaderboard.command()
@folder_argument
@json_option
def check(folder: Path, as_json: bool) -> None:
    """Check that FOLDER/tables is what the records give; exit code 1 if not."""
    from dcbench.leaderboard.report.files import NO_TABLE, differences

    problems = differences(folder)
    if as_json:
        print_json({"ok": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            click.echo(f"{folder}: {problem}", err=True)
        if problems != [NO_TABLE]:
            click.echo(f"Run `dcbench leaderboard build {folder}`.", err=True)
    else:
        click.echo(f"{folder}: the tables are what the records give")
    sys.exit(1 if problems else 0)


@leaderboard.command()
@folder_argument
@click.option("--dataset", "-d", help="Only this data set.")
@click.option("--ipc", type=POSITIVE, help="Only this many images per class, and sets of any size.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("terminal", "markdown", "latex", "csv", "json")),
    default="terminal",
    show_default=True,
    help="terminal shows the rows; markdown, latex (booktabs) and json their ranks, intervals and gaps, too.",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
def show(folder: Path, dataset: str | None, ipc: int | None, form: str) -> None:
    """Show all successful records of FOLDER as tables, quick ones included."""
    from dcbench.leaderboard.board import read_leaderboard
    from dcbench.leaderboard.report.curves import curves_markdown
    from dcbench.leaderboard.report.data import leaderboard_data
    from dcbench.leaderboard.report.tables import csv, latex, markdown
    from dcbench.leaderboard.report.words import heading
    from dcbench.utils.errors import DcbenchError, find_name

    board = read_leaderboard(folder, all_budgets=True)
    if dataset is not None:
        found = {each.dataset for each in (*board.rows, *board.curves)}
        dataset = find_name("data set in these records", dataset, found)
    board = board.of(dataset, ipc)
    if not (board.rows or board.curves) and form != "json":
        raise DcbenchError(f"{folder} has no records of that kind.")
    if form == "terminal":
        if board.rows:
            print_scores(board.rows, str(folder), False, board.tables)
        print_curves(board.curves, False)
    elif form == "json":
        print_json(leaderboard_data(board))
    elif form == "csv":
        click.echo(csv(board.rows), nl=False)
    elif form == "latex":
        click.echo("\n\n".join(latex(table) for table in board.tables))
    else:
        parts = [f"## {table.dataset}, {heading(table)}\n\n{markdown(table, board)}" for table in board.tables]
        click.echo("\n\n".join([*parts, *curves_markdown(board.curves)]))
