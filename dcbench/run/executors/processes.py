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

from dcbench.results.artefacts import Artefacts
from dcbench.run.cell_runner import Assignment
from dcbench.run.cells import Bench
from dcbench.run.executors.worker import DatasetKey, Finished, Stopped, work_on
from dcbench.run.scheduler import POLL_SECONDS, Desk


@dataclass
class _Lane:
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

    def run(self, desk: Desk) -> None:
        """Work on all cells of a run."""
        lanes = [_Lane(number) for number in range(min(self.jobs, desk.left))]
        try:
            while desk.left or any(lane.assignment for lane in lanes):
                for lane in lanes:
                    if lane.assignment is None and (assignment := desk.take()):
                        self._send(lane, assignment, desk)
                busy = {lane.connection: lane for lane in lanes if lane.assignment and lane.connection}
                if not busy:
                    if desk.left:
                        desk.wait_for_others()
                    continue
                for connection in wait(list(busy), timeout=POLL_SECONDS):
                    self._listen(busy[connection], desk)  # type: ignore[index]
        finally:
            for lane in lanes:
                _end(lane)

    def _send(self, lane: _Lane, assignment: Assignment, desk: Desk) -> None:
        """Give a lane a cell, and a worker if it has none that lives."""
        if lane.process is None or not lane.process.is_alive():
            _end(lane)
            self._start(lane, desk)
        assert lane.connection is not None
        lane.assignment = assignment
        try:
            lane.connection.send(assignment)
        except OSError:  # it has died just now
            self._bury(lane, desk)

    def _start(self, lane: _Lane, desk: Desk) -> None:
        ours, theirs = self._context.Pipe()
        benches = benches_of(desk, device_of_lane(desk.plan.device, lane.number))
        lane.connection = ours
        lane.process = self._context.Process(  # type: ignore[attr-defined]
            target=work_on,
            args=(theirs, benches, desk.conditions, Artefacts(desk.store.root), self.threads),
            daemon=False,  # workers may have children, such as compilers
            name=f"dcbench worker {lane.number}",
        )
        lane.process.start()
        theirs.close()

    def _listen(self, lane: _Lane, desk: Desk) -> None:
        """Take in what a worker has to say, all of it."""
        assert lane.connection is not None
        while lane.assignment:
            try:
                if not lane.connection.poll():
                    return
                message = lane.connection.recv()
            except (EOFError, OSError):  # it has died, in the middle of a message perhaps
                self._bury(lane, desk)
                return
            if isinstance(message, Finished):
                lane.assignment = None
                desk.finish(message.number)
            elif isinstance(message, Stopped):
                raise message.error
            else:
                desk.hear(message, lane.number)

    def _bury(self, lane: _Lane, desk: Desk) -> None:
        """Give the cell of a dead worker back."""
        assert lane.process is not None
        assert lane.assignment is not None
        lane.process.join(timeout=5)
        assignment, lane.assignment = lane.assignment, None
        desk.give_back(assignment.number, reason_of(lane.process.exitcode))
        _end(lane)


def device_of_lane(device: torch.device, lane: int) -> torch.device:
    """Return a GPU for each lane where any will do, else the device itself."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", lane % torch.cuda.device_count())
    return device


def benches_of(desk: Desk, device: torch.device) -> Mapping[DatasetKey, Bench]:
    """Return the data sets of a run, none of them placed on the device yet."""
    found: dict[DatasetKey, Bench] = {}
    for cell in desk.cells:
        key = (cell.spec.dataset, cell.spec.dataset_sha256)
        if key not in found:
            found[key] = Bench(cell.bench.data, device)
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


def _end(lane: _Lane) -> None:
    """End a lane's worker: what it has not told is done again."""
    if lane.connection is not None:
        lane.connection.close()
    if lane.process is not None:
        if lane.assignment is not None:
            lane.process.terminate()
        lane.process.join(timeout=10)
        if lane.process.is_alive():
            lane.process.kill()
            lane.process.join()
    lane.process = lane.connection = lane.assignment = None
