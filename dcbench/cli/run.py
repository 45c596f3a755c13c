"""``dcbench run``: condense, evaluate, record, and show the table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from dcbench.cli import options
from dcbench.cli.carry_out import absent_datasets, carry_out
from dcbench.cli.output import json_option
from dcbench.run import defaults

if TYPE_CHECKING:
    from dcbench.run.session import Execution


@click.command()
@options.methods_option
@click.option(
    "--baselines/--no-baselines",
    default=None,
    help=f"Compare with {', '.join(defaults.BASELINES)}, too.  [yes, unless a data set is named]",
)
@click.option(
    "--extend",
    is_flag=True,
    help="Go on from the set of fewer iterations that was made with --extend. The result is that of all at once. "
    "Draws differ from those without --extend, so rows say extend=True.",
)
@options.replacement_option
@options.datasets_option
@options.sizes(help="Images per class.  [1]")
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    is_flag=False,
    flag_value=0.1,
    metavar="[SHARE]",
    help="For choosing options: test on this share of the training images, held out, and not on the test split. "
    "The data set is then recorded with validation=SHARE, and stays out of official tables.  [0.1]",
)
@options.network_option
@options.eval_network_option
@options.method_option(
    help="Method option, e.g. -o lr_img=0.05. With several methods, -o gradmatch.iterations=20 goes to that "
    "method alone; without a prefix, to every --method that has the option. Several values, as in "
    "-o lr_img=0.1,1,10, make a row each."
)
@options.budget_option
@options.number("--sets", help="Condensed sets per setting, a cell each.  [1]")
@options.evals_option
@options.protocol_option
@options.measure_option
@options.first_seed_option
@options.execution_options
@json_option
def run(dry_run: bool, as_json: bool, execution: Execution, **words: Any) -> None:
    """Condense, train fresh networks on the result, and compare.

    --method, --dataset, --ipc, --network and --eval-network may be repeated: the run is their product. Each
    trained network is asked every --measure. What the results folder already has is not done again; an
    interrupted run goes on where it was. Where no data set is named, a method is compared with the baselines.

    Exit code: 0 if everything went well, 1 if something failed (the rest is done all the same), 2 for a
    mistake in the request, 130 when interrupted.

    \b
    Examples:
      dcbench run
      dcbench run --method gradmatch
      dcbench run --method gradmatch --dataset cifar10 --ipc 10
      dcbench run -m gradmatch -m random -d mnist -o gradmatch.iterations=20 --evals 2
      dcbench run -m dm -d mnist -o lr_img=0.1,1,10 --validation
    """
    from dcbench.run.plan import make_plan, outline
    from dcbench.run.session import new_request

    plugins = options.load_plugins()
    request = new_request(plugins, device=execution.device, **words)
    named = request.datasets
    absent = absent_datasets(map(str, named), plugins, request.data_root) if dry_run else []
    plan = make_plan(replace(request, datasets=tuple(each for each in named if str(each) not in absent)), plugins)
    outlines = outline(replace(request, datasets=tuple(absent)), plugins) if absent else []
    carry_out([plan], plugins, execution, dry_run=dry_run, as_json=as_json, outlines=outlines)
