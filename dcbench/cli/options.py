"""The options by which plans are carried out: where results go, what computes them, in how many processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dcbench.plugins import Plugins

device_option = click.option(
    "--device", default="auto", metavar="NAME", show_default=True, help="auto, cpu, cuda or cuda:N."
)
engine_option = click.option(
    "--engine",
    default="auto",
    metavar="NAME",
    show_default=True,
    help="plain computes as the papers' code does; fast and, on the CPU, compiled differ by rounding alone; "
    "auto is the one that suits the device and the budget.",
)
data_root_option = click.option(
    "--data-root",
    envvar="DCBENCH_DATA",
    type=click.Path(path_type=Path),
    help="Where data sets are, laid out as torchvision does.  [DCBENCH_DATA, else a cache folder]",
)
results_option = click.option(
    "--results", default="results", show_default=True, type=click.Path(path_type=Path), help="Results folder."
)
EXECUTION_OPTIONS = (
    click.option(
        "--jobs",
        type=click.IntRange(min=1),
        metavar="N",
        help="Cells to work on at once, each in a process with its share of the threads, or a GPU of its own.  "
        "[1; with ray, as many as there is room for]",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
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
    click.option(
        "--cpus-per-cell",
        type=click.FloatRange(min=0, min_open=True),
        metavar="N",
        help="Ray: CPUs that a cell takes.  [1]",
    ),
    click.option(
        "--gpus-per-cell",
        type=click.FloatRange(min=0),
        metavar="N",
        help="Ray: GPUs that a cell takes; with 0.25, four cells share one.  [1 where the device is cuda, else 0]",
    ),
    click.option(
        "--memory-per-cell",
        type=click.FloatRange(min=0, min_open=True),
        metavar="GIB",
        help="Ray: memory that a cell takes, in GiB; no more cells go to a node than fit.",
    ),
    results_option,
    click.option(
        "--checkpoint-every",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Save the state of a condensation this often, or less where that would take more than 2 % of the "
        "time.  [30]",
    ),
    click.option("--dry-run", is_flag=True, help="Show the plan and what of it is done; do nothing."),
    click.option("--force", is_flag=True, help="Do again what is done."),
)


def compute_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of where and how to compute."""
    for option in (data_root_option, engine_option, device_option):
        command = option(command)
    return command


def execution_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options by which all plans are carried out, as ``execution`` and ``dry_run``."""

    @wraps(command)
    def gathered(**words: Any) -> None:
        from dcbench.run.session import Execution

        execution = Execution(**{field.name: words.pop(field.name) for field in fields(Execution)})
        command(**words, execution=execution)

    for option in reversed(EXECUTION_OPTIONS):
        gathered = option(gathered)
    return compute_options(gathered)


_OWN_ONLY = "dcbench.own_only"

HELP = "Load dcbench's own plugins alone, to see whether another's is at fault; also after the command."


def no_plugins_option(hidden: bool = False) -> click.Option:
    """Return the flag, for the group and, hidden, for every command: users write it on either side."""
    return click.Option(
        ["--no-plugins"], is_flag=True, expose_value=False, callback=_note, help=HELP, hidden=hidden
    )


def _note(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        ctx.meta[_OWN_ONLY] = True


def add_to_commands(group: click.Group) -> None:
    """Let every command below a group take the flag."""
    for command in group.commands.values():
        command.params.append(no_plugins_option(hidden=True))
        if isinstance(command, click.Group):
            add_to_commands(command)


def load_plugins(strict: bool = True, suites_only: bool = False) -> Plugins:
    """Load the plugins that the running command is to load; see `dcbench.plugins.Plugins.load`."""
    from dcbench.plugins import Plugins

    own_only = click.get_current_context().meta.get(_OWN_ONLY, False)
    return Plugins.load(strict, own_only=own_only, suites_only=suites_only)
