"""What a worker does: a process that works on cells for a run in another process, wherever that is."""

from __future__ import annotations

import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch

from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.engine.engine import choose_engine
from dcbench.results.artefacts import Artefacts
from dcbench.run.cell_runner import CellRunner
from dcbench.run.events import Assignment, Conditions, Event, Step, Tell, Warned
from dcbench.run.scheduler import DatasetKey
from dcbench.utils.devices import choose_device
from dcbench.utils.errors import DcbenchError

STEP_SECONDS = 0.1
"""A worker tells steps at most this often."""


Message = Event | Exception | None
"""What a worker sends: events, None after each cell, and the error that stops it, if it is not a cell's."""


@dataclass(frozen=True)
class Computer:
    """How a worker computes; see `dcbench.engine.engine.choose_engine`, which each worker calls."""

    device: str
    engine: str
    threads: int
    side_by_side: bool = False


def work(
    assignments: Iterable[Assignment],
    dataset_of: Callable[[DatasetKey], LoadedDataset],
    conditions: Conditions,
    computer: Computer,
    artefacts: Artefacts,
    send: Callable[[Message], None],
) -> None:
    """Work on cells, and send what happens.

    Args:
        assignments: the cells. `EOFError` means that the run has ended.
        dataset_of: returns a data set for the device of this worker.
        conditions, computer: how to work; the computer decides on the engine.
        artefacts: where condensed sets are and go.
        send: takes messages.
    """
    torch.set_num_threads(computer.threads)
    tell = tell_some_steps(send)
    warnings.simplefilter("default")
    warnings.showwarning = lambda message, *_, **__: tell(Warned(str(message)))
    try:
        device = choose_device(computer.device)  # which also makes it repeat itself
        engine = choose_engine(computer.engine, device, conditions.budget.long, computer.side_by_side)
        conditions = replace(conditions, engine=engine)
        for assignment in assignments:
            data = dataset_of((assignment.spec.dataset, assignment.spec.dataset_sha256))
            CellRunner(assignment, data, conditions, artefacts, tell).run()
            send(None)
    except (EOFError, BrokenPipeError):
        return
    except DcbenchError as error:
        send(error)
    except Exception:  # a defect: the user reports its traceback
        send(RuntimeError(traceback.format_exc()))


def tell_some_steps(tell: Tell) -> Tell:
    """Return a function that passes every event on, but only some of the steps in the middle of a piece."""
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
