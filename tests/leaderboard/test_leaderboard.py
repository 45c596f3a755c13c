"""From records to scores and tables: numbers worked out by hand, and nothing that depends on order."""

from __future__ import annotations

import itertools
import random
import re
from io import StringIO

import pandas as pd
import pytest
from helpers import make_record
from rich.console import Console

from dcbench.leaderboard.board import read_leaderboard
from dcbench.leaderboard.report.data import leaderboard_data, row_data
from dcbench.leaderboard.report.files import NO_TABLE, build, differences, generated_files
from dcbench.leaderboard.report.tables import csv, markdown
from dcbench.leaderboard.report.terminal import terminal_tables
from dcbench.leaderboard.report.words import count, deviations, label, percent, seconds
from dcbench.leaderboard.scores import Row, find_records, networks_of, official, rows
from dcbench.leaderboard.statistics import Score
from dcbench.utils.errors import StorageError


def trials(accuracies, seed=0, **changes):
    """Records of one condensed set: one for each accuracy."""
    return [
        make_record(accuracy=accuracy, eval_seed=number, condense_seed=seed, **changes)
        for number, accuracy in enumerate(accuracies)
    ]


def two_sets():
    """Two condensed sets matched on convnet, on convnet and two other networks."""
    return [
        *trials([0.50, 0.60], seed=0, evaluation_network="convnet", condense_seconds=1.0),
        *trials([0.70, 0.90], seed=1, evaluation_network="convnet", condense_seconds=4.0),
        *trials([0.30, 0.40], seed=0, evaluation_network="mlp", condense_seconds=1.0),
        *trials([0.20, 0.30], seed=1, evaluation_network="mlp", condense_seconds=4.0),
        *trials([0.45], seed=0, evaluation_network="lenet", condense_seconds=1.0),
    ]


def whole(**changes):
    fields = {"method": "whole", "ipc": None, "matching_network": None, "options": {}, "accuracy": 0.95}
    return make_record(**(fields | changes))


def several():
    return [
        *two_sets(),
        *trials([0.2, 0.3], method="random", matching_network=None, options={}),
        *trials([0.8], ipc=10),
        *trials([0.8], dataset="another"),
        whole(),
    ]


def write(folder, records, name="records.jsonl"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(record.to_json() + "\n" for record in records))


def only(table) -> Row:
    (row,) = table
    return row


# Scores


def test_networks_that_diverged_count_and_are_told(tmp_path):
    diverged = trials([0.1], seed=1, evaluation_network="mlp", diverged="the training loss is nan in epoch 3")
    some = [*trials([0.5, 0.7], evaluation_network="mlp"), *diverged]
    write(tmp_path, some)
    row, board = only(rows(some)), read_leaderboard(tmp_path)
    assert row.scores["mlp"].mean == pytest.approx((0.6 + 0.1) / 2)
    assert row.diverged == "diverged: 1 of 3 on mlp"
    assert row.diverged in printed([row])
    assert row.diverged in markdown(board.tables[0], board)
    (entry,) = leaderboard_data(board)[0]["entries"]
    assert entry["diverged"] == row.diverged
    assert "diverged" not in {*row_data(only(rows(some[:2])))}


def test_balanced_accuracy_stands_beside_accuracy_where_it_is_known(tmp_path):
    some = trials([0.5, 0.7], evaluation_network="mlp", balanced_accuracy=0.25)
    write(tmp_path, some)
    row, board = only(rows(some)), read_leaderboard(tmp_path)
    assert row.scores["mlp"].balanced == 0.25
    assert "bal 25.0" in printed([row])
    assert "balanced 25.0" in markdown(board.tables[0], board)
    partly = [*some, *trials([0.6], seed=1, evaluation_network="mlp")]
    assert only(rows(partly)).scores["mlp"].balanced is None


