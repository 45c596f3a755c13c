"""A suite beside the published numbers: tables for the terminal, and as plain data for JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from statistics import fmean
from typing import Any

from rich.markup import escape
from rich.table import Table
from tabulate import tabulate

from dcbench.leaderboard.report.terminal import empty_table
from dcbench.leaderboard.report.words import DASH, deviations, percent, sample
from dcbench.leaderboard.statistics import Score
from dcbench.suites.comparison import Comparison, Line
from dcbench.suites.file import Published
from dcbench.suites.selection import Key, SuiteSelection

LEGEND = (
    "Test accuracy in %. Ours: mean over condensed sets of the mean over networks (standard deviation between "
    "sets/within a set); n is sets x networks per set. Published: mean ± deviation as printed; last: the "
    "accuracy at the end, as ours is; best: the best on the test split, which is higher by chance. Difference "
    "in points; z is the difference in units of the combined standard error of both means: that of ours from the "
    "deviation between sets (of one set alone, the published deviation stands for it), that of the published "
    "number at most its deviation over the root of its sets less one, and its rounding; without a published "
    "deviation there is no z. p: how likely a difference of that size is by chance, by Welch's test."
)
RECALLED = "(…): quoted from memory by the maintainers, not checked against the paper; not to be cited."


def tables(comparison: Comparison) -> list[tuple[str, Table]]:
    """Return tables with headings: one for each data set, a matrix where both sides have several networks."""
    made = []
    for dataset, group in groupby(comparison.lines, key=lambda line: line.key[0]):
        single, matrices = [], []
        for key, lines in groupby(group, key=lambda line: line.key[:3]):
            block = list(lines)
            matched, evaluated = {line.key[3] for line in block}, {line.evaluation_network for line in block}
            if len(matched) > 1 and len(evaluated) > 1:
                matrices.append(_matrix(key, block))
            else:
                single += block
        if single:
            made.append(_table(dataset, single))
        made += matrices
    return made


def hours(comparison: Comparison) -> str:
    """Return, in Markdown, in how many hours a set of each experiment was condensed; a dash if it was not."""
    seconds: dict[Key, dict[str, float]] = defaultdict(dict)
    for record in comparison.own.records:
        key = (record.dataset, record.ipc, record.method, record.matching_network)
        if record.condense_seconds is not None:
            seconds[key][record.condense_key] = record.condense_seconds
    lines = []
    for (dataset, ipc, method), group in groupby(comparison.lines, key=lambda line: line.key[:3]):
        taken = {line.key[3] or DASH: seconds[line.key].values() for line in group}
        spent = {name: f"{fmean(each) / 3600:.2g}" if each else DASH for name, each in taken.items()}
        lines.append({"data set": dataset, "ipc": str(ipc or "all"), "method": method, **spent})
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)


def remarks(selection: SuiteSelection, comparison: Comparison) -> list[str]:
    """Return what is to be read beneath the tables, a paragraph each, the last of them how much is done."""
    file, paragraphs = selection.suite.file, [LEGEND]
    if any(line.published and line.published.checked == "recalled" for line in comparison.lines):
        paragraphs.append(RECALLED)
    paragraphs += [f"Source: {file.source}.", *file.notes, *_warnings(selection, comparison)]
    left = comparison.trials - comparison.trials_done
    state = f"{left:,} trials left" if left else "nothing left"
    paragraphs.append(
        f"Done: {comparison.sets_done:,} of {comparison.sets:,} condensed sets, {comparison.trials_done:,} of "
        f"{comparison.trials:,} trials; {state}."
    )
    return paragraphs


def _warnings(selection: SuiteSelection, comparison: Comparison) -> list[str]:
    own, warnings = comparison.own, []
    if selection.budget != selection.suite.file.budget:
        warnings.append(f"Budget {selection.budget}: not comparable with the published numbers.")
    elif own.altered:
        why = "with other options than the suite's, thus not compared with the published numbers"
        warnings.append(f"{', '.join(sorted(own.altered))}: {why}.")
    if own.other_data:
        warnings.append(f"Left out: {own.other_data:,} records of other data than the newest record's.")
    for each in own.spellings:
        what, which = f"{each.network} on {each.dataset}", " and as ".join(each.found)
        unknown = "which of them is the suite's cannot be told without the data"
        left_out = f"Left out: {what}, recorded as {which}; {unknown}."
        warnings.append(f"{what}: as recorded, {each.taken}." if each.taken else left_out)
    return warnings


def as_data(selection: SuiteSelection, comparison: Comparison) -> dict[str, Any]:
    """Return all of it as plain data; accuracies, deviations, differences and uncertainties are fractions."""
    own, counts = comparison.own, ("sets_done", "sets", "trials_done", "trials")
    return {
        "suite": selection.suite.name,
        **selection.suite.file.model_dump(mode="json", include={"title", "source", "notes", "protocol"}),
        "budget": selection.budget,
        "lines": [_line_data(line) for line in comparison.lines],
        **{name: getattr(comparison, name) for name in counts},
        "other_data": own.other_data,
        "spellings": [{**asdict(each), "taken": each.taken} for each in own.spellings],
    }


def _line_data(line: Line) -> dict[str, Any]:
    number, about = line.published, {"mean", "std", "n_sets", "n_evals", "checked", "selection"}
    numbers = ("evaluation_network", "comparable", "difference", "uncertainty", "z", "p")
    return {
        **dict(zip(("dataset", "ipc", "method", "matching_network"), line.key, strict=True)),
        **{name: getattr(line, name) for name in numbers},
        "ours": asdict(line.score) if line.score else None,
        "published": number.model_dump(include=about) if number else None,
    }


def _table(dataset: str, lines: Sequence[Line]) -> tuple[str, Table]:
    """Return a table of a line per number; a network that is the same everywhere is named in the heading."""
    heading = [dataset]
    columns = {
        "ipc": [str(line.key[1] or "all") for line in lines],
        "method": [line.key[2] for line in lines],
        "matched on": [line.key[3] or DASH for line in lines],
        "evaluated on": [line.evaluation_network for line in lines],
    }
    for name in ("matched on", "evaluated on"):
        networks = {*columns[name]} - {DASH}
        if len(networks) < 2:
            del columns[name]
            heading += [f"{name} {network}" for network in networks]
    shown = empty_table()
    for name in columns:
        shown.add_column(name, overflow="fold")
    for name in ("ours", "n", "published", "difference", "z", "p"):
        shown.add_column(name, justify="right", no_wrap=True)
    heads = list(zip(*columns.values(), strict=True))
    for index, (line, head) in enumerate(zip(lines, heads, strict=True)):
        if index and head[0] != heads[index - 1][0]:
            shown.add_section()
        ours = f"{_bold(line.score)} [dim]({deviations(line.score)})[/dim]" if line.score else DASH
        numbers = [ours, sample(line.score), _published(line.published, deviation=True)]
        shown.add_row(*map(escape, head), *numbers, _signed(line.difference, 100), _signed(line.z), _p(line.p))
    return ", ".join(heading), shown


def _matrix(key: tuple[str, int | None, str], lines: Sequence[Line]) -> tuple[str, Table]:
    """Return matched on x evaluated on: in each field ours, and beneath it the published number and z."""
    dataset, ipc, method = key
    shown = empty_table()
    shown.add_column("matched on", overflow="fold")
    for name in dict.fromkeys(line.evaluation_network for line in lines):
        shown.add_column(_broken(name), justify="right", no_wrap=True)
    shown.add_column("n", justify="right", no_wrap=True)
    for network, group in groupby(lines, key=lambda line: line.key[3]):
        row = list(group)
        fields = [_field(line) for line in row]
        counts = dict.fromkeys(sample(line.score) for line in row if line.score)
        shown.add_row(_broken(network or DASH), *fields, "\n".join(counts) or DASH)
        shown.add_section()
    heading = f"{dataset}, {f'ipc {ipc}' if ipc else 'all images'}, {method}, matched on x evaluated on"
    selections = sorted({line.published.selection for line in lines if line.published} or {"unknown"})
    told = "" if selections == ["unknown"] else f" ({' or '.join(selections)})"
    return f"{heading}: ours, beneath it the published number{told}, and z", shown


def _field(line: Line) -> str:
    field = [_bold(line.score) if line.score else DASH]
    if line.published:
        field.append(_published(line.published, deviation=False))
    if line.z is not None:
        field.append(f"[dim]{_signed(line.z)}[/dim]")
    return "\n".join(field)


def _bold(score: Score) -> str:
    return f"[bold]{percent(score.mean)}[/bold]"


def _broken(network: str) -> str:
    """Return a network's name with a line for each option, so that a column is no wider than need be."""
    return escape(network.replace(":", ":\n").replace(",", ",\n"))


def _published(number: Published | None, deviation: bool) -> str:
    if number is None:
        return DASH
    text = percent(number.mean)
    if deviation and number.std is not None:
        text += f" ± {percent(number.std)}"
    text = f"({text})" if number.checked == "recalled" else text
    told = deviation and number.selection != "unknown"
    return f"{text} [dim]{number.selection}[/dim]" if told else text


def _p(value: float | None) -> str:
    if value is None:
        return DASH
    return "<0.001" if value < 0.001 else f"{value:.2g}"


def _signed(value: float | None, scale: int = 1) -> str:
    return DASH if value is None else f"{scale * value:+.1f}"
