"""Tables: ranks, ties, shares of the gap, and what is provisional."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers import make_record

from dcbench.leaderboard.board import Leaderboard
from dcbench.leaderboard.report.data import leaderboard_data
from dcbench.leaderboard.report.tables import costs, markdown
from dcbench.leaderboard.report.terminal import terminal_tables
from dcbench.leaderboard.report.words import heading
from dcbench.leaderboard.results import Results
from dcbench.leaderboard.rules import Rules, read_rules
from dcbench.leaderboard.scores import rows
from dcbench.leaderboard.standings import standings
from dcbench.utils.errors import DcbenchError

RULES = Rules(floor="random", ceiling="whole", sets=2, evals=2, networks=("convnet", "mlp"))


def trials(accuracies, networks=("convnet", "mlp"), **changes):
    """Records of several sets, from a list of accuracies for each, the same on every network."""
    return [
        make_record(accuracy=accuracy, condense_seed=seed, eval_seed=number, evaluation_network=network, **changes)
        for seed, of_set in enumerate(accuracies)
        for number, accuracy in enumerate(of_set)
        for network in networks
    ]


def around(accuracy, step=0.01):
    return [[accuracy - step, accuracy], [accuracy, accuracy + step], [accuracy, accuracy]]


def references():
    return [
        *trials(around(0.2), method="random", matching_network=None, options={}),
        *trials([[0.9, 0.9]], method="whole", ipc=None, matching_network=None, options={}, seeded=False),
    ]


def only(records, rules=RULES):
    (table,) = standings(rows(records), rules)
    return table


def by_method(table):
    return {entry.row.method: entry for entry in table.entries}


def test_rows_whose_intervals_separate_are_ranked_and_others_tie():
    table = only([
        *references(),
        *trials(around(0.7), method="best"),
        *trials(around(0.5), method="middle"),
        *trials(around(0.505), method="middling"),
    ])  # fmt: skip
    ranks = {name: entry.rank for name, entry in by_method(table).items()}
    assert ranks == {"best": (1, 1), "middling": (2, 3), "middle": (2, 3), "random": (4, 4), "whole": None}
    assert [entry.row.method for entry in table.entries] == ["best", "middling", "middle", "random", "whole"]


def test_a_row_below_the_floor_on_the_network_that_it_was_matched_on_is_marked():
    worse = [
        *trials(around(0.1), networks=("convnet",), method="worse"),
        *trials(around(0.9), networks=("mlp",), method="worse"),
    ]
    table = only([*references(), *worse, *trials(around(0.3), method="better")])
    marks = {name: entry.below for name, entry in by_method(table).items()}
    assert marks == {"worse": "below random on convnet", "better": None, "random": None, "whole": None}
    (shown,) = terminal_tables([entry.row for entry in table.entries], "tiny", [table])
    assert "below random on convnet" in "".join(shown.columns[1].cells)


def test_the_share_of_the_gap_is_linear_between_floor_and_ceiling():
    entries = by_method(only([*references(), *trials(around(0.55), method="half")]))
    assert entries["half"].gap == pytest.approx(0.5, abs=1e-9)
    assert entries["random"].gap == pytest.approx(0, abs=1e-9)
    assert entries["whole"].gap == pytest.approx(1)
    assert (entries["random"].reference, entries["whole"].reference) == ("floor", "ceiling")


def test_a_reference_without_a_record_is_missing_and_leaves_the_gap_unknown():
    table = only(trials(around(0.5)))
    assert table.missing == ("random", "whole")
    assert table.entries[0].gap is None
    assert table.entries[0].rank == (1, 1)


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (trials(around(0.5)[:1]), "1 of 2 sets"),
        (trials([[0.5], [0.4]]), "1 of 2 networks a set"),
        (trials([[0.5], [0.4, 0.5, 0.6]]), "1 of 2 networks a set"),
        (
            [*trials(around(0.5)), *trials([[]] * 3 + around(0.4), networks=("mlp",))],
            "not every set tried on every network",
        ),
        (trials(around(0.5), networks=("convnet",)), "not tried on mlp"),
    ],
)
def test_what_a_row_lacks_makes_it_provisional_and_leaves_it_without_a_rank(records, why):
    entry = by_method(only([*references(), *records]))["gradmatch"]
    assert why in entry.provisional
    assert entry.rank is None


def test_a_row_of_an_older_version_is_superseded_once_the_newer_one_lacks_nothing():
    old, new = trials(around(0.5), method="m"), trials(around(0.6), method="m", method_version="2")
    entries = {each.row.method_name: each for each in only([*references(), *old, *new]).entries}
    assert entries["m"].provisional == ("superseded by m@2",)
    assert (entries["m"].superseded, entries["m"].rank, entries["m@2"].rank) == (True, None, (1, 1))
    few = trials(around(0.6)[:1], method="m", method_version="2")
    entries = {each.row.method_name: each for each in only([*references(), *old, *few]).entries}
    assert (entries["m"].rank, entries["m@2"].rank) == ((1, 1), None)


def test_what_is_not_ranked_stands_after_what_is():
    lucky = trials([[0.99, 0.99]], method="lucky")
    table = only([*references(), *lucky, *trials(around(0.5), method="steady")])
    assert [entry.row.method for entry in table.entries] == ["steady", "random", "lucky", "whole"]


def test_a_method_that_ignores_the_seed_needs_one_set():
    pixels = trials([[0.5, 0.51, 0.5, 0.51]], method="pixels", seeded=False)
    entry = by_method(only([*references(), *pixels]))["pixels"]
    assert entry.provisional == ()
    assert entry.rank == (1, 1)


def test_a_baseline_of_other_options_or_on_other_data_is_no_reference():
    other = {"options": {"balanced": 1}, "changed_options": ["balanced"], "matching_network": None}
    records = [*trials(around(0.5)), *trials(around(0.2), method="random", **other)]
    assert "random" in only(records).missing
    elsewhere = trials(around(0.2), method="random", matching_network=None, options={}, dataset="another")
    tables = {table.dataset: table for table in standings(rows([*trials(around(0.5)), *elsewhere]), RULES)}
    assert "random" in tables["made_up"].missing


def test_only_rows_with_hard_labels_whose_word_counts_are_references():
    soft = trials(around(0.1), method="random", matching_network=None, options={}, track="soft-label")
    records = [*trials(around(0.5)), *soft]
    assert all("random" in table.missing for table in standings(rows(records), RULES))
    (table,) = standings(rows([*references(), *trials(around(0.5))]), RULES, lambda row: row.method != "random")
    assert table.missing == ("random",)


def test_version_ten_is_newer_than_version_nine():
    old, new = (
        trials(around(mean), method="random", method_version=version, matching_network=None, options={})
        for mean, version in ((0.1, "9"), (0.3, "10"))
    )
    (table,) = standings(rows([*old, *new, *trials(around(0.5))]), RULES)
    assert [e.row.method_version for e in table.entries if e.reference == "floor"] == ["10"]


def test_soft_labels_are_ranked_apart_with_the_same_references():
    soft = trials(around(0.6), method="soft", track="soft-label")
    tables = {table.track: table for table in standings(rows([*references(), *trials(around(0.5)), *soft]), RULES)}
    assert {entry.row.method: entry.rank for entry in tables["soft-label"].entries} == {
        "soft": (1, 1),
        "random": None,
        "whole": None,
    }
    assert "soft" not in by_method(tables["hard-label"])


def test_reduced_budgets_have_a_table_of_their_own():
    quick = trials(around(0.6), method="hasty", budget="quick")
    tables = {table.budget: table for table in standings(rows([*trials(around(0.5)), *quick]), RULES)}
    assert list(by_method(tables["quick"])) == ["hasty"]
    assert list(by_method(tables["full"])) == ["gradmatch"]


def test_without_rules_the_networks_that_all_rows_have_count():
    records = [*trials(around(0.5)), *trials(around(0.4), networks=("mlp", "lenet"), method="other")]
    assert only(records, Rules()).networks == ("mlp",)


FOUR = RULES.model_copy(update={"networks": ("convnet", "mlp", "lenet", "alexnet")})


def matched_on(network, accuracies, sets=2, **changes):
    """A row whose accuracy differs between networks, with as many sets as said."""
    return [
        record
        for each, accuracy in zip(FOUR.networks, accuracies, strict=True)
        for record in trials([[accuracy, accuracy]] * sets, networks=(each,), matching_network=network, **changes)
    ]


def unseen_and_drop(table):
    return {entry.row.matching_network: (entry.unseen_mean, entry.drop) for entry in table.entries}


def test_rows_matched_on_different_networks_compare_on_those_that_none_was_matched_on():
    table = only([*matched_on("convnet", (0.8, 0.6, 0.5, 0.3)), *matched_on("mlp", (0.7, 0.9, 0.4, 0.2))], FOUR)
    assert table.unseen == ("lenet", "alexnet")
    found = unseen_and_drop(table)
    assert found["convnet"] == pytest.approx((0.4, 0.4))
    assert found["mlp"] == pytest.approx((0.3, 0.6))


def test_a_provisional_row_takes_no_network_from_the_others_and_has_no_unseen_of_its_own():
    provisional = matched_on("lenet", (0.7, 0.6, 0.9, 0.2), sets=1)
    table = only([*matched_on("convnet", (0.8, 0.6, 0.5, 0.4)), *provisional], FOUR)
    assert table.unseen == ("mlp", "lenet", "alexnet")
    found = unseen_and_drop(table)
    assert found["convnet"] == pytest.approx((0.5, 0.3))
    assert found["lenet"] == (None, None)


def test_a_row_that_lacks_an_unseen_network_has_no_mean_over_them():
    partly = trials(around(0.5), networks=("convnet", "mlp"))
    (entry,) = [entry for entry in only(partly, FOUR).entries if entry.row.method == "gradmatch"]
    assert (entry.unseen_mean, entry.drop) == (None, None)


def test_where_each_network_was_matched_on_by_some_there_is_no_unseen():
    pair = [*trials(around(0.5)), *trials(around(0.4), matching_network="mlp")]
    table = only([*pair, *references()])
    assert table.unseen == ()
    assert {(entry.unseen_mean, entry.drop) for entry in table.entries} == {(None, None)}


def test_rules_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "rules.toml").write_text("sets = 5\n", encoding="utf-8-sig")
    assert read_rules(tmp_path).sets == 5


def test_rules_are_read_and_mistakes_in_them_named(tmp_path):
    assert read_rules(tmp_path) == Rules()
    path = tmp_path / "rules.toml"
    path.write_text('floor = "random"\nsets = 5\n[datasets]\nmnist = ["mlp"]\n')
    rules = read_rules(tmp_path)
    assert (rules.floor, rules.sets) == ("random", 5)
    assert (rules.networks_for("mnist", "dc"), rules.networks_for("another", "dc")) == (("mlp",), ())
    path.write_text('networks = ["lenet"]\n[measures]\nadversarial = ["mlp"]\n')
    rules = read_rules(tmp_path)
    assert rules.networks_for("mnist", "dc", "adversarial:eps=2") == ("mlp",)
    assert rules.networks_for("mnist", "dc", "corruptions") == ("lenet",)
    for text, said in (
        ("sets = 0", "key 'sets': Input should be greater than or equal to 1"),
        ("sets = [", "is not TOML"),
        ('flor = "random"', "unknown key 'flor'. Did you mean 'floor'?"),
        ("sets = " + "9" * 5000, "is not TOML: Exceeds the limit"),
        ("sets = " + "[" * 5000, "is not TOML: "),
        ("x" * 2**23, "is not TOML: "),
    ):
        path.write_text(text)
        with pytest.raises(DcbenchError, match=re.escape(said)) as error:
            read_rules(tmp_path)
        assert str(path) in str(error.value)


TEACHER = {
    "network": "convnet:norm=batch",
    "recipe": "30 epochs",
    "sha256": "ab" * 32,
    "held_out_accuracy": 0.987,
    "bytes": 1_280_000,
}


def soft_tables(records):
    return {(table.protocol, table.track): table for table in standings(rows(records), RULES)}


def soft(around_what, method, **changes):
    return trials(around(around_what), method=method, protocol="soft", track="soft-label", **changes)


def test_a_table_of_soft_labels_says_how_far_each_row_is_over_random_images_with_soft_labels():
    hard = trials(around(0.2), method="random", matching_network=None, options={}, protocol="soft")
    tables = soft_tables([*hard, *soft(0.45, "random_soft", options={}), *soft(0.5, "learned")])
    table = tables["soft", "soft-label"]
    entries = by_method(table)
    assert {name: round(entry.over_random, 9) for name, entry in entries.items()} == {
        "learned": 0.05, "random_soft": 0, "random": -0.25,
    }  # fmt: skip
    assert entries["random"].reference == "floor"
    assert table.missing == ("whole",)
    assert tables["soft", "hard-label"].random is None
    text = markdown(table, Leaderboard((), RULES, (), (table,)))
    assert re.search(r"\| learned .*\| +\+5\.0 \|", text)
    assert "Over random: points above random_soft, which is random images under soft labels of their own." in text


def test_soft_random_images_that_were_matched_on_several_networks_count_by_the_best():
    table = soft_tables([
        *soft(0.45, "random_soft", options={}),
        *soft(0.4, "random_soft", options={}, matching_network="mlp"),
        *soft(0.49, "random_soft", options={"epochs": 2}, changed_options=["epochs"]),
        *soft(0.5, "learned"),
    ])["soft", "soft-label"]  # fmt: skip
    assert by_method(table)["learned"].over_random == pytest.approx(0.05)


def test_a_table_of_soft_labels_without_random_images_says_so():
    table = soft_tables(soft(0.5, "learned"))["soft", "soft-label"]
    assert table.missing == ("random", "whole", "random_soft")
    assert table.entries[0].over_random is None


def taught(around_what, method, **changes):
    return trials(around(around_what), method=method, **{"protocol": "kd", "teacher": TEACHER, **changes})


def test_rows_of_different_teachers_never_meet_and_each_table_has_its_random_images_and_its_teacher():
    other = {"teacher": TEACHER | {"network": "mlp", "sha256": "cd" * 32}}
    records = [
        *taught(0.5, "random", matching_network=None, options={}),
        *taught(0.6, "rded"),
        *taught(0.7, "rded", protocol="kd:teacher=mlp", **other),
    ]
    tables = soft_tables(records)
    assert {protocol for protocol, _ in tables} == {"kd", "kd:teacher=mlp"}
    entries = by_method(tables["kd", "hard-label"])
    assert entries["rded"].over_random == pytest.approx(0.1)
    assert entries["random"].over_random == 0
    lonely = tables["kd:teacher=mlp", "hard-label"]
    assert lonely.missing == ("random", "whole")
    assert by_method(lonely)["rded"].over_random is None
    assert [each.network for each in lonely.teachers] == ["mlp"]


def test_one_recipe_that_gave_two_teachers_gives_two_tables():
    again = {"teacher": TEACHER | {"sha256": "cd" * 32}, "started_at": "2030-01-01T00:00:00Z"}
    records = [
        *taught(0.5, "random", matching_network=None, options={}),
        *taught(0.6, "rded"),
        *taught(0.7, "rded", **again),
    ]
    first, second = standings(rows(records), RULES)
    assert [entry.row.method for entry in first.entries] == ["rded", "random"]
    assert first.entries[0].mean == pytest.approx(0.6)  # though the same trials were done again under the other
    assert (second.entries[0].mean, second.missing) == (pytest.approx(0.7), ("random", "whole"))
    assert heading(second).endswith(", hard-labels, teacher cdcdcdcdcdcd")
    assert len(terminal_tables(rows(records), "made_up")) == 2


def test_the_teacher_stands_beneath_its_table_and_its_size_beside_that_of_the_sets():
    records = [*taught(0.5, "random", matching_network=None, options={}), *taught(0.6, "rded")]
    (table,) = soft_tables(records).values()
    text = markdown(table, Leaderboard((), RULES, (), (table,)))
    line = "Teacher: convnet:norm=batch, 98.7 % on held-out training images, 1.28 MB, hash abababababab."
    assert line in text
    assert "Over random: points above random, which is random images under the same teacher." in text
    assert re.search(r"\| rded .*\| +800 B \| +1\.28 MB \|", costs(table))
    table = rows(records)
    (shown,) = terminal_tables(table, "made_up", standings(table, Rules()))
    over = "over random: points of the mean above random, the random images of this track."
    assert shown.caption == f"made_up: {line}\n{over}"
    (over,) = (column for column in shown.columns if column.header == "over\nrandom")
    assert [*over.cells] == ["+10.0", "+0.0"]


def test_a_data_frame_of_soft_labels_has_the_column_and_no_row_of_hard_labels():
    hard = trials(around(0.2), method="random", matching_network=None, options={}, protocol="soft")
    results = Results([*hard, *soft(0.45, "random_soft", options={}), *soft(0.5, "learned")], Path(), rules=RULES)
    frame = results.table(track="soft-label")
    assert frame["over random"].round(9).to_dict() == {"learned": 0.05, "random_soft": 0}
    assert "over random" not in results.table(track="hard-label")


def test_other_tables_have_none_of_it():
    table = only([*references(), *trials(around(0.5))], RULES)
    shown = terminal_tables([each.row for each in table.entries], "made_up", [table])
    assert not any("over" in column.header for each in shown for column in each.columns)
    assert (table.random, table.teachers) == (None, ())
    leaderboard = Leaderboard((), RULES, (), (table,))
    assert "random:" not in markdown(table, leaderboard)
    assert "over" not in markdown(table, leaderboard).lower()
    assert "teacher" not in costs(table)
    (data,) = leaderboard_data(leaderboard)
    assert "random" not in data
    assert not any("over_random" in entry or "teachers" in entry for entry in data["entries"])