def test_the_mean_is_over_sets_of_the_mean_over_networks():
    scores = only(rows(two_sets())).scores
    assert scores["convnet"].mean == pytest.approx((0.55 + 0.80) / 2)
    assert scores["mlp"].mean == pytest.approx((0.35 + 0.25) / 2)


def test_sets_count_alike_however_many_networks_each_has():
    records = [*trials([0.1, 0.1, 0.1], seed=0), *trials([0.5], seed=1)]
    score = only(rows(records)).scores["convnet"]
    assert score.mean == pytest.approx(0.3)
    assert (score.sets, score.trials) == (2, 4)


def test_between_sets_is_the_deviation_of_the_sets_means():
    # means 0.55 and 0.80: half their difference times the square root of 2, without the noise of two networks each
    noise = (0.1**2 / 2 / 2 + 0.2**2 / 2 / 2) / 2
    expected = (0.25**2 / 2 - noise) ** 0.5
    assert only(rows(two_sets())).scores["convnet"].between_std == pytest.approx(expected)


def test_within_a_set_is_the_root_mean_square_of_the_sets_deviations():
    # variances within: 0.1^2 / 2 and 0.2^2 / 2
    expected = ((0.1**2 / 2 + 0.2**2 / 2) / 2) ** 0.5
    assert only(rows(two_sets())).scores["convnet"].within_std == pytest.approx(expected)


def test_there_is_no_deviation_between_one_set_or_within_single_networks():
    score = only(rows(two_sets())).scores["lenet"]
    assert (score.between_std, score.within_std) == (None, None)
    assert only(rows(trials([0.5, 0.6]))).scores["convnet"].between_std is None
    singles = only(rows([*trials([0.5], seed=0), *trials([0.7], seed=1)])).scores["convnet"]
    assert singles.within_std is None
    assert singles.between_std == pytest.approx(0.2 / 2**0.5)


def test_a_set_with_a_single_network_does_not_count_towards_the_deviation_within():
    records = [*trials([0.5, 0.7], seed=0), *trials([0.6], seed=1)]
    assert only(rows(records)).scores["convnet"].within_std == pytest.approx(0.2 / 2**0.5)


def test_unseen_is_the_mean_over_the_networks_not_matched_on():
    assert only(rows(two_sets())).unseen_mean == pytest.approx((0.30 + 0.45) / 2)


def test_unseen_is_nothing_where_only_the_matching_network_was_tried():
    assert only(rows(trials([0.5]))).unseen_mean is None


def test_every_network_is_unseen_by_a_method_that_matches_on_none():
    records = [whole(accuracy=0.9), whole(accuracy=0.7, evaluation_network="mlp")]
    assert only(rows(records)).unseen_mean == pytest.approx(0.8)


def test_where_every_network_was_matched_on_by_some_none_is_unseen():
    matched = [
        make_record(matching_network=network, evaluation_network=each)
        for network in ("convnet", "mlp")
        for each in ("convnet", "mlp")
    ]
    random = [
        make_record(method="random", matching_network=None, evaluation_network=each) for each in ("convnet", "mlp")
    ]
    assert [row.unseen_mean for row in rows([*matched, *random])] == [None] * 3


def test_rows_say_by_which_code_and_engine_they_were_made():
    made = [("b" * 40, False, "plain"), ("a" * 40, True, "fast"), (None, None, "fast")]
    records = [
        make_record(git_sha=sha, git_dirty=dirty, engine=engine, eval_seed=seed)
        for seed, (sha, dirty, engine) in enumerate(made)
    ]
    (row,) = rows(records)
    assert (row.commits, row.engines) == (("aaaaaaaaaa+", "bbbbbbbbbb"), ("fast", "plain"))
    frame = pd.read_csv(StringIO(csv([row])))
    assert (frame.commits[0], frame.engines[0]) == ("aaaaaaaaaa+; bbbbbbbbbb", "fast; plain")


