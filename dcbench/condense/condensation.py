"""From a spec to a condensed set: read from the results, continued from a checkpoint, or made."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

import dcbench
from dcbench.condense.checkpoint import FileCheckpoint
from dcbench.condense.trained_networks import Report, TrainedNetworks, network_specs
from dcbench.core.architecture import Architecture
from dcbench.core.condensed_set import CondensedSet, Origin, SetTraits, check_set
from dcbench.core.dataset import DatasetInfo
from dcbench.core.loss_watch import Diverged, LossWatch
from dcbench.core.method import Method, Task
from dcbench.core.spec import CondenseSpec
from dcbench.core.split import ResidentSplit
from dcbench.core.trained_network import NetworkSpec, TrainedNetwork
from dcbench.engine.engine import active_engine
from dcbench.results.artefacts import Artefacts, Cost, write_cost_beside
from dcbench.results.provenance import PeakMemory, describe_device
from dcbench.results.set_file import load_set, save_set
from dcbench.utils.errors import DcbenchError, NewerFormat
from dcbench.utils.files import remove
from dcbench.utils.seeds import derive_seed, new_generator, seeded_globals


class StepReport(Protocol):
    """Is told how far a condensation is."""

    def __call__(self, done: int, total: int, loss: tuple[int, float] | None = None) -> None:
        """Take the steps done, their number, and the last loss that was checked, with its iteration."""


def stored_set(
    spec: CondenseSpec, train: ResidentSplit, artefacts: Artefacts
) -> tuple[CondensedSet, Origin | None] | None:
    """Return the condensed set of a spec, and its origin if known, if the results hold it undamaged, else None."""
    path = artefacts.set_path(spec)
    if not path.exists():
        return None
    try:
        condensed, header = load_set(path, train)
    except NewerFormat:
        raise
    except DcbenchError as error:
        warnings.warn(f"{error} The set is made again.", stacklevel=2)
        return None
    if header.get("condense_key") != spec.key():
        return None
    try:
        return condensed, TypeAdapter(Origin).validate_python(header.get("origin"))
    except ValidationError:  # old files do not state it
        return condensed, None


@dataclass(frozen=True)
class Condensation:
    """How a method makes a condensed set. The method and the architecture of the matching network are resolved.

    ``start`` has the images of the set that it starts from, see `dcbench.core.method.Task`.
    """

    method: Method
    architecture: Architecture
    origin: Origin
    traits: SetTraits
    set_sha256: None = None
    start: Tensor | None = field(default=None, repr=False, compare=False)

    def networks(self, spec: CondenseSpec, info: DatasetInfo) -> list[NetworkSpec]:
        """Return the trained networks that the method says it needs."""
        needed = self.method.needs(info, spec.seed)
        return network_specs(self.architecture, *needed, info) if needed else []

    def make(
        self,
        spec: CondenseSpec,
        train: ResidentSplit,
        artefacts: Artefacts,
        progress: StepReport,
        report: Report,
    ) -> CondensedSet:
        """Run the method, and store its condensed set and its cost; see `dcbench.run.cells.SetSource`.

        Raises:
            Diverged: if a loss of the method is out of bounds; the last good checkpoint is kept.
            StorageError: if results cannot be written.
            ValueError: if the method returns something that is not a condensed set.
            Exception: any other error that the method raises.
        """
        method, losses, extends = self.method, LossWatch(), self.method.extends()
        root, steps, earlier = spec, 0, list[Path]()
        if extends:
            steps = spec.options[extends]
            rest = {name: value for name, value in spec.options.items() if name != extends}
            root = spec.model_copy(update={"options": rest})
            earlier = [artefacts.state_path(root, fewer) for fewer in artefacts.kept_steps(root) if fewer < steps]
        generator = new_generator("condense", root.key())
        memory, device = PeakMemory(train.device), describe_device(train.device)
        networks = TrainedNetworks(artefacts, report)
        checkpoint = FileCheckpoint(
            artefacts.checkpoint_path(spec),
            generator,
            self.origin.code,
            losses,
            lambda: Cost(
                0.0,
                max(memory.read(), networks.peak_memory_bytes),
                active_engine().statement(),
                device=device,
                networks_seconds=networks.seconds,
            ),
            earlier,
        )

        def tell(done: int, total: int) -> None:
            progress(done, total, None if losses.last is None else (losses.iteration, losses.last))

        def trained(*asked: Any) -> tuple[TrainedNetwork, ...]:
            with checkpoint.not_counted():
                return networks(*asked)

        task = Task(
            train=train,
            ipc=spec.ipc or 0,
            generator=generator,
            architecture=self.architecture,
            checkpoint=checkpoint,
            progress=tell,
            losses=losses,
            networks=trained,
            seed=spec.seed,
            start=self.start,
        )
        # Dropout in a matching network, for example, draws from the global generators.
        with seeded_globals(derive_seed("globals", root.key()), train.device):
            condensed = _watched(method, task)
        check_set(condensed, train, spec.ipc)
        if extends:
            checkpoint.keep_last(artefacts.state_path(root, steps))
        write_cost_beside(artefacts.set_path(spec), checkpoint.cost())
        # The cost is written first, because a set that is there is not made again.
        save_set(artefacts.set_path(spec), condensed, header(spec, condensed, train, self.origin))
        remove(checkpoint.path)
        return condensed


def _watched(method: Method, task: Task) -> CondensedSet:
    """Return the method's set, after all losses that it reported have been checked."""
    try:
        condensed = method.condense(task)
    except Diverged as error:  # when a network was trained, for example
        task.losses.settle()  # raises if an earlier loss was out of bounds
        done = task.losses.iteration
        if error.iteration is None and done:
            raise Diverged(f"{error}, after iteration {done}", done) from error
        raise
    task.losses.settle()
    if not isinstance(condensed, CondensedSet):
        raise ValueError(f"{method.name} returned {type(condensed).__name__}, not a CondensedSet")
    return condensed


def header(spec: CondenseSpec, condensed: CondensedSet, train: ResidentSplit, origin: Origin) -> Mapping[str, Any]:
    """Return the provenance for the header of a set. Nothing in it differs between two runs of a spec."""
    return {
        "condense_key": spec.key(),
        "spec": spec.model_dump(mode="json", exclude_defaults=True),
        "set_sha256": condensed.sha256(),
        "track": condensed.track,
        "classes": list(train.info.class_names),
        "normalisation": {"mean": train.info.mean, "std": train.info.std, "zca": condensed.zca},
        "train_size": len(train),
        "dcbench": dcbench.__version__,
        "torch": torch.__version__,
        "origin": asdict(origin),
    }
