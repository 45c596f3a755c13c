"""Cells as the tasks of a Ray cluster, or of this machine.

The run's process, on a node of the cluster, keeps the scheduler and the results folder. A task gets its cell with
the files that the results have of it, works in a folder of its own, and sends what happens, with the files that
changed: nodes need no common file system. When a worker or a node dies, the scheduler hands the cell out again,
with the last checkpoint that arrived.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcbench.results.provenance import digests_of_code
from dcbench.run.events import Assignment
from dcbench.run.executors.worker import Computer, Message
from dcbench.run.scheduler import POLL_SECONDS, Scheduler
from dcbench.utils.errors import DcbenchError, StorageError

# Ray would start workers by `uv run`, anew and elsewhere, where the run was; it looks when it is imported.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
try:
    import ray
    from ray._private.services import get_ray_address_from_environment
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from dcbench.run.executors.ray_networks import Files, NetworkKeeper, read_files, write_files
    from dcbench.run.executors.ray_worker import Begun, Job, pack, work_on_one
except ImportError as error:
    if error.name is None or error.name.partition(".")[0] != "ray":
        raise
    raise DcbenchError("the executor ray needs Ray: pip install 'dcbench-suite[ray]'.") from None

CONNECT_SECONDS = 10.0
END_SECONDS = 5.0
"""How long tasks may take to end when the run is interrupted."""
LOOK_SECONDS = 5.0
"""How often the nodes of the cluster are counted: they come and go."""


@dataclass(frozen=True)
class Needs:
    """What a cell takes of a node: CPUs and GPUs, of which fractions share one, and bytes of memory."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int | None = None

    def fit_on(self, resources: Mapping[str, float]) -> int:
        """Return how many cells a node has room for, given its resources by Ray's names."""
        needed = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory or 0}
        room = [resources.get(name, 0) / amount for name, amount in needed.items() if amount]
        return int(min(room, default=1) + 1e-9)

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.cpus:g} CPU, {self.gpus:g} GPU, {(self.memory or 0) / 2**30:g} GiB of memory"


