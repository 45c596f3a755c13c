"""Several cells at once, each in a process of its own on this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.multiprocessing  # tensors sent to another process are then shared with it

from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.results.artefacts import Artefacts
from dcbench.run.events import Assignment
from dcbench.run.executors.worker import DatasetKey, Finished, Stopped, work_on
from dcbench.run.scheduler import POLL_SECONDS, Scheduler


@dataclass
class _ProcessSlot:
    """One worker's place; another takes it when one dies."""

    number: int
    process: BaseProcess | None = None
    connection: Connection[Any, Any] | None = None
    assignment: Assignment | None = None


class Processes:
    """Works on cells in several processes.

    A worker that dies, killed for want of memory say, is replaced, and its cell gone on with from its last
    checkpoint. Workers die with the process of the run.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        """Prepare; processes start when there is work.

        Args:
            jobs: how many processes at most.
            threads: of each, to compute with.
        """
        self.jobs, self.threads = jobs, threads
        self._context = _context()

    def run(self, scheduler: Scheduler) -> None:
        """Work on all cells of a run."""
        slots = [_ProcessSlot(number) for number in range(min(self.jobs, scheduler.left))]
        scheduler.slots = len(slots)
        try:
            while scheduler.left or any(slot.assignment for slot in slots):
                for slot in slots:
                    if slot.assignment is None and (assignment := scheduler.next_cell()):
                        self._send(slot, assignment, scheduler)
                busy = {slot.connection: slot for slot in slots if slot.assignment and slot.connection}
                if not busy:
                    if scheduler.left:
                        scheduler.wait_for_others()
                    continue
                for connection in wait(list(busy), timeout=POLL_SECONDS):
                    self._listen(busy[connection], scheduler)  # type: ignore[index]
        finally:
            for slot in slots:
                _end(slot)

    def _send(self, slot: _ProcessSlot, assignment: Assignment, scheduler: Scheduler) -> None:
        """Give a slot a cell, and a worker if it has none that lives."""
        if slot.process is None or not slot.process.is_alive():
            _end(slot)
            self._start(slot, scheduler)
        assert slot.connection is not None
        slot.assignment = assignment
        try:
            slot.connection.send(assignment)
        except OSError:  # it has died just now
            self._bury(slot, scheduler)

    def _start(self, slot: _ProcessSlot, scheduler: Scheduler) -> None:
        ours, theirs = self._context.Pipe()
        datasets = datasets_of(scheduler, device_of_slot(scheduler.plan.device, slot.number))
        slot.connection = ours
        slot.process = self._context.Process(  # type: ignore[attr-defined]
            target=work_on,
            args=(theirs, datasets, scheduler.conditions, Artefacts(scheduler.store.root), self.threads),
            daemon=False,  # workers may have children, such as compilers
            name=f"dcbench worker {slot.number}",
        )
        slot.process.start()
        theirs.close()

    def _listen(self, slot: _ProcessSlot, scheduler: Scheduler) -> None:
        """Take in what a worker has to say, all of it."""
        assert slot.connection is not None
        while slot.assignment:
            try:
                if not slot.connection.poll():
                    return
                message = slot.connection.recv()
            except (EOFError, OSError):  # it has died, in the middle of a message perhaps
                self._bury(slot, scheduler)
                return
            if isinstance(message, Finished):
                slot.assignment = None
                scheduler.complete(message.number)
            elif isinstance(message, Stopped):
                raise message.error
            else:
                scheduler.handle(message, slot.number)

    def _bury(self, slot: _ProcessSlot, scheduler: Scheduler) -> None:
        """Give the cell of a dead worker back."""
        assert slot.process is not None
        assert slot.assignment is not None
        slot.process.join(timeout=5)
        assignment, slot.assignment = slot.assignment, None
        scheduler.requeue(assignment.number, reason_of(slot.process.exitcode))
        _end(slot)


def device_of_slot(device: torch.device, slot: int) -> torch.device:
    """Return a GPU for each slot where any will do, else the device itself."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", slot % torch.cuda.device_count())
    return device


def datasets_of(scheduler: Scheduler, device: torch.device) -> Mapping[DatasetKey, LoadedDataset]:
    """Return the data sets of a run, none of them placed on the device yet."""
    found: dict[DatasetKey, LoadedDataset] = {}
    for cell in scheduler.cells:
        key = (cell.spec.dataset, cell.spec.dataset_sha256)
        if key not in found:
            found[key] = cell.data.on(device)
    return found


def reason_of(exitcode: int | None) -> str:
    """Say how a process ended."""
    if exitcode is not None and exitcode < 0:
        hint = ", as systems do when memory runs out" if exitcode == -9 else ""
        return f"killed by signal {-exitcode}{hint}"
    return f"exit code {exitcode}"


def _context() -> BaseContext:
    """Return how processes start: from a server that has imported what they need, where the system has that."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work_on.__module__])
    return context


def _end(slot: _ProcessSlot) -> None:
    """End a slot's worker: what it has not told is done again."""
    if slot.connection is not None:
        slot.connection.close()
    if slot.process is not None:
        if slot.assignment is not None:
            slot.process.terminate()
        slot.process.join(timeout=10)
        if slot.process.is_alive():
            slot.process.kill()
            slot.process.join()
    slot.process = slot.connection = slot.assignment = None
