from __future__ import annotations

import io
import warnings

import pytest
from rich.console import Console

from dcbench.core.spec import BUDGETS
from dcbench.hookspecs import Progress
from dcbench.run.display import Display, spell


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
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
        "The budget quick gives a first look in far less.\n"
    )


def test_the_quick_budget_does_not_recommend_itself(clock):
    display, text = display_with_text("quick")
    play(display, clock, step_seconds=20, total=1000)
    assert "5 h 33 min" in text.getvalue()
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


def to_go(display):
    return [bar.fields["to_go"] for bar in display._bars.tasks]


def test_the_first_step_does_not_count(clock):
    display, _ = display_with_text("quick")
    for now, done in ((0, 0), (50, 1), (52, 2), (54, 3)):
        clock[0] = now
        display.dcbench_progress(moment(done, 10 if done else 0))
    assert to_go(display) == ["14 s to go", "14 s to go"]


def test_the_rest_of_the_run_counts_like_pieces_and_others(clock):
    display, _ = display_with_text("quick")

    def tell(now, work, done, total, left, run_done):
        clock[0] = now
        display.dcbench_progress(Progress("condense", work, "seed 0", done, total, left, run_done, 4))

    tell(0, "other", 0, 0, 1, 0)
    tell(100, "other", 1, 1, 1, 0)  # one piece takes 100 s
    tell(100, "work", 0, 0, 2, 1)
    assert to_go(display)[0] == f"{spell(3 * 100)} to go"
    for done in (1, 2, 3, 4):  # two of 10 s like this one and one other are left
        tell(100 + done, "work", done, 10, 2, 1)
    assert to_go(display)[0] == f"{spell(6 + 10 + 100)} to go"


def test_every_slot_has_a_bar_and_a_time_of_its_own(clock):
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
    assert to_go(display)[1:] == ["1 h 20 min to go"] * 2  # 96 steps of 50 s
    assert to_go(display)[0] == f"{spell((96 * 50 + 5 * 100 * 50) / 2)} to go"  # 5 others like it, by two
    assert text.getvalue() == "condense work: about 4 h 09 min here for 6 of them (50 s a step, 2 at once).\n"


def test_slots_without_work_are_left_out_of_the_time_to_go(clock):
    display, _ = display_with_text("quick")

    def tell(slot, done, total=100, left=2, run_done=0):
        moment = Progress("condense", "work", f"seed {slot}", done, total, left, run_done, 2, slot)
        display.dcbench_progress(moment)

    for step in range(5):
        for slot in (0, 1):
            tell(slot, step, 100 if step else 0)
        clock[0] += 10  # a step of either
    assert to_go(display)[0] == "16 min 20 s to go"  # (96 + 100) / 2 steps of 10 s
    tell(0, 100)
    for step in (5, 6, 7, 8):
        tell(1, step, left=1, run_done=1)
        clock[0] += 10
    assert to_go(display)[0] == to_go(display)[2] == "15 min 20 s to go"


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


def test_warnings_go_above_the_bars_unless_the_caller_ignores_them():
    display, text = display_with_text("full")
    display.console = Console(file=text)
    shown, filters = warnings.showwarning, warnings.filters[:]
    with warnings.catch_warnings(), display:
        warnings.simplefilter("default")
        warnings.warn("watch out: [/usr/lib/x.so]", stacklevel=1)
        warnings.simplefilter("ignore")
        warnings.warn("not of interest", stacklevel=1)
    assert text.getvalue().strip() == "Warning: watch out: [/usr/lib/x.so]"
    assert (warnings.showwarning, warnings.filters) == (shown, filters)


def test_a_notebook_has_bars_and_no_lines(clock):
    display, text = display_with_text("full")
    display.console.is_jupyter = True
    play(display, clock, step_seconds=3, steps=4, total=4)
    assert text.getvalue() == ""
