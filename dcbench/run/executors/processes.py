"""Several cells at once, each in a process of its own on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.multiprocessing  # tensors sent to another process are then shared with it

from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.results.artefacts import Artefacts
from dcbench.run.events import Assignment, Conditions
from dcbench.run.executors.worker import Computer, work
from dcbench.run.scheduler import POLL_SECONDS, DatasetKey, Scheduler
from dcbench.utils.interruption import stopped_by_signals


@dataclass
class _Worker:
    """A process, and the cell that it works on."""

    process: BaseProcess
    connection: Connection[Any, Any]
    assignment: Assignment | None = None


class Processes:
    """Works on cells in several processes.

    When a worker dies, because memory ran out for example, another goes on with its cell from the last checkpoint.
    Workers die with the process of the run.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        """Take how many processes there are at most, and the threads of each."""
        self.jobs, self.threads = jobs, threads
        # From a server that has imported what they need, where the system has that.
        forkserver = "forkserver" in multiprocessing.get_all_start_methods()
        self._context = multiprocessing.get_context("forkserver" if forkserver else "spawn")
        if forkserver:
            self._context.set_forkserver_preload([__name__])

    def run(self, scheduler: Scheduler) -> None:
        """Work on all cells of a run."""
        scheduler.slots = min(self.jobs, scheduler.left)
        workers: dict[int, _Worker] = {}
        try:
            while scheduler.left or any(worker.assignment for worker in workers.values()):
                for slot in range(scheduler.slots):
                    if (slot in workers and workers[slot].assignment) or not (cell := scheduler.next_cell()):
                        continue
                    if slot not in workers:
                        workers[slot] = self._start(slot, scheduler)
                    workers[slot].assignment = cell
                    with suppress(OSError):  # it has died just now, which is noticed when it is listened to
                        workers[slot].connection.send(cell)
                busy = {worker.connection: slot for slot, worker in workers.items() if worker.assignment}
                if not busy and scheduler.left:
                    scheduler.wait_for_others()
                for connection in wait(list(busy), timeout=POLL_SECONDS) if busy else ():
                    slot = busy[connection]  # type: ignore[index]
                    if not self._listen(workers[slot], slot, scheduler):
                        del workers[slot]
        finally:
            for worker in workers.values():
                if worker.assignment is not None:
                    worker.process.terminate()  # all of them, before the first is waited for
            for worker in workers.values():
                _end(worker)

    def _start(self, slot: int, scheduler: Scheduler) -> _Worker:
        ours, theirs = self._context.Pipe()
        conditions, device = scheduler.conditions, device_of_slot(scheduler.plan.device, slot)
        # Without what the run itself may have placed on a device already.
        datasets = {key: data.on(device) for key, data in scheduler.datasets().items()}
        engine = conditions.engine
        computer = Computer(str(device), engine.name, self.threads, engine.side_by_side)
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_work_for_run,
            args=(theirs, datasets, conditions, computer, Artefacts(scheduler.store.root)),
            daemon=False,  # workers may have children, such as compilers
            name=f"dcbench worker {slot}",
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _listen(self, worker: _Worker, slot: int, scheduler: Scheduler) -> bool:
        """Handle all messages that a worker has sent; return False, and give its cell back, if it has died."""
        while worker.assignment:
            try:
                if not worker.connection.poll():
                    break
                message = worker.connection.recv()
            except (EOFError, OSError):  # the worker has died, perhaps in the middle of a message
                number, worker.assignment = worker.assignment.number, None
                _end(worker)
                scheduler.requeue(number, reason_of(worker.process.exitcode))
                return False
            if message is None:
                number, worker.assignment = worker.assignment.number, None
                scheduler.complete(number)
            elif isinstance(message, Exception):
                raise message
            else:
                scheduler.handle(message, slot)
        return True


def device_of_slot(device: torch.device, slot: int) -> torch.device:
    """Return the GPU of a slot where the user named none, else the device itself."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", slot % torch.cuda.device_count())
    return device


def reason_of(exitcode: int | None) -> str:
    """Say how a process ended."""
    if exitcode is not None and exitcode < 0:
        hint = ", as systems do when memory runs out" if exitcode == -9 else ""
        return f"killed by signal {-exitcode}{hint}"
    return f"exit code {exitcode}"


def _work_for_run(
    connection: Connection,
    datasets: Mapping[DatasetKey, LoadedDataset],
    conditions: Conditions,
    computer: Computer,
    artefacts: Artefacts,
) -> None:
    """Work on the cells that come through a connection until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the user interrupts the run, which ends its workers
    threading.Thread(target=_die_with_run, daemon=True).start()
    with suppress(KeyboardInterrupt), stopped_by_signals(say=False):
        work(iter(connection.recv, None), datasets.__getitem__, conditions, computer, artefacts, connection.send)


def _die_with_run() -> None:
    """End this process when that of the run ends, for whatever reason."""
    run = multiprocessing.parent_process()
    if run is not None:
        wait([run.sentinel])
        os._exit(1)


def _end(worker: _Worker) -> None:
    """End a worker, which may end its step; another does again what it has not told."""
    if worker.assignment is None:
        worker.connection.close()
    worker.process.join(timeout=10)
    worker.connection.close()
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
