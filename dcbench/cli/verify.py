"""``dcbench leaderboard verify``: whether the accuracies of a submission are found again."""

from __future__ import annotations

import math
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from dcbench.cli import options
from dcbench.cli.output import json_option, print_json

if TYPE_CHECKING:
    from dcbench.submissions.verify import VerificationResult

LINE_SECONDS = 30.0
"""Between two lines of progress, where there is no terminal."""
ESTIMATE_SECONDS = 3600.0
"""The time that is left is estimated from the networks of so many seconds."""


@click.command()
@click.argument("folder", type=options.EXISTING_FOLDER)
@options.number("--sample", help="Evaluate only N condensed sets of each row.  [all]")
@options.number(
    "--evals",
    default=10,
    show_default=True,
    type=click.IntRange(min=2),
    help="Networks for each set and architecture; more of them narrow the tolerance.",
)
@options.number(
    "--seed", type=click.IntRange(0, 2**62), help="Of the sample and the networks.  [0; drawn for --mark]"
)
@options.names("--dataset", "-d", "datasets", help="A data set whose name alone does not find it: npz:my_set.npz.")
@click.option(
    "--set",
    "files",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A file of sets that others publish: the submission has their records, and its card says where it is.",
)
@click.option(
    "--keep",
    type=options.FOLDER,
    metavar="DIR",
    help="Keep records of the networks in this folder. The same command then continues after an interruption, and "
    "needs to train only the difference when --evals is larger.",
)
@click.option("--mark", is_flag=True, help="Write verification.json, which marks the rows, if all is well.")
@options.compute_options
@json_option
def verify(
    folder: Path,
    datasets: tuple[str, ...],
    files: tuple[Path, ...],
    keep: Path | None,
    mark: bool,
    seed: int | None,
    device: str,
    engine: str,
    data_root: Path,
    as_json: bool,
    **sampling: Any,
) -> None:
    """Check that the parts of the submission in FOLDER fit together, and that its accuracies are found again.

    Networks are trained on its condensed sets from other seeds than those stated. On each network, and over all of
    a row, the stated mean must not be above the new one by more than chance allows (Welch's t-test, 1 % of false
    alarms over all comparisons together). The exit code is 1 if one is, or if records, sets and data contradict
    each other.
    """
    from dcbench.engine.engine import choose_engine
    from dcbench.results.store import Store
    from dcbench.results.submission import read_submission, write_verification
    from dcbench.submissions.published import with_published_sets
    from dcbench.submissions.verify import Verifier, load_datasets, verification
    from dcbench.utils.devices import choose_device
    from dcbench.utils.files import ensure_writable

    if seed is None:
        # Nobody who submits knows it beforehand.
        seed = secrets.randbits(32) if mark else 0
        if mark:
            click.echo(f"--seed {seed}", err=True)
    submission, plugins, chosen = read_submission(folder), options.load_plugins(), choose_device(device)
    loaded = load_datasets(submission, datasets, plugins, data_root, chosen)
    engine_used = choose_engine(engine, chosen, long=True, side_by_side=True)
    with TemporaryDirectory() as brought, _progress() as progress, engine_used.active():
        submission = with_published_sets(submission, files, loaded, Path(brought))
        if keep:
            ensure_writable(keep)
        store = Store(keep) if keep else None
        verifier = Verifier(submission, loaded, plugins, progress=progress, store=store, seed=seed, **sampling)
        try:
            result = verifier.run()
        except KeyboardInterrupt:
            if store:
                click.echo(
                    f"\n{len(store.records)} networks are kept in {keep}; the same command goes on.", err=True
                )
            raise
    marked = write_verification(folder, verification(verifier, result)) if mark and result.ok else None
    if as_json:
        found = [each.model_dump() for each in result.found]
        print_json(asdict(replace(result, accuracies={})) | {"accuracies": found, "ok": result.ok})
    else:
        _print(result, folder)
        if marked:
            click.echo(f"wrote {marked}; the tables show the mark once they are built again")
    sys.exit(0 if result.ok else 1)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show on standard error how many networks are trained: a bar; a line now and then without a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    from dcbench.run.display import spell

    shown = -math.inf
    console = Console(stderr=True)
    with Progress(console=console, transient=True, speed_estimate_period=ESTIMATE_SECONDS) as bars:
        task = bars.add_task("networks trained", total=None)

        def update(done: int, total: int) -> None:
            nonlocal shown
            bars.update(task, completed=done, total=total)
            if not console.is_terminal and (done in (0, total) or time.monotonic() - shown > LINE_SECONDS):
                shown, left = time.monotonic(), bars.tasks[0].time_remaining
                rest = f", about {spell(left)} to go" if left else ""
                console.print(f"{done} of {total} networks trained{rest}", markup=False, highlight=False)

        yield update


def _print(result: VerificationResult, folder: Path) -> None:
    """Print the problems, or the comparisons."""
    from rich.markup import escape
    from rich.table import Table

    from dcbench.cli.output import make_console
    from dcbench.leaderboard.report.words import points, written

    for problem in result.problems:
        click.echo(f"{problem.where}: {problem.what}")
    verdict = "verified" if result.ok else "NOT verified"
    if result.comparisons:
        shown = Table(box=None, padding=(0, 1), pad_edge=False)
        shown.add_column("row", overflow="fold")
        for name in ("network", "sets", "stated", "n", "found", "n", "apart", "tolerance", ""):
            shown.add_column(name, justify="left" if name == "network" else "right", no_wrap=True)
        for each in result.comparisons:
            numbers = [str(len(each.keys)), written(each.stated, each.unit), str(each.stated_n)]
            numbers += [written(each.found, each.unit), str(each.found_n)]
            numbers += [points(each.found - each.stated, each.unit), written(each.tolerance, each.unit)]
            sign = "✗" if not each.ok else "✓" if each.telling else "?"
            network = each.network or "mean of all"
            shown.add_row(escape(each.what), escape(network), *numbers, sign)
        make_console().print(shown)
        wrong = sum(not each.ok for each in result.comparisons)
        telling = sum(each.telling for each in result.comparisons)
        click.echo(
            f"{result.evaluated} of {result.evaluated + result.left_out} condensed sets evaluated anew; "
            f"{wrong} of {len(result.comparisons)} comparisons are stated too high"
        )
        if telling < len(result.comparisons):
            click.echo("?: the tolerance is so wide that the comparison tells nothing; use more --evals")
        verdict += "" if telling else ": no comparison tells anything"
    click.echo(f"{folder}: {verdict}")
