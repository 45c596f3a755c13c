"""Which plugins a command loads: the flag ``--no-plugins``, and loading as it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dcbench.plugins import Plugins

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


def load_plugins(strict: bool = True) -> Plugins:
    """Load the plugins that the running command is to load; see `dcbench.plugins.Plugins.load`."""
    from dcbench.plugins import Plugins

    return Plugins.load(strict, own_only=click.get_current_context().meta.get(_OWN_ONLY, False))