def test_a_device_is_one_however_its_single_thread_is_counted():
    some = [make_record(eval_seed=seed, device=f"cpu: A, {n}") for seed, n in enumerate(("1 thread", "1 threads"))]
    assert rows(some)[0].devices == ("cpu: A, 1 thread",)
    assert rows([make_record(device="cpu: A, 11 threads")])[0].devices == ("cpu: A, 11 threads",)


def test_a_set_made_again_elsewhere_leaves_the_rows_of_other_protocols_alone():
    old = [make_record(eval_seed=seed, set_sha256="1" * 64, started_at="1") for seed in range(3)]
    new = [make_record(eval_seed=seed, set_sha256="2" * 64, started_at="2", protocol="dsa") for seed in range(2)]
    trials = {row.protocol: [score.trials for score in row.scores.values()] for row in rows([*old, *new])}
    assert trials == {"dc": [3], "dsa": [2]}


def test_trials_with_another_augmentation_than_the_newest_do_not_count():
    old, new = (
        [make_record(eval_seed=seed, augmentation=how, accuracy=accuracy, started_at=when) for seed in range(n)]
        for how, accuracy, when, n in (("crop", 0.2, "2025", 3), ("scale", 0.4, "2026", 2))
    )
    unknown = make_record(eval_seed=7, accuracy=0.6)
    other = make_record(dataset="another", augmentation="crop", accuracy=0.3, started_at="2024")
    found = {row.dataset: row.scores["convnet"] for row in rows([*old, *new, unknown, other])}
    assert (found["made_up"].trials, found["made_up"].mean) == (3, pytest.approx((0.4 + 0.4 + 0.6) / 3))
    assert found["another"].mean == pytest.approx(0.3)


def test_condense_seconds_are_the_mean_over_sets_not_over_trials():
    assert only(rows(two_sets())).condense_seconds == pytest.approx(2.5)


def test_seconds_that_a_sets_records_disagree_on_are_those_of_its_first_key():
    # As after the set had to be made again. Which come first must not be left to how a machine sorts.
    records = [
        make_record(
            key=f"{number:03}", eval_seed=number, condense_seed=number % 2, condense_key=f"{number % 2}"
        ).model_copy(update={"condense_seconds": 1.0 + number})
        for number in range(60)
    ]
    assert only(rows(records)).condense_seconds == pytest.approx((1.0 + 2.0) / 2)


def test_condense_seconds_that_were_lost_are_left_out():
    lost = trials([0.5], seed=0, condense_seconds=None)
    assert only(rows(lost)).condense_seconds is None
    assert only(rows([*lost, *trials([0.5], seed=1, condense_seconds=3.0)])).condense_seconds == 3.0


# Rows


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "another"},
        {"ipc": 10},
        {"ipc": None},
        {"method": "dm"},
        {"options": {"iterations": 50, "lr_img": 0.1}, "changed_options": ["iterations"]},
        {"matching_network": "mlp"},
        {"matching_network": None},
        {"protocol": "dsa"},
        {"budget": "quick"},
        {"track": "soft-label", "condense_key": "c" * 64},
        {"method_version": "2"},
        {"dataset_sha256": "e" * 64, "condense_key": "c" * 64},
    ],
    ids=str,
)
def test_what_differs_by_more_than_seed_and_network_has_a_row_of_its_own(changes):
    table = rows([make_record(), make_record(**changes)])
    assert len(table) == 2
    assert [row.scores["convnet"].trials for row in table] == [1, 1]


def test_options_are_spelt_where_they_are_not_the_methods_defaults():
    record = make_record(options={"b": 2, "a": 1, "c": 3}, changed_options=["b", "a"])
    row = only(rows([record]))
    assert row.options == "a=1, b=2"
    assert label(row) == "gradmatch (a=1, b=2)"
    assert label(only(rows([make_record()]))) == "gradmatch"
    assert label(only(rows([make_record(method_version="2")]))) == "gradmatch@2"


