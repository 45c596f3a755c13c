"""The ``dcbench`` command. One file per command; what is heavy is imported when a command runs."""

from __future__ import annotations

import warnings
from typing import Any

import click

from dcbench import __version__
from dcbench.cli.continual import continual
from dcbench.cli.describe import describe
from dcbench.cli.doctor import doctor
from dcbench.cli.evaluate import evaluate
from dcbench.cli.export import export
from dcbench.cli.leaderboard import leaderboard
from dcbench.cli.list import list_
from dcbench.cli.networks import networks
from dcbench.cli.options import OWN_ONLY
from dcbench.cli.plugin import plugin
from dcbench.cli.run import run
from dcbench.cli.show import show
from dcbench.cli.suite import suite
from dcbench.utils.errors import DcbenchError


class Commands(click.Group):
    """A group of commands in which a user's mistake, or a warning, is a message without lines of code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take ``--no-plugins`` on either side of the command."""
        ctx.meta[OWN_ONLY] = "--no-plugins" in args
        return super().parse_args(ctx, [each for each in args if each != "--no-plugins"])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_, **__: click.echo(f"Warning: {message}", err=True)
                return super().invoke(ctx)
        except DcbenchError as error:
            raise click.UsageError(str(error)) from None  # exit code 2
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            ctx.exit(130)


@click.group(
    cls=Commands,
    commands=[
        run,
        evaluate,
        continual,
        suite,
        show,
        export,
        list_,
        describe,
        leaderboard,
        networks,
        plugin,
        doctor,
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--no-plugins",
    is_flag=True,
    expose_value=False,
    help="Load dcbench's own plugins alone, to see whether another's is at fault; also after the command.",
)
@click.version_option(__version__, prog_name="dcbench")
def main() -> None:
    """Benchmark dataset condensation: condense, train fresh networks, compare.

    `dcbench run` alone condenses real digits in about a minute and shows a table.
    """
