"""Continual learning: how accurate networks are after each step, over several orders of the classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields

from dcbench.leaderboard.scores import Competitor, Row, rows
from dcbench.leaderboard.statistics import Score
from dcbench.results.records import Record


@dataclass(frozen=True)
class Curve(Competitor):
    """The accuracy of one evaluation network on the memories of one competitor; ``steps`` has the last step.

    Attributes:
        network: which was trained on the memory after each step.
        scores: by the number of classes seen. The intervals are over orders of the classes, because each has one
            memory after each step.
    """

    network: str
    scores: dict[int, Score]

    @property
    def step_size(self) -> int:
        """How many classes came in each step."""
        return self.steps[0] if self.steps else 0

    @property
    def final(self) -> Score:
        """The score after the last step."""
        return self.scores[max(self.scores)]


def curves(records: Iterable[Record]) -> list[Curve]:
    """Return the curves of records, whatever else is among them: by data set, the best at the end first."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows(records, in_steps=True):
        size, _ = row.steps or (0, 0)
        key = tuple(getattr(row, each.name) for each in fields(Competitor) if each.name != "steps")
        groups[(*key, size)].append(row)
    found = []
    for group in groups.values():
        last = max(group, key=lambda row: row.steps or (0, 0))
        who = {each.name: getattr(last, each.name) for each in fields(Competitor)}
        for network in sorted({network for row in group for network in row.scores}):
            scores = {
                row.steps[0] * row.steps[1]: row.scores[network]
                for row in group
                if row.steps and network in row.scores
            }
            found.append(Curve(**who, network=network, scores=dict(sorted(scores.items()))))
    return sorted(
        found, key=lambda each: (each.board, each.ipc or 0, each.network, -each.sign * each.final.mean, repr(each))
    )
