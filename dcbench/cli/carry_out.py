"""Carrying out a plan on the terminal: what `run`, `evaluate` and `suite run` have in common."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcbench.cli.output import print_scores
from dcbench.utils.wording import counted

if TYPE_CHECKING:
    from dcbench.plugins import Plugins
    from dcbench.results.records import Record
    from dcbench.results.store import Store
    from dcbench.run.cells import Plan
    from dcbench.run.plan import Outline
    from dcbench.run.session import Completed, Execution


def absent_datasets(datasets: Iterable[str], plugins: Plugins, root: Path) -> list[str]:
    """Return the data sets that would have to be downloaded, of those that can tell. A dry run downloads nothing.

    Raises:
        DcbenchError: for an unknown name, or a plugin that fails.
    """
    from dcbench.utils.errors import DcbenchError

    absent = []
    for name in dict.fromkeys(datasets):
        dataset = plugins.make_dataset(name)
        try:
            if dataset.is_here(root) is False:
                absent.append(name)
        except Exception as error:  # whatever a plugin may raise
            raise DcbenchError(f"dataset {dataset}: its is_here fails: {type(error).__name__}: {error}") from error
    return absent


def carry_out(
    plans: Sequence[Plan],
    plugins: Plugins,
    execution: Execution,
    *,
    dry_run: bool,
    as_json: bool,
    report: Callable[[list[Record]], None] | None = None,
    outlines: Sequence[Outline] = (),
) -> None:
    """Carry out plans with progress bars, print the result, and exit the process with 1 if a part failed.

    The plans are for one device and of one budget. A dry run shows them, with the ``outlines`` of what is planned
    for data sets that are not here, and does nothing. ``report`` prints the records that the plans cover, in place
    of the usual table.

    Raises:
        DcbenchError: when results cannot be written; what was done is kept.
    """
    import torch

    from dcbench.leaderboard.rules import Rules
    from dcbench.leaderboard.scores import rows
    from dcbench.leaderboard.standings import standings
    from dcbench.results.store import Store
    from dcbench.run.defaults import BASELINES
    from dcbench.run.session import Interrupted, describe_failures
    from dcbench.run.session import carry_out as carry_out_quietly
    from dcbench.utils.cores import advice_where_shared

    if dry_run:
        execution.choose_executor(plans[0].device)  # options that do not go together are found here, too
        execution.observers(plugins)
        _show_plans(plans, outlines, Store(execution.results), execution.force, as_json)
        return
    if plans[0].device.type == "cpu" and execution.threads is None and execution.executor == "local":
        click.echo(advice_where_shared(torch.get_num_threads()), nl=False, err=True)
    try:
        completed = [carry_out_quietly(plan, plugins, execution) for plan in plans]
    except Interrupted as interrupted:
        again = " anew, because of --force" * execution.force
        click.echo(f"\n{interrupted}{again}:\n  {shlex.join(['dcbench', *sys.argv[1:]])}", err=True)
        sys.exit(128 + interrupted.signal)
    records = [record for each in completed for record in each.records]
    if report is not None:
        report(records)
    elif (table := rows(records)) or as_json:
        datasets = ", ".join(sorted({row.dataset for row in table}))
        print_scores(table, datasets, as_json, standings(table, Rules(floor=BASELINES[0])))
    failures = [failure for each in completed for failure in each.outcome.failures]
    if failures:
        click.echo(f"Tracebacks of what failed: {completed[0].store.root / 'failures'}", err=True)
    for failure in describe_failures(failures):
        click.echo(f"Failed: {failure}", err=True)
    if not as_json:
        _show_outcome(completed)
    sys.exit(1 if failures else 0)


def _show_plans(
    plans: Sequence[Plan], outlines: Sequence[Outline], store: Store, force: bool, as_json: bool
) -> None:
    """Print the cells, how much of each is done, and how long the rest may take."""
    from dcbench.cli.output import print_rows
    from dcbench.run.estimate import estimate

    columns = ("data set", "ipc", "method", "matched on", "seed", "condensed", "trials", "done")
    cells: list[tuple[object, ...]] = []
    for plan, cell in [(each, cell) for each in plans for cell in each.cells]:
        spec, trials, pending = cell.spec, len(cell.trials), len(plan.pending(cell, store, force))
        condensed = "yes" if (trials and not pending) or (store.set_path(spec).exists() and not force) else "no"
        names = (spec.dataset, spec.ipc or "all", spec.method, spec.matching_network or "–", spec.seed)
        changed = [f"{name}={spec.options[name]}" for name in cell.source.origin.changed_options]
        cells.append((*names, condensed, trials, trials - pending, ", ".join(changed), plan.protocol.name))
    for each in outlines:
        names = (each.dataset, each.ipc or "all", each.method, each.network or "–", each.seed)
        cells.append((*names, "?", each.trials, "?", "", each.protocol))
    rows = [dict(zip((*columns, "options", "protocol"), map(str, values), strict=True)) for values in cells]
    for name, usual in (("options", ""), ("protocol", plans[0].protocol.name)):
        if not as_json and all(row[name] == usual for row in rows):
            rows = [{key: text for key, text in row.items() if key != name} for row in rows]
    print_rows(rows, as_json)
    if not as_json:
        sets = sum(row["condensed"] != "yes" for row in rows)
        left = sum(int(row["trials"]) - int(row["done"].replace("?", "0")) for row in rows)
        for line in _networks_to_train(plans, store, force):
            click.echo(line)
        todo = f"{sets} of {counted(len(rows), 'condensation')}, {counted(left, 'evaluation')}"
        click.echo(f"To do: {todo}. Budget: {plans[0].budget.name}.")
        if sets or left:
            click.echo(estimate(plans, outlines, store, force))
        for name in dict.fromkeys(each.dataset for each in outlines):
            click.echo(
                f"{name} is not here, and --dry-run downloads nothing: what of it is done is not known, nor "
                "whether networks and options fit it. A run downloads it; --data-root says where else to look."
            )


def _networks_to_train(plans: Sequence[Plan], store: Store, force: bool) -> Iterator[str]:
    """Yield a line for each recipe of the trained networks that are needed, with how many are there."""
    there: dict[str, list[bool]] = {}
    for spec in {spec.key(): spec for plan in plans for spec in plan.networks(store, force)}.values():
        what = f"{spec.network} on {spec.dataset}: {spec.recipe}"
        there.setdefault(what, []).append(store.network_path(spec).exists())
    for what, found in there.items():
        yield f"To train: {found.count(False)} of {len(found)} {what}"


def _show_outcome(completed: Sequence[Completed]) -> None:
    """Print what checkpoints took, and where everything is."""
    from dcbench.results.artefacts import cost_beside

    outcomes, store, plans = (
        [each.outcome for each in completed],
        completed[0].store,
        [each.plan for each in completed],
    )
    costs = [cost for each in completed for cell in each.made if (cost := cost_beside(store.set_path(cell.spec)))]
    written, seconds = sum(cost.checkpoints for cost in costs), sum(cost.checkpoint_seconds for cost in costs)
    if written:
        click.echo(f"{counted(written, 'checkpoint')}, {seconds:.1f} s")
    if not any(outcome.condensed or outcome.evaluated or outcome.failures for outcome in outcomes):
        click.echo("Everything was done already; --force does it again.")
    pictures = [
        store.picture_path(cell.spec) for plan in plans for cell in plan.cells if cell.spec.ipc is not None
    ]
    for path in [path for path in pictures if path.exists()][:8]:
        click.echo(f"Picture: {path}")
    click.echo(f"Records, condensed sets and pictures: {store.root}{'/' if str(store.root)[-1] != '/' else ''}")
    if not completed[0].plan.budget.official:
        click.echo("A quick look: --budget full is the paper's recipe.")
