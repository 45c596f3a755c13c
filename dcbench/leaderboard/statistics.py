"""The arithmetic of scores: deviations kept apart, and intervals by a hierarchical bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from dcbench.utils.hashes import derive_seed

CONFIDENCE = 0.95
REPLICATES = 2000

Interval = tuple[float, float]
Trials = Mapping[str, Mapping[str, Sequence[float]]]
"""Accuracies by evaluation network and condensed set."""
Replicates = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """The accuracies of one competitor on one evaluation network, as fractions.

    Attributes:
        mean: over sets of the mean over networks.
        between_std: standard deviation of the sets' means (n - 1); None for a single set.
        within_std: root mean square over sets of the deviation over networks; None for single networks.
        sets, trials: condensed sets, and networks trained over all of them.
        fewest: networks of the set that has the fewest.
        interval: of 95 % around the mean, by the hierarchical bootstrap; None where one set, or one network, does
            not tell how much another would differ.
        diverged: how many of the networks diverged.
    """

    mean: float
    between_std: float | None
    within_std: float | None
    sets: int
    trials: int
    fewest: int = 1
    interval: Interval | None = None
    diverged: int = 0


def score(
    by_set: Mapping[str, Sequence[float]], replicates: Replicates | None = None, seeded: bool = True
) -> Score:
    """Summarise the accuracies of one evaluation network by condensed set, given replicates of their mean."""
    fewest = min(map(len, by_set.values()))
    means = np.array([np.mean(each) for each in by_set.values()])
    variances = [np.var(each, ddof=1) for each in by_set.values() if len(each) > 1]
    return Score(
        mean=float(means.mean()),
        between_std=float(means.std(ddof=1)) if len(means) > 1 else None,
        within_std=float(np.mean(variances) ** 0.5) if variances else None,
        sets=len(means),
        trials=sum(map(len, by_set.values())),
        fewest=fewest,
        interval=interval(float(means.mean()), replicates, len(by_set) if seeded else fewest),
    )


def interval(mean: float, replicates: Replicates | None, drawn: int) -> Interval | None:
    """Return the 95 % interval around a mean, or None where there are no replicates.

    The few sets that are usual need two corrections: the bootstrap's deviation is too small by the root of
    (n - 1) / n, and Student's t takes the place of the normal distribution (Hesterberg, What Teachers Should Know
    about the Bootstrap, The American Statistician 2015, section 3). Plain percentiles of 3 sets hold the truth in
    82 of 100 cases. ``drawn`` counts what was drawn at the first level: sets, or of a single one, networks; 2 at
    least.
    """
    if replicates is None:
        return None
    error = float(np.std(replicates)) * (drawn / (drawn - 1)) ** 0.5
    half = float(stdtrit(drawn - 1, (1 + CONFIDENCE) / 2)) * error
    return max(0.0, mean - half), min(1.0, mean + half)


def bootstrap(trials: Trials, seeded: bool, name: str) -> dict[str, Replicates]:
    """Draw replicates of the mean accuracy on every network: sets are drawn anew, then networks within each.

    The draws of sets are shared by all networks, since a lucky set is lucky on all of them; so replicates of
    several networks may be averaged. Both levels are resampled with replacement (Davison and Hinkley, Bootstrap
    Methods and their Application, 1997, section 3.8).

    Args:
        trials: accuracies by network and set.
        seeded: whether another seed would have given another set. If so, one set does not tell how much.
        name: seeds the draws, so that the same records give the same interval whatever stands beside them.

    Returns:
        Arrays of shape (`REPLICATES`,) by network, without the networks whose accuracies cannot tell.
    """
    sets = sorted({key for by_set in trials.values() for key in by_set})
    bits = np.random.PCG64(derive_seed("bootstrap", name))
    chosen = _integers(bits, (REPLICATES, len(sets)), np.array(len(sets)))
    replicates = {}
    for network, by_set in sorted(trials.items()):
        enough = len(by_set) > 1 if seeded else all(len(each) > 1 for each in by_set.values())
        if not enough:
            continue
        counts = np.array([len(by_set.get(key, ())) for key in sets])
        values = np.zeros((len(sets), counts.max()))
        for number, key in enumerate(sets):
            values[number, : counts[number]] = by_set.get(key, ())
        means = _means(chosen, values, counts, bits)
        replicates[network] = np.where(np.isnan(means), score(by_set).mean, means)
    return replicates


def _means(
    chosen: NDArray[np.int64], values: Replicates, counts: NDArray[np.int64], bits: np.random.PCG64
) -> Replicates:
    """Draw accuracies from the sets chosen, and return the means over sets of the mean within each.

    Args:
        chosen: sets, shape (replicates, sets).
        values: accuracies, shape (sets, most networks of a set), of which each set has ``counts``.
        bits: where draws come from.

    Returns:
        Shape (replicates,); NaN where no set chosen has any.
    """
    sizes = counts[chosen][..., None]  # replicates x sets x 1
    members = _integers(bits, (*chosen.shape, values.shape[1]), np.maximum(sizes, 1))
    drawn = values[chosen[..., None], members]
    if counts.min() < values.shape[1]:
        drawn *= np.arange(values.shape[1]) < sizes
    present = sizes[..., 0] > 0
    means = drawn.sum(2) / np.maximum(sizes[..., 0], 1)
    total = present.sum(1)
    return np.where(total > 0, means.sum(1) / np.maximum(total, 1), np.nan)


def _integers(bits: np.random.PCG64, shape: tuple[int, ...], below: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw integers from 0 to ``below`` - 1, which is broadcast to the shape.

    numpy promises to keep the stream of a bit generator, but not that of higher methods.
    """
    fractions = (bits.random_raw(int(np.prod(shape))).reshape(shape) >> np.uint64(11)).astype(
        np.float64
    ) * 2.0**-53
    return (fractions * below).astype(np.int64)
