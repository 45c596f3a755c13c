"""Comparing the accuracies that a submission states with those of networks trained anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from dcbench.core.spec import ACCURACY
from dcbench.leaderboard.statistics import satterthwaite
from dcbench.submissions.integrity import SubmittedSet, sets_by_row

ERROR_RATE = 0.01
"""How often an honest submission may fail, over all comparisons together (Bonferroni)."""
TELLING = 0.1
"""A comparison whose tolerance is wider than this, as a fraction, tells nothing: more networks are needed."""

Accuracies = dict[tuple[str, str, str, str], list[float]]
"""Main scores, accuracies where that was measured, by condense key, protocol, measure and evaluation network."""


@dataclass(frozen=True)
class StatedAndFound:
    """Stated against found accuracies of one row; all but the counts are fractions.

    Attributes:
        what, protocol, measure: the row, in words.
        network: on which networks were evaluated; empty for the mean over all of them.
        keys: condense keys of the sets compared.
        stated_n, found_n: networks trained, over all sets.
        stated, found: means over sets of the means over networks.
        tolerance: how far what is stated may be better than what is found by chance.
        sign, unit: see `dcbench.leaderboard.scores.Board`.
    """

    what: str
    protocol: str
    measure: str
    network: str
    keys: tuple[str, ...]
    stated_n: int
    found_n: int
    stated: float
    found: float
    tolerance: float
    sign: int = 1
    unit: str = "%"

    @property
    def ok(self) -> bool:
        """Whether what is stated is found again, as far as can be told."""
        return self.sign * (self.stated - self.found) <= self.tolerance

    @property
    def telling(self) -> bool:
        """Whether a false statement of some size would have been found out."""
        return self.tolerance <= TELLING or self.unit != "%"


def compare_with_stated(sets: Sequence[SubmittedSet], found: Accuracies) -> list[StatedAndFound]:
    """Compare stated and found accuracies of every row: on each network, and the mean over networks.

    Only what is stated too high is refused, because a network that collapses by chance lowers it. The sets are the
    same on both sides, so that only the deviation within sets makes the two differ. It is that of the networks
    trained anew, because whoever states accuracies also states their deviation, and counts as one test image at
    least. The tolerance is that of Welch's t-test, one-sided, for `ERROR_RATE` over all comparisons.
    """
    groups: list[tuple[tuple[str, ...], list[SubmittedSet]]] = []
    for row in sorted(sets_by_row(sets), key=lambda row: _row_name(row[0])):
        tried = {
            each.key: [network for network in each.networks if (*each.judged, network) in found] for each in row
        }
        networks = tuple(sorted({network for some in tried.values() for network in some}))
        groups += [((network,), [each for each in row if network in tried[each.key]]) for network in networks]
        everywhere = [each for each in row if len(tried[each.key]) == len(networks)]
        groups += [(networks, everywhere)] * (len(networks) > 1 and bool(everywhere))
    level = ERROR_RATE / max(1, len(groups))
    return [_compare(networks, row, found, level) for networks, row in groups]


def _compare(
    networks: tuple[str, ...], row: Sequence[SubmittedSet], found: Accuracies, level: float
) -> StatedAndFound:
    """Compare the mean of a row's sets over some networks."""
    pairs = [(each.stated(network), found[*each.judged, network]) for each in row for network in networks]
    who = row[0].competitor
    least = (1 / row[0].records[0].n_test) ** 2 if who.of_fractions else 0.0
    # Of every set and network, the variance of the difference of its two means, by the deviation found.
    parts = [
        (max(float(np.var(after, ddof=1)), least) * (1 / len(before) + 1 / len(after)), len(after) - 1)
        for before, after in pairs
    ]
    error = sum(part for part, _ in parts) ** 0.5 / len(pairs)
    return StatedAndFound(
        what=_row_name(row[0]),
        protocol=row[0].protocol,
        measure=row[0].measure,
        sign=who.sign,
        unit=who.unit,
        network=networks[0] if len(networks) == 1 else "",
        keys=tuple(each.key for each in row),
        stated_n=sum(len(before) for before, _ in pairs),
        found_n=sum(len(after) for _, after in pairs),
        stated=float(np.mean([np.mean(before) for before, _ in pairs])),
        found=float(np.mean([np.mean(after) for _, after in pairs])),
        tolerance=float(stdtrit(satterthwaite(parts), 1 - level)) * error,
    )


def _row_name(submitted: SubmittedSet) -> str:
    options = submitted.competitor.options
    measure = f", {submitted.measure}" * (submitted.measure != ACCURACY)
    work = f"{submitted.checked.spec.work}{f' ({options})' if options else ''}"
    return f"{work}, protocol {submitted.protocol}{measure}"
