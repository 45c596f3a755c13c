"""Cells as the tasks of a Ray cluster, or of this machine, for those who have outgrown one.

The run's process, on a node of the cluster, keeps the scheduler and the results folder. A task gets its cell with
what the results have of its files, works in a folder of its own, and streams back what happens: nodes need no file
system in common. When a worker or a node dies, the scheduler hands the cell out again, with the last checkpoint
that arrived. What one that was given up may still send is heard by nobody.
"""

from __future__ import annotations

import os
import pickle
import re
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dcbench.results.provenance import digests_of_modules
from dcbench.run.events import Assignment
from dcbench.run.executors.mirror import FileChange, files_of, take_in
from dcbench.run.executors.worker import Finished, Stopped
from dcbench.run.scheduler import POLL_SECONDS, Scheduler
from dcbench.utils.errors import DcbenchError

# Ray would start workers by `uv run`, anew and elsewhere, where the run was; it looks when it is imported.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
try:
    import ray
    from ray._private.services import get_ray_address_from_environment
    from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

    from dcbench.run.executors.ray_worker import Begun, GivenBack, Job, Message, PackedDataset, work_on_one
except ImportError as error:
    if error.name is None or error.name.partition(".")[0] != "ray":
        raise
    raise DcbenchError("--executor ray needs Ray: pip install 'dcbench-suite[ray]'.") from None

CONNECT_SECONDS = 10.0
END_SECONDS = 5.0
"""How long tasks may take to end once they have said their last word."""
LOOK_SECONDS = 5.0
"""How often the nodes of the cluster are counted: they come and go."""
REASONS: Mapping[type[RayError], str] = {
    NodeDiedError: "its node died",
    OutOfMemoryError: "its node ran out of memory",
    WorkerCrashedError: "it was killed, or crashed",
}


@dataclass(frozen=True)
class Needs:
    """What a cell takes of a node.

    Attributes:
        cpus, gpus: how many; fractions share one.
        memory: in bytes; None for no reservation.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int | None = None

    def resources(self) -> dict[str, float]:
        """Return them by Ray's names, those that are not zero."""
        named = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory or 0)}
        return {name: amount for name, amount in named.items() if amount}

    def __str__(self) -> str:
        """Say it in words."""
        said = [f"{self.cpus:g} CPU"]
        if self.gpus:
            said.append(f"{self.gpus:g} GPU")
        if self.memory:
            said.append(f"{self.memory / 2**30:g} GiB of memory")
        return ", ".join(said)


@dataclass
class _RaySlot:
    """A cell that is with the cluster; its place is taken, and its node known, when it begins."""

    assignment: Assignment
    number: int | None = None
    node: str = ""


