"""Tables of scores for people: on the terminal, in Markdown, as CSV."""

from __future__ import annotations

from collections.abc import Sequence

import rich.box
from rich.markup import escape
from rich.table import Table
from tabulate import tabulate

from dcbench.leaderboard import Row, Score, networks_of, scores_frame

DASH = "–"

LEGEND = (
    "Test accuracy in %: mean over condensed sets of the mean over networks (standard deviation "
    "between sets/within a set). * marks the network matched on; unseen is the mean over the others; "
    "n is sets x networks per set; seconds are for condensing one set."
)


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with one decimal, or a dash."""
    return DASH if value is None else f"{100 * value:.1f}"


def deviations(score: Score) -> str:
    """Return the two deviations in points, between sets and within a set."""
    return f"{percent(score.between_std)}/{percent(score.within_std)}"


def seconds(value: float | None) -> str:
    """Return seconds with two digits that matter, or a dash."""
    if value is None:
        return DASH
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def count(row: Row) -> str:
    """Return sets x networks per set, over the networks of a row."""
    counts = sorted({(score.sets, score.trials) for score in row.scores.values()})
    return ", ".join(
        f"{sets}x{trials // sets}" if trials % sets == 0 else f"{trials} in {sets}" for sets, trials in counts
    )


def label(row: Row) -> str:
    """Return the method with the options that are not its defaults, fit for a cell of a Markdown table."""
    text = f"{row.method_name} ({row.options})" if row.options else row.method_name
    return " ".join(text.split()).replace("|", "\\|")


def terminal_table(table: Sequence[Row], title: str) -> Table:
    """Return the cross-architecture table for the terminal; it fits 80 columns with four networks."""
    networks = networks_of(table)
    shown = Table(
        title=title,
        box=rich.box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        collapse_padding=True,
        title_justify="left",
    )
    datasets = len({row.dataset for row in table}) > 1
    budgets = len({row.budget for row in table}) > 1
    for name in (["data set"] if datasets else []) + ["ipc", "method"] + (["budget"] if budgets else []):
        shown.add_column(name, overflow="fold", min_width=9 if name == "method" else None)
    for name in networks:
        shown.add_column(escape(name), justify="right", overflow="fold", min_width=8)
    for name in ("unseen", "n", "seconds"):
        shown.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    for index, row in enumerate(table):
        if index and (row.dataset, row.ipc) != (table[index - 1].dataset, table[index - 1].ipc):
            shown.add_section()
        head = [escape(row.dataset)] if datasets else []
        head += [str(row.ipc or "all"), _terminal_label(row)] + ([row.budget] if budgets else [])
        cells = [_terminal_cell(row, network) for network in networks]
        shown.add_row(*head, *cells, percent(row.unseen_mean), count(row), seconds(row.condense_seconds))
    return shown


def _terminal_label(row: Row) -> str:
    options = f"\n[dim]{escape(row.options)}[/dim]" if row.options else ""
    return escape(row.method_name) + options


def _terminal_cell(row: Row, network: str) -> str:
    score = row.scores.get(network)
    if score is None:
        return DASH
    mark = "*" if network == row.matching_network else ""
    return f"[bold]{percent(score.mean)}{mark}[/bold]\n[dim]{deviations(score)}[/dim]"


def markdown(table: Sequence[Row]) -> str:
    """Return the cross-architecture table in Markdown."""
    networks = networks_of(table)
    lines = []
    for row in table:
        line = {"method": label(row), "matched on": row.matching_network or DASH}
        for network in networks:
            score = row.scores.get(network)
            mark = "*" if network == row.matching_network else ""
            line[network] = f"{percent(score.mean)}{mark} ({deviations(score)})" if score else DASH
        line |= {
            "unseen": percent(row.unseen_mean),
            "n": count(row),
            "seconds": seconds(row.condense_seconds),
        }
        lines.append(line)
    align = ["left", "left", *["right"] * (len(networks) + 3)]
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True, colalign=align)


def csv(table: Sequence[Row]) -> str:
    """Return a table in long form as CSV: a line per row and evaluation network."""
    return str(scores_frame(table).to_csv(index=False, float_format="%.6f", lineterminator="\n"))
