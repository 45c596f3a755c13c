"""Tables of many networks: rank correlations with the truth, and no column for each network."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_record
from scipy import stats

from dcbench.leaderboard.board import Leaderboard
from dcbench.leaderboard.report.tables import brief, markdown
from dcbench.leaderboard.report.terminal import terminal_tables
from dcbench.leaderboard.rules import Rules, SearchRules
from dcbench.leaderboard.scores import rows
from dcbench.leaderboard.search import with_search
from dcbench.leaderboard.standings import standings

SEARCH = SearchRules(method="whole", truth="dc:steps=4", protocol="dc:steps=2")
GENERATOR = np.random.default_rng(0)
TRUE, FOUND = GENERATOR.integers(64, size=12) / 64, GENERATOR.integers(64, size=(2, 12)) / 64


def records(accuracies, method, protocol, seed=0, **changes):
    fields = {"method": method, "protocol": protocol, "options": {}, "matching_network": None}
    fields |= {"ipc": None, "seeded": False} if method == "whole" else {"ipc": 1, "condense_seed": seed}
    return [
        make_record(**(fields | {"evaluation_network": f"mlp:width={place + 10}", "accuracy": value} | changes))
        for place, value in enumerate(accuracies.tolist())
    ]


def tables(some, search=SEARCH):
    rules = Rules(networks=("mlp", "lenet"), search=search)
    return with_search(standings(rows(some), rules), search)


@pytest.fixture
def some():
    sets = [record for seed in (0, 1) for record in records(FOUND[seed], "random", "dc:steps=2", seed)]
    return records(TRUE, "whole", "dc:steps=4") + records(FOUND[0], "whole", "dc:steps=2") + sets


def test_every_row_under_another_protocol_has_its_agreement_with_the_truth(some):
    searched, true = tables(some)
    assert (searched.protocol, true.protocol) == ("dc:steps=2", "dc:steps=4")
    assert [entry.agreement for entry in true.entries] == [None]
    found = {entry.row.method: entry.agreement for entry in searched.entries}
    expected = [stats.kendalltau(TRUE, each).statistic for each in FOUND]
    assert found["random"].kendall.value == pytest.approx(np.mean(expected))
    assert found["whole"].kendall.value == pytest.approx(expected[0])
    assert found["random"].networks == 12


def test_there_is_none_without_a_rule_or_the_truth_or_enough_networks_or_on_other_data(some):
    others = records(TRUE, "whole", "dc:steps=4", dataset_sha256="f" * 64)
    few = records(TRUE[:9], "whole", "dc:steps=4")
    for found in (tables(some, None), tables(some[12:]), tables(others + some[12:]), tables(few + some[12:])):
        assert not [entry for table in found for entry in table.entries if entry.agreement]


def test_many_networks_have_one_column_for_all(some):
    searched, _ = tables(some)
    text = markdown(searched, Leaderboard((), Rules(), (), ()))
    assert "mlp:width=10" not in text
    assert "Mean: 12 networks." in text
    head, _, *lines = text.splitlines()
    assert [word in head for word in ("networks", "Spearman", "Kendall")] == [True] * 3
    mean = FOUND.mean(axis=0)
    assert f"12: {100 * mean.min():.1f}–{100 * mean.max():.1f}" in next(line for line in lines if "random" in line)
    assert "Spearman" in brief(searched, Leaderboard((), Rules(), (), ()))
    (shown,) = terminal_tables([entry.row for entry in searched.entries], "tables")
    assert [column.header for column in shown.columns] == ["ipc", "method", "networks", "unseen", "n", "seconds"]


def test_few_networks_have_a_column_each():
    (table,) = tables(records(TRUE[:8], "random", "dc"))
    assert "mlp:width=17" in markdown(table, Leaderboard((), Rules(), (), ()))
    assert table.networks == ("mlp", "lenet")
