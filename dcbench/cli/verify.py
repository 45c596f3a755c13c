"""``dcbench leaderboard verify``: whether the accuracies of a submission are found again."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcbench.cli.options import compute_options, load_plugins
from dcbench.cli.output import json_option, print_json

if TYPE_CHECKING:
    from dcbench.results.store import Store
    from dcbench.submissions.verify import VerificationResult

LINE_SECONDS = 30.0
"""Between two lines of progress, where there is no terminal."""
ESTIMATE_SECONDS = 3600.0
"""The time that is left is estimated from the networks of so many seconds."""


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Evaluate only N condensed sets.  [all]")
@click.option(
    "--evals",
    default=10,
    show_default=True,
    type=click.IntRange(min=2),
    metavar="N",
    help="Networks for each set and architecture; more of them narrow the tolerance.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**62),
    help="Of the sample and of the networks.",
)
@click.option(
    "--dataset",
    "-d",
    "datasets",
    multiple=True,
    metavar="NAME",
    help="Where a data set is, for example npz:my_set.npz.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep records of the networks in this folder. The same command then continues after an interruption, and "
    "needs to train only the difference when --evals is larger.",
)
@click.option("--mark", is_flag=True, help="Write verification.json, which marks the rows, if all is well.")
@compute_options
@json_option
def verify(
    folder: Path,
    sample: int | None,
    evals: int,
    seed: int,
    datasets: tuple[str, ...],
    keep: Path | None,
    mark: bool,
    device: str,
    engine: str,
    data_root: Path | None,
    as_json: bool,
) -> None:
    """Check that the parts of the submission in FOLDER fit together, and that its accuracies are found again.

    Networks are trained on its condensed sets from other seeds than those stated. Stated and new means must agree
    within what chance allows (Welch's t-test, 1 % of false alarms over all comparisons together). The exit code is
    1 if they do not, or if records, sets and data contradict each other.
    """
    from dcbench.engine.engine import choose_engine
    from dcbench.results.submission import read_submission, write_verification
    from dcbench.submissions.verify import Verifier, load_datasets, verification
    from dcbench.utils.devices import choose_device
    from dcbench.utils.files import default_data_root

    submission, plugins, chosen = read_submission(folder), load_plugins(), choose_device(device)
    loaded = load_datasets(submission, datasets, plugins, data_root or default_data_root(), chosen)
    with _Bar() as bar, choose_engine(engine, chosen, long=True, side_by_side=True).active():
        store = _store(keep)
        verifier = Verifier(submission, loaded, plugins, evals, sample, seed, bar.update, store)
        try:
            result = verifier.run()
        except KeyboardInterrupt:
            if store:
                count = len(store.records)
                click.echo(f"\n{count} networks are kept in {keep}; the same command goes on.", err=True)
            raise
    marked = write_verification(folder, verification(verifier, result)) if mark and result.ok else None
    if as_json:
        print_json(asdict(result) | {"ok": result.ok})
    else:
        _print(result, folder)
        if marked:
            click.echo(f"wrote {marked}; the tables show the mark once they are built again")
    sys.exit(0 if result.ok else 1)


def _store(keep: Path | None) -> Store | None:
    """Return the records in a folder, which is made if it is not there."""
    from dcbench.results.store import Store
    from dcbench.utils.files import ensure_writable

    if keep is None:
        return None
    ensure_writable(keep, "--keep")
    return Store(keep)


class _Bar:
    """A progress bar on stderr that appears when there is something to count."""

    def __enter__(self) -> _Bar:
        from rich.console import Console
        from rich.progress import Progress

        self._console, self._told = Console(stderr=True), 0.0
        self._bars = Progress(console=self._console, transient=True, speed_estimate_period=ESTIMATE_SECONDS)
        self._task = self._bars.add_task("networks trained", total=None)
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def update(self, done: int, total: int) -> None:
        """Show how many networks are trained; without a terminal, by a line now and then."""
        from dcbench.run.display import spell

        self._bars.update(self._task, completed=done, total=total)
        now = time.monotonic()
        if self._console.is_terminal or not (done in (0, total) or now - self._told > LINE_SECONDS):
            return
        self._told = now
        left = self._bars.tasks[self._task].time_remaining
        rest = f", about {spell(left)} to go" if left else ""
        self._console.print(f"{done} of {total} networks trained{rest}", markup=False, highlight=False)


def _print(result: VerificationResult, folder: Path) -> None:
    """Print the problems, or the comparisons."""
    from rich.markup import escape
    from rich.table import Table

    from dcbench.cli.output import make_console
    from dcbench.leaderboard.report.tables import percent

    for problem in result.problems:
        click.echo(f"{problem.where}: {problem.what}")
    if result.comparisons:
        shown = Table(box=None, padding=(0, 1), pad_edge=False)
        shown.add_column("row", overflow="fold")
        for name in ("network", "sets", "stated", "n", "found", "n", "apart", "tolerance", ""):
            shown.add_column(name, justify="left" if name == "network" else "right", no_wrap=True)
        for each in result.comparisons:
            numbers = [str(len(each.keys)), percent(each.stated), str(each.stated_n)]
            numbers += [percent(each.found), str(each.found_n), f"{100 * (each.found - each.stated):+.1f}"]
            sign = "✗" if not each.ok else "✓" if each.telling else "?"
            shown.add_row(escape(each.what), escape(each.network), *numbers, percent(each.tolerance), sign)
        make_console().print(shown)
        wrong = sum(not each.ok for each in result.comparisons)
        total = result.evaluated + result.left_out
        click.echo(
            f"{result.evaluated} of {total} condensed sets evaluated anew; {wrong} of {len(result.comparisons)} "
            f"comparisons lie outside the tolerance"
        )
        if not all(each.telling for each in result.comparisons):
            click.echo(
                "?: the tolerance is so wide that the comparison tells nothing; more --evals make it narrower"
            )
    tells_nothing = result.comparisons and not any(each.telling for each in result.comparisons)
    verdict = (
        "verified" if result.ok else "NOT verified" + (": no comparison tells anything" if tells_nothing else "")
    )
    click.echo(f"{folder}: {verdict}")
