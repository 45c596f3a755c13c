"""Our scores beside the published ones, and how far apart they are in units of what is uncertain of both.

All in fractions of the test set: z = (ours - published) / sqrt(e_ours^2 + e_published^2).

e_published
    A published deviation s is pooled over n sets x m networks and mostly computed without Bessel's correction, so
    that the standard error of the published mean is at most s / sqrt(n - 1). That is taken, or s where n is 1 or
    not known; plus, in squares, what rounding the printed mean to 0.1 % leaves open, 0.1 % / sqrt(12). A printed s
    of 0.0 may be up to 0.05 %. Without s there is no z.
e_ours
    The deviation between the sets' means / sqrt(number of sets), but at least our deviation within sets /
    sqrt(number of networks). Of one set alone the former is unknown, and the published s stands for it; plus, in
    squares, the latter. For a method that ignores the seed the latter is all, or the published s for a single
    network.

p is that of Welch's test, with one degree of freedom less than there are sets on either side: how likely such a
difference is if nothing differs. Both errors are rather too large than too small, so a small p says that something
differs, and a large one does not say that nothing does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dcbench.leaderboard.scores import rows
from dcbench.leaderboard.statistics import Score, welch
from dcbench.results.records import Record
from dcbench.suites.file import Published
from dcbench.suites.records import SuiteRecords, suite_records
from dcbench.suites.selection import Key, SuiteSelection

if TYPE_CHECKING:
    from dcbench.plugins import Plugins

ROUNDING = 0.001 / math.sqrt(12)
"""Standard deviation of what is lost by rounding to 0.1 %: uniform over +- 0.05 %."""

LEAST_STD = 0.0005
"""The most that a deviation printed as 0.0 % may be."""


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
    def _errors(self) -> tuple[float, float] | None:
        """The standard errors of ours and of the published mean; None where one cannot be told."""
        if self.score is None or self.published is None or not self.comparable:
            return None
        ours, theirs = our_error(self.score, self.published.std), published_error(self.published)
        return None if ours is None or theirs is None else (ours, theirs)

    @property
    def uncertainty(self) -> float | None:
        """Combined standard error of the difference, a fraction; None where it cannot be told."""
        return math.hypot(*self._errors) if self._errors else None

    @property
    def z(self) -> float | None:
        """The difference in units of its uncertainty."""
        return None if self.difference is None or not self.uncertainty else self.difference / self.uncertainty

    @property
    def p(self) -> float | None:
        """How likely such a difference is by chance; None where the uncertainty is unknown."""
        if self.score is None or self.published is None or self._errors is None:
            return None
        sets = (self.score.sets if self.seeded else self.score.trials, self.published.n_sets or 2)
        freedom = (max(1, each - 1) for each in sets)
        return float(welch(*map(np.asarray, (self.difference, *self._errors, *freedom))))


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


def our_error(score: Score, published_std: float | None) -> float | None:
    """Return the standard error of our mean, as this module says; None where it cannot be told."""
    within = None if score.within_std is None else score.within_std / math.sqrt(score.trials)
    if score.error is not None:
        return max(score.error, within or 0.0)
    return None if published_std is None else math.hypot(published_std, within or 0.0)


def published_error(published: Published) -> float | None:
    """Return an upper bound of the standard error of a published mean; None where no deviation is published."""
    if published.std is None:
        return None
    std = max(published.std, LEAST_STD)
    return math.hypot(std / math.sqrt(max(1, (published.n_sets or 1) - 1)), ROUNDING)


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