def test_rows_come_by_data_set_then_ipc_then_best_first_with_any_size_last():
    records = [
        whole(),
        make_record(method="worse", accuracy=0.1),
        make_record(method="better", accuracy=0.2),
        make_record(method="large", ipc=10, accuracy=0.05),
        make_record(dataset="another", method="first"),
    ]
    assert [row.method for row in rows(records)] == ["first", "better", "worse", "large", "whole"]
    assert rows(records)[-1].ipc is None


def test_rows_do_not_depend_on_the_order_of_the_records():
    records = several()
    expected = rows(records)
    for seed in range(10):
        random.Random(seed).shuffle(records)
        assert rows(records) == expected


def test_a_trial_done_again_counts_once():
    first, second = make_record(accuracy=0.1), make_record(accuracy=0.9)
    assert first.key == second.key
    score = only(rows([first, second])).scores["convnet"]
    assert score == Score(0.9, None, None, sets=1, trials=1)


def test_a_later_failure_does_not_undo_a_success():
    failed = make_record(status="failed", accuracy=None, track=None, error="it broke")
    assert only(rows([make_record(accuracy=0.4), failed])).scores["convnet"].mean == 0.4


def test_no_records_give_no_rows():
    assert rows([]) == []
    assert rows([make_record(status="failed", accuracy=None, track=None)]) == []


def test_networks_are_those_of_any_row():
    assert networks_of(rows(several())) == ["convnet", "lenet", "mlp"]
    assert networks_of([]) == []


def test_only_successes_on_a_budget_that_is_official_may_enter_a_table():
    good = make_record()
    bad = [
        make_record(status="failed", accuracy=None, track=None),
        make_record(budget="quick"),
        make_record(budget="made up"),
        make_record(dataset="cifar10:train_per_class=100,validation=0.1"),
    ]
    assert official([*bad, good]) == [good]


def test_records_are_found_in_every_folder_below(tmp_path):
    write(tmp_path / "b", [make_record(eval_seed=2)])
    write(tmp_path / "a" / "deep", [make_record(eval_seed=0), make_record(eval_seed=1)])
    write(tmp_path / "a", [make_record(eval_seed=9)], name="something else.jsonl")
    assert sorted(record.eval_seed for record in find_records(tmp_path)) == [0, 1, 2]


# Tables


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.12345, "12.3"), (0.0, "0.0"), (1.0, "100.0"), (0.00049, "0.0")]
)
def test_percent_has_one_decimal(value, text):
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0123, "0.012"), (1.26, "1.3"), (9.96, "10"), (10.4, "10"), (1234.5, "1234")],
)
def test_seconds_have_two_digits_that_matter(value, text):
    assert seconds(value) == text


def test_the_two_deviations_are_kept_apart_between_sets_first():
    assert deviations(Score(0.5, 0.0123, 0.0456, 2, 4)).split("/") == ["1.2", "4.6"]
    assert deviations(Score(0.5, None, None, 1, 1)).split("/") == ["–", "–"]


