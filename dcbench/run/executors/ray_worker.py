"""What a worker of a Ray cluster does: one cell, in a folder of its own, whose files it sends as they change."""

from __future__ import annotations

import pickle
import socket
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ray
import torch

from dcbench.core.dataset import DatasetInfo, Split
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.spec import Budget
from dcbench.engine.engine import choose_engine
from dcbench.evaluate.protocols import EvaluationProtocol
from dcbench.results.provenance import digests_of_modules
from dcbench.run.cell_runner import CellRunner
from dcbench.run.events import Assignment, Conditions, Event
from dcbench.run.executors.mirror import FileChange, Mirror
from dcbench.run.executors.worker import DatasetKey, Finished, Stopped, seldom_steps, telling
from dcbench.utils.devices import choose_device
from dcbench.utils.errors import DcbenchError, StorageError


@dataclass(frozen=True)
class PackedDataset:
    """A data set as arrays, which processes of a node read in memory that they share."""

    info: DatasetInfo
    arrays: tuple[Any, Any, Any, Any]

    @classmethod
    def pack(cls, data: LoadedDataset) -> PackedDataset:
        """Take the tensors of a data set."""
        tensors = (data.host_train.images, data.host_train.labels, data.host_test.images, data.host_test.labels)
        return cls(data.info, tuple(tensor.numpy() for tensor in tensors))  # type: ignore[arg-type]

    def unpack(self) -> LoadedDataset:
        """Return the data set; its tensors are the shared memory, which nobody may write."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            train_images, train_labels, test_images, test_labels = map(torch.from_numpy, self.arrays)
        return LoadedDataset(self.info, Split(train_images, train_labels), Split(test_images, test_labels))


@dataclass(frozen=True)
class Job:
    """What is the same for all cells of a run.

    Attributes:
        datasets: references to `PackedDataset`, each fetched to a node that needs it, once.
        protocol, budget, checkpoint_every: see `dcbench.run.cell_runner.Conditions`.
        engine: as the user names it; chosen by each worker for its device.
        device: ``cpu``, or ``cuda``: the one that Ray gives the worker.
        threads: to compute with.
        code: the hashes of the modules that the run has imported.
    """

    datasets: Mapping[DatasetKey, ray.ObjectRef[PackedDataset]]
    protocol: EvaluationProtocol
    budget: Budget
    checkpoint_every: float | None
    engine: str
    device: str
    threads: int
    code: Mapping[str, str]


@dataclass(frozen=True)
class GivenBack:
    """This worker cannot work on the cell; another may."""

    reason: str


@dataclass(frozen=True)
class Begun:
    """A worker has begun, on the node of this id."""

    node: str


Message = Begun | Event | FileChange | Finished | Stopped | GivenBack

_datasets: dict[DatasetKey, LoadedDataset] = {}
"""The data sets that this process has had to do with: a worker belongs to one run."""


def work_on_one(packed: bytes, files: Mapping[str, bytes], job: Job) -> Iterator[Message]:
    """Work on a cell: the task. Yields what happens, each file before the events that rest on it.

    Args:
        packed: the assignment, pickled.
        files: what the results have of the cell.
        job: the run's.
    """
    messages: SimpleQueue[Message] = SimpleQueue()
    yield Begun(ray.get_runtime_context().get_node_id())
    threading.Thread(target=_work, args=(packed, files, job, messages), daemon=True).start()
    while True:
        message = messages.get()
        yield message
        if isinstance(message, Finished | Stopped | GivenBack):
            return


def _work(packed: bytes, files: Mapping[str, bytes], job: Job, messages: SimpleQueue[Message]) -> None:
    """Work on a cell; whatever comes of it is a message, the last one says how it ended."""
    try:
        assignment = _unpack(packed, job)
        # It goes with the thread, since torch's threads are set for each.
        torch.set_num_threads(job.threads)
        device = _device(job)
        engine = choose_engine(job.engine, device, job.budget.long)
        conditions = Conditions(job.protocol, job.budget, engine, job.checkpoint_every)
        data = _dataset(job, assignment, device)
        with tempfile.TemporaryDirectory(prefix="dcbench-", ignore_cleanup_errors=True) as folder:
            mirror = Mirror(Path(folder), files)

            def send(event: Event) -> None:
                for change in mirror.changes():
                    messages.put(change)
                messages.put(event)

            tell = seldom_steps(send)
            warnings.simplefilter("default")
            warnings.showwarning = telling(tell)
            CellRunner(assignment, data, conditions, mirror.artefacts, tell).run()
            for change in mirror.changes():
                messages.put(change)
        messages.put(Finished(assignment.number))
    except (StorageError, OSError) as error:  # of its own folder, such as a full disk
        messages.put(GivenBack(f"{error} on {socket.gethostname()}"))
    except DcbenchError as error:
        messages.put(Stopped(error))
    except Exception:  # a defect: its traceback is for the user to report
        messages.put(Stopped(RuntimeError(traceback.format_exc())))


def _unpack(packed: bytes, job: Job) -> Assignment:
    """Return the assignment, once it is sure that the code here is that of the run.

    Raises:
        DcbenchError: when it is not, or is not there.
    """
    mend = "Install the same dcbench and plugins on every node."
    try:
        assignment = pickle.loads(packed)
    except (ImportError, AttributeError) as error:
        raise DcbenchError(f"node {socket.gethostname()} lacks what the run needs: {error}. {mend}") from None
    here = digests_of_modules(name for name in job.code if name in sys.modules)
    other = sorted(name for name, digest in here.items() if digest != job.code[name])
    if other:
        raise DcbenchError(
            f"node {socket.gethostname()} has other code than the run: {', '.join(other[:5])}. {mend}"
        )
    assert isinstance(assignment, Assignment)
    return assignment


def _device(job: Job) -> torch.device:
    """Return the device of this worker.

    Raises:
        DcbenchError: naming the node, when torch cannot use what Ray has given it.
    """
    try:
        return choose_device(job.device)
    except DcbenchError as error:
        raise DcbenchError(f"on node {socket.gethostname()}: {error}") from None


def _dataset(job: Job, assignment: Assignment, device: torch.device) -> LoadedDataset:
    """Return the data set of a cell."""
    key = (assignment.spec.dataset, assignment.spec.dataset_sha256)
    if key not in _datasets:
        _datasets[key] = ray.get(job.datasets[key]).unpack().on(device)
    return _datasets[key]
