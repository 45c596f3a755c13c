"""How well two rankings of the same networks agree: Spearman's and Kendall's correlation, with intervals.

An interval is that of the percentile bootstrap over networks: it says how much another draw of networks might
change the correlation, and nothing of another condensed set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcbench.leaderboard.statistics import CONFIDENCE, Interval, Trials
from dcbench.utils.hashes import derive_seed

RESAMPLES = 2000
FEWEST = 10
"""Of fewer networks there is no interval: five in the same order would have one from 1 to 1, and say nothing."""
DIGITS = 9
"""Decimals that count of an accuracy: means that differ by rounding alone are tied."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Correlation:
    """A correlation from -1 to 1, None where all networks are tied on one side, and its 95 % interval or None."""

    value: float | None
    interval: Interval | None = None


@dataclass(frozen=True)
class Agreement:
    """Both correlations over some networks: Spearman's rho on midranks, and Kendall's tau-b."""

    networks: int
    spearman: Correlation
    kendall: Correlation


def in_common(truth: Mapping[str, float], trials: Trials) -> tuple[list[str], Array, Array]:
    """Return the networks that the truth and all sets have, with what `agreement` takes of them."""
    sets = sorted({condensed for by_set in trials.values() for condensed in by_set})
    networks = [network for network in truth if sets and {*sets} <= trials.get(network, {}).keys()]
    found = [[np.mean(trials[network][condensed]) for network in networks] for condensed in sets]
    return networks, np.array([truth[network] for network in networks]), np.array(found)


def agreement(truth: Array, found: Array) -> Agreement:
    """Return how well accuracies agree with the truth on the order of the networks.

    Args:
        truth: an accuracy of each network, shape (N,).
        found: accuracies by condensed set, shape (S, N). Each set ranks by itself; the correlation is the mean.
    """
    n = len(truth)
    order = np.lexsort([*found, truth])  # the interval does not depend on the order that the networks come in
    truth, found = truth[order], found[:, order]
    generator = np.random.default_rng(derive_seed("bootstrap over networks", n))
    resamples = generator.multinomial(n, np.full(n, 1 / n), RESAMPLES if n >= FEWEST else 0)
    weights = np.vstack([np.ones(n), resamples])
    by_set = np.array([correlations(truth, each, weights) for each in found])
    return Agreement(n, *map(_summary, by_set.mean(axis=0)))


def correlations(truth: Array, found: Array, weights: Array) -> tuple[Array, Array]:
    """Return Spearman's rho and Kendall's tau-b of resampled networks, NaN where all are tied on one side.

    With W the weights and S_ij the sign of x_i - x_j, twice the midrank of i, less its mean, is sum_j W_j S_ij.

    Args:
        truth, found: two accuracies of each network, shape (N,).
        weights: how often each network is in each resample, shape (B, N).

    Returns:
        Shape (B,) each.
    """
    x, y = (np.sign(np.subtract.outer(each, each)) for each in (truth.round(DIGITS), found.round(DIGITS)))

    def ratio(both: Array, first: Array, second: Array) -> Array:
        sums = [(weights * each).sum(axis=1) for each in (both, first, second)]
        with np.errstate(invalid="ignore"):
            return np.asarray(sums[0] / np.sqrt(sums[1] * sums[2]))

    rank_x, rank_y = weights @ x, weights @ y
    spearman = ratio(rank_x * rank_y, rank_x**2, rank_y**2)
    return spearman, ratio(weights @ (x * y), weights @ x**2, weights @ y**2)


def best(accuracies: Array, share: float = 0.0) -> NDArray[np.intp]:
    """Return the indices of a share of the networks, rounded up and at least one, with all tied with the last."""
    rounded = accuracies.round(DIGITS)
    last = np.sort(rounded)[-max(1, math.ceil(share * len(rounded)))]
    return np.flatnonzero(rounded >= last)


def _summary(values: Array) -> Correlation:
    """Return the first value with the interval of the others."""
    value, others = float(values[0]), values[1:]
    if math.isnan(value):
        return Correlation(None)
    if not len(others):
        return Correlation(value)
    low, high = np.nanquantile(others, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Correlation(value, (float(low), float(high)))
