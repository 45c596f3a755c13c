"""The two scores of DD-Ranking (Li et al., DD-Ranking: Rethinking the Evaluation of Dataset Distillation, 2025).

Both are worked out from means that stand in tables; nothing is trained for them. A gain is an accuracy less that
of random images under the same protocol. A score is (e^x - e^-1) / (e - e^-1), from 0 to 1, of an x from -1 to 1:

LRS (label-robust score)
    x is half the gain, less half of what the same set lacks to all training images under hard labels.
ARS (augmentation-robust score)
    x is the mean of the gains with and without augmentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dcbench.core.spec import ACCURACY, HARD_LABELS
from dcbench.leaderboard.rules import Augmentations
from dcbench.leaderboard.standings import Entry, Standings

Tables = Mapping[tuple[object, ...], Standings]


def with_dd_ranking(tables: Sequence[Standings], protocols: Augmentations | None) -> list[Standings]:
    """Return the tables with both scores in each entry for which what they need stands in some table."""
    if protocols is None:
        return list(tables)
    accuracies = [table for table in tables if table.measure == ACCURACY]
    by_protocol = {(*_data(table), table.protocol): table for table in accuracies if table.track == HARD_LABELS}

    def scored(entry: Entry, table: Standings) -> Entry:
        about = (entry, table, by_protocol, protocols)
        return replace(entry, lrs=_lrs(*about), ars=_ars(*about))

    return [
        replace(table, entries=tuple(scored(entry, table) for entry in table.entries))
        if table.measure == ACCURACY
        else table
        for table in tables
    ]


def _data(table: Standings) -> tuple[object, ...]:
    return table.dataset, table.dataset_sha256, table.budget, table.ipc


def _same(entry: Entry, table: Standings | None) -> Entry | None:
    """Return the entry of the same sets in another table, if it has them."""
    sets = (entry.row.made_by, entry.row.ipc)
    others = table.entries if table else ()
    return next((each for each in others if (each.row.made_by, each.row.ipc) == sets), None)


def _gain(entry: Entry | None, table: Standings | None) -> float | None:
    """Return how far a mean is above that of random images in the same table."""
    if entry is None or table is None or entry.mean is None or entry.reference:
        return None
    if table.random is not None:
        return entry.over_random
    floor = next((each.mean for each in table.entries if each.reference == "floor"), None)
    return None if floor is None else entry.mean - floor


def _lrs(entry: Entry, table: Standings, by_protocol: Tables, protocols: Augmentations) -> float | None:
    hard_table = by_protocol.get((*_data(table), protocols.augmented))
    hard, gain = _same(entry, hard_table), _gain(entry, table)
    if hard_table is None or hard is None or gain is None or hard_table.networks != table.networks:
        return None
    ceiling = next((each.mean for each in hard_table.entries if each.reference == "ceiling"), None)
    return None if ceiling is None or hard.mean is None else _score(0.5 * gain - 0.5 * (ceiling - hard.mean))


def _ars(entry: Entry, table: Standings, by_protocol: Tables, protocols: Augmentations) -> float | None:
    if table.protocol not in (protocols.augmented, protocols.plain):
        return None
    both = [by_protocol.get((*_data(table), each)) for each in (protocols.augmented, protocols.plain)]
    gains = [_gain(_same(entry, each), each) for each in both]
    if len({each.networks for each in both if each}) != 1 or gains[0] is None or gains[1] is None:
        return None
    return _score((gains[0] + gains[1]) / 2)


def _score(value: float) -> float:
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))
