"""What a worker of a Ray cluster does: one cell, in a folder of its own; it sends the files that change there."""

from __future__ import annotations

import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ray
import torch

from dcbench.core.dataset import DatasetInfo, Split
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.results.provenance import digests_of_code
from dcbench.run.events import Assignment, Conditions
from dcbench.run.executors.ray_networks import Files, RayArtefacts, write_files
from dcbench.run.executors.worker import Computer, Message, work
from dcbench.run.scheduler import DatasetKey
from dcbench.utils.errors import DcbenchError, StorageError

PackedDataset = tuple[DatasetInfo, list[Any]]
"""A data set as arrays, which Ray keeps in memory that the processes of a node share."""


def pack(data: LoadedDataset) -> PackedDataset:
    """Return the arrays of a data set."""
    splits = (data.host_train, data.host_test)
    return data.info, [tensor.numpy() for split in splits for tensor in (split.images, split.labels)]


def unpack(packed: PackedDataset) -> LoadedDataset:
    """Return the data set; its tensors are the shared memory, which nobody may write."""
    info, arrays = packed
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        tensors = [torch.from_numpy(each) for each in arrays]
    return LoadedDataset(info, Split(*tensors[:2]), Split(*tensors[2:]))


@dataclass(frozen=True)
class Job:
    """What is the same for all cells of a run; ``code`` has the hashes of the modules that the run has imported.

    ``keeper`` is the handle of a `dcbench.run.executors.ray_networks.NetworkKeeper`.
    Ray copies each data set once to a node that needs it, and decides which GPU ``cuda`` is.
    """

    datasets: Mapping[DatasetKey, ray.ObjectRef[PackedDataset]]
    conditions: Conditions
    computer: Computer
    code: Mapping[str, str]
    keeper: Any


@dataclass(frozen=True)
class Begun:
    """A worker has begun, on the node of this id and name."""

    node: str
    host: str


_datasets: dict[DatasetKey, LoadedDataset] = {}
"""The data sets that this process has used."""


def work_on_one(assignment: Assignment, files: Files, job: Job) -> Iterator[Begun | tuple[Message, Files]]:
    """Work on a cell, of which the results have some files. Yield what happens, with the files that have changed.

    Raises:
        DcbenchError: when the code here is not that of the run.
    """
    here = digests_of_code({name.partition(".")[0] for name in job.code})
    other = sorted(name for name, digest in here.items() if job.code.get(name, digest) != digest)
    if other:
        raise DcbenchError(f"it has other code than the run: {', '.join(other[:5])}")
    yield Begun(ray.get_runtime_context().get_node_id(), socket.gethostname())
    reports: SimpleQueue[tuple[Message, Files] | None] = SimpleQueue()

    def work_in_folder() -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="dcbench-", ignore_cleanup_errors=True) as name:
                folder = Folder(Path(name), files)
                work(
                    [assignment],
                    partial(_dataset, job),
                    job.conditions,
                    job.computer,
                    RayArtefacts(folder.root, job.keeper, assignment.number),
                    lambda message: reports.put((message, folder.changes())),
                )
        except (OSError, StorageError) as error:
            reports.put((StorageError(f"{error}"), {}))
        finally:
            reports.put(None)

    threading.Thread(target=work_in_folder, daemon=True).start()
    while (report := reports.get()) is not None:  # no `yield from`: Ray sends values to the generator
        yield report


def _dataset(job: Job, key: DatasetKey) -> LoadedDataset:
    if key not in _datasets:
        _datasets[key] = unpack(ray.get(job.datasets[key])).on(torch.device(job.computer.device))
    return _datasets[key]


class Folder:
    """A folder with the files of one cell, which knows what has changed since it was last asked."""

    def __init__(self, root: Path, files: Files) -> None:
        """Write the files into an empty folder."""
        self.root = root
        write_files(root, files)
        self._seen = self._look()

    def changes(self) -> dict[str, bytes | None]:
        """Return the files that have changed since the last time, in the order of their writing."""
        before, self._seen = self._seen, self._look()
        written = sorted((state, path) for path, state in self._seen.items() if before.get(path) != state)
        removed = before.keys() - self._seen.keys()
        return {path: (self.root / path).read_bytes() for _, path in written} | dict.fromkeys(removed)

    def _look(self) -> dict[str, tuple[int, int]]:
        """Return the time of each file but trained networks, and a number that differs when it is written anew."""
        paths = [path for path in self.root.glob("*/[!.]*") if path.parent.name != "networks"]
        states = {path.relative_to(self.root).as_posix(): path.stat() for path in paths}
        return {path: (state.st_mtime_ns, state.st_ino) for path, state in states.items()}
