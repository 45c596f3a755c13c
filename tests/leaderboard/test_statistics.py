"""Intervals of scores and which rows differ: against scipy and worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dcbench.leaderboard.statistics import Estimate, better, estimate, satterthwaite, score


def made_up(sets, trials, between, within, seed=0):
    draw = np.random.default_rng(seed)
    return {
        f"set {number}": list(0.5 + between * draw.normal() + within * draw.normal(size=trials))
        for number in range(sets)
    }


def test_the_interval_of_sets_is_students_of_their_means():
    by_set = made_up(sets=4, trials=3, between=0.03, within=0.02)
    means = [np.mean(each) for each in by_set.values()]
    expected = stats.t.interval(0.95, 3, np.mean(means), stats.sem(means))
    assert score(by_set).interval == pytest.approx(expected)
    assert score(by_set).error == pytest.approx(stats.sem(means))


def test_of_several_networks_a_sets_mean_over_them_counts():
    # On both networks the first set is good and the second bad; their mean varies as much as each of them.
    trials = {name: {"a": [0.9], "b": [0.1]} for name in ("mlp", "lenet")}
    alike = estimate(trials, seeded=True)
    assert (alike.mean, alike.error, alike.freedom) == pytest.approx((0.5, 0.4, 1))
    # Where one network prefers the first and the other the second, the mean is sure.
    trials["lenet"] = {"a": [0.1], "b": [0.9]}
    assert estimate(trials, seeded=True).error == pytest.approx(0)


def test_of_one_set_that_no_seed_changes_the_networks_vary():
    one = {"mlp": {"a": [0.4, 0.5, 0.6]}, "lenet": {"a": [0.80, 0.82]}}
    found = estimate(one, seeded=False)
    # Variances of the means 0.01 / 3 and 0.0002 / 2, each a quarter of that in the mean over two networks.
    parts = [(0.01 / 3 / 4, 2), (0.0002 / 2 / 4, 1)]
    assert (found.mean, found.error) == pytest.approx((0.655, sum(part for part, _ in parts) ** 0.5))
    assert found.freedom == pytest.approx(satterthwaite(parts)) == pytest.approx(2.12, abs=0.01)
    # Student's interval of three numbers: their mean, and 4.30 times 0.1 over the root of 3.
    assert score(one["mlp"], seeded=False).interval == pytest.approx((0.2516, 0.7484), abs=1e-4)


@pytest.mark.parametrize(
    ("trials", "seeded"),
    [
        ({"mlp": {"a": [0.4, 0.5, 0.6]}}, True),
        ({"mlp": {"a": [0.5]}}, False),
        ({"mlp": {"a": [0.5], "b": [0.6]}, "lenet": {"a": [0.5], "c": [0.6]}}, True),
        ({}, True),
    ],
    ids=["one set", "one network", "other sets", "nothing"],
)
def test_too_little_has_no_interval(trials, seeded):
    assert estimate(trials, seeded) is None


def test_an_interval_stays_within_the_possible():
    assert score({"a": [0.99], "b": [0.6]}).interval == (0.0, 1.0)


def test_the_deviation_between_sets_is_without_the_noise_of_few_networks():
    # Means 0.5 and 0.7 with variance 0.02; the networks of a set add (0.0002 / 2 + 0.0002 / 2) / 2 to it.
    assert score({"a": [0.49, 0.51], "b": [0.69, 0.71]}).between_std == pytest.approx((0.02 - 0.0001) ** 0.5)
    # Here the networks explain more than all of it.
    assert score({"a": [0.3, 0.7], "b": [0.35, 0.67]}).between_std == 0


def test_two_rows_are_told_apart_by_welchs_test():
    one, other = made_up(3, 1, 0.01, 0, seed=1), made_up(4, 1, 0.04, 0, seed=2)
    samples = [np.concatenate([*each.values()]) for each in (one, other)]
    for shift in np.linspace(0, 0.2, 21):
        estimates = [estimate({"mlp": one}, True), estimate({"mlp": other}, True)]
        estimates[0] = Estimate(estimates[0].mean + shift, estimates[0].error, estimates[0].freedom)
        p = stats.ttest_ind(samples[0] + shift, samples[1], equal_var=False).pvalue
        found = better(estimates)
        assert found.any() == (p <= 0.05)
        assert not found[1, 0] or samples[1].mean() > samples[0].mean() + shift


def test_a_table_of_many_rows_asks_for_more():
    # p of the differences: 0.02, 0.0017 and 0.4. In order of size, Holm allows 0.05 / 3, 0.05 / 2 and 0.05.
    rows = [Estimate(0.9, 0.01, 1e9), Estimate(0.9 - 0.0329, 0.01, 1e9), Estimate(0.9 - 0.0444, 0.01, 1e9)]
    assert better(rows).tolist() == [[False, True, True], [False] * 3, [False] * 3]
    # With a fourth row like the third, six pairs are compared, and 0.02 is no longer enough.
    assert better([*rows, rows[2]]).tolist() == [[False, False, True, True], *[[False] * 4] * 3]


def test_rows_without_deviation_differ_if_they_differ():
    rows = [Estimate(0.5, 0.0, 2), Estimate(0.5, 0.0, 2), Estimate(0.4, 0.0, 2)]
    assert better(rows).tolist() == [[False, False, True], [False, False, True], [False] * 3]
    assert better(rows[:1]).tolist() == [[False]]
    assert better([]).shape == (0, 0)
