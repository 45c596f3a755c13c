"""``dcbench plugin``: list the installed plugins, check one, or write a new one."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from importlib.util import find_spec
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcbench.cli.options import FOLDER, data_root_option, load_plugins, method_option
from dcbench.cli.output import json_option, print_json, print_rows

if TYPE_CHECKING:
    from dcbench.checks import Result
    from dcbench.plugins import PluginInfo

KINDS = ("method", "dataset", "architecture", "measure")
MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "blocked": ("–", "yellow"), "not tried": ("–", None)}


@click.group()
def plugin() -> None:
    """List the installed plugins, check one, or write a new one.

    DCBENCH_DISABLE_PLUGINS=name,name leaves out the plugins of these names or distributions.
    `dcbench --no-plugins …` leaves out all but dcbench's own.
    """


@plugin.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List every plugin: its distribution, what it provides, and the error if it failed to load."""
    infos = load_plugins(strict=False).infos
    if as_json:
        rows = map(asdict, infos)
        print_json([{"plugin": row.pop("name"), **row, "provides": ", ".join(row["provides"])} for row in rows])
        return
    print_rows([_row(info) for info in infos], as_json)
    for info in infos:
        if info.error:
            title = click.style(f"{info.name} ({info.distribution} {info.version}) failed to load:", fg="red")
            click.echo(f"{title}\n  {info.error}")
    if disabled := sorted({info.disabled for info in infos if info.disabled}):
        click.echo(f"Disabled by {' and '.join(disabled)}.")


def _row(info: PluginInfo) -> dict[str, str]:
    """Return a plugin's row: what it provides is grouped by kind, a line for each."""
    pairs = groupby(map(str.split, info.provides), key=itemgetter(0))
    provides = "\n".join(f"{kind} {', '.join(name for _, name in group)}" for kind, group in pairs)
    return {
        "plugin": info.name,
        "distribution": f"{info.distribution} {info.version}",
        "status": "failed" if info.error else "disabled" if info.disabled else "loaded",
        "provides": provides or ("–" if info.error or info.disabled else "hooks alone"),
    }


@plugin.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="Needed where two components have the name.")
@method_option(metavar="NAME=VALUE", help="Option of a method.")
@data_root_option
@json_option
def check(name: str, kind: str | None, options: dict[str, str], data_root: Path, as_json: bool) -> None:
    """Check that an installed method, data set, architecture or measure keeps its contract.

    A method is tried on a few small, made-up images with the options of the quick budget. This takes seconds.
    Write the options of data sets, networks and measures into their names.

    Exit code: 0 if every check passes, 1 if one fails, 2 for a mistake in the command.

    \b
    Examples:
      dcbench plugin check my_method
      dcbench plugin check my_method -o steps=20
      dcbench plugin check convnet:norm=batch
      dcbench plugin check npz:my_set.npz
    """
    from unittest.mock import patch

    from dcbench.cli.check_subject import find_subject

    subject = find_subject(load_plugins(), name, kind, options)
    with patch.dict(os.environ, {"DCBENCH_DATA": str(data_root)}):  # where the checks look for data
        results = subject.run()
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        _print_results(subject.title, results)
    if not all(result.ok for result in results):
        raise SystemExit(1)


def _print_results(title: str, results: list[Result]) -> None:
    """Print a line for each check; below a failed one, print what was found and what to do."""
    click.echo(f"{title}\n")
    for result in results:
        mark, colour = MARKS[result.status]
        click.echo(f"  {click.style(mark, fg=colour)} {result.statement}")
        if result.remark:
            click.secho(f"      {result.remark}", dim=True)
        if result.status == "failed":
            for label, value in (("check", result.check), ("found", result.found), ("to do", result.advice)):
                click.echo(f"      {label}: {value}")
    counts = Counter(result.status for result in results)
    blocked = f", {counts['blocked']} cannot be tried until others pass" if counts["blocked"] else ""
    not_tried = f", {counts['not tried']} not tried here" if counts["not tried"] else ""
    click.echo(f"\n{counts['passed']} passed, {counts['failed']} failed{blocked}{not_tried}.")


@plugin.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="method", show_default=True, help="What to write.")
@click.option(
    "--into", type=FOLDER, default=".", metavar="DIR", help="Where to put the folder of the package.  [here]"
)
def new(name: str, kind: str, into: Path) -> None:
    """Write a plugin: a folder NAME with a package that works at once. Install it with pip.

    \b
    Examples:
      dcbench plugin new my-method
      dcbench plugin new my-images --kind dataset
      dcbench plugin new my-network --kind architecture
      dcbench plugin new my-measure --kind measure
    """
    from dcbench.cli.scaffold import component_name, write_plugin

    component, folder = component_name(name, kind, load_plugins(strict=False)), into / name
    for path in write_plugin(component, kind, folder):
        click.echo(f"Written: {path}")
    how = {
        "method": "--method",
        "dataset": "--budget quick --dataset",
        "architecture": "--eval-network",
        "measure": "--measure",
    }[kind]
    pip = "pip" if find_spec("pip") else "uv pip"  # not in environments that uv makes
    click.echo(
        f"\nIt works as it is. Put your code into {folder}/dcbench_{component}.py.\n\n"
        f"  {pip} install -e {folder if folder.is_absolute() else f'./{folder}'}\n"
        f"  dcbench plugin check {component}\n"
        f"  dcbench run {how} {component}"
    )
