"""The hooks a dcbench plugin may implement: the whole plugin interface, in order of a run.

A plugin is a module (or any object) registered under the entry point group ``dcbench``. It marks its
functions with ``dcbench.api.hookimpl``; a hook is known by its function's name. A function may leave out
arguments it does not need. A name that is not below is an error of the plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from dcbench.core.architecture import Architecture
    from dcbench.core.dataset import Dataset
    from dcbench.core.method import Method
    from dcbench.progress import Progress
    from dcbench.results.records import Record

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
def dcbench_register_suites() -> list[Path]:  # type: ignore[empty-body]
    """Return the files of the suites this plugin provides; `dcbench.suites.file` says what is in one.

    Called once per process, with the same rule for names: a suite goes by the name of its file, without
    ``.toml``. The files are read when a command needs them and not before, so that a mistake in one stops
    nothing else.
    """


# --- Observation: called during a run; the return value is ignored -----------------------------------
# An observer that raises is reported once and no longer called; the run goes on unharmed.


@hookspec
def dcbench_progress(progress: Progress) -> None:
    """Observe the progress of a run.

    Called when a piece of work starts, with 0 of 0 steps done; after its steps, but with several workers at most
    ten times a second for each; and when it ends.

    Args:
        progress: what is being done, how many of its steps are done, and how much of the run.
    """


@hookspec
def dcbench_record_added(record: Record) -> None:
    """Observe a record.

    Called just after it has been written to the results.

    Args:
        record: one evaluation of one condensed set by one network, or a failure.
    """
