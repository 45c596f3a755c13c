"""A leaderboard as plain data: for JSON, and for the page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dcbench.core.spec import ACCURACY
from dcbench.leaderboard.board import Leaderboard
from dcbench.leaderboard.scores import Board, Row
from dcbench.leaderboard.standings import Entry

SELDOM = frozenset({"balanced", "diverged"})
"""Fields of a score that are left out where there is nothing to be said."""


OF_MEASURES = ("measure", "main", "unit", "lower_is_better")
"""Fields that are left out where accuracy was measured."""

SOME_TABLES = ("below", "over_random", "lrs", "ars", "agreement")
"""Fields of entries that not every table has."""


def leaderboard_data(leaderboard: Leaderboard) -> list[dict[str, Any]]:
    """Return every table as plain data: the fields of `Standings`, and its entries, best first.

    Accuracies, deviations, intervals and shares are fractions.
    """
    return [
        _plain(table, "teacher", *["random"] * (table.random is None), *_untold(table))
        | {"entries": [_entry_data(entry, leaderboard) for entry in table.entries]}
        for table in leaderboard.tables
    ]


def board_data(board: Board) -> dict[str, Any]:
    """Return what rows share as plain data; that accuracy was measured is not told."""
    return _plain(board, *_untold(board))


def row_data(row: Row) -> dict[str, Any]:
    """Return a row's scores and what it took as plain data."""
    scores = {
        network: {name: value for name, value in asdict(score).items() if value or name not in SELDOM}
        for network, score in sorted(row.scores.items())
    }
    told_apart = ("all_options", "seeded", "steps", "condense_keys", "trials", "found", "teacher", "teachers")
    plain = _plain(row, *told_apart, *_untold(row)) | {"scores": scores}
    plain |= {"diverged": row.diverged} if row.diverged else {}
    plain |= {"made_elsewhere": True} if row.made_elsewhere else {}
    return plain | (
        {"teachers": [each.model_dump(exclude={"recipe"}) for each in row.teachers]} if row.teachers else {}
    )


def _entry_data(entry: Entry, leaderboard: Leaderboard) -> dict[str, Any]:
    row, submission = entry.row, leaderboard.submission(entry.row)
    card = leaderboard.method_card(row)
    return {
        **row_data(row),
        **_plain(
            entry, "row", "estimate", "found", *(name for name in SOME_TABLES if getattr(entry, name) is None)
        ),
        "interval": entry.interval,
        **({"agreement": asdict(entry.agreement)} if entry.agreement else {}),
        **({"found": [entry.found.mean, *entry.found.interval]} if entry.found else {}),
        "reference": entry.reference or None,
        "verified": leaderboard.mark(row),
        "submission": submission.name if submission else None,
        "card": card.model_dump(mode="json") if card else None,
    }


def _untold(of: Board) -> tuple[str, ...]:
    return OF_MEASURES if of.measure == ACCURACY else ()


def _plain(item: Board | Entry, *without: str) -> dict[str, Any]:
    """Return the fields of a dataclass, but for some, with lists in the place of tuples."""
    data = {name: value for name, value in vars(item).items() if name not in without}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}