def test_n_is_sets_times_networks_per_set():
    def n(*sets):
        return count(only(rows([record for seed, each in enumerate(sets) for record in trials(each, seed=seed)])))

    assert n([0.1, 0.2, 0.3]) == "1x3"
    assert n([0.1, 0.2], [0.3, 0.4]) == "2x2"
    assert n([0.1, 0.2], [0.3]) == "3 in 2"
    assert count(only(rows(two_sets()))) == "1x1, 2x2"


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_the_markdown_table_has_a_line_per_row_and_a_column_per_network(tmp_path):
    random_rows = trials([0.2, 0.3], method="random", matching_network=None, options={}, condense_seconds=0.05)
    write(tmp_path, [*two_sets(), *random_rows])
    (tmp_path / "rules.toml").write_text('networks = ["convnet", "lenet", "mlp"]\n')
    board = read_leaderboard(tmp_path)
    text, covers, *_ = markdown(board.tables[0], board).split("\n\n")
    head, _, *body = cells(text)
    assert covers == "Mean: convnet, lenet, mlp. Unseen: lenet, mlp."
    matched, unmatched = (dict(zip(head, line, strict=True)) for line in body)
    assert (matched["method"], matched["matched on"]) == ("gradmatch †", "convnet")
    assert matched["convnet"].startswith(f"67.5* ({deviations(Score(0, 0.15811, 0.11180, 2, 4))})<br>")
    assert matched["lenet"] == f"45.0 ({deviations(Score(0, None, None, 1, 1))})<br>–"
    assert (matched["unseen"], matched["drop"], matched["n"]) == ("37.5", "30.0", "1x1, 2x2")
    assert (unmatched["method"], unmatched["matched on"]) == ("random †", "–")
    assert unmatched["convnet"].startswith("25.0 (")
    assert (unmatched["lenet"], unmatched["mlp"]) == ("–", "–")


def test_the_csv_holds_every_score_in_full():
    frame = pd.read_csv(StringIO(csv(rows([*two_sets(), whole()]))))
    assert frame[["method", "evaluation_network"]].to_numpy().tolist() == [
        ["gradmatch", "convnet"],
        ["gradmatch", "lenet"],
        ["gradmatch", "mlp"],
        ["whole", "convnet"],
    ]
    first, last = frame.iloc[0], frame.iloc[3]
    assert first["mean"] == pytest.approx(0.675)
    assert first["between_std"] == pytest.approx(0.158114)
    assert first["within_std"] == pytest.approx(0.111803)
    assert (first["sets"], first["trials"], first["ipc"]) == (2, 4, 1)
    assert pd.isna(last["ipc"])
    assert pd.isna(last["matching_network"])


def printed(table):
    console = Console(width=300, file=StringIO(), force_terminal=False)
    console.print(*terminal_tables(table, "a title"))
    return console.file.getvalue()


def test_the_terminal_table_has_every_number():
    text = printed(rows(two_sets()))
    for part in ("a title", "gradmatch", "67.5*", "15.8", "11.2", "45.0", "30.0", "37.5", "1x1, 2x2", "2.5"):
        assert part in text


def test_the_terminal_table_names_the_data_set_only_where_there_are_several():
    assert "data set" not in printed(rows(two_sets()))
    both = printed(rows([*two_sets(), make_record(dataset="another")]))
    assert "data set" in both
    assert "another" in both


def test_protocols_budgets_and_tracks_have_tables_of_their_own_on_the_terminal():
    others = [make_record(protocol="dsa"), make_record(budget="quick"), make_record(track="soft-label")]
    text = printed(rows([*two_sets(), *others]))
    titles = [line.strip() for line in text.splitlines() if "a title" in line]
    assert titles == [
        "a title: protocol dc, budget full, hard-labels",
        "a title: protocol dc, budget full, soft-labels",
        "a title: protocol dc, budget quick, hard-labels",
        "a title: protocol dsa, budget full, hard-labels",
    ]
    assert text.count("gradmatch") == 4


def test_the_terminal_table_says_what_a_row_was_matched_on_where_its_mark_does_not():
    marked = make_record(matching_network="mlp", evaluation_network="mlp")
    other = make_record(matching_network="mlp", evaluation_network="lenet")
    baseline = make_record(method="random", matching_network=None, evaluation_network="mlp")
    assert " on mlp" not in printed(rows([marked, other, baseline]))
    assert printed(rows([other, baseline])).count(" on mlp ") == 1  # not evaluated itself, though it has a column
    several = printed(rows([marked, baseline, make_record(matching_network="lenet", evaluation_network="lenet")]))
    assert (several.count(" on mlp "), several.count(" on lenet ")) == (1, 1)


