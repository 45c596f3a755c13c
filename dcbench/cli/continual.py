"""``dcbench continual``: the classes come in steps, and a memory keeps condensed images of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dcbench.cli import options
from dcbench.cli.carry_out import absent_datasets, carry_out
from dcbench.cli.output import json_option, print_curves

if TYPE_CHECKING:
    from dcbench.run.session import Execution


@click.command()
@options.methods_option
@options.datasets_option
@options.sizes(help="Images per class in the memory.  [1]")
@options.number(
    "--steps", default=5, show_default=True, help="In how many steps the classes come, as many in each."
)
@options.number(
    "--orders", default=5, show_default=True, help="Orders of the classes, drawn from --seed, --seed+1, …."
)
@options.replacement_option
@options.network_option
@options.eval_network_option
@options.method_option(help="Method option, as of `dcbench run`.")
@options.budget_option
@options.evals_option
@options.protocol_option
@options.measure_option
@options.first_seed_option
@options.execution_options
@json_option
def continual(dry_run: bool, as_json: bool, execution: Execution, steps: int, orders: int, **words: Any) -> None:
    """Condense classes that come in steps, and see what a network learns from the memory.

    A set is condensed of each step's classes alone. After each step, fresh networks are trained on the sets of all
    steps so far, and tested on the classes seen. The table has the accuracy after each step: the mean over the
    orders of the classes, with its 95 % interval. `dcbench show RESULTS` draws it.

    Sets and records are kept as those of `dcbench run` are: an interrupted run goes on, and another protocol or
    network condenses nothing again. With -m whole the memory keeps all images, which is the ceiling. Networks are
    trained for every method, order, step and seed: 500 for each method unless told otherwise.

    \b
    Examples:
      dcbench continual -d digits -m random -m herding --ipc 10 --eval-network mlp --evals 1
      dcbench continual -d mnist -m dm -m random -m herding --ipc 10 --protocol dsa --dry-run
    """
    from dcbench.leaderboard.continual import curves
    from dcbench.run.continual import plan_continual
    from dcbench.run.session import new_request
    from dcbench.utils.errors import DcbenchError

    plugins = options.load_plugins()
    request = new_request(plugins, device=execution.device, baselines=False, **words)
    if dry_run and (absent := absent_datasets(map(str, request.datasets), plugins, request.data_root)):
        raise DcbenchError(f"{absent[0]} is not here, and --dry-run downloads nothing.")
    plans = plan_continual(request, steps, orders, plugins)
    carry_out(
        plans,
        plugins,
        execution,
        dry_run=dry_run,
        as_json=as_json,
        report=lambda records: print_curves(curves(records), as_json),
    )
