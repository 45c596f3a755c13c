"""The arithmetic of scores: means with their standard errors, intervals, and which of them differ.

Networks that were trained on one condensed set share its luck. So each set counts once, by its mean over networks,
and Student's t is exact for these means. `tests/benchmarks/coverage.py` prints how often both are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95

Interval = tuple[float, float]
Trials = Mapping[str, Mapping[str, Sequence[float]]]
"""Accuracies by evaluation network and condensed set."""


@dataclass(frozen=True)
class Estimate:
    """A mean and how surely it is known.

    Attributes:
        mean: as a fraction.
        error: its standard error.
        freedom: degrees of freedom of that error.
        bounded: whether it is of fractions.
    """

    mean: float
    error: float
    freedom: float
    bounded: bool = True

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval, by Student's t."""
        return float(stdtrit(self.freedom, (1 + CONFIDENCE) / 2)) * self.error

    @property
    def interval(self) -> Interval:
        """The 95 % interval; that of fractions lies between 0 and 1."""
        low, high = self.mean - self.half_width, self.mean + self.half_width
        return (max(0.0, low), min(1.0, high)) if self.bounded else (low, high)


@dataclass(frozen=True)
class Score:
    """The accuracies of one competitor on one evaluation network, as fractions.

    Attributes:
        mean: over sets of the mean over networks.
        between_std: how much the sets differ: the standard deviation (n - 1) of their means, without what the few
            networks of a set add to it, where that is known; 0 if they explain all of it. None for a single set.
        within_std: root mean square over sets of the deviation over networks; None for single networks.
        sets, trials: condensed sets, and networks trained over all of them.
        fewest: networks of the set that has the fewest.
        error: standard error of the mean, see `estimate`; None where one set, or one network, does not tell how
            much another would differ.
        interval: of 95 % around the mean; None with the error.
        diverged: how many of the networks diverged.
        balanced: mean of the balanced accuracies; None where the test classes are even, or not all are known.
    """

    mean: float
    between_std: float | None
    within_std: float | None
    sets: int
    trials: int
    fewest: int = 1
    error: float | None = None
    interval: Interval | None = None
    diverged: int = 0
    balanced: float | None = None


def score(by_set: Mapping[str, Sequence[float]], seeded: bool = True, bounded: bool = True) -> Score:
    """Summarise the accuracies, or other main scores, of one evaluation network by condensed set."""
    means = np.array([np.mean(each) for each in by_set.values()])
    known = [(np.var(each, ddof=1), len(each)) for each in by_set.values() if len(each) > 1]
    noise = sum(variance / count for variance, count in known) / len(means)
    about = estimate({"": by_set}, seeded, bounded)
    return Score(
        mean=float(means.mean()),
        between_std=float(max(0.0, means.var(ddof=1) - noise) ** 0.5) if len(means) > 1 else None,
        within_std=float(np.mean([variance for variance, _ in known]) ** 0.5) if known else None,
        sets=len(means),
        trials=sum(map(len, by_set.values())),
        fewest=min(map(len, by_set.values())),
        error=about.error if about else None,
        interval=about.interval if about else None,
    )


def estimate(trials: Trials, seeded: bool, bounded: bool = True) -> Estimate | None:
    """Return the mean over evaluation networks of the mean over sets, with its error.

    Args:
        trials: accuracies by network and set. The sets must be the same for every network.
        seeded: whether another seed would have given another set. If so, the sets' means over all networks vary;
            n of them have n - 1 degrees of freedom. If not, only the networks vary: each architecture has its own
            deviation, and the degrees of freedom are those of Welch and Satterthwaite (Satterthwaite, An
            approximate distribution of estimates of variance components, Biometrics 1946).
        bounded: whether they are fractions.

    Returns:
        None where the sets are not the same, or too few: less than two sets, or two networks of one set.
    """
    if not trials or len({frozenset(by_set) for by_set in trials.values()}) > 1:
        return None
    if seeded:
        means = np.mean([[np.mean(by_set[key]) for key in sorted(by_set)] for by_set in trials.values()], axis=0)
        if len(means) < 2:
            return None
        error = float(means.std(ddof=1)) / len(means) ** 0.5
        return Estimate(float(means.mean()), error, len(means) - 1, bounded)
    samples = [np.concatenate([*by_set.values()]) for by_set in trials.values()]
    if min(map(len, samples)) < 2:
        return None
    mean = float(np.mean([each.mean() for each in samples]))
    parts = [(float(each.var(ddof=1)) / len(each) / len(samples) ** 2, len(each) - 1) for each in samples]
    return Estimate(mean, sum(part for part, _ in parts) ** 0.5, satterthwaite(parts), bounded)


def satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Return the degrees of freedom of a sum of variances, each given with its own."""
    below = sum(variance**2 / freedom for variance, freedom in parts)
    return sum(variance for variance, _ in parts) ** 2 / below if below else sum(freedom for _, freedom in parts)


def better(estimates: Sequence[Estimate]) -> NDArray[np.bool_]:
    """Say which estimates are surely above which others.

    Each pair is compared by Welch's test. By Holm's correction (A simple sequentially rejective multiple test
    procedure, Scandinavian Journal of Statistics 1979), any equal rows of a table are told apart in 5 % of tables.

    Returns:
        Booleans of shape (n, n); ``[i, j]`` is true if i is above j.
    """
    mean, error, freedom = (
        np.array([getattr(each, name) for each in estimates]) for name in ("mean", "error", "freedom")
    )
    first, second = np.triu_indices(len(estimates), 1)
    p = welch(mean[first] - mean[second], error[first], error[second], freedom[first], freedom[second])
    order = np.argsort(p, kind="stable")
    allowed = p[order] <= (1 - CONFIDENCE) / np.arange(len(p), 0, -1)
    apart = order[np.logical_and.accumulate(allowed)]
    found = np.zeros((len(estimates), len(estimates)), dtype=bool)
    found[first[apart], second[apart]] = found[second[apart], first[apart]] = True
    return found & (mean[:, None] > mean[None, :])


def welch(
    difference: NDArray[np.float64],
    error: NDArray[np.float64],
    other: NDArray[np.float64],
    freedom: NDArray[np.float64],
    other_freedom: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the two-sided p of differences of two means, given both standard errors and degrees of freedom."""
    variance = error**2 + other**2
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(difference) / np.sqrt(variance)
        together = variance**2 / (error**4 / freedom + other**4 / other_freedom)
        p = 2 * stdtr(together, -t)
    return np.where(variance > 0, p, np.where(difference == 0, 1.0, 0.0))
