from __future__ import annotations

import io

import pytest
from rich.console import Console

from dcbench.cli.display import Clock, Display, spell
from dcbench.core.spec import BUDGETS
from dcbench.hookspecs import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("dcbench.cli.display.time.monotonic", lambda: now[0])
    return now


def moment(done, total, left=1, run_done=0, run_total=1):
    return Progress("condense", "work", "seed 0", done, total, left, run_done, run_total)


def display_with_text(budget):
    display = Display(BUDGETS[budget])
    text = io.StringIO()
    display.console.file = text
    return display, text


def play(display, clock, step_seconds, steps=4, total=100, left=1):
    display.dcbench_progress(moment(0, 0, left))
    for step in range(1, steps + 1):
        clock[0] += step_seconds
        display.dcbench_progress(moment(step, total, left))


def test_long_work_is_announced_once_with_the_quick_budget(clock):
    display, text = display_with_text("full")
    play(display, clock, step_seconds=20, total=1000, left=2)
    assert text.getvalue() == (
        "condense work: about 11 h 06 min here for 2 of them (20 s a step). "
        "--budget quick gives a first look in far less.\n"
    )


def test_the_quick_budget_does_not_recommend_itself(clock):
    display, text = display_with_text("quick")
    play(display, clock, step_seconds=20, total=1000)
    assert "5 h 32 min" in text.getvalue()
    assert "--budget" not in text.getvalue()


def test_short_work_is_not_announced(clock):
    display, text = display_with_text("full")
    play(display, clock, step_seconds=0.5, total=20)
    assert text.getvalue() == ""


def test_without_a_terminal_each_piece_gets_a_line(clock):
    display, text = display_with_text("full")
    play(display, clock, step_seconds=3, steps=4, total=4)
    assert text.getvalue() == "[1/1] condense work, seed 0: 12 s\n"


def test_pieces_that_end_at_once_are_counted_each(clock):
    display, text = display_with_text("full")
    for slot, run_done in ((0, 3), (1, 3), (0, 5), (1, 5)):
        for steps in (0, 4):
            display.dcbench_progress(Progress("condense", "work", f"{slot}", steps, steps, 1, run_done, 9, slot))
    assert [line.split()[0] for line in text.getvalue().splitlines()] == ["[4/9]", "[5/9]", "[6/9]", "[7/9]"]


def test_a_piece_whose_steps_end_more_than_once_is_one(clock):
    display, text = display_with_text("full")
    for done, total in ((0, 0), (10, 10), (5, 5), (0, 0), (4, 4)):
        display.dcbench_progress(moment(done, total, run_total=2))
    assert [line.split()[0] for line in text.getvalue().splitlines()] == ["[1/2]", "[2/2]"]


def test_the_first_step_does_not_count(clock):
    timer = Clock()
    for now, done in ((0, 0), (50, 1), (52, 2), (54, 3)):
        clock[0] = now
        timer.tick(moment(done, 10 if done else 0))
    assert timer.step_seconds == 2
    assert timer.piece_seconds_left == 14


def test_the_rest_of_the_run_counts_like_pieces_and_others(clock):
    timer = Clock()
    for now, done, total in ((0, 0, 0), (100, 1, 1)):  # one piece takes 100 s
        clock[0] = now
        timer.tick(moment(done, total, run_total=4))
    timer.tick(moment(0, 0, left=2, run_done=1, run_total=4))
    assert timer.run_seconds_left == 3 * 100
    for now, done in ((101, 1), (102, 2), (103, 3)):  # two of 10 s like this one and one other are left
        clock[0] = now
        timer.tick(moment(done, 10, left=2, run_done=1, run_total=4))
    assert timer.run_seconds_left == 7 + 10 + 100


def test_every_lane_has_a_bar_and_a_clock_of_its_own(clock):
    display, text = display_with_text("quick")

    def tell(slot, done, total, run_done=0):
        display.dcbench_progress(Progress("condense", "work", f"seed {slot}", done, total, 6, run_done, 6, slot))

    for step in range(5):
        for slot, seconds in ((0, 20), (1, 30)):
            tell(slot, step, 100 if step else 0)
            clock[0] += seconds
    run, first, second = display._bars.tasks
    assert [each.completed for each in (run, first, second)] == [0, 4, 4]
    assert [each.description for each in (first, second)] == ["seed 0: condense work", "seed 1: condense work"]
    assert first.fields["to_go"] == second.fields["to_go"] == "1 h 20 min to go"  # 96 steps of 50 s
    assert run.fields["to_go"] == f"{spell((96 * 50 + 5 * 100 * 50) / 2)} to go"  # 5 others like it, by two
    assert text.getvalue() == "condense work: about 4 h 09 min here for 6 of them (50 s a step, 2 at once).\n"


def test_lanes_without_work_are_left_out_of_the_time_to_go(clock):
    display, _ = display_with_text("quick")

    def tell(slot, done, total=100, left=2, run_done=0):
        moment = Progress("condense", "work", f"seed {slot}", done, total, left, run_done, 2, slot)
        display.dcbench_progress(moment)

    for step in range(5):
        for slot in (0, 1):
            tell(slot, step, 100 if step else 0)
        clock[0] += 10  # a step of either
    assert display._bars.tasks[0].fields["to_go"] == "16 min 20 s to go"  # what they have begun: 98 steps of 10 s
    clock[0] += 200  # the first has failed, say
    for step in (26, 27, 28):
        tell(1, step, left=1, run_done=1)
        clock[0] += 10
    ten = display._slots[1].clock.step_seconds
    assert display._bars.tasks[0].fields["to_go"] == f"{spell(72 * ten)} to go"
    tell(0, 0, 0, left=1)
    tell(1, 100, left=1, run_done=1)
    assert display._bars.tasks[0].fields["to_go"] != ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (187, "3 min 07 s"),
        (3599.6, "1 h 00 min"),
        (3600, "1 h 00 min"),
        (17_760, "4 h 56 min"),
    ],
)
def test_durations(seconds, text):
    assert spell(seconds) == text


def test_warnings_go_above_the_bars():
    import warnings

    display, text = display_with_text("full")
    display.console = Console(file=text)
    with display:
        warnings.warn("watch out: [/usr/lib/x.so]", stacklevel=1)
    assert "Warning: watch out: [/usr/lib/x.so]" in text.getvalue()
