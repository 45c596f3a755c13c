"""Our scores beside the published ones, and how far apart they are in units of what is uncertain of both.

All in fractions of the test set: z = (ours - published) / sqrt(e_ours^2 + e_published^2).

e_published
    A published deviation s is pooled over n sets x m networks, so that the standard error of the published mean
    lies between s / sqrt(n m) and s / sqrt(n). The latter is taken, with n = 1 where n is not known; plus, in
    squares, what rounding the printed mean to 0.1 % leaves open, 0.1 % / sqrt(12). Without s there is no z.
e_ours
    The deviation between the sets' means / sqrt(number of sets). Of one set alone that deviation is unknown, and
    the published s stands for it; plus, in squares, our deviation within the set / sqrt(number of networks). For
    a method that ignores the seed the latter term is all, or the published s for a single network.

Both are rather too large than too small: a |z| beyond 2 or 3 says that something differs, and a small one does not
say that nothing does. With two or three sets of ours, e_ours itself is a rough guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcbench.leaderboard.scores import rows
from dcbench.leaderboard.statistics import Score
from dcbench.results.records import Record
from dcbench.suites.file import Published
from dcbench.suites.records import SuiteRecords, suite_records
from dcbench.suites.selection import Key, SuiteSelection

if TYPE_CHECKING:
    from dcbench.plugins import Plugins

ROUNDING = 0.001 / math.sqrt(12)
"""Standard deviation of what is lost by rounding to 0.1 %: uniform over +- 0.05 %."""


@dataclass(frozen=True)
class Line:
    """One number of a suite: ours and the published one, each None where there is none.

    Attributes:
        comparable: whether ours was made as the suite says.
        seeded: whether the method depends on the seed.
    """

    key: Key
    evaluation_network: str
    score: Score | None
    published: Published | None
    comparable: bool
    seeded: bool

    @property
    def difference(self) -> float | None:
        """Ours less the published accuracy, a fraction."""
        if self.score is None or self.published is None or not self.comparable:
            return None
        return self.score.mean - self.published.mean

    @property
    def uncertainty(self) -> float | None:
        """Combined standard error of the difference, a fraction; None where it cannot be told."""
        if self.difference is None or self.score is None or self.published is None:
            return None
        ours, theirs = our_error(self.score, self.published.std, self.seeded), published_error(self.published)
        return None if ours is None or theirs is None else math.hypot(ours, theirs)

    @property
    def z(self) -> float | None:
        """The difference in units of its uncertainty."""
        if self.difference is None or self.uncertainty is None:
            return None
        return self.difference / self.uncertainty


@dataclass(frozen=True)
class Comparison:
    """A suite, or a part of it, beside the published numbers: a line for each experiment and evaluation network.

    Attributes:
        sets_done, trials_done: condensed sets evaluated at all, and networks trained; others are left to do.
        own: the records that count.
    """

    lines: tuple[Line, ...]
    sets_done: int
    sets: int
    trials_done: int
    trials: int
    own: SuiteRecords


def our_error(score: Score, published_std: float | None, seeded: bool) -> float | None:
    """Return the standard error of our mean, as this module says; None where it cannot be told."""
    if score.between_std is not None:
        return score.between_std / math.sqrt(score.sets)
    within = None if score.within_std is None else score.within_std / math.sqrt(score.trials)
    if not seeded and within is not None:
        return within
    return None if published_std is None else math.hypot(published_std, within or 0.0)


def published_error(published: Published) -> float | None:
    """Return an upper bound of the standard error of a published mean; None where no deviation is published."""
    if published.std is None:
        return None
    return math.hypot(published.std / math.sqrt(published.n_sets or 1), ROUNDING)


def compare(selection: SuiteSelection, records: Iterable[Record], plugins: Callable[[], Plugins]) -> Comparison:
    """Put our scores beside the published ones; `suite_records` says which records count."""
    own = suite_records(selection, records, plugins)
    scores = {
        ((row.dataset, row.ipc, row.method, row.matching_network), network): score
        for row in rows(own.records)
        for network, score in row.scores.items()
    }
    experiments = selection.experiments(own.depends)
    as_published = selection.budget == selection.suite.file.budget
    lines = [
        Line(
            experiment.key,
            network,
            scores.get((experiment.key, network)),
            selection.published.get((experiment.key, network)),
            as_published and experiment.key[2] not in own.altered,
            experiment.seeded,
        )
        for experiment in experiments
        for network in selection.eval_networks
    ]
    networks = len(selection.eval_networks)
    return Comparison(
        tuple(lines),
        sets_done=len({record.condense_key for record in own.records}),
        sets=sum(experiment.sets for experiment in experiments),
        trials_done=len(own.records),
        trials=sum(experiment.sets * experiment.evals for experiment in experiments) * networks,
        own=own,
    )
