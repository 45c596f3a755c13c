"""The hooks a dcbench plugin may implement: the whole plugin interface, in order of a run.

A plugin is a module (or any object) registered under the entry point group ``dcbench``. It marks its
functions with ``dcbench.api.hookimpl``. The name of a function says which hook it implements; a name that is
not below is an error of the plugin. A function may leave out arguments it does not need.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from dcbench.core.architecture import Architecture
    from dcbench.core.dataset import Dataset
    from dcbench.core.measure import Measure
    from dcbench.core.method import Method
    from dcbench.core.spec import CondenseSpec
    from dcbench.results.records import Record
    from dcbench.run.observer import Observer

PROJECT = "dcbench"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# --- Registration: called once each, when the plugins have been loaded -------------------------------


@hookspec
def dcbench_register_datasets() -> list[type[Dataset]]:  # type: ignore[empty-body]
    """Return the data set classes this plugin provides.

    Called once per process. A name that another plugin has registered too is an error that names both
    distributions; the order of plugins never decides.
    """


@hookspec
def dcbench_register_architectures() -> list[type[Architecture]]:  # type: ignore[empty-body]
    """Return the architecture classes this plugin provides, for matching and for evaluation.

    Called once per process, with the same rule for names.
    """


@hookspec
def dcbench_register_methods() -> list[type[Method]]:  # type: ignore[empty-body]
    """Return the condensation method classes this plugin provides.

    Called once per process, with the same rule for names.
    """


@hookspec
def dcbench_register_measures() -> list[type[Measure]]:  # type: ignore[empty-body]
    """Return the measure classes this plugin provides: what may be asked of a trained network.

    Called once per process, with the same rule for names.
    """


@hookspec
def dcbench_register_suites() -> list[Path]:  # type: ignore[empty-body]
    """Return the files of the suites this plugin provides; `dcbench.suites.file` says what is in one.

    Called once per process, with the same rule for names: the name of a suite is that of its file, without
    ``.toml``. A file is read only when a command needs it, so a mistake in one suite stops nothing else.
    """


@hookspec
def dcbench_register_observers() -> list[type[Observer]]:  # type: ignore[empty-body]
    """Return the observer classes this plugin provides, which ``--observe`` turns on.

    Called once per process, with the same rule for names.
    """


# --- Observation: called during a run; the return value is ignored -----------------------------------
# A plugin that has these hooks observes every run; an `Observer` implements them for runs that ask for it.
# All are called in the process of the run, whoever works on the cells.
# An observer that raises is reported once and not called again; the run goes on.


@dataclass(frozen=True)
class Progress:
    """One moment of a run.

    Attributes:
        phase: ``condense``, ``evaluate`` or, for networks that one of these needs, ``train``.
        work: what kind of work it is; pieces of the same kind take about the same time,
            e.g. ``gradmatch on digits, ipc 1``.
        piece: which one of its kind, e.g. ``seed 0``, or ``random, ipc 1, seed 0, network 2``.
        done: steps done of this piece; 0 when it starts.
        total: steps of this piece, of equal work; 0 when it starts, since it may not be known by then.
        pieces_left: how many pieces of the same kind are still to be done, this one included.
        run_done: pieces of the run that are finished.
        run_total: pieces of the run.
        slot: which of several pieces that are worked on at once, from 0.
        spec: of the condensed set that the work is for.
        loss: iteration, counted from 1, and value of the method's last loss that is known; None if there is none.
            On a GPU it may be 20 iterations old, because no step waits for it.
    """

    phase: Literal["train", "condense", "evaluate"]
    work: str
    piece: str
    done: int
    total: int
    pieces_left: int
    run_done: int
    run_total: int
    slot: int = 0
    spec: CondenseSpec | None = None
    loss: tuple[int, float] | None = None

    @property
    def lane(self) -> int:
        """The old name of `slot`."""
        warnings.warn("Progress.lane is now Progress.slot", DeprecationWarning, stacklevel=2)
        return self.slot


@hookspec
def dcbench_progress(progress: Progress) -> None:
    """Observe the progress of a run.

    Called when a piece of work starts, with 0 of 0 steps done; after each of its steps (with several workers at
    most ten times a second for each worker); and when it ends.

    Args:
        progress: what is being done, how many of its steps are done, and how much of the run.
    """


@hookspec
def dcbench_set_added(spec: CondenseSpec, path: Path, picture: Path | None) -> None:
    """Observe a condensed set.

    Called when it is in the results and networks are about to be trained on it, also if an earlier run made it.

    Args:
        spec: what it is.
        path: its file.
        picture: of its images, a PNG file; None if it could not be drawn.
    """


@hookspec
def dcbench_record_added(record: Record, spec: CondenseSpec) -> None:
    """Observe a record.

    Called just after it has been written to the results.

    Args:
        record: one evaluation of one condensed set by one network, or a failure.
        spec: of the condensed set.
    """


@hookspec
def dcbench_cell_ended(spec: CondenseSpec, status: str) -> None:
    """Observe the end of the work on a condensed set and its evaluations.

    Called after all its records.

    Args:
        spec: of the condensed set.
        status: ``done``, ``failed`` if a record is a failure, or ``interrupted``.
    """