def test_the_terminal_table_of_four_networks_fits_80_columns():
    names = ("alexnet", "convnet", "lenet", "mlp")
    some = [
        make_record(matching_network=matched, evaluation_network=network, condense_seed=seed, accuracy=seed / 4)
        for matched, network, seed in itertools.product(names, names, range(2))
    ]
    console = Console(width=80, file=StringIO(), force_terminal=False)
    console.print(*terminal_tables(rows(some), "a title"))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == ["ipc", "method", *names, "unseen", "n", "seconds"]


def test_what_looks_like_markup_is_printed_as_it_is():
    strange = make_record(method="[b]old", options={"x": "[/red]"}, changed_options=["x"])
    text = printed(rows([strange]))
    assert "[b]old" in text
    assert "x=[/red]" in text


# Files


@pytest.fixture
def folder(tmp_path):
    """A leaderboard with its tables built."""
    write(tmp_path / "submissions" / "one", several())
    build(tmp_path)
    return tmp_path


def table_bytes(folder):
    return {path.name: path.read_bytes() for path in (folder / "tables").iterdir()}


def test_there_is_a_page_per_data_set_and_the_scores_of_all(folder):
    assert set(table_bytes(folder)) == {"another.md", "index.html", "made_up.md", "scores.csv"}


def test_build_returns_what_it_wrote(folder):
    assert {path.name: path.read_bytes() for path in build(folder)} == table_bytes(folder)


def test_a_folder_where_a_table_belongs_is_named(folder):
    path = folder / "tables" / "scores.csv"
    path.unlink()
    path.mkdir()
    assert differences(folder) == ["tables/scores.csv is missing"]
    with pytest.raises(StorageError, match=f"{path} cannot be written: Is a directory"):
        build(folder)


def test_a_page_has_a_table_per_size_each_with_the_ceiling(folder):
    page = (folder / "tables" / "made_up.md").read_text(encoding="utf-8")
    _, small, large = page.split("\n## ")
    assert small.startswith("1 image per class, protocol `dc`, hard-labels")
    assert large.startswith("10 images per class, protocol `dc`, hard-labels")
    standing, cost = ([row[place] for row in cells(small) if len(row) > 2] for place in (1, 0))
    names = [name.removesuffix(" †") for name in standing]
    assert [name for name in names if name in ("gradmatch", "random", "whole")] == ["gradmatch", "random", "whole"]
    assert [name for name in cost if name in ("gradmatch", "random", "whole")] == ["gradmatch", "random", "whole"]
    assert [row[0] for row in cells(large) if row[0] in ("gradmatch", "random", "whole")] == ["gradmatch", "whole"]


def test_a_page_of_rows_of_any_size_alone_shows_them(tmp_path):
    write(tmp_path, [whole()])
    page = generated_files(read_leaderboard(tmp_path))["made_up.md"]
    assert "## all images, protocol `dc`, hard-labels" in page
    assert "95.0" in page


def test_tracks_and_protocols_are_never_in_one_table(tmp_path):
    soft = make_record(method="soft", track="soft-label")
    write(tmp_path, [make_record(), soft, make_record(method="newer", protocol="dsa")])
    _, *tables = generated_files(read_leaderboard(tmp_path))["made_up.md"].split("\n## ")
    methods = {"gradmatch", "soft", "newer"}
    assert [[row[0] for row in cells(table) if row[0] in methods] for table in tables] == [
        ["gradmatch"],
        ["soft"],
        ["newer"],
    ]


def test_failures_and_reduced_budgets_are_never_in_built_tables(folder):
    before = table_bytes(folder)
    write(
        folder / "submissions" / "two",
        [
            make_record(budget="quick", accuracy=1.0),
            make_record(budget="quick", dataset="only quick"),
            make_record(status="failed", accuracy=None, track=None, dataset="only failed"),
        ],
    )
    build(folder)
    assert table_bytes(folder) == before


def test_built_tables_do_not_differ_from_the_records(folder):
    assert differences(folder) == []


