"""Comparing the accuracies that a submission states with those of networks trained anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dcbench.leaderboard.scores import Competitor
from dcbench.submissions.integrity import SubmittedSet

ERROR_RATE = 0.01
"""How often an honest submission may fail, over all comparisons together (Bonferroni)."""
TELLING = 0.1
"""A comparison whose tolerance is wider than this, as a fraction, tells nothing: more networks are needed."""

Accuracies = dict[tuple[str, str, str], list[float]]
"""By condense key, protocol and evaluation network."""


@dataclass(frozen=True)
class StatedAndFound:
    """Stated against found accuracies of one row on one evaluation network; all but the counts are fractions.

    Attributes:
        what: the row, in words.
        keys: condense keys of the sets compared.
        stated_n, found_n: networks trained, over all sets.
        stated, found: means over sets of the means over networks.
        tolerance: how far apart the two may be by chance.
    """

    what: str
    network: str
    keys: tuple[str, ...]
    stated_n: int
    found_n: int
    stated: float
    found: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the two agree, as far as can be told."""
        return abs(self.stated - self.found) <= self.tolerance

    @property
    def telling(self) -> bool:
        """Whether a false statement of some size would have been found out."""
        return self.tolerance <= TELLING


def compare_with_stated(sets: Sequence[SubmittedSet], found: Accuracies) -> list[StatedAndFound]:
    """Compare stated and found accuracies of the sets of every row, on every network.

    The sets are the same on both sides, so that only the deviation within sets makes the two differ. The deviation
    is that of the networks trained anew, because whoever states accuracies also states their deviation. It counts
    as one test image at least. The tolerance is that of Welch's t-test, two-sided, for `ERROR_RATE` over all
    comparisons.
    """
    by_row: dict[Competitor, list[SubmittedSet]] = defaultdict(list)
    for each in sets:
        by_row[each.competitor].append(each)
    groups = [
        (network, tried)
        for row in sorted(by_row.values(), key=lambda row: _row_name(row[0]))
        for network in sorted({network for each in row for network in each.networks})
        if (tried := [each for each in row if (each.key, each.protocol, network) in found])
    ]
    level = ERROR_RATE / max(1, len(groups))
    return [_compare(network, row, found, level) for network, row in groups]


def _compare(network: str, row: Sequence[SubmittedSet], found: Accuracies, level: float) -> StatedAndFound:
    """Compare the sets of one row on one network."""
    stated = [each.stated(network) for each in row]
    anew = [found[each.key, each.protocol, network] for each in row]
    least = (1 / row[0].records[0].n_test) ** 2
    # Of every set, the variance of the difference of its two means, by the deviation found.
    parts = [
        max(float(np.var(after, ddof=1)), least) * (1 / len(before) + 1 / len(after))
        for before, after in zip(stated, anew, strict=True)
    ]
    degrees = sum(parts) ** 2 / sum(
        part**2 / (len(after) - 1) for part, after in zip(parts, anew, strict=True)
    )  # Satterthwaite's
    return StatedAndFound(
        what=_row_name(row[0]),
        network=network,
        keys=tuple(each.key for each in row),
        stated_n=sum(map(len, stated)),
        found_n=sum(map(len, anew)),
        stated=float(np.mean([np.mean(each) for each in stated])),
        found=float(np.mean([np.mean(each) for each in anew])),
        tolerance=float(stats.t.ppf(1 - level / 2, degrees)) * sum(parts) ** 0.5 / len(row),
    )


def _row_name(submitted: SubmittedSet) -> str:
    options = submitted.competitor.options
    return f"{submitted.checked.spec.work}{f' ({options})' if options else ''}, protocol {submitted.protocol}"
