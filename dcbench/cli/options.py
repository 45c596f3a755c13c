"""The options of the commands. What several commands take is made here once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dcbench.run import defaults
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import default_data_root

if TYPE_CHECKING:
    from dcbench.plugins import Plugins

F = TypeVar("F", bound=Callable[..., Any])

POSITIVE = click.IntRange(min=1)
FOLDER = click.Path(file_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

number = partial(click.option, type=POSITIVE, metavar="N")
amount = partial(click.option, type=click.FloatRange(min=0, min_open=True), metavar="N")
names = partial(click.option, multiple=True, metavar="NAME")
"""An option that may be repeated."""


def _numbers(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[int, ...]:
    """Take ``1,10`` for ``1`` and ``10``."""
    return tuple(POSITIVE(each, option, context) for text in given for each in text.split(","))


sizes = partial(names, "--ipc", "ipcs", metavar="N", callback=_numbers)


def apply(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that gives a command several options, in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def parse_options(options: tuple[str, ...]) -> dict[str, str]:
    """Split what users give with ``-o``.

    Raises:
        DcbenchError: when one is not of the form ``name=value``, or is given twice.
    """
    parsed = {}
    for text in options:
        name, equals, value = map(str.strip, text.partition("="))
        if not equals or not name:
            raise DcbenchError(f"-o {text}: options are written NAME=VALUE or METHOD.NAME=VALUE.")
        if name in parsed:
            raise DcbenchError(f"-o {text}: option {name!r} is given twice.")
        parsed[name] = value
    return parsed


methods_option = names("--method", "-m", "methods", help=f"Condensation method.  [{', '.join(defaults.METHODS)}]")
datasets_option = names("--dataset", "-d", "datasets", help=f"Data set.  [{defaults.DATASET}]")
network_option = names("--network", "networks", help=f"Matching network.  [{defaults.NETWORK}]")
replacement_option = click.option(
    "--replacement", is_flag=True, help="Draw random images with replacement where a method can."
)
budget_option = click.option(
    "--budget",
    metavar="NAME",
    help="full: the paper's recipe for each set and network; quick: a first look in minutes, kept out of official "
    "tables.  [full if a data set is named, else quick]",
)
method_option = partial(
    click.option,
    *("--option", "-o", "options"),
    multiple=True,
    metavar="[METHOD.]NAME=VALUE",
    callback=lambda _, __, given: parse_options(given),
)
eval_network_option = names(
    "--eval-network",
    "eval_networks",
    help=f"Evaluation network.  [{', '.join(defaults.EVAL_NETWORKS)}; quick without alexnet]",
)
evals_option = number("--evals", help="Evaluation networks per set and architecture.  [5, quick 2]")
protocol_option = click.option(
    "--protocol",
    default=defaults.PROTOCOL,
    metavar="NAME",
    show_default=True,
    help="Evaluation protocol, as in dsa, dsa:steps=300 for at most so many steps, or kd:teacher=resnet18.",
)
measure_option = names(
    "--measure",
    "measures",
    help=f"What to ask of each trained network, as in adversarial or adversarial:eps=4.  [{defaults.MEASURE}]",
)
first_seed_option = number(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 2**62), help="First seed."
)
data_root_option = click.option(
    "--data-root",
    default=default_data_root,
    type=click.Path(path_type=Path),
    help="Where data sets are, laid out as torchvision does.  [DCBENCH_DATA, else a cache folder]",
)
results_option = click.option(
    "--results", default="results", show_default=True, type=click.Path(path_type=Path), help="Results folder."
)
compute_options: Callable[[F], F] = apply(
    click.option("--device", default="auto", metavar="NAME", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--engine",
        default="auto",
        metavar="NAME",
        show_default=True,
        help="plain computes as the papers' code does; fast and, on the CPU, compiled differ by rounding alone; "
        "auto is the one that suits the device and the budget.",
    ),
    data_root_option,
)
_execution_options: Callable[[F], F] = apply(
    compute_options,
    number(
        "--jobs",
        help="Cells to work on at once, each in a process with its share of the threads, or a GPU of its own.  "
        "[1; with ray, as many as there is room for]",
    ),
    number(
        "--threads",
        help="Threads for each cell. On the CPU the last digits of a result depend on it.  "
        "[all cores / jobs, but one for each small evaluation network, several of which are then trained at once; "
        "with ray, the CPUs of a cell]",
    ),
    click.option(
        "--executor",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Who works on the cells: processes of this machine, or a Ray cluster.",
    ),
    click.option(
        "--address",
        metavar="HOST:PORT",
        help="Ray: the head of the cluster; auto for the one that this machine is in.  [RAY_ADDRESS, else one of "
        "this machine alone, started for the run]",
    ),
    amount("--cpus-per-cell", help="Ray: CPUs that a cell takes.  [1]"),
    amount(
        "--gpus-per-cell",
        type=click.FloatRange(min=0),
        help="Ray: GPUs that a cell takes; with 0.25, four cells share one.  [1 where the device is cuda, else 0]",
    ),
    amount(
        "--memory-per-cell",
        metavar="GIB",
        help="Ray: memory that a cell takes, in GiB; no more cells go to a node than fit.",
    ),
    results_option,
    amount(
        "--checkpoint-every",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Save the state of a condensation this often, or less where that would take more than 2 % of the "
        "time.  [30]",
    ),
    names(
        "--observe",
        help="Write losses, pictures and accuracies for an experiment tracker, too: tensorboard, wandb or mlflow, "
        "with options as in wandb:project=mine. `dcbench describe NAME` has them.",
    ),
    click.option("--dry-run", is_flag=True, help="Show the plan and what of it is done; do nothing."),
    click.option("--force", is_flag=True, help="Do again what is done."),
)


def execution_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options by which all plans are carried out, as ``execution`` and ``dry_run``."""

    @wraps(command)
    def gathered(**words: Any) -> None:
        from dcbench.run.session import Execution

        execution = Execution(**{field.name: words.pop(field.name) for field in fields(Execution)})
        command(**words, execution=execution)

    return _execution_options(gathered)


OWN_ONLY = "dcbench.own_only"
"""Where the context notes that dcbench's own plugins alone are to be loaded."""


def load_plugins(strict: bool = True, suites_only: bool = False) -> Plugins:
    """Load the plugins that the running command is to load; see `dcbench.plugins.Plugins.load`."""
    from dcbench.plugins import Plugins

    own_only = click.get_current_context().meta.get(OWN_ONLY, False)
    return Plugins.load(strict, own_only=own_only, suites_only=suites_only)