def test_a_folder_without_records_gets_no_tables_and_does_not_pass(tmp_path):
    assert build(tmp_path) == []
    assert differences(tmp_path) == [NO_TABLE]
    assert list(tmp_path.iterdir()) == []


def test_an_edited_number_is_reported(folder):
    page = folder / "tables" / "made_up.md"
    page.write_text(page.read_text(encoding="utf-8").replace("67.5", "76.5"), encoding="utf-8")
    assert differences(folder) == ["tables/made_up.md is not what the records give"]


def test_a_missing_table_is_reported(folder):
    (folder / "tables" / "scores.csv").unlink()
    assert differences(folder) == ["tables/scores.csv is missing"]


@pytest.mark.parametrize("name", ["invented.md", "invented.csv"])
def test_a_table_that_no_record_backs_is_reported_and_somebodys_file_is_never_deleted(folder, name):
    (folder / "tables" / name).write_text("| 99.9 |")
    for _ in range(2):
        assert differences(folder) == [f"tables/{name} is backed by no record"]
        build(folder)
    assert (folder / "tables" / name).read_text() == "| 99.9 |"


def test_a_generated_page_whose_records_are_gone_is_removed_by_build(folder):
    page = folder / "tables" / "made_up.md"
    (folder / "tables" / "gone.md").write_bytes(page.read_bytes())
    assert differences(folder) == ["tables/gone.md is backed by no record"]
    build(folder)
    assert differences(folder) == []


def test_a_data_sets_name_does_not_lead_out_of_the_folder(tmp_path):
    write(tmp_path / "one", [make_record(dataset="../../evil")])
    (page,) = [path for path in build(tmp_path) if path.suffix == ".md"]
    assert page.parent == tmp_path / "tables"
    assert page.exists()


def test_the_order_of_the_records_does_not_matter_where_a_trial_was_done_twice():
    first = make_record(accuracy=0.2, started_at="2026-01-01T00:00:00Z")
    second = make_record(accuracy=0.8, started_at="2026-01-02T00:00:00Z")
    for records in ([first, second], [second, first]):
        assert only(rows(records)).scores["convnet"].mean == 0.8


def test_equal_tensors_of_two_competitors_are_two_rows():
    same = {"key": "k", "set_sha256": "5" * 64}
    pair = [make_record(**same, condense_key=key, matching_network=key) for key in ("mlp", "lenet")]
    assert [row.matching_network for row in rows(pair)] == ["lenet", "mlp"]


def test_a_row_that_lacks_an_unseen_network_which_another_has_is_given_no_mean_over_them():
    records = [
        make_record(evaluation_network="mlp"),
        *(
            make_record(method="random", matching_network=None, evaluation_network=each)
            for each in ("mlp", "lenet")
        ),
    ]
    assert {row.method: row.unseen_mean is None for row in rows(records)} == {"gradmatch": True, "random": False}


def test_unseen_is_of_the_same_networks_for_rows_matched_on_different_ones_and_on_none():
    records = [
        make_record(method=method, matching_network=matching, evaluation_network=network, accuracy=accuracy)
        for method, matching in (("gradmatch", "convnet"), ("gradmatch", "mlp"), ("random", None))
        for network, accuracy in (("convnet", 0.9), ("mlp", 0.5), ("lenet", 0.3), ("alexnet", 0.1))
    ]
    assert [row.unseen_mean for row in rows(records)] == pytest.approx([0.2, 0.2, 0.2])


def test_rows_are_ranked_on_the_networks_they_have_in_common():
    good = [
        make_record(method="good", evaluation_network=network, accuracy=accuracy)
        for network, accuracy in (("convnet", 0.7), ("mlp", 0.1))
    ]
    picky = make_record(method="picky", evaluation_network="convnet", accuracy=0.6)
    assert [row.method for row in rows([*good, picky])] == ["good", "picky"]


