"""Tables of many networks: how well each row ranks them, next to the row that says how they rank in truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dcbench.core.spec import ACCURACY
from dcbench.leaderboard.rank_correlation import FEWEST, Agreement, agreement, in_common
from dcbench.leaderboard.rules import SearchRules
from dcbench.leaderboard.scores import Row
from dcbench.leaderboard.standings import Standings


def with_search(tables: Sequence[Standings], rules: SearchRules | None) -> list[Standings]:
    """Return the tables with the agreement with the truth in each entry that has enough of its networks."""
    if rules is None:
        return list(tables)
    rows = {
        (table.dataset, table.dataset_sha256, table.budget): entry.row
        for table in tables
        for entry in table.entries
        if (entry.row.method, table.protocol, table.measure) == (rules.method, rules.truth, ACCURACY)
    }

    def ranked(table: Standings) -> Standings:
        true = rows.get((table.dataset, table.dataset_sha256, table.budget))
        if true is None or (table.measure, table.protocol) != (ACCURACY, rules.protocol):
            return table
        entries = (replace(entry, agreement=_agreement(entry.row, true)) for entry in table.entries)
        return replace(table, entries=tuple(entries))

    return [*map(ranked, tables)]


def _agreement(row: Row, true: Row) -> Agreement | None:
    networks, *accuracies = in_common({name: score.mean for name, score in true.scores.items()}, row.trials)
    return agreement(*accuracies) if len(networks) >= FEWEST else None
