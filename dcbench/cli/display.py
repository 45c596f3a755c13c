"""Progress on the terminal: an observer like any plugin could be."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from statistics import median
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column

from dcbench.core.spec import Budget
from dcbench.hookspecs import Progress, hookimpl

ANNOUNCE_SECONDS = 60.0
LONG_SECONDS = 3600.0
PATIENCE_SECONDS = 60.0
"""Without a step, beyond ten times what one takes: then a slot is taken to be idle."""


@dataclass
class _SlotBar:
    """One of those that work at once."""

    bar: TaskID
    clock: Clock
    ended: tuple[str, str, str] | None = None


class Display:
    """The run's bar, one for the current piece of each slot, and a line whenever something takes long."""

    def __init__(self, budget: Budget) -> None:
        """Prepare the bars; they appear on entering the context."""
        self.console = Console(stderr=True)
        self._budget = budget
        self._bars = Bars(
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=16),
            MofNCompleteColumn(table_column=Column(no_wrap=True, justify="right")),
            TextColumn("{task.fields[to_go]}", table_column=Column(no_wrap=True)),
            console=self.console,
            transient=True,
            expand=True,
        )
        self._run = self._bars.add_task("run", total=None, to_go="")
        self._slots: dict[int, _SlotBar] = {}
        self._took: list[float] = []
        self._announced: set[str] = set()
        self._ended = 0

    def __enter__(self) -> Self:
        """Show the bars."""
        self._catch = warnings.catch_warnings()
        self._catch.__enter__()
        warnings.simplefilter("default")
        warnings.showwarning = lambda message, *_, **__: self.console.print(
            f"Warning: {message}", markup=False, soft_wrap=True
        )
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away."""
        self._bars.stop()
        self._catch.__exit__(kind, error, trace)

    @hookimpl
    def dcbench_progress(self, progress: Progress) -> None:
        """Move the bars."""
        slot = self._slot(progress.slot)
        slot.clock.tick(progress)
        left = slot.clock.piece_seconds_left
        self._bars.update(
            slot.bar,
            # First what tells it from other slots: the end may be cut off.
            description=escape(f"{progress.piece}: {progress.phase} {progress.work}"),
            completed=progress.done,
            total=progress.total or None,
            to_go=spell(left) + " to go" if left is not None else "",
        )
        self._bars.update(self._run, completed=progress.run_done, total=progress.run_total)
        if (run_left := self._run_seconds_left()) is not None:  # between two pieces, what was said stays
            self._bars.update(self._run, to_go=spell(run_left) + " to go")
        self._announce(progress, slot.clock)
        piece = (progress.phase, progress.work, progress.piece)
        if progress.total == 0:
            slot.ended = None
        # A method may count more than once to its end.
        if progress.done == progress.total > 0 and slot.ended != piece and not self.console.is_terminal:
            slot.ended = piece
            # Of pieces that end at once in several slots, the run may not have taken note yet.
            self._ended = max(self._ended, progress.run_done) + 1
            place = f"[{self._ended}/{progress.run_total}]"
            took = spell(slot.clock.piece_seconds)
            line = f"{place} {progress.phase} {progress.work}, {progress.piece}: {took}"
            self.console.print(line, markup=False, soft_wrap=True)

    def _slot(self, number: int) -> _SlotBar:
        """Return a slot, with a bar below those that there are when it is new."""
        if number not in self._slots:
            self._slots[number] = _SlotBar(self._bars.add_task("", total=None, to_go=""), Clock(self._took))
        return self._slots[number]

    def _run_seconds_left(self) -> float | None:
        """Estimate the rest of the run, which busy slots share; what each has begun, it finishes alone."""
        clocks = [slot.clock for slot in self._slots.values() if slot.clock.is_busy()]
        alone = [clock.run_seconds_left for clock in clocks if clock.run_seconds_left is not None]
        begun = [clock.piece_seconds_left for clock in clocks if clock.piece_seconds_left is not None]
        return max([median(alone) / len(clocks), *begun]) if alone else None

    def _announce(self, progress: Progress, clock: Clock) -> None:
        """Say once for each kind of long work how long it will take here."""
        work, step = f"{progress.phase} {progress.work}", clock.step_seconds
        if step is None or work in self._announced:
            return
        self._announced.add(work)
        busy = sum(slot.clock.is_busy() for slot in self._slots.values())
        at_once = max(1, min(busy, progress.pieces_left))
        expected = step * (progress.total * progress.pieces_left - progress.done) / at_once
        if expected < ANNOUNCE_SECONDS:
            return
        times = f" for {progress.pieces_left} of them" if progress.pieces_left > 1 else ""
        shared = f", {at_once} at once" if at_once > 1 else ""
        advice = ""
        if expected > LONG_SECONDS and self._budget.official:
            advice = " --budget quick gives a first look in far less."
        self.console.print(
            f"{work}: about {spell(expected)} here{times} ({step:.2g} s a step{shared}).{advice}",
            markup=False,
            soft_wrap=True,
        )


class Clock:
    """How long steps and pieces take in one slot, from the moments that are reported.

    Attributes:
        step_seconds: of the current piece, once a few steps have been timed.
        piece_seconds: since the current piece started.
        piece_seconds_left, run_seconds_left: estimates, None while there is nothing to go by.
    """

    def __init__(self, took: list[float] | None = None) -> None:
        """Start with nothing known, but for what pieces took so far in all slots, a list that is added to."""
        self.step_seconds: float | None = None
        self.piece_seconds = 0.0
        self.piece_seconds_left: float | None = None
        self.run_seconds_left: float | None = None
        self._piece_started = self._first_step_at = time.monotonic()
        self._first_step = 0
        self._last_tick, self._in_piece = self._piece_started, False
        self._pieces = took if took is not None else []

    def is_busy(self) -> bool:
        """Say whether a piece is being worked on; one that failed, or whose worker died, is heard of no more."""
        patience = PATIENCE_SECONDS + 10 * (self.step_seconds or 0.0)
        return self._in_piece and time.monotonic() - self._last_tick < patience

    def tick(self, progress: Progress) -> None:
        """Take note of a moment."""
        now = self._last_tick = time.monotonic()
        self._in_piece = progress.total == 0 or progress.done < progress.total
        if progress.total == 0:  # a piece starts
            self._piece_started, self._first_step = now, 0
            self.step_seconds = self.piece_seconds_left = None
            if self._pieces:
                self.run_seconds_left = (progress.run_total - progress.run_done) * median(self._pieces)
            return
        self.piece_seconds = now - self._piece_started
        if progress.done == progress.total:
            self._pieces.append(self.piece_seconds)
        if not self._first_step:  # the first step warms up, and after a checkpoint it is not step 1
            self._first_step, self._first_step_at = progress.done, now
            return
        timed, elapsed = progress.done - self._first_step, now - self._first_step_at
        if elapsed < 1.0 or timed < 2:
            return
        self.step_seconds = elapsed / timed
        self.piece_seconds_left = self.step_seconds * (progress.total - progress.done)
        # The rest of the run: this kind of work at its own pace, other work at that of most pieces so far.
        alike = self.piece_seconds_left + self.step_seconds * progress.total * (progress.pieces_left - 1)
        others = max(0, progress.run_total - progress.run_done - progress.pieces_left)
        self.run_seconds_left = alike + others * (median(self._pieces) if self._pieces else 0.0)


def spell(seconds: float) -> str:
    """Return a duration in words short enough for a bar, e.g. ``4 h 56 min``, ``3 min 07 s`` or ``0.4 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"