@dataclass
class _RaySlot:
    """A cell that is with the cluster: the number of its place and its node, once it has begun.

    ``is_over`` says that the worker has sent its last message, and its task has still to end.
    """

    assignment: Assignment
    number: int | None = None
    node: str = ""
    host: str = ""
    is_over: bool = False


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

        The address is that of the cluster's head; ``auto`` means the cluster that this machine is a node of; None
        means RAY_ADDRESS, else a cluster of this machine alone, which is started for this run.
        """
        self.needs, self.address, self.at_once = needs, address, at_once
        self.computer = Computer("cuda" if needs.gpus else "cpu", engine, threads)
        self._warned = False
        self._places, self._dead, self._looked_at = 0, frozenset[str](), -LOOK_SECONDS
        self._running: dict[ray.ObjectRefGenerator, _RaySlot] = {}
        self._keeper: Any = None

    def run(self, scheduler: Scheduler) -> None:
        """Work on all cells of a run.

        Raises:
            DcbenchError: when there is no such cluster, or it does not have the code of the run.
            StorageError: when the results cannot be written.
        """
        with _connected(self.address):
            task = ray.remote(work_on_one).options(
                num_returns="streaming",
                max_retries=0,  # the scheduler knows best: files have arrived meanwhile
                num_cpus=self.needs.cpus,
                num_gpus=self.needs.gpus,
                memory=self.needs.memory,
                name="dcbench cell",
            )
            self._keeper = _keep_networks(scheduler.store.root)
            modules = ["dcbench", *(info.module for info in scheduler.plugins.infos)]
            job = ray.put(
                Job(
                    {key: ray.put(pack(data)) for key, data in scheduler.datasets().items()},
                    scheduler.conditions,
                    self.computer,
                    digests_of_code({module.replace(":", ".").partition(".")[0] for module in modules}),
                    self._keeper,
                )
            )
            try:
                while scheduler.left or self._running:
                    while len(self._running) < self._room() and (assignment := scheduler.next_cell()):
                        store, specs = scheduler.store, (assignment.spec, *getattr(assignment.source, "parts", ()))
                        paths = (path.relative_to(store.root) for spec in specs for path in store.paths(spec))
                        files = read_files(store.root, (path.as_posix() for path in paths))
                        self._running[task.remote(assignment, files, job)] = _RaySlot(assignment)
                    if self._running:
                        self._listen(scheduler)
                        self._give_up(scheduler)
                    elif scheduler.left:
                        scheduler.wait_for_others()
            finally:
                self._end()

    def _room(self) -> int:
        """Return how many cells may be with the cluster: those that it has room for, and some that wait there.

        Those that wait start without a pause, and have clusters that can grow do so.
        """
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._looked_at, nodes = time.monotonic(), ray.nodes()  # type: ignore[no-untyped-call]
            self._dead = frozenset(node["NodeID"] for node in nodes if not node["Alive"])
            self._places = sum(self.needs.fit_on(node["Resources"]) for node in nodes if node["Alive"])
            if not self._places and not self._warned:
                self._warned = True
                warnings.warn(f"no node of the cluster has room for a cell, {self.needs}: waiting.", stacklevel=2)
        return min(self._places + 1 + self._places // 4, self.at_once or sys.maxsize)

    def _listen(self, scheduler: Scheduler) -> None:
        """Handle one message of each task that has any."""
        ready: list[Any]
        ready, _ = ray.wait([*self._running], num_returns=1, timeout=POLL_SECONDS)
        if ready:
            ready, _ = ray.wait([*self._running], num_returns=len(self._running), timeout=0)
        for stream in ready:
            slot = self._running[stream]
            try:
                message: Begun | tuple[Message, Files] = ray.get(next(stream))
            except RayTaskError as error:  # dcbench or a plugin is not there, say
                node = re.search(r"ip=([^,)]+)", str(error))
                raise DcbenchError(
                    f"node {node[1] if node else 'unknown'} cannot work on cells: {str(error.cause).strip()}. "
                    "Install the same dcbench and plugins on every node."
                ) from error
            except (RayError, StopIteration) as error:
                del self._running[stream]
                reason = str(error).strip().partition("\n")[0]
                self._requeue(slot, reason or type(error).__name__, scheduler)
                continue
            if isinstance(message, Begun):
                taken = {other.number for other in self._running.values()}
                slot.number = next(number for number in range(len(taken)) if number not in taken)
                slot.node, slot.host = message.node, message.host
            else:
                _handle(*message, slot, scheduler)

    def _give_up(self, scheduler: Scheduler) -> None:
        """Take back the cells of nodes that the cluster has given up.

        Ray would wait for minutes more where a connection is not broken, but the machine stands still or cannot be
        reached.
        """
        for stream in [stream for stream, slot in self._running.items() if slot.node in self._dead]:
            self._requeue(self._running.pop(stream), "its node died", scheduler)

    def _requeue(self, slot: _RaySlot, reason: str, scheduler: Scheduler) -> None:
        """Take back a cell whose worker died, unless it was done, and the network that it was training."""
        if not slot.is_over:
            ray.get(self._keeper.give_up.remote(slot.assignment.number))
            scheduler.requeue(slot.assignment.number, reason)

    def _end(self) -> None:
        """Cancel what still runs, and wait: Ray may crash a process that disconnects while a worker asks it."""
        for stream in self._running:
            ray.cancel(stream, force=True)
        if self._running:
            ending = [stream.completed() for stream in self._running]
            ray.wait(ending, num_returns=len(ending), timeout=END_SECONDS)
        self._running.clear()
        ray.kill(self._keeper)


def _keep_networks(root: Path) -> Any:
    """Start the actor that has the trained networks, on this node, where the results folder is."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(NetworkKeeper).options(**options).remote(root.absolute())


def _handle(message: Message, files: Files, slot: _RaySlot, scheduler: Scheduler) -> None:
    """Bring files into the results, and then the message to the scheduler."""
    write_files(scheduler.store.root, files)
    slot.is_over = message is None or isinstance(message, Exception)
    match message:
        case None:
            scheduler.complete(slot.assignment.number)
        case StorageError():  # of its own folder: another node may have room
            scheduler.requeue(slot.assignment.number, f"on node {slot.host}: {message}")
        case DcbenchError():
            raise DcbenchError(f"on node {slot.host}: {message}")
        case Exception():
            raise message
        case _:
            scheduler.handle(message, slot.number or 0)


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
    if address.startswith("ray://"):  # by which events cannot be streamed
        raise DcbenchError("the run itself must be on a node of the cluster: start it there, at the address auto.")
    try:
        if address != "local":  # Ray would try for minutes where nobody listens, and then end the process
            named = get_ray_address_from_environment("auto", None) if address == "auto" else address
            host, _, port = named.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (OSError, RuntimeError, ValueError, AssertionError, SystemExit) as error:
        raise DcbenchError(
            f"no Ray cluster at {address}: {str(error).strip()} `ray start --head` starts one, and says where."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
