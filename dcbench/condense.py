"""From a spec to a condensed set: found in the results, gone on with from a checkpoint, or made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

import dcbench
from dcbench.architectures import Architecture
from dcbench.condensed import CondensedSet, check_set, load_set, save_set
from dcbench.data import ResidentSplit
from dcbench.errors import DcbenchError
from dcbench.files import write_atomically
from dcbench.methods import Method, Task
from dcbench.provenance import PeakMemory, source_sha256
from dcbench.seeds import new_generator
from dcbench.specs import CondenseSpec
from dcbench.store import Cost, Store

CHECKPOINT_SECONDS = 30.0


def stored_set(spec: CondenseSpec, train: ResidentSplit, store: Store) -> CondensedSet | None:
    """Return the condensed set of a spec if it is in the results, intact, else None."""
    path = store.set_path(spec)
    if not path.exists():
        return None
    try:
        condensed, header = load_set(path, train)
    except DcbenchError:
        return None
    return condensed if header.get("condense_key") == spec.key() else None


def condense(
    spec: CondenseSpec,
    method: Method,
    architecture: Architecture,
    train: ResidentSplit,
    store: Store,
    progress: Callable[[int, int], None],
) -> CondensedSet:
    """Run a method and keep its condensed set and what it cost.

    Args:
        spec: what to do; gives the seed and the key.
        method: resolved, as in the spec.
        architecture: the matching network's.
        train: the training split, on the device. The test split is not an argument.
        store: where checkpoints and the result go.
        progress: told the steps done and their number.

    Raises:
        ValueError: when the method returns something that is not a condensed set.
        Exception: whatever the method raises.
    """
    generator = new_generator("condense", spec.key())
    checkpoint = FileCheckpoint(store.checkpoint_path(spec), generator)
    task = Task(
        train=train,
        ipc=spec.ipc or 0,
        generator=generator,
        architecture=architecture,
        checkpoint=checkpoint,
        progress=progress,
    )
    memory = PeakMemory(train.device)
    condensed = method.condense(task)
    check_set(condensed, train, spec.ipc)
    cost = Cost(checkpoint.seconds(), memory.read())
    store.write_cost(spec, cost)
    save_set(store.set_path(spec), condensed, _header(spec, method, condensed, train))
    checkpoint.path.unlink(missing_ok=True)
    return condensed


def _header(
    spec: CondenseSpec, method: Method, condensed: CondensedSet, train: ResidentSplit
) -> Mapping[str, Any]:
    """Return the provenance kept with a set: nothing that differs between two runs of a spec."""
    return {
        "condense_key": spec.key(),
        "spec": spec.model_dump(mode="json"),
        "set_sha256": condensed.sha256(),
        "track": condensed.track,
        "classes": list(train.info.class_names),
        "normalisation": {"mean": train.info.mean, "std": train.info.std, "zca": False},
        "train_size": len(train),
        "dcbench": dcbench.__version__,
        "torch": torch.__version__,
        "source_sha256": source_sha256(type(method)),
    }


class FileCheckpoint:
    """A method's state in a file, written every half minute at most.

    The state of the task's generator and the seconds spent so far are kept along with it.
    """

    def __init__(self, path: Path, generator: torch.Generator) -> None:
        """Start the clock."""
        self.path = path
        self._generator = generator
        self._started = self._last = time.monotonic()
        self._seconds_before = 0.0

    def seconds(self) -> float:
        """Return the seconds spent on this condensation, those before an interruption included."""
        return self._seconds_before + time.monotonic() - self._started

    def load(self) -> dict[str, Tensor] | None:
        """Return the saved state, and set the generator back to it; None where there is none."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self._generator.set_state(state.pop("dcbench.generator"))
            self._seconds_before = float(state.pop("dcbench.seconds"))
        except (OSError, SafetensorError, KeyError, RuntimeError):
            return None
        return state

    def offer(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Save the state if half a minute has passed since the last time."""
        if time.monotonic() - self._last < CHECKPOINT_SECONDS:
            return
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state().items()}
        tensors["dcbench.generator"] = self._generator.get_state()
        tensors["dcbench.seconds"] = torch.tensor(self.seconds(), dtype=torch.float64)
        write_atomically(self.path, save_tensors(tensors))
        self._last = time.monotonic()
