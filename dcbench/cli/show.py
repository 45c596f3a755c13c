"""``dcbench show``: figures of the results of a run, or of a leaderboard."""

from __future__ import annotations

from pathlib import Path

import click

from dcbench.cli.options import EXISTING_FOLDER, FOLDER


@click.command()
@click.argument("results", default="results", type=EXISTING_FOLDER)
@click.option("--dataset", "-d", metavar="NAME", help="Only this data set.")
@click.option("--out", type=FOLDER, help="Where to write them.  [RESULTS/figures]")
def show(results: Path, dataset: str | None, out: Path | None) -> None:
    """Draw figures of RESULTS, each as PNG and PDF; needs matplotlib.

    accuracy-… has test accuracy against images per class, a panel for each evaluation network and a line for each
    method, with 95 % intervals where several sets tell them. continual-… has the accuracy after each step of
    `dcbench continual`. images-… is a contact sheet: the first images of each
    class, by all methods. `dcbench leaderboard show` prints the numbers.
    """
    from dcbench.leaderboard.board import read_leaderboard
    from dcbench.leaderboard.report.figures import write_figures
    from dcbench.utils.errors import DcbenchError, find_name

    board = read_leaderboard(results, all_budgets=True)
    found = {each.dataset for each in (*board.rows, *board.curves)}
    if not found:
        raise DcbenchError(f"{results} has no records: name the results of a run.")
    if dataset is not None:
        board = board.of(find_name("data set in these records", dataset, found))
    written, missing = write_figures(board, out or results / "figures")
    for path in written:
        click.echo(f"wrote {path}")
    for text in missing:
        click.echo(f"not in the contact sheets: {text}")