class RayCluster:
    """Works on cells as tasks of Ray."""

    def __init__(
        self,
        needs: Needs,
        threads: int,
        engine: str = "auto",
        address: str | None = None,
        at_once: int | None = None,
    ) -> None:
        """Prepare; the cluster is asked when there is work.

        Args:
            needs: of a cell.
            threads: of each, to compute with on the CPU.
            engine: as the user names it.
            address: of the cluster's head; ``auto`` for the cluster that this machine is a node of; None for
                RAY_ADDRESS, else one of this machine alone, which is started for this run.
            at_once: cells at most; None for as many as there is room for.
        """
        self.needs, self.threads, self.engine = needs, threads, engine
        self.address, self.at_once = address, at_once
        self._said_no_room = False
        self._places, self._dead, self._asked_at = 0, frozenset[str](), -LOOK_SECONDS
        self._ending: list[ray.ObjectRef[Any]] = []

    def run(self, scheduler: Scheduler) -> None:
        """Work on all cells of a run.

        Raises:
            DcbenchError: when there is no such cluster, or it does not have the code of the run.
            StorageError: when the results cannot be written.
        """
        with _connected(self.address):
            running: dict[ray.ObjectRefGenerator, _RaySlot] = {}
            task = ray.remote(work_on_one).options(
                num_returns="streaming",
                max_retries=0,  # the scheduler knows best: files have arrived meanwhile
                num_cpus=self.needs.cpus,
                num_gpus=self.needs.gpus,
                memory=self.needs.memory,
                name="dcbench cell",
            )
            job = ray.put(self._job(scheduler))
            try:
                while scheduler.left or running:
                    while len(running) < self._room() and (assignment := scheduler.next_cell()):
                        files = files_of(assignment.spec, scheduler.store)
                        running[task.remote(pickle.dumps(assignment), files, job)] = _RaySlot(assignment)
                    if running:
                        self._listen(running, scheduler)
                        self._give_up(running, scheduler)
                    elif scheduler.left:
                        scheduler.wait_for_others()
            finally:
                for stream in running:
                    ray.cancel(stream, force=True)
                    self._let_end(stream)
                # Ray has been seen to crash a process that disconnects while it still answers a worker.
                self._ended(END_SECONDS)

    def _job(self, scheduler: Scheduler) -> Job:
        """Put the data sets of a run where the nodes find them; return what all cells need."""
        data = {(cell.spec.dataset, cell.spec.dataset_sha256): cell.data for cell in scheduler.cells}
        conditions = scheduler.conditions
        return Job(
            datasets={key: ray.put(PackedDataset.pack(each)) for key, each in data.items()},
            protocol=conditions.protocol,
            budget=conditions.budget,
            checkpoint_every=conditions.checkpoint_every,
            engine=self.engine,
            device="cuda" if self.needs.gpus else "cpu",
            threads=self.threads,
            code=digests_of_modules(_code_of(scheduler)),
        )

    def _room(self) -> int:
        """Return how many cells may be with the cluster: those that it has room for, and some that wait there.

        Those that wait start without a pause, and have clusters that can grow do so.
        """
        if time.monotonic() - self._asked_at > LOOK_SECONDS:
            nodes = ray.nodes()  # type: ignore[no-untyped-call]
            self._dead = frozenset(node["NodeID"] for node in nodes if not node["Alive"])
            self._places = self._count_places([node["Resources"] for node in nodes if node["Alive"]])
            self._asked_at = time.monotonic()
        return min(self._places + 1 + self._places // 4, self.at_once or sys.maxsize)

    def _count_places(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """Return how many cells fit on nodes, given what each has; say so when none does."""
        needed = self.needs.resources()
        places = sum(
            min(int(has.get(name, 0) / amount + 1e-9) for name, amount in needed.items()) for has in nodes
        )
        if not places and not self._said_no_room:
            self._said_no_room = True
            warnings.warn(
                f"no node of the cluster has what a cell needs, {self.needs}: waiting for one.", stacklevel=2
            )
        return places

    def _listen(self, running: dict[ray.ObjectRefGenerator, _RaySlot], scheduler: Scheduler) -> None:
        """Take in one message of each task that has any."""
        ready, _ = ray.wait([*running], num_returns=1, timeout=POLL_SECONDS)
        if ready:
            ready, _ = ray.wait([*running], num_returns=len(running), timeout=0)
        for stream in ready:
            slot, message = running[stream], self._next(stream)
            if slot.number is None:
                taken = {other.number for other in running.values()}
                slot.number = next(number for number in range(len(running)) if number not in taken)
            if isinstance(message, Finished | GivenBack):
                del running[stream]
                self._let_end(stream)
            self._take(message, slot, scheduler)

    def _let_end(self, stream: ray.ObjectRefGenerator) -> None:
        """Remember a task that has nothing more to say, and has perhaps not ended."""
        self._ending.append(stream.completed())
        self._ended(seconds=0)

    def _ended(self, seconds: float) -> None:
        """Forget the tasks that end within some seconds."""
        if self._ending:
            _, self._ending = ray.wait(self._ending, num_returns=len(self._ending), timeout=seconds)

    def _give_up(self, running: dict[ray.ObjectRefGenerator, _RaySlot], scheduler: Scheduler) -> None:
        """Take back the cells of nodes that the cluster has given up.

        Where connections have broken, Ray tells by itself. Those of a machine that stands still, or cannot be
        reached, have not, and it would wait for minutes more.
        """
        lost = [(stream, slot) for stream, slot in running.items() if slot.node in self._dead]
        for stream, slot in lost:
            del running[stream]
            scheduler.requeue(slot.assignment.number, REASONS[NodeDiedError])

    @staticmethod
    def _next(stream: Any) -> Message:
        """Return what a task says next; it is there."""
        try:
            message: Message = ray.get(next(stream))
            return message
        except RayTaskError as error:  # raised outside of our code: dcbench is not there, say
            raise DcbenchError(
                f"a worker of the cluster failed: {str(error.cause).strip()}. "
                "Install the same dcbench and plugins on every node."
            ) from error
        except (RayError, StopIteration) as error:
            return GivenBack(_reason_of(error))

    def _take(self, message: Message, slot: _RaySlot, scheduler: Scheduler) -> None:
        number = slot.assignment.number
        match message:
            case Begun():
                slot.node = message.node
            case FileChange():
                take_in(message, scheduler.store)
            case Finished():
                scheduler.complete(number)
            case GivenBack():
                scheduler.requeue(number, message.reason)
            case Stopped():
                raise message.error
            case _:
                scheduler.handle(message, slot.number or 0)


def _reason_of(error: Exception) -> str:
    """Say why a worker has ended."""
    for kind, reason in REASONS.items():
        if isinstance(error, kind):
            return reason
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _code_of(scheduler: Scheduler) -> Iterator[str]:
    """Yield the modules that are imported and belong to dcbench or to one of its plugins."""
    packages = {"dcbench", *(re.split("[.:]", info.module)[0] for info in scheduler.plugins.infos)}
    yield from (name for name in [*sys.modules] if name.partition(".")[0] in packages)


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Be connected to a cluster within; one that the process is connected to already is used and kept.

    Raises:
        DcbenchError: when there is none at the address.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a benchmark reports to nobody
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    _ensure_answers(address)
    words: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    try:
        ray.init(address=address, **words)
    except (ConnectionError, RuntimeError, ValueError, AssertionError, TimeoutError, SystemExit) as error:
        raise DcbenchError(f"no Ray cluster at {address}: {str(error).strip()}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _ensure_answers(address: str) -> None:
    """Raise a `DcbenchError` where nobody listens: Ray would try for minutes, and then end the process."""
    if address == "local":
        return
    if address.startswith("ray://"):  # by which events cannot be streamed
        raise DcbenchError("the run itself must be on a node of the cluster: start it there, with --address auto.")
    try:
        named = get_ray_address_from_environment("auto", None) if address == "auto" else address
        host, _, port = named.rpartition(":")
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise DcbenchError(
            f"no Ray cluster at {address}: {error}. `ray start --head` starts one, and says its address."
        ) from None
