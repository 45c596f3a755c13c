"""A worker: a process that works on cells for a run in another process, and dies with it."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import TextIO

import torch

from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.engine.engine import choose_engine
from dcbench.results.artefacts import Artefacts
from dcbench.run.cell_runner import CellRunner
from dcbench.run.events import Assignment, Conditions, Event, Step, Tell, Warned
from dcbench.utils.devices import choose_device
from dcbench.utils.errors import DcbenchError

STEP_SECONDS = 0.1
"""Steps are told so often at most."""

DatasetKey = tuple[str, str]
"""Name and hash of a data set."""


@dataclass(frozen=True)
class Finished:
    """A cell has been worked on."""

    number: int


@dataclass(frozen=True)
class Stopped:
    """The run cannot go on, for reasons that are no cell's."""

    error: Exception


def work_on(
    connection: Connection,
    datasets: Mapping[DatasetKey, LoadedDataset],
    conditions: Conditions,
    artefacts: Artefacts,
    threads: int,
) -> None:
    """Work on the cells that come through a connection until it ends: the main function of a worker.

    Args:
        connection: brings assignments, and takes events, `Finished` and `Stopped`.
        datasets: the data sets of the run, on the device of this worker.
        conditions: how to work; the engine is chosen anew, by its name.
        artefacts: where condensed sets are and go.
        threads: to compute with.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run is interrupted by the user, and ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    tell = seldom_steps(connection.send)
    warnings.simplefilter("default")
    warnings.showwarning = telling(tell)
    try:
        device = choose_device(str(next(iter(datasets.values())).device))  # and make it repeat itself
        engine = choose_engine(conditions.engine.name, device, side_by_side=conditions.engine.side_by_side)
        conditions = replace(conditions, engine=engine)
        while (assignment := connection.recv()) is not None:
            work_on_cell(assignment, datasets, conditions, artefacts, tell)
            connection.send(Finished(assignment.number))
    except (EOFError, BrokenPipeError):
        return  # the run has ended
    except DcbenchError as error:
        connection.send(Stopped(error))
    except Exception:  # a defect: its traceback is for the user to report
        connection.send(Stopped(RuntimeError(traceback.format_exc())))


def work_on_cell(
    assignment: Assignment,
    datasets: Mapping[DatasetKey, LoadedDataset],
    conditions: Conditions,
    artefacts: Artefacts,
    tell: Tell,
) -> None:
    """Work on one cell with the data set that its spec names."""
    data = datasets[assignment.spec.dataset, assignment.spec.dataset_sha256]
    CellRunner(assignment, data, conditions, artefacts, tell).run()


def seldom_steps(tell: Tell) -> Tell:
    """Return what passes everything on, but of the steps in the middle of a piece only some."""
    last = 0.0
    lock = threading.Lock()  # a warning may come from a thread that trains a network beside others

    def tell_some(event: Event) -> None:
        nonlocal last
        if isinstance(event, Step) and 0 < event.done < event.total:
            if time.monotonic() - last < STEP_SECONDS:
                return
            last = time.monotonic()
        with lock:
            tell(event)

    return tell_some


def telling(tell: Tell):  # type: ignore[no-untyped-def]
    """Return what shows a warning by telling it."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        tell(Warned(str(message)))

    return show


def _die_with_parent() -> None:
    """End this process when the run's ends, however that came about."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
