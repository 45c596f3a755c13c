"""From a spec to a condensed set: found in the results, gone on with from a checkpoint, or made."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

import dcbench
from dcbench.architectures import Architecture
from dcbench.artefacts import Artefacts, Cost
from dcbench.condensed import CondensedSet, Origin, check_set, load_set, save_set
from dcbench.data import ResidentSplit
from dcbench.engine import active_engine
from dcbench.errors import DcbenchError
from dcbench.files import write_atomically
from dcbench.methods import Method, Task
from dcbench.provenance import PeakMemory
from dcbench.seeds import derive_seed, new_generator, seeded_globals
from dcbench.specs import CondenseSpec

CHECKPOINT_SECONDS = 30.0


def stored_set(spec: CondenseSpec, train: ResidentSplit, artefacts: Artefacts) -> CondensedSet | None:
    """Return the condensed set of a spec if it is in the results, intact, else None."""
    path = artefacts.set_path(spec)
    if not path.exists():
        return None
    try:
        condensed, header = load_set(path, train)
    except DcbenchError as error:
        warnings.warn(f"{error} The set is made again.", stacklevel=2)
        return None
    return condensed if header.get("condense_key") == spec.key() else None


@dataclass(frozen=True)
class Condensation:
    """A condensed set made by a method.

    Attributes:
        method: resolved, as in the spec.
        architecture: the matching network's, resolved; unused by methods that do not depend on it.
        origin: of the method.
    """

    method: Method
    architecture: Architecture
    origin: Origin
    set_sha256: None = None

    def make(
        self,
        spec: CondenseSpec,
        train: ResidentSplit,
        artefacts: Artefacts,
        progress: Callable[[int, int], None],
        afresh: bool = False,
    ) -> CondensedSet:
        """Run the method and keep its condensed set and what it cost; see `dcbench.cells.Maker`.

        Raises:
            ValueError: when the method returns something that is not a condensed set.
            Exception: whatever the method raises.
        """
        method, generator = self.method, new_generator("condense", spec.key())
        checkpoint = FileCheckpoint(artefacts.checkpoint_path(spec), generator, self.origin.source_sha256)
        if afresh:
            checkpoint.path.unlink(missing_ok=True)
        task = Task(
            train=train,
            ipc=spec.ipc or 0,
            generator=generator,
            architecture=self.architecture,
            checkpoint=checkpoint,
            progress=progress,
        )
        memory = PeakMemory(train.device)
        # Dropout in a matching network, say, draws from the global generators.
        with seeded_globals(derive_seed("globals", spec.key()), train.device):
            condensed = method.condense(task)
        check_set(condensed, train, spec.ipc)
        artefacts.write_cost(spec, Cost(checkpoint.seconds(), memory.read(), active_engine().statement()))
        save_set(artefacts.set_path(spec), condensed, header(spec, condensed, train, self.origin))
        checkpoint.path.unlink(missing_ok=True)
        return condensed


def header(spec: CondenseSpec, condensed: CondensedSet, train: ResidentSplit, origin: Origin) -> Mapping[str, Any]:
    """Return the provenance kept with a set: nothing that differs between two runs of a spec.

    Args:
        spec: what was made.
        condensed: the set.
        train: the training split.
        origin: where it comes from.
    """
    return {
        "condense_key": spec.key(),
        "spec": spec.model_dump(mode="json"),
        "set_sha256": condensed.sha256(),
        "track": condensed.track,
        "classes": list(train.info.class_names),
        "normalisation": {"mean": train.info.mean, "std": train.info.std, "zca": condensed.zca},
        "train_size": len(train),
        "dcbench": dcbench.__version__,
        "torch": torch.__version__,
        "origin": asdict(origin),
    }


class FileCheckpoint:
    """A method's state in a file, written every half minute at most.

    The states of the task's and of the global generators and the seconds spent so far are kept along with it.
    What other code than the present saved is left alone.
    """

    def __init__(self, path: Path, generator: torch.Generator, source: str = "") -> None:
        """Start the clock.

        Args:
            path: the file.
            generator: the task's.
            source: hash of the method's code.
        """
        self.path = path
        self._source = source
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
                if (file.metadata() or {}).get("source") != self._source:
                    return None
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            seconds = float(state.pop("dcbench.seconds"))
            cuda = state.pop("dcbench.cuda", None)
            self._generator.set_state(state.pop("dcbench.generator"))
            torch.set_rng_state(state.pop("dcbench.cpu"))
            if cuda is not None:
                torch.cuda.set_rng_state(cuda)
        except (OSError, SafetensorError, KeyError, RuntimeError, TypeError):
            return None
        self._seconds_before = seconds
        return state

    def offer(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Save the state if half a minute has passed since the last time."""
        if time.monotonic() - self._last < CHECKPOINT_SECONDS:
            return
        # Cloned, since safetensors refuses views of one tensor.
        tensors = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in state().items()
        }
        tensors["dcbench.generator"] = self._generator.get_state()
        tensors["dcbench.cpu"] = torch.get_rng_state()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            tensors["dcbench.cuda"] = torch.cuda.get_rng_state()
        tensors["dcbench.seconds"] = torch.tensor(self.seconds(), dtype=torch.float64)
        write_atomically(self.path, save_tensors(tensors, metadata={"source": self._source}))
        self._last = time.monotonic()
