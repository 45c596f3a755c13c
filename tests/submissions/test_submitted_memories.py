"""Continual learning as a submission: made, verified, and in a table of its own."""

from __future__ import annotations

import re

import pytest
from running import SHORT, make_request

from dcbench.leaderboard.board import read_leaderboard
from dcbench.leaderboard.report.files import build, differences
from dcbench.leaderboard.scores import find_records
from dcbench.results.submission import read_submission
from dcbench.run.continual import plan_continual
from dcbench.run.session import Execution, carry_out
from dcbench.submissions.integrity import order_problems
from dcbench.submissions.submit import Selection, make_submission
from dcbench.submissions.verify import Verifier, load_datasets

pytestmark = pytest.mark.usefixtures("short")


@pytest.fixture
def results(plugins, run, tmp_path):
    """Random images and means as memories, in two orders, beside an ordinary run on all classes."""
    words = {"datasets": ("digits",), "methods": ("random", "means"), "protocol": SHORT, "evals": 2, "ipcs": (2,)}
    folder = tmp_path / "results"
    for plan in plan_continual(make_request(tmp_path, **words), 2, 2, plugins):
        carry_out(plan, plugins, Execution(results=folder, engine="plain", threads=1), progress=False)
    run(folder, **words, sets=2)
    return folder


def test_memories_are_submitted_verified_and_shown_apart(results, plugins, tmp_path):
    board = tmp_path / "board"
    chosen = Selection(datasets=("digits",))
    assert len(chosen.of(find_records(results))) == 2 * (2 * 2 * 2) + 2 * 2 + 4
    folder = board / "submissions" / "mine"
    records = make_submission(results, folder, chosen, "Mine", ("Me",), plugins)
    commands = read_submission(folder).card.commands
    words = "-d digits --protocol dc --ipc 2 --eval-network linear"
    assert f"dcbench continual -m means -m random {words} --steps 2 --orders 2 --evals 2" in commands
    assert f"dcbench run -m random {words} --sets 2 --evals 2" in commands
    submission = read_submission(folder)
    datasets = load_datasets(submission, (), plugins, tmp_path, make_request(tmp_path).device)
    assert {*datasets} == {record.dataset for record in records} >= {"digits"}
    result = Verifier(submission, datasets, plugins, 8, None, 0, lambda *_: None).run()
    assert not result.problems
    assert result.ok
    one = next(record for record in records if record.steps)
    steps = one.steps.model_copy(update={"classes": ((0, 1, 2, 3, 4),)})
    problem, tested = order_problems(one.model_copy(update={"steps": steps}), datasets)
    assert problem == "its classes come in another order than that of seed 0"
    assert tested == f"it was tested on {one.dataset}, not on the classes of its steps"
    assert not [*order_problems(one, datasets)]
    (problem,) = order_problems(one.model_copy(update={"dataset": "digits:classes=0+1"}), datasets)
    assert problem == "it was tested on digits:classes=0+1, not on the classes of its steps"
    build(board)
    assert differences(board) == []
    page = (board / "tables" / "digits.md").read_text()
    ordinary, _, continual = page.partition("## Continual learning")
    for method in ("means", "random"):  # in the standings, and in what sets took
        assert len(re.findall(rf"\| {method}[ †]*\|", ordinary)) == 2
    found = read_leaderboard(board)
    assert [row.scores["linear"].trials for row in found.rows] == [4, 4]
    assert {row.dataset for row in found.rows} == {each.dataset for each in found.curves} == {"digits"}
    for curve in found.curves:
        (line,) = re.findall(rf"\| {curve.method} .*", continual)
        low, high = curve.final.interval
        assert f"{100 * curve.final.mean:.1f} ({100 * low:.1f}–{100 * high:.1f})" in line
        assert line.split("|")[-2].strip() == "2x2"
