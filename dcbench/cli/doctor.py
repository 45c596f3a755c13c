"""``dcbench doctor``: what is here, what is wrong, and the remedy."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcbench.cli.options import data_root_option, load_plugins, results_option
from dcbench.cli.output import json_option, print_json

if TYPE_CHECKING:
    from dcbench.cli.installation import Finding

MARKS = {"fine": ("✓", "green"), "note": ("–", "yellow"), "wrong": ("✗", "red")}
MARGIN = 20
"""Characters before the result."""


@click.command()
@results_option
@data_root_option
@json_option
def doctor(results: Path, data_root: Path | None, as_json: bool) -> None:
    """Check the installation, disks, devices, plugins, results and data sets, and say how to repair what is wrong.

    Nothing is downloaded, and neither data nor results are changed. What takes long comes last.

    Exit code: 0 if nothing is wrong, 1 if something is.
    """
    findings: list[Finding] = []
    for finding in _examine(data_root, results):
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


def _examine(data_root: Path | None, results: Path) -> Iterator[Finding]:
    """Look at the installation first, because it may keep the rest from being looked at."""
    from dcbench.cli.installation import SECTION, Finding, examine_installation

    yield from examine_installation()
    try:
        from dcbench.cli.diagnosis import examine
        from dcbench.utils.files import default_data_root

        yield from examine(partial(load_plugins, strict=False), data_root or default_data_root(), results)
    except ImportError as error:
        yield Finding(
            SECTION, "imports", f"{error}: the rest is not looked at", "wrong", "Repair the above first."
        )


def _print(finding: Finding, is_first: bool) -> None:
    if is_first:
        click.secho(f"\n{finding.section}", bold=True)
    mark, colour = MARKS[finding.status]
    label = f"{finding.subject:<{MARGIN - 4}}"
    first, *others = _wrapped(finding.result)
    if len(label) > MARGIN - 4:  # it has a line of its own
        first, others = "", [first, *others]
    click.echo(f"{click.style(mark, fg=colour)}  {label} {first}".rstrip())
    for line in others:
        click.echo(" " * MARGIN + line)
    for line in _wrapped(f"→ {finding.remedy}") if finding.remedy else ():
        click.secho(" " * MARGIN + line, fg=colour)


def _wrapped(text: str) -> list[str]:
    """Break a text into lines that fit beside the margin; paths, which are to be copied, are left whole."""
    width = max(shutil.get_terminal_size().columns, 60) - MARGIN
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False) or [""]
