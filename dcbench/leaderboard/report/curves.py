"""Tables of continual learning: a line for each method and network, a column for each number of classes seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from dcbench.leaderboard.continual import Curve
from dcbench.leaderboard.report.tables import tabulated
from dcbench.leaderboard.report.words import DASH, bounds, cell, label, sample, setting, written
from dcbench.leaderboard.scores import Board

CURVES_LEGEND = (
    "The classes come in steps. Test accuracy in %, or the main score of the measure that the heading names, on "
    "the classes seen, of fresh networks trained on the memory: "
    "the sets of all steps so far, each condensed of its step's classes alone. It is the mean over orders of the "
    "classes, with its 95 % interval by Student's t on the orders' means. n: orders x networks for each."
)


def curve_tables(curves: Sequence[Curve]) -> list[tuple[str, list[Curve]]]:
    """Return curves by the table that they stand in, each with its title; sets of any size stand in all tables."""
    boards: dict[tuple[Board, int], list[Curve]] = defaultdict(list)
    for each in curves:
        boards[each.board, each.step_size].append(each)
    found = []
    for (board, step), here in boards.items():
        sizes: list[int | None] = [*sorted({each.ipc for each in here if each.ipc})]
        for ipc in sizes or [None]:
            title = f"steps of {step} classes, {setting(board, ipc)}"
            found.append((title, [each for each in here if each.ipc in (ipc, None)]))
    return found


def curve_lines(curves: Sequence[Curve], text: Callable[[str], str] = str) -> list[dict[str, str]]:
    """Return the lines of a table by the headings of their columns; ``text`` escapes a name."""
    seen = sorted({count for each in curves for count in each.scores})
    return [
        {
            "method": text(label(each)),
            "matched on": text(each.matching_network or DASH),
            "network": text(each.network),
            **{f"{count} classes": _accuracy(each, count) for count in seen},
            "n": sample(each.final),
        }
        for each in curves
    ]


def curves_markdown(curves: Sequence[Curve]) -> list[str]:
    """Return the paragraphs of a Markdown page on some curves; none for none."""
    parts = ["## Continual learning", CURVES_LEGEND] * bool(curves)
    for title, some in curve_tables(curves):
        parts += [f"### {cell(some[0].dataset)}, {cell(title)}", tabulated(curve_lines(some, cell))]
    return parts


def _accuracy(curve: Curve, count: int) -> str:
    score = curve.scores.get(count)
    if score is None:
        return DASH
    interval = f" ({bounds(score.interval, curve.unit)})" if score.interval else ""
    return written(score.mean, curve.unit) + interval
