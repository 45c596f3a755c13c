"""Rank correlations of networks: against scipy, against a case by hand, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dcbench.leaderboard.rank_correlation import Correlation, agreement, best, correlations


def test_a_case_by_hand_with_ties():
    # Pairs: 3 in the same order, 1 in the other, 1 tied on the left, 1 tied on the right.
    truth, found = np.array([1.0, 2.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0, 2.0])
    result = agreement(truth, found[None])
    assert result.kendall.value == pytest.approx((3 - 1) / 5)
    # Midranks 1, 2.5, 2.5, 4 and 1, 4, 2.5, 2.5, less 2.5: the products sum to 2.25, the squares to 4.5.
    assert result.spearman.value == pytest.approx(0.5)
    assert result.networks == 4


@pytest.mark.parametrize("levels", [5, 1000])
def test_both_are_scipys_of_all_networks_and_of_each_resample(levels):
    generator = np.random.default_rng(levels)
    truth, found = generator.integers(levels, size=(2, 48)) / levels
    weights = np.vstack([np.ones(48, dtype=int), generator.multinomial(48, np.full(48, 1 / 48), 20)])
    for spearman, kendall, counts in zip(*correlations(truth, found, weights), weights, strict=True):
        x, y = np.repeat(truth, counts), np.repeat(found, counts)
        assert spearman == pytest.approx(stats.spearmanr(x, y).statistic)
        assert kendall == pytest.approx(stats.kendalltau(x, y).statistic)


def test_intervals_are_the_same_every_time_narrow_with_many_networks_and_absent_with_few():
    generator = np.random.default_rng(0)
    truth = generator.random(200)
    found = truth + generator.normal(0, 0.2, 200)
    many, some, few = (agreement(truth[:n], found[None, :n]) for n in (200, 40, 5))
    assert many == agreement(truth, found[None])
    widths = [high - low for low, high in (each.spearman.interval for each in (many, some))]
    assert widths[0] < 0.15 < widths[1] < 0.6
    assert few.spearman.value is not None
    assert few.spearman.interval is None
    assert many.kendall.interval[0] < many.kendall.value < many.kendall.interval[1]


def test_the_bootstrap_agrees_with_scipys():
    generator = np.random.default_rng(1)
    truth = generator.random(40)
    found = truth + generator.normal(0, 0.2, 40)
    theirs = stats.bootstrap(
        (truth, found), lambda x, y: stats.spearmanr(x, y).statistic, paired=True, vectorized=False,
        n_resamples=500, method="percentile", rng=generator,
    ).confidence_interval  # fmt: skip
    assert agreement(truth, found[None]).spearman.interval == pytest.approx(tuple(theirs), abs=0.05)


def test_each_set_ranks_by_itself():
    truth, order = np.arange(4.0), np.array([[0, 1, 2, 3], [3, 2, 1, 0], [0, 1, 3, 2]])
    assert agreement(truth, order / 4).kendall.value == pytest.approx((1 - 1 + 4 / 6) / 3)


def test_there_is_no_correlation_where_one_side_is_all_tied_also_by_rounding():
    tied, others = np.array([0.1 + 0.2, 0.3, 0.3]), np.array([0.1, 0.2, 0.3])
    assert agreement(others, tied[None]).spearman == agreement(tied, others[None]).kendall == Correlation(None)
    assert agreement(tied[:1], tied[None, :1]).kendall == Correlation(None)


def test_a_share_of_the_best_is_rounded_up_and_has_all_that_are_tied_with_its_last():
    assert best(np.arange(48.0), 0.1).tolist() == [43, 44, 45, 46, 47]
    assert best(np.array([0.3, 0.9, 0.9, 0.1]), 0.1).tolist() == [1, 2]
    assert best(np.array([0.0, 0.1 + 0.2, 0.3])).tolist() == [1, 2]


def test_the_interval_does_not_depend_on_the_order_of_the_networks():
    generator = np.random.default_rng(2)
    truth, found = generator.integers(8, size=(2, 30)) / 8
    other = generator.permutation(30)
    assert agreement(truth, found[None]) == agreement(truth[other], found[None, other])
