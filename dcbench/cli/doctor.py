"""``dcbench doctor``: what is here, what is wrong, and the remedy."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from textwrap import fill

import click

from dcbench.cli.diagnosis import Finding, examine
from dcbench.cli.options import data_root_option, load_plugins, results_option
from dcbench.cli.output import json_option, print_json

MARKS = {"fine": ("✓", "green"), "note": ("–", "yellow"), "wrong": ("✗", "red")}
MARGIN = 20
"""Characters before the result."""


@click.command()
@results_option
@data_root_option
@json_option
def doctor(results: Path, data_root: Path, as_json: bool) -> None:
    """Check the installation, disks, devices, plugins, results and data sets, and say how to repair what is wrong.

    Nothing is downloaded, and neither data nor results are changed. What takes long comes last.

    Exit code: 0 if nothing is wrong, 1 if something is.
    """
    findings: list[Finding] = []
    for finding in examine(partial(load_plugins, strict=False), data_root, results):
        if not as_json:
            _print(finding, is_first=not findings or findings[-1].section != finding.section)
        findings.append(finding)
    wrong = sum(finding.status == "wrong" for finding in findings)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        click.echo(f"\n{wrong} to repair, marked {MARKS['wrong'][0]}." if wrong else "\nNothing is wrong.")
    if wrong:
        raise SystemExit(1)


def _print(finding: Finding, is_first: bool) -> None:
    """Print a finding; paths, which are to be copied, are left whole."""
    if is_first:
        click.secho(f"\n{finding.section}", bold=True)
    mark, colour = MARKS[finding.status]
    width, margin = max(shutil.get_terminal_size().columns, 60), " " * MARGIN
    wrap = partial(fill, width=width, subsequent_indent=margin, break_on_hyphens=False, break_long_words=False)
    click.secho(mark, fg=colour, nl=False)
    click.echo(wrap(finding.result, initial_indent=f"   {finding.subject:<{MARGIN - 4}} ")[1:])
    if finding.remedy:
        click.secho(wrap(f"→ {finding.remedy}", initial_indent=margin), fg=colour)
