"""Carrying out a plan on the terminal: what `run`, `evaluate` and `suite run` have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcbench.cli.output import print_scores

if TYPE_CHECKING:
    from dcbench.cli.display import Display
    from dcbench.cli.options import Execution
    from dcbench.core.dataset import Dataset
    from dcbench.plugins import Plugins
    from dcbench.results.records import Record
    from dcbench.results.store import Store
    from dcbench.run.cells import Cell, Plan
    from dcbench.run.runner import Runner
    from dcbench.run.scheduler import Outcome


def refuse_downloads(execution: Execution, datasets: Iterable[str], plugins: Plugins, root: Path) -> None:
    """Before a plan is made that is only to be shown: see that all data sets are here that can tell.

    Raises:
        DcbenchError: naming those that would be downloaded.
    """
    from dcbench.utils.errors import DcbenchError

    if not execution.dry_run:
        return
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
    as_json: bool,
    report: Callable[[list[Record]], None] | None = None,
) -> None:
    """Carry out a plan with progress bars, print what came of it, and exit the process with 1 if a part failed.

    Args:
        plan: what to do.
        plugins: whose observers are told.
        execution: how and where to.
        as_json: print JSON instead of tables.
        report: prints the outcome from the records that the plan covers, instead of the usual table.

    Raises:
        DcbenchError: when results cannot be written; what was done is kept.
    """
    import torch

    from dcbench.cli.display import Display
    from dcbench.engine.engine import choose_engine
    from dcbench.results.store import Store
    from dcbench.run.runner import Runner
    from dcbench.utils.cores import advice_where_shared
    from dcbench.utils.files import ensure_writable

    # Finding out whether networks can be compiled takes seconds, which a dry run need not.
    executor = execution.choose_executor(plan.device)
    long, freely = plan.budget.long and not execution.dry_run, execution.threads is None
    engine = choose_engine(execution.engine, plan.device, long, side_by_side=freely)
    if execution.dry_run:
        _show_plan(plan, Store(execution.results), execution.force, as_json)
        return
    if plan.device.type == "cpu" and freely and execution.executor == "local":
        click.echo(advice_where_shared(torch.get_num_threads()), nl=False, err=True)
    ensure_writable(execution.results)
    store = Store(execution.results)
    lacking = [cell for cell in plan.cells if execution.force or not store.set_path(cell.spec).exists()]
    display = Display(plan.budget)
    plugins.manager.register(display)
    try:
        with display:  # which also shows warnings
            store.clear_left_over()
            every = execution.checkpoint_every
            runner = Runner(plan, plugins, store, execution.force, engine, executor, every)
        outcome = _run(runner, display)
    finally:
        plugins.manager.unregister(display)
    covered = plan.covered(store)
    if report is not None:
        report(covered)
    else:
        _show_scores(plan, covered, as_json)
    _show_failures(store, outcome)
    if not as_json:
        _show_checkpoints(lacking, store)
        _show_places(plan, store, outcome)
    sys.exit(1 if outcome.failures else 0)


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


def _run(runner: Runner, display: Display) -> Outcome:
    """Run, and say what is kept when the user interrupts, or when no more can be written."""
    from dcbench.results.store import Store
    from dcbench.utils.errors import DcbenchError, StorageError

    results, before = runner.store.root, len(runner.store.records)
    try:
        with display:
            return runner.run()
    except StorageError as error:
        raise DcbenchError(
            f"{error} What was done is kept in {results}; once this is mended, the same command goes on."
        ) from error
    except KeyboardInterrupt:
        kept = len(Store(results).records) - before  # as they are: the runner may not have counted the last
        click.echo(
            f"\nInterrupted. {kept} new records are kept in {results}; the same command goes on from there.",
            err=True,
        )
        sys.exit(130)


def _show_scores(plan: Plan, covered: list[Record], as_json: bool) -> None:
    """Print the table of what a plan covers."""
    from dcbench.leaderboard.scores import rows

    table = rows(covered)
    datasets = ", ".join(sorted({row.dataset for row in table}))
    if table or as_json:
        print_scores(table, f"{datasets}: protocol {plan.protocol.name}, budget {plan.budget.name}", as_json)


def _show_failures(store: Store, outcome: Outcome) -> None:
    """Print what failed."""
    if outcome.failures:
        click.echo(f"Tracebacks of what failed: {store.root / 'failures'}", err=True)
    for record in outcome.failures:
        where = f", ipc {record.ipc}" if record.ipc is not None else ""
        where += f", on {record.evaluation_network}" if record.evaluation_network else ""
        click.echo(f"Failed: {record.method} on {record.dataset}{where}: {record.error}", err=True)


def _show_checkpoints(cells: list[Cell], store: Store) -> None:
    """Print what the checkpoints of the sets that were made took."""
    costs = [cost for cell in cells if (cost := store.read_cost(cell.spec))]
    written, seconds = sum(cost.checkpoints for cost in costs), sum(cost.checkpoint_seconds for cost in costs)
    if written:
        click.echo(f"{written} checkpoint{'s' * (written != 1)}, {seconds:.1f} s")


def _show_places(plan: Plan, store: Store, outcome: Outcome) -> None:
    """Print where everything is."""
    if not outcome.condensed and not outcome.evaluated and not outcome.failures:
        click.echo("Everything was done already; --force does it again.")
    pictures = [store.picture_path(cell.spec) for cell in plan.cells if cell.spec.ipc is not None]
    for path in [path for path in pictures if path.exists()][:8]:
        click.echo(f"Picture: {path}")
    click.echo(f"Records, condensed sets and pictures: {store.root}{'/' if str(store.root)[-1] != '/' else ''}")
    if not plan.budget.official:
        click.echo("A quick look: --budget full is the paper's recipe.")
