"""Carrying out a plan on the terminal: what `run`, `evaluate` and `suite run` have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcbench.cli.output import print_scores

if TYPE_CHECKING:
    from dcbench.core.dataset import Dataset
    from dcbench.plugins import Plugins
    from dcbench.results.records import Record
    from dcbench.results.store import Store
    from dcbench.run.cells import Plan
    from dcbench.run.session import Completed, Execution


def refuse_downloads(datasets: Iterable[str], plugins: Plugins, root: Path) -> None:
    """Refuse a dry run for which a data set would have to be downloaded, of those that can tell.

    Raises:
        DcbenchError: naming those that would be downloaded.
    """
    from dcbench.utils.errors import DcbenchError

    absent = [name for name in dict.fromkeys(datasets) if _is_absent(plugins.make_dataset(name), root)]
    if absent:
        those = "is" if len(absent) == 1 else "are"
        raise DcbenchError(
            f"{', '.join(absent)} {those} not in {root}, and --dry-run downloads nothing. Without it the run "
            "does, where the network allows; --data-root says where else to look."
        )


def _is_absent(dataset: Dataset, root: Path) -> bool:
    from dcbench.utils.errors import DcbenchError

    try:
        return dataset.is_here(root) is False
    except Exception as error:  # whatever a plugin may raise
        raise DcbenchError(f"dataset {dataset}: its is_here fails: {type(error).__name__}: {error}") from error


def carry_out(
    plan: Plan,
    plugins: Plugins,
    execution: Execution,
    *,
    dry_run: bool,
    as_json: bool,
    report: Callable[[list[Record]], None] | None = None,
) -> None:
    """Carry out a plan with progress bars, print what came of it, and exit the process with 1 if a part failed.

    Args:
        plan: what to do.
        plugins: whose observers are told.
        execution: how and where to.
        dry_run: show the plan, and do nothing.
        as_json: print JSON instead of tables.
        report: prints the outcome from the records that the plan covers, instead of the usual table.

    Raises:
        DcbenchError: when results cannot be written; what was done is kept.
    """
    import torch

    from dcbench.results.store import Store
    from dcbench.run.session import Interrupted
    from dcbench.run.session import carry_out as carry_out_quietly
    from dcbench.utils.cores import advice_where_shared

    if dry_run:
        execution.choose_executor(plan.device)  # options that do not go together are found here, too
        _show_plan(plan, Store(execution.results), execution.force, as_json)
        return
    if plan.device.type == "cpu" and execution.threads is None and execution.executor == "local":
        click.echo(advice_where_shared(torch.get_num_threads()), nl=False, err=True)
    try:
        completed = carry_out_quietly(plan, plugins, execution)
    except Interrupted as interrupted:
        click.echo(f"\n{interrupted}", err=True)
        sys.exit(130)
    if report is not None:
        report(completed.records)
    else:
        _show_scores(completed, as_json)
    _show_failures(completed)
    if not as_json:
        _show_checkpoints(completed)
        _show_places(completed)
    sys.exit(1 if completed.outcome.failures else 0)


def _show_plan(plan: Plan, store: Store, force: bool, as_json: bool) -> None:
    """Print the cells and how much of each is done."""
    from dcbench.cli.output import print_rows

    rows, left = [], 0
    for cell in plan.cells:
        pending = len(plan.pending(cell, store, force))
        left += pending
        condensed = store.set_path(cell.spec).exists() and not force
        rows.append(
            {
                "data set": cell.spec.dataset,
                "ipc": str(cell.spec.ipc or "all"),
                "method": cell.spec.method,
                "matched on": cell.spec.matching_network or "–",
                "seed": str(cell.spec.seed),
                "condensed": "yes" if condensed or not pending else "no",
                "trials": str(len(cell.trials)),
                "done": str(len(cell.trials) - pending),
            }
        )
    print_rows(rows, as_json)
    if not as_json:
        sets = sum(row["condensed"] == "no" for row in rows)
        click.echo(f"To do: {sets} of {len(rows)} condensations, {left} evaluations. Budget: {plan.budget.name}.")


def _show_scores(completed: Completed, as_json: bool) -> None:
    """Print the table of what a plan covers."""
    from dcbench.leaderboard.scores import rows

    table, plan = rows(completed.records), completed.plan
    datasets = ", ".join(sorted({row.dataset for row in table}))
    if table or as_json:
        print_scores(table, f"{datasets}: protocol {plan.protocol.name}, budget {plan.budget.name}", as_json)


def _show_failures(completed: Completed) -> None:
    """Print what failed."""
    from dcbench.run.session import describe_failure

    if completed.outcome.failures:
        click.echo(f"Tracebacks of what failed: {completed.store.root / 'failures'}", err=True)
    for record in completed.outcome.failures:
        click.echo(f"Failed: {describe_failure(record)}", err=True)


def _show_checkpoints(completed: Completed) -> None:
    """Print what the checkpoints of the sets that were made took."""
    costs = [cost for cell in completed.made if (cost := completed.store.read_cost(cell.spec))]
    written, seconds = sum(cost.checkpoints for cost in costs), sum(cost.checkpoint_seconds for cost in costs)
    if written:
        click.echo(f"{written} checkpoint{'s' * (written != 1)}, {seconds:.1f} s")


def _show_places(completed: Completed) -> None:
    """Print where everything is."""
    outcome, store, plan = completed.outcome, completed.store, completed.plan
    if not outcome.condensed and not outcome.evaluated and not outcome.failures:
        click.echo("Everything was done already; --force does it again.")
    pictures = [store.picture_path(cell.spec) for cell in plan.cells if cell.spec.ipc is not None]
    for path in [path for path in pictures if path.exists()][:8]:
        click.echo(f"Picture: {path}")
    click.echo(f"Records, condensed sets and pictures: {store.root}{'/' if str(store.root)[-1] != '/' else ''}")
    if not plan.budget.official:
        click.echo("A quick look: --budget full is the paper's recipe.")
