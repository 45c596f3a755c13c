"""DD-Ranking's scores, against its formulae."""

from __future__ import annotations

import math

import pytest
from helpers import make_record

from dcbench.leaderboard.dd_ranking import with_dd_ranking
from dcbench.leaderboard.rules import Augmentations, Rules
from dcbench.leaderboard.scores import rows
from dcbench.leaderboard.standings import standings

RULES = Rules(floor="random", ceiling="whole", sets=2, evals=1, networks=("mlp",))
PROTOCOLS = Augmentations(augmented="dsa", plain="dc")
TEACHER = {"network": "convnet", "recipe": "one", "sha256": "0" * 64, "bytes": 1, "held_out_accuracy": 0.9}
MEANS = {
    ("random", "dc"): 0.40,
    ("random", "dsa"): 0.45,
    ("random", "kd"): 0.60,
    ("better", "dc"): 0.50,
    ("better", "dsa"): 0.65,
    ("better", "kd"): 0.70,
    ("whole", "dsa"): 0.95,
}


def records(means):
    return [
        make_record(
            accuracy=mean + (0.01 if seed else -0.01),
            method=method,
            protocol=protocol,
            ipc=None if method == "whole" else 1,
            condense_seed=seed,
            evaluation_network="mlp",
            matching_network=None,
            options={},
            teacher=TEACHER if protocol == "kd" else {},
            seeded=method != "whole",
        )
        for (method, protocol), mean in means.items()
        for seed in (0, 1)
    ]


def scores(means):
    tables = with_dd_ranking(standings(rows(records(means)), RULES), PROTOCOLS)
    return {(each.row.method, table.protocol): each for table in tables for each in table.entries}


def normalised(value):
    return (math.exp(value) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def test_ars_is_of_the_gains_with_and_without_augmentation():
    found = scores(MEANS)
    assert found["better", "dsa"].ars == pytest.approx(normalised((0.20 + 0.10) / 2))
    assert found["better", "dc"].ars == found["better", "dsa"].ars
    assert found["better", "kd"].ars is None
    assert found["random", "dsa"].ars is None


def test_lrs_weighs_the_gain_of_the_rows_own_labels_against_what_hard_ones_lack():
    found = scores(MEANS)
    assert found["better", "kd"].lrs == pytest.approx(normalised(0.5 * 0.10 - 0.5 * (0.95 - 0.65)))
    assert found["better", "dsa"].lrs == pytest.approx(normalised(0.5 * 0.20 - 0.5 * (0.95 - 0.65)))


@pytest.mark.parametrize(
    ("missing", "score"), [(("better", "dc"), "ars"), (("random", "dc"), "ars"), (("whole", "dsa"), "lrs")]
)
def test_what_a_score_needs_must_stand_in_the_tables(missing, score):
    found = scores({name: mean for name, mean in MEANS.items() if name != missing})
    assert getattr(found["better", "dsa"], score) is None


def test_without_protocols_there_are_no_scores():
    tables = standings(rows(records(MEANS)), RULES)
    assert with_dd_ranking(tables, None) == tables
