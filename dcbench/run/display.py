"""Progress on the terminal or in a notebook: an observer like any plugin could be."""

from __future__ import annotations

import math
import warnings
from contextlib import ExitStack
from statistics import median
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column

from dcbench.core.spec import Budget
from dcbench.hookspecs import Progress, hookimpl
from dcbench.plugins import Plugins

ANNOUNCE_SECONDS = 60.0
LONG_SECONDS = 3600.0
SETTLE_SECONDS = 3.0
"""The speed of a piece is not used before it has run for this time."""


class Display:
    """A bar for the run, one for the current piece of each slot, and a line whenever something takes long.

    Warnings are shown above the bars, those that the caller's filters let through.
    """

    def __init__(self, budget: Budget, plugins: Plugins | None = None) -> None:
        """Prepare the bars; they appear on entering the context, where the plugins' manager tells what happens."""
        self.console = Console(stderr=True)
        self._budget, self._plugins = budget, plugins
        self._bars = Bars(
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=16),
            MofNCompleteColumn(table_column=Column(no_wrap=True, justify="right")),
            TextColumn("{task.fields[to_go]}", table_column=Column(no_wrap=True)),
            console=self.console,
            transient=True,
            expand=True,
            speed_estimate_period=math.inf,  # a step may take minutes
        )
        self._shown = ExitStack()
        self._run = self._add_bar("run")
        self._slots: dict[int, Task] = {}
        self._ended: dict[int, str] = {}  # the last piece of each slot that has ended
        self._lines = 0
        self._took: list[float] = []  # seconds of each piece
        self._left: dict[str, tuple[int, float]] = {}  # of each kind of work: pieces, and seconds for them all
        self._announced: set[str] = set()

    def __enter__(self) -> Self:
        """Show the bars."""
        self._shown.enter_context(warnings.catch_warnings())
        warnings.showwarning = lambda message, *_, **__: self._print(f"Warning: {message}")
        self._shown.enter_context(self._bars)
        if self._plugins:
            self._plugins.manager.register(self)
            self._shown.callback(self._plugins.manager.unregister, self)
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bars away."""
        self._shown.close()

    @hookimpl
    def dcbench_progress(self, progress: Progress) -> None:
        """Move the bars."""
        if progress.slot not in self._slots:
            self._slots[progress.slot] = self._add_bar("")
        bar, work = self._slots[progress.slot], f"{progress.phase} {progress.work}"
        if progress.total == 0:  # a piece starts
            self._ended.pop(progress.slot, None)
            self._bars.reset(bar.id, to_go="")
        # First what tells it from other slots: the end may be cut off.
        description = escape(f"{progress.piece}: {work}")
        total = progress.total or None
        self._bars.update(bar.id, description=description, completed=progress.done, total=total)
        if bar.speed and (bar.elapsed or 0) > SETTLE_SECONDS:
            self._bars.update(bar.id, to_go=f"{spell(bar.time_remaining or 0)} to go")
            left = progress.total * progress.pieces_left - progress.done
            self._left[work] = (progress.pieces_left - bar.finished, left / bar.speed)
            self._announce(progress, work, 1 / bar.speed)
        if bar.finished and total:
            self._end(progress, f"{work}, {progress.piece}", bar.elapsed or 0.0)
        self._show_run(progress, bar)

    def _add_bar(self, description: str) -> Task:
        self._bars.add_task(description, total=None, to_go="")
        return self._bars.tasks[-1]

    def _at_once(self, most: int) -> int:
        """Return how many slots share some pieces of work."""
        return max(1, min(most, sum(not bar.finished for bar in self._slots.values())))

    def _announce(self, progress: Progress, work: str, step: float) -> None:
        """Say once for each kind of long work how long it will take here."""
        pieces, at_once = progress.pieces_left, self._at_once(progress.pieces_left)
        expected = self._left[work][1] / at_once
        if work not in self._announced and expected >= ANNOUNCE_SECONDS:
            times = f" for {pieces} of them" if pieces > 1 else ""
            shared = f", {at_once} at once" if at_once > 1 else ""
            long = expected > LONG_SECONDS and self._budget.official
            advice = " The budget quick gives a first look in far less." if long else ""
            self._print(f"{work}: about {spell(expected)} here{times} ({step:.2g} s a step{shared}).{advice}")
        self._announced.add(work)

    def _end(self, progress: Progress, piece: str, seconds: float) -> None:
        """Take note that a piece has ended; print a line where there are no bars."""
        if self._ended.get(progress.slot) == piece:  # a method may count more than once to its end
            return
        self._ended[progress.slot] = piece
        quiet = self.console.is_terminal or self.console.is_jupyter
        if progress.phase == "train":  # a part of a piece, which is not counted
            if not quiet:
                self._print(f"{piece}: {spell(seconds)}")
            return
        self._took.append(seconds)
        # When pieces end at once in several slots, the run may not have counted them yet.
        self._lines = max(self._lines, progress.run_done) + 1
        if not quiet:
            self._print(f"[{self._lines}/{progress.run_total}] {piece}: {spell(seconds)}")

    def _show_run(self, progress: Progress, bar: Task) -> None:
        """Move the bar of the run. The slots share what is left; pieces of unknown work take as long as most."""
        self._bars.update(self._run.id, completed=progress.run_done, total=progress.run_total)
        pieces = progress.run_total - progress.run_done
        unknown = max(0, pieces - sum(each for each, _ in self._left.values()))
        seconds = sum(each for _, each in self._left.values()) + unknown * median(self._took or [0.0])
        if seconds:
            left = max(seconds / self._at_once(pieces), bar.time_remaining or 0.0)
            self._bars.update(self._run.id, to_go=f"{spell(left)} to go")

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)


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