def test_a_new_record_makes_the_tables_differ_until_they_are_built(folder):
    write(folder / "submissions" / "two", [make_record(method="newcomer")])
    assert differences(folder) == [
        "tables/index.html is not what the records give",
        "tables/made_up.md is not what the records give",
        "tables/scores.csv is not what the records give",
    ]
    build(folder)
    assert differences(folder) == []


def test_the_same_records_give_the_same_bytes_in_any_order_and_any_files(folder, tmp_path_factory):
    for seed in range(3):
        other, records = tmp_path_factory.mktemp("other"), several()
        random.Random(seed).shuffle(records)
        write(other / "x", records[:4])
        write(other / "a" / "b", records[4:])
        build(other)
        made, expected = table_bytes(other), table_bytes(folder)
        # The page alone says which submission a row is from.
        assert made.pop("index.html") != expected.pop("index.html")
        assert made == expected


def test_the_page_does_not_depend_on_the_order_of_the_records(folder, tmp_path_factory):
    other, records = tmp_path_factory.mktemp("other"), several()
    write(other / "submissions" / "one", records[::-1])
    build(other)
    assert table_bytes(other) == table_bytes(folder)


def test_tracks_and_protocols_never_share_a_table(tmp_path):
    write(
        tmp_path,
        [
            make_record(method="hard"),
            make_record(method="soft_ceiling", ipc=None, track="soft-label"),
            make_record(method="other_protocol", ipc=None, protocol="dsa"),
        ],
    )
    build(tmp_path)
    page = (tmp_path / "tables" / "made_up.md").read_text(encoding="utf-8")
    sections = {section.splitlines()[0]: section for section in page.split("## ")[1:]}
    found = {
        name: title
        for title, text in sections.items()
        for name in ("hard", "soft_ceiling", "other_protocol")
        if f"| {name} " in text
    }
    assert found == {
        "hard": "1 image per class, protocol `dc`, hard-labels",
        "soft_ceiling": "all images, protocol `dc`, soft-labels",
        "other_protocol": "all images, protocol `dsa`, hard-labels",
    }


def test_data_sets_whose_names_make_the_same_file_name_get_a_page_each(tmp_path):
    write(tmp_path, [make_record(dataset="npz:a"), make_record(dataset="npz-a")])
    assert len([path for path in build(tmp_path) if path.suffix == ".md"]) == 2


def test_other_data_of_the_same_name_have_a_table_of_their_own(tmp_path):
    other = make_record(method="other", dataset_sha256="e" * 64, condense_key="c" * 64)
    write(tmp_path, [make_record(), other])
    build(tmp_path)
    page = (tmp_path / "tables" / "made_up.md").read_text(encoding="utf-8")
    assert "hard-labels, data dddddddddddd" in page
    assert "hard-labels, data eeeeeeeeeeee" in page


def test_a_pipe_in_a_name_does_not_break_the_table():
    assert label(only(rows([make_record(method="a|b\nc")]))) == "a|b c"


@pytest.mark.parametrize(
    "name", ["a | b", "x |\n| 99 |", "<img src=x>", "<!-- dcbench:end -->", "[here](https://example.org)", "`x`"]
)
def test_no_name_means_anything_in_a_generated_page(tmp_path, name):
    changes = {"method": name, "matching_network": name, "evaluation_network": name, "device": name}
    write(tmp_path, [make_record(**changes, dataset=name)])
    (path,) = [path for path in build(tmp_path) if path.suffix == ".md"]
    text = path.read_text(encoding="utf-8")
    # As CommonMark reads it: nothing but cells, as many in each line of a table.
    for line in [line for line in text.splitlines() if line.startswith("|")]:
        bars = re.sub(r"\\\\|\\\|", "", line).count("|")
        assert bars in (11, 9), line
    assert "<img" not in text
    assert "<!--" not in text
    assert "](https" not in text.replace("\\](https", "")
