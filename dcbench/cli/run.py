"""``dcbench run``: condense, evaluate, record, and show the table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcbench.cli.carry_out import carry_out, refuse_downloads
from dcbench.cli.options import execution_options, load_plugins
from dcbench.cli.output import json_option
from dcbench.run import defaults

if TYPE_CHECKING:
    from dcbench.run.session import Execution


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
    "--baselines/--no-baselines",
    default=None,
    help=f"Compare with {', '.join(defaults.BASELINES)}, too.  [yes, unless a data set is named]",
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
    "method alone; without a prefix, to every --method that has the option.",
)
@click.option(
    "--budget",
    metavar="NAME",
    help="full: the paper's recipe for each set and network; quick: a first look in minutes, kept out of official "
    "tables.  [full if a data set is named, else quick]",
)
@click.option("--sets", type=click.IntRange(min=1), metavar="N", help="Condensed sets per cell.  [1]")
@click.option(
    "--evals",
    type=click.IntRange(min=1),
    metavar="N",
    help="Evaluation networks per set and architecture.  [5, quick 2]",
)
@click.option(
    "--protocol", default=defaults.PROTOCOL, metavar="NAME", show_default=True, help="Evaluation protocol."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 2**62), metavar="N", help="First seed."
)
@execution_options
@json_option
def run(
    methods: tuple[str, ...],
    baselines: bool | None,
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
    data_root: Path | None,
    dry_run: bool,
    as_json: bool,
    execution: Execution,
) -> None:
    """Condense, train fresh networks on the result, and compare.

    --method, --dataset, --ipc, --network and --eval-network may be repeated: the run is their product. What
    the results folder already has is not done again; what is interrupted is gone on with. Where no data set
    is named, a method is compared with the baselines.

    Exit code: 0 if everything went well, 1 if something failed (the rest is done all the same), 2 for a
    mistake in the request, 130 when interrupted.

    \b
    Examples:
      dcbench run
      dcbench run --method gradmatch
      dcbench run --method gradmatch --dataset cifar10 --ipc 10
      dcbench run -m gradmatch -m random -d mnist -o gradmatch.iterations=20 --evals 2
    """
    from dcbench.run.plan import make_plan
    from dcbench.run.session import new_request

    plugins = load_plugins()
    request = new_request(
        plugins,
        methods=methods,
        datasets=datasets,
        ipcs=ipcs,
        networks=networks,
        eval_networks=eval_networks,
        options=parse_options(options),
        budget=budget,
        sets=sets,
        evals=evals,
        protocol=protocol,
        seed=seed,
        baselines=baselines,
        device=execution.device,
        data_root=data_root,
    )
    if dry_run:
        refuse_downloads(datasets or (defaults.DATASET,), plugins, request.data_root)
    carry_out(make_plan(request, plugins), plugins, execution, dry_run=dry_run, as_json=as_json)


def parse_options(options: tuple[str, ...]) -> dict[str, str]:
    """Split what users give with ``-o``.

    Raises:
        DcbenchError: when one is not of the form ``name=value``, or is given twice.
    """
    from dcbench.utils.errors import DcbenchError

    parsed = {}
    for text in options:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise DcbenchError(f"-o {text}: options are written NAME=VALUE or METHOD.NAME=VALUE.")
        if name.strip() in parsed:
            raise DcbenchError(f"-o {text}: option {name.strip()!r} is given twice.")
        parsed[name.strip()] = value.strip()
    return parsed
