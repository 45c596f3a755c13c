"""Tables of scores for the terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import rich.box
from rich.markup import escape
from rich.table import Table

from dcbench.core.spec import ACCURACY, HARD_LABELS
from dcbench.leaderboard.report.words import (
    DASH,
    both_seconds,
    count,
    deviations,
    measured,
    percent,
    points,
    span,
    teacher_in_words,
    written,
)
from dcbench.leaderboard.scores import Row, columns_of, networks_of
from dcbench.leaderboard.standings import Standings

LEGEND = (
    "Test accuracy in %: the mean over condensed sets, each of which counts by the mean over its networks, and "
    "beside or beneath it the standard deviation between sets/within a set. * marks the network that the row was "
    "matched on; “on …” beneath a method names it, too. unseen: the mean over the networks that no row was "
    "matched on. n: condensed sets x networks per set. seconds: to condense one set and, after a +, to train the "
    "networks that it used."
)


def empty_table(title: str | None = None) -> Table:
    """Return a table for the terminal, narrow and without lines between the columns."""
    box = rich.box.SIMPLE_HEAD
    return Table(title=title, title_justify="left", box=box, padding=(0, 1), pad_edge=False, collapse_padding=True)


def terminal_tables(table: Sequence[Row], title: str, standings: Sequence[Standings] = ()) -> list[Table]:
    """Return cross-architecture tables, one for each protocol, budget, track, measure and teacher.

    The standings of the same rows say how far those of soft labels, and those under a teacher, are over random.
    """
    groups: dict[tuple[str, str, str, str, str], list[Row]] = defaultdict(list)
    for row in table:
        groups[row.protocol, row.budget, row.track, row.measure, row.teacher].append(row)
    tracks = {row.track for row in table} != {HARD_LABELS}
    over = {
        id(entry.row): (each.random, entry.over_random)
        for each in standings
        for entry in each.entries
        if each.random and entry.row.ipc == each.ipc
    }
    below = {id(entry.row): entry.below for each in standings for entry in each.entries if entry.below}
    return [
        _terminal_table(
            some,
            f"{title}: protocol {protocol}, budget {budget}{f', {track}s' * tracks}"
            + f", {measured(some[0])}" * (measure != ACCURACY),
            over,
            below,
        )
        for (protocol, budget, track, measure, _), some in sorted(groups.items())
    ]


def _terminal_table(
    table: Sequence[Row], title: str, over: Mapping[int, tuple[str, float | None]], below: Mapping[int, str]
) -> Table:
    """Return one of them; it fits 80 columns with four networks. ``over``, ``below`` are by the identity of rows.

    A mark tells which network a row was matched on. The network's name stands beneath the method where rows differ
    in it, or where it was not evaluated.
    """
    networks = columns_of(table)
    many = len(networks) < len(networks_of(table))
    matched = {row.matching_network for row in table} - {None}
    named = len(matched) > 1 or any(row.matching_network not in (None, *row.scores) for row in table)
    shown = empty_table(escape(title))
    notes = sorted({f"{row.dataset}: {teacher_in_words(each)}" for row in table for each in row.teachers})
    random = sorted({over[id(row)][0] for row in table if id(row) in over})
    notes += [f"over random: points of the mean above {each}, the random images of this track." for each in random]
    if any(score.balanced is not None for row in table for score in row.scores.values()):
        notes.append("bal: mean of the accuracies of the classes, which have uneven numbers of test images.")
    shown.caption = "\n".join(map(escape, notes)) or None
    shown.caption_justify = "left"
    datasets = len({row.dataset for row in table}) > 1
    for name in ["data set"] * datasets + ["ipc", "method"]:
        shown.add_column(name, overflow="fold", min_width=9 if name == "method" else None)
    for name in networks or ["networks"]:
        shown.add_column(escape(name), justify="right", overflow="fold", min_width=8)
    for name in ("unseen", *["over\nrandom"] * bool(random), "n", "seconds"):
        shown.add_column(name, justify="right", no_wrap=True, min_width=max(map(len, name.split())))
    for index, row in enumerate(table):
        if index and (row.dataset, row.ipc) != (table[index - 1].dataset, table[index - 1].ipc):
            shown.add_section()
        head = [escape(row.dataset)] * datasets + [
            str(row.ipc or "all"),
            _terminal_label(row, named, below.get(id(row))),
        ]
        cells = [span(row)] if many else [_terminal_cell(row, network) for network in networks]
        above = [points(over.get(id(row), ("", None))[1], row.unit)] * bool(random)
        shown.add_row(*head, *cells, written(row.unseen_mean, row.unit), *above, count(row), both_seconds(row))
    return shown


def _terminal_label(row: Row, named: bool, below: str | None) -> str:
    """Return the method, and beneath it the network matched on, if it is to be named, and its options."""
    beneath = [f"on {row.matching_network}"] * (named and row.matching_network is not None)
    beneath += [each for each in (row.options, row.diverged, below) if each]
    return "\n".join([escape(row.method_name), *(f"[dim]{escape(each)}[/dim]" for each in beneath)])


def _terminal_cell(row: Row, network: str) -> str:
    score = row.scores.get(network)
    if score is None:
        return DASH
    mark = "*" if network == row.matching_network else ""
    balanced = f"\n[dim]bal {percent(score.balanced)}[/dim]" if score.balanced is not None else ""
    return (
        f"[bold]{written(score.mean, row.unit)}{mark}[/bold]\n[dim]{deviations(score, row.unit)}[/dim]{balanced}"
    )
