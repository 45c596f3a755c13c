"""Continual learning in tables and figures."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import make_record

from dcbench.cli import main
from dcbench.core.spec import Steps
from dcbench.leaderboard.board import read_leaderboard
from dcbench.leaderboard.continual import curves
from dcbench.leaderboard.report.curves import curve_lines, curve_tables
from dcbench.leaderboard.report.figures import _curves
from dcbench.leaderboard.report.page import page
from dcbench.leaderboard.scores import rows
from dcbench.leaderboard.statistics import score

ORDERS = (((3, 7), (0, 1), (2, 4)), ((1, 7), (2, 3), (0, 4)))


def memory(order, step, accuracy, **changes):
    """The record of a memory of 6 classes in 3 steps."""
    classes = ORDERS[order][:step]
    seen = "+".join(map(str, sorted(label for each in classes for label in each)))
    about = {
        "dataset": "six" if step == 3 else f"six:classes={seen}",
        "dataset_sha256": f"{order}{step}".ljust(64, "0"),
        "steps": Steps(dataset="six", dataset_sha256="6" * 64, classes=classes),
        "condense_seed": order,
        "set_sha256": f"{order}{step}{changes.get('method', '')}",
    }
    return make_record(accuracy=accuracy, **(about | changes))


@pytest.fixture
def records():
    """Two methods, of which one keeps all images, in two orders, two networks on each memory."""
    return [
        memory(order, step, accuracy + 0.1 * order + 0.02 * seed - 0.1 * step, eval_seed=seed, **method)
        for method, accuracy in (({"method": "dm"}, 0.8), ({"method": "whole", "ipc": None}, 0.85))
        for order in (0, 1)
        for step in (1, 2, 3)
        for seed in (0, 1)
    ]


@pytest.fixture
def folder(records, tmp_path):
    ordinary = make_record(dataset="six", dataset_sha256="6" * 64, accuracy=0.9)
    lines = [record.to_json() + "\n" for record in [*records, ordinary]]
    (tmp_path / "records.jsonl").write_text("".join(lines))
    return tmp_path


def test_each_step_has_a_score_over_the_orders(records):
    whole, dm = curves(records)
    assert (whole.method, dm.method, dm.dataset, dm.ipc, dm.steps) == ("whole", "dm", "six", 1, (2, 3))
    assert [*dm.scores] == [2, 4, 6]
    found, expected = dm.scores[4], score({"0": [0.6, 0.62], "1": [0.7, 0.72]})
    assert (found.mean, *found.interval) == pytest.approx((expected.mean, *expected.interval))
    assert (found.sets, found.trials) == (2, 4)
    assert dm.final.mean == pytest.approx(0.56)
    assert curves(reversed(records)) == [whole, dm]
    assert rows(records) == []


def test_steps_of_another_size_and_another_pool_of_classes_make_other_curves(records):
    of_three = Steps(dataset="six", dataset_sha256="6" * 64, classes=((0, 1, 2),))
    of_some = Steps(dataset="six:classes=0-3", dataset_sha256="4" * 64, classes=((0, 1),))
    others = [memory(0, 1, 0.5, steps=each, set_sha256=each.dataset) for each in (of_three, of_some)]
    found = curves([*records, *others])
    assert sorted((each.dataset, each.steps) for each in found) == [
        ("six", (2, 3)),
        ("six", (2, 3)),
        ("six", (3, 1)),
        ("six:classes=0-3", (2, 1)),
    ]


def test_sets_of_all_images_stand_in_each_table_and_a_step_that_is_missing_is_a_dash(records):
    others = [memory(0, 1, 0.7, ipc=10, set_sha256="ten")]
    tables = curve_tables(curves([*records, *others]))
    assert [title for title, _ in tables] == [
        f"steps of 2 classes, {images} per class, protocol dc, hard-labels" for images in ("1 image", "10 images")
    ]
    whole, ten = curve_lines(tables[1][1])
    assert (whole["method"], ten["method"]) == ("whole", "gradmatch")
    assert (ten["2 classes"], ten["6 classes"], ten["n"]) == ("70.0", "–", "1x1")
    assert whole["6 classes"].startswith("61.0 (")


def test_the_commands_show_and_draw_them(folder):
    shown = CliRunner().invoke(main, ["leaderboard", "show", str(folder), "--format", "markdown"])
    assert shown.exit_code == 0, shown.output
    ordinary, _, continual = shown.output.partition("## Continual learning")
    assert "90.0" in ordinary
    assert "90.0" not in continual
    assert "56.0 (" in continual
    assert "56.0" not in ordinary
    done = CliRunner().invoke(main, ["show", str(folder), "-d", "six", "--out", str(folder / "out")])
    assert done.exit_code == 0, done.output
    names = {path.name for path in (folder / "out").glob("continual*")}
    assert names == {f"continual-six-dc-hard-label-ipc1-steps-of-2.{each}" for each in ("png", "pdf")}


def test_a_line_has_the_accuracies_and_their_intervals(folder):
    ((title, found),) = curve_tables(read_leaderboard(folder).curves)
    (panel,) = _curves(title, found).axes
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert np.allclose(lines["dm, on convnet"].get_ydata(), [76, 66, 56])
    assert np.allclose(lines["dm, on convnet"].get_xdata(), [2, 4, 6], atol=0.2)
    bars = [tuple(line.get_ydata()) for line in panel.get_lines() if line.get_label().startswith("_")]
    intervals = [score.interval for each in found for score in each.scores.values()]
    assert np.allclose(sorted(bars), sorted((100 * low, 100 * high) for low, high in intervals))


def test_the_page_has_the_tables_and_what_is_drawn_of_them(folder):
    text = page(read_leaderboard(folder))
    data = json.loads(re.search('<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    (table,) = data["continual"]
    assert table["columns"][3:] == ["2 classes", "4 classes", "6 classes", "n"]
    assert [line[0] for line in table["lines"]] == ["whole", "dm"]
    dm = table["curves"][1]
    assert [seen for seen, *_ in dm["values"]] == [2, 4, 6]
    assert all(low < mean < high for _, mean, low, high in dm["values"])
