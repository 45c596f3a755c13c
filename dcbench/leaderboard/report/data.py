"""A leaderboard as plain data: for JSON, and for the page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dcbench.leaderboard.board import Leaderboard
from dcbench.leaderboard.scores import Row
from dcbench.leaderboard.standings import Entry, Standings


def leaderboard_data(leaderboard: Leaderboard) -> list[dict[str, Any]]:
    """Return every table as plain data; accuracies, deviations, intervals and shares are fractions."""
    return [table_data(table, leaderboard) for table in leaderboard.tables]


def table_data(table: Standings, leaderboard: Leaderboard) -> dict[str, Any]:
    """Return one table as plain data.

    Returns:
        ``dataset``, ``dataset_sha256``, ``ipc`` (None for sets of any size alone), ``protocol``, ``budget``,
        ``track``; ``networks``, over which the mean is taken, and ``unseen``, those of them that no ranked row was
        matched on; ``missing``, references without a record; and ``entries``, best first.
    """
    return {
        "dataset": table.dataset,
        "dataset_sha256": table.dataset_sha256,
        "ipc": table.ipc,
        "protocol": table.protocol,
        "budget": table.budget,
        "track": table.track,
        "networks": list(table.networks),
        "unseen": list(table.unseen),
        "missing": list(table.missing),
        "entries": [_entry_data(entry, leaderboard) for entry in table.entries],
    }


def row_data(row: Row) -> dict[str, Any]:
    """Return a row's scores and what it took as plain data."""
    data = row.to_data()
    return {**data, "scores": {network: asdict(score) for network, score in sorted(row.scores.items())}}


def _entry_data(entry: Entry, leaderboard: Leaderboard) -> dict[str, Any]:
    row, submission = entry.row, leaderboard.submission(entry.row)
    card, mark = leaderboard.method_card(row), leaderboard.mark(row)
    return {
        **row_data(row),
        "reference": entry.reference or None,
        "rank": list(entry.rank) if entry.rank else None,
        "mean": entry.mean,
        "interval": list(entry.interval) if entry.interval else None,
        "unseen_mean": entry.unseen,
        "drop": entry.drop,
        "gap": entry.gap,
        "provisional": list(entry.provisional),
        "verified": mark.text if mark else None,
        "submission": submission.name if submission else None,
        "card": card.model_dump(mode="json") if card else None,
    }
