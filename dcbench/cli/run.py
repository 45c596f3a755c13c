"""``dcbench run``: condense, evaluate, record, and show the table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcbench.cli import defaults
from dcbench.cli.output import json_option, print_scores

if TYPE_CHECKING:
    from dcbench.budgets import Budget
    from dcbench.cells import Plan
    from dcbench.runner import Outcome
    from dcbench.store import Store


@click.command()
@click.option(
    "--method",
    "-m",
    "methods",
    multiple=True,
    metavar="NAME",
    help=f"Condensation method.  [{', '.join(defaults.METHODS)}]",
)
@click.option(
    "--dataset", "-d", "datasets", multiple=True, metavar="NAME", help=f"Data set.  [{defaults.DATASET}]"
)
@click.option(
    "--ipc", "ipcs", multiple=True, type=click.IntRange(min=1), metavar="N", help="Images per class.  [1]"
)
@click.option(
    "--network", "networks", multiple=True, metavar="NAME", help=f"Matching network.  [{defaults.NETWORK}]"
)
@click.option(
    "--eval-network",
    "eval_networks",
    multiple=True,
    metavar="NAME",
    help=f"Evaluation network.  [{', '.join(defaults.EVAL_NETWORKS)}; quick without alexnet]",
)
@click.option(
    "--option",
    "-o",
    "options",
    multiple=True,
    metavar="[METHOD.]NAME=VALUE",
    help="Method option, e.g. -o lr_img=0.05. With several methods, -o gradmatch.iterations=20 goes to that "
    "method alone; without a prefix, to every method of the run that has the option.",
)
@click.option(
    "--budget",
    metavar="NAME",
    help="full: the paper's recipe; quick: a first look in minutes, kept out of official tables.  "
    "[full if a data set is named, else quick]",
)
@click.option("--sets", type=click.IntRange(min=1), metavar="N", help="Condensed sets per cell.  [1]")
@click.option(
    "--evals",
    type=click.IntRange(min=1),
    metavar="N",
    help="Evaluation networks per set and architecture.  [5, quick 3]",
)
@click.option(
    "--protocol", default=defaults.PROTOCOL, metavar="NAME", show_default=True, help="Evaluation protocol."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 2**62), metavar="N", help="First seed."
)
@click.option("--device", default="auto", metavar="NAME", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--data-root",
    envvar="DCBENCH_DATA",
    type=click.Path(path_type=Path),
    help="Where data sets are, laid out as torchvision does.  [DCBENCH_DATA, else a cache folder]",
)
@click.option(
    "--results", default="results", show_default=True, type=click.Path(path_type=Path), help="Results folder."
)
@click.option("--dry-run", is_flag=True, help="Show the plan and what of it is done; do nothing.")
@click.option("--force", is_flag=True, help="Do again what is done.")
@json_option
def run(
    methods: tuple[str, ...],
    datasets: tuple[str, ...],
    ipcs: tuple[int, ...],
    networks: tuple[str, ...],
    eval_networks: tuple[str, ...],
    options: tuple[str, ...],
    budget: str | None,
    sets: int | None,
    evals: int | None,
    protocol: str,
    seed: int,
    device: str,
    data_root: Path | None,
    results: Path,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Condense, train fresh networks on the result, and compare.

    --method, --dataset, --ipc, --network and --eval-network may be repeated: the run is their product. What
    the results folder already has is not done again; what is interrupted is gone on with.

    Exit code: 0 if everything went well, 1 if something failed (the rest is done all the same), 2 for a
    mistake in the request, 130 when interrupted.

    \b
    Examples:
      dcbench run
      dcbench run --method gradmatch --dataset cifar10 --ipc 10
      dcbench run -m gradmatch -m random -d mnist -o gradmatch.iterations=20 --evals 2
    """
    from dcbench.budgets import BUDGETS
    from dcbench.devices import choose_device
    from dcbench.errors import unknown_name
    from dcbench.files import ensure_writable
    from dcbench.plan import Request, make_plan
    from dcbench.plugins import Plugins
    from dcbench.protocols import get_protocol
    from dcbench.store import Store

    budget = budget or ("full" if datasets else "quick")
    if budget not in BUDGETS:
        raise unknown_name("budget", budget, BUDGETS)
    chosen = BUDGETS[budget]
    plugins = Plugins.load()
    request = Request(
        datasets=datasets or (defaults.DATASET,),
        methods=methods or defaults.METHODS,
        ipcs=ipcs or (defaults.IPC,),
        networks=networks or (defaults.NETWORK,),
        eval_networks=eval_networks
        or (defaults.EVAL_NETWORKS if chosen.official else defaults.QUICK_EVAL_NETWORKS),
        options=_parse_options(options),
        protocol=get_protocol(protocol),
        budget=chosen,
        sets=sets or chosen.sets,
        evals=evals or chosen.evals,
        seed=seed,
        device=choose_device(device),
        data_root=data_root or _default_data_root(),
    )
    plan = make_plan(request, plugins)
    if not dry_run:
        ensure_writable(results)
    store = Store(results)
    if dry_run:
        _show_plan(plan, store, force, as_json)
        return

    from dcbench.cli.display import Display
    from dcbench.runner import Runner

    display = Display(chosen)
    plugins.manager.register(display, name="dcbench:display")
    with display:  # which also shows warnings
        runner = Runner(plan, plugins, store, force)
    try:
        with display:
            outcome = runner.run()
    except KeyboardInterrupt:
        click.echo(
            f"\nInterrupted. {runner.outcome.evaluated} new records are kept in {results}; "
            "the same command goes on from there.",
            err=True,
        )
        sys.exit(130)
    _report(plan, store, outcome, chosen, as_json)
    sys.exit(1 if outcome.failures else 0)


def _parse_options(options: tuple[str, ...]) -> dict[str, str]:
    from dcbench.errors import DcbenchError

    parsed = {}
    for text in options:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise DcbenchError(f"-o {text}: options are written NAME=VALUE or METHOD.NAME=VALUE.")
        parsed[name.strip()] = value.strip()
    return parsed


def _default_data_root() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("dcbench")) / "data"


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


def _report(plan: Plan, store: Store, outcome: Outcome, budget: Budget, as_json: bool) -> None:
    """Print the table of what this run covers, what failed, and where everything is."""
    from dcbench.leaderboard import rows

    covered = [
        record
        for cell in plan.cells
        for network, seed in cell.trials
        if (record := plan.find(cell, network, seed, store))
    ]
    table = rows(covered)
    datasets = ", ".join(sorted({row.dataset for row in table}))
    if table or as_json:
        print_scores(table, f"{datasets}: protocol {plan.protocol.name}, budget {budget.name}", as_json)
    if outcome.failures:
        click.echo(f"Tracebacks of what failed: {store.root / 'failures'}", err=True)
    for record in outcome.failures:
        where = f" on {record.evaluation_network}" if record.evaluation_network else ""
        click.echo(
            f"Failed: {record.method} on {record.dataset}, ipc {record.ipc}{where}: {record.error}", err=True
        )
    if as_json:
        return
    if not outcome.condensed and not outcome.evaluated and not outcome.failures:
        click.echo("Everything was done already; --force does it again.")
    pictures = [store.picture_path(cell.spec) for cell in plan.cells if cell.spec.ipc is not None]
    for path in [path for path in pictures if path.exists()][:8]:
        click.echo(f"Picture: {path}")
    click.echo(f"Records, condensed sets and pictures: {store.root}{'/' if str(store.root)[-1] != '/' else ''}")
    if not budget.official:
        click.echo("A quick look: --budget full is the paper's recipe.")
