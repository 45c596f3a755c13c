"""The files of a results folder that belong to one condensed set each, except its records.

::

    results/
      records.jsonl                one line per trial, appended; see `dcbench.results.store`
      sets/NAME.safetensors        a condensed set; a function of its spec, byte for byte
      sets/NAME.cost.json          what it took to make
      sets/NAME.png                its picture
      checkpoints/KEY.safetensors  the state of an unfinished condensation
      states/KEY_STEPS.safetensors  the state of one that can be extended, see `dcbench.core.method.Method.extends`
      networks/NAME.safetensors    a network trained on the training split, beside its cost
      failures/KEY.txt             the traceback of what failed
      .locks/KEY.lock              of a cell that a run is working on, or a network that it trains
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from dcbench.core.spec import CondenseSpec
from dcbench.utils.files import left_over, remove, slug, storing, write_atomically

if TYPE_CHECKING:
    from dcbench.core.trained_network import NetworkSpec

FOLDERS = ("sets", "checkpoints", "states", "failures", "networks")


@dataclass(frozen=True)
class Cost:
    """What a condensed set took to make.

    Attributes:
        seconds: of wall time, of which ``checkpoint_seconds`` were for writing ``checkpoints`` checkpoints.
        peak_memory_bytes: see `dcbench.results.provenance.PeakMemory`.
        engine, device: by name; several, one after the other, as ``plain, then compiled``; device is empty if
            it is not known.
        networks_seconds: what the trained networks took that were used, in full, whoever made them; not among
            ``seconds``.
    """

    seconds: float
    peak_memory_bytes: int
    engine: str = "plain"
    checkpoints: int = 0
    checkpoint_seconds: float = 0.0
    device: str = ""
    networks_seconds: float = 0.0


class Artefacts:
    """Where the files of condensed sets are."""

    def __init__(self, root: Path) -> None:
        """Take the folder; it need not exist yet."""
        self.root = root
        self.diverged: dict[str, str] = {}
        """Why networks could not be trained, by their keys: a run does not try one again for each of its cells."""

    def set_path(self, spec: CondenseSpec) -> Path:
        """Return where the condensed set of a spec is or would be."""
        ipc = f"ipc{spec.ipc}" if spec.ipc is not None else "all"
        steps = f"steps{len(spec.steps.classes)}" if spec.steps else None
        parts = (spec.dataset, ipc, spec.method, spec.matching_network, f"seed{spec.seed}", steps)
        readable = "_".join(slug(part) for part in parts if part)
        return self.root / "sets" / f"{readable}_{spec.key()[:12]}.safetensors"

    def picture_path(self, spec: CondenseSpec) -> Path:
        """Return where the picture of a spec's condensed set is or would be."""
        return self.set_path(spec).with_suffix(".png")

    def checkpoint_path(self, spec: CondenseSpec | NetworkSpec) -> Path:
        """Return where the state of a spec's unfinished condensation or training is or would be."""
        return self.root / "checkpoints" / f"{spec.key()[:24]}.safetensors"

    def state_path(self, spec: CondenseSpec, steps: int) -> Path:
        """Return where the state is or would be that the work of a spec, but for its steps, has after so many."""
        return self.root / "states" / f"{spec.key()[:24]}_{steps}.safetensors"

    def kept_steps(self, spec: CondenseSpec) -> list[int]:
        """Return after how many steps there are states of a spec's work, the most first."""
        names = (path.stem for path in self.state_path(spec, 0).parent.glob(f"{spec.key()[:24]}_*.safetensors"))
        return sorted((int(name.partition("_")[2]) for name in names), reverse=True)

    def network_path(self, spec: NetworkSpec) -> Path:
        """Return where a trained network is or would be."""
        readable = "_".join(map(slug, (spec.dataset, spec.network, f"number{spec.number}")))
        return self.root / "networks" / f"{readable}_{spec.key()[:12]}.safetensors"

    def network_paths(self, spec: NetworkSpec) -> tuple[Path, ...]:
        """Return the paths of the files of a network, in the order of their writing."""
        path = self.network_path(spec)
        return self.checkpoint_path(spec), _cost_path(path), path

    @contextmanager
    def training(self, spec: NetworkSpec, waits: bool) -> Iterator[bool]:
        """Hold the right to train a network within; say whether it is held. It ends with its process.

        Where another process holds it, wait for it, or without ``waits`` go on without it. Within, look for the
        network once more, because the other process may have trained it.
        """
        lock = self.try_lock(spec.key(), waits)
        if lock is None:
            yield False
            return
        try:
            yield True
            self.remove_lock(spec.key())
        finally:
            lock.release()

    def lock_path(self, key: str) -> Path:
        """Return the file by which a cell or a network is locked."""
        return self.root / ".locks" / f"{key[:24]}.lock"

    def try_lock(self, key: str, waits: bool = False) -> FileLock | None:
        """Lock a cell or a network while it is worked on; return None if another run has it.

        A lock ends with its process. A `StorageError` means that it cannot be written.
        """
        path = self.lock_path(key)
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            try:
                lock.acquire(blocking=waits)
            except Timeout:
                return None
        return lock

    def in_use(self) -> bool:
        """Say whether a run is working in the folder."""
        for path in (self.root / ".locks").glob("*.lock"):
            if (lock := self.try_lock(path.stem)) is None:
                return True
            lock.release()
        return False

    def remove_lock(self, key: str) -> None:
        """Remove the file of a lock that is held, when the work is done.

        A process that has the same file open, and locks it next, then finds the work done.
        """
        with suppress(OSError):  # Windows keeps open files; one that stays does no harm
            self.lock_path(key).unlink(missing_ok=True)

    def paths(self, spec: CondenseSpec) -> tuple[Path, ...]:
        """Return the paths of the files from which work on a spec continues."""
        path = self.set_path(spec)
        return _cost_path(path), path, self.picture_path(spec), self.checkpoint_path(spec)

    def clear_left_over(self) -> None:
        """Remove the temporary files of killed processes. Raises `StorageError` when one cannot be removed."""
        for path in left_over(self.root / name for name in FOLDERS):
            remove(path)

    def write_traceback(self, key: str, text: str) -> Path:
        """Keep the traceback of a failure, for the method's author; return where."""
        path = self.root / "failures" / f"{key[:24]}.txt"
        write_atomically(path, text.encode())
        return path


def write_cost_beside(path: Path, cost: Cost) -> None:
    """Write what took so much to make beside its file."""
    fields = asdict(cost)
    text = json.dumps({**fields, "sha256": _digest(fields)})
    write_atomically(_cost_path(path), (text + "\n").encode())


def remove_with_cost(path: Path) -> None:
    """Remove a file and what it took to make; without its cost, a network that is left does not count."""
    remove(_cost_path(path))
    remove(path)


def cost_beside(path: Path) -> Cost | None:
    """Return what the condensed set or the network in a file took to make, or None where that is not known."""
    try:
        fields = json.loads(_cost_path(path).read_bytes())
        stated = fields.pop("sha256", None)
        cost = Cost(**fields)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    # Earlier versions stated no hash. A hash whose name is damaged is a field that a cost does not have.
    return cost if stated in (None, _digest(fields)) else None


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _cost_path(path: Path) -> Path:
    return path.with_suffix(".cost.json")
