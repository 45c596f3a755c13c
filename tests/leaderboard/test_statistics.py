"""Intervals of scores: against closed forms, and what they must not do."""

from __future__ import annotations

import numpy as np
import pytest

from dcbench.leaderboard.statistics import REPLICATES, bootstrap, score


def made_up(sets, trials, between, within, seed=0):
    draw = np.random.default_rng(seed)
    return {
        f"set {number}": 0.5 + between * draw.normal() + within * draw.normal(size=trials)
        for number in range(sets)
    }


def test_the_spread_of_replicates_is_that_of_the_mean_with_sets_and_networks_drawn_anew():
    by_set = made_up(sets=12, trials=8, between=0.03, within=0.02)
    (replicates,) = bootstrap({"convnet": by_set}, seeded=True, name="x").values()
    means = np.array([each.mean() for each in by_set.values()])
    within = np.mean([each.var() for each in by_set.values()])
    # The variance of the two-stage bootstrap: between the sets' means and within them, over the number of draws.
    expected = (means.var() / 12 + within / (12 * 8)) ** 0.5
    assert replicates.std() == pytest.approx(expected, rel=0.06)
    assert replicates.mean() == pytest.approx(means.mean(), abs=4 * expected / REPLICATES**0.5)


@pytest.mark.parametrize("sets", [2, 3, 5, 10])
def test_an_interval_covers_the_truth_about_as_often_as_it_says(sets):
    covered = 0
    for seed in range(300):
        by_set = made_up(sets=sets, trials=3, between=0.02, within=0.015, seed=seed)
        low, high = score(by_set, bootstrap({"mlp": by_set}, seeded=True, name=str(seed))["mlp"]).interval
        covered += low <= 0.5 <= high
    # 95 % of 300 less three standard errors. Of few sets the deviation within counts twice: more is no lie.
    assert 0.91 <= covered / 300 <= (1 if sets < 5 else 0.99)


def test_one_set_of_a_method_that_takes_a_seed_has_no_interval():
    one = {"a": [0.4, 0.5, 0.6]}
    assert bootstrap({"mlp": one}, seeded=True, name="x") == {}
    replicates = bootstrap({"mlp": one}, seeded=False, name="x")["mlp"]
    # Student's interval of three numbers: their mean, and 4.30 times 0.1 over the root of 3.
    assert score(one, replicates, seeded=False).interval == pytest.approx((0.2516, 0.7484), abs=0.02)
    assert bootstrap({"mlp": {"a": [0.5]}}, seeded=False, name="x") == {}


def test_sets_of_single_networks_still_have_an_interval_between_them():
    replicates = bootstrap({"mlp": {"a": [0.4], "b": [0.6]}}, seeded=True, name="x")["mlp"]
    assert set(np.round(replicates, 9)) == {0.4, 0.5, 0.6}


def test_a_drawn_set_is_drawn_for_all_networks():
    # On both networks the first set is good and the second bad; their mean must spread as much as each of them.
    trials = {name: {"a": [0.9], "b": [0.1]} for name in ("mlp", "lenet")}
    replicates = bootstrap(trials, seeded=True, name="x")
    assert np.array_equal(replicates["mlp"], replicates["lenet"])


def test_networks_that_some_sets_were_not_tried_on_are_drawn_from_those_that_were():
    trials = {"mlp": {"a": [0.5, 0.5], "b": [0.5, 0.5], "c": [0.5]}, "lenet": {"a": [0.2], "b": [0.2]}}
    replicates = bootstrap(trials, seeded=True, name="x")
    assert np.allclose(replicates["mlp"], 0.5)
    assert np.allclose(replicates["lenet"], 0.2)


def test_the_draws_depend_on_the_name_alone():
    by_set = made_up(3, 3, 0.1, 0.1)
    one, again, other = (bootstrap({"mlp": by_set}, True, name)["mlp"] for name in "aab")
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_stream_of_draws_is_pinned():
    # Committed tables must be found again with other versions of numpy.
    by_set = {str(number): [0.1 + 0.0317 * number, 0.2 + 0.0171 * number**2, 0.31] for number in range(5)}
    replicates = bootstrap({"mlp": by_set}, True, "pinned")["mlp"]
    assert np.quantile(replicates, [0.025, 0.975]) == pytest.approx((0.202039833, 0.319581333))
    assert score(by_set, replicates).interval == pytest.approx((0.1670511596, 0.3502821737), abs=1e-9)


def test_an_interval_stays_within_the_possible():
    by_set = {"a": [0.99], "b": [0.6]}
    assert score(by_set, bootstrap({"mlp": by_set}, True, "x")["mlp"]).interval == (0.0, 1.0)
    assert score(by_set).interval is None
