"""Trained networks of a results folder: read, or made now by whoever comes first."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from dcbench.condense.checkpoint import FileCheckpoint
from dcbench.core.architecture import Architecture
from dcbench.core.dataset import DatasetInfo
from dcbench.core.loss_watch import Diverged
from dcbench.core.split import ResidentSplit
from dcbench.core.trained_network import NetworkRecipe, NetworkSpec, StoredNetwork, TrainedNetwork
from dcbench.engine.engine import active_engine
from dcbench.engine.trained_networks import generator_of, train_from_recipe
from dcbench.results.artefacts import Artefacts, Cost, cost_beside, write_cost_beside
from dcbench.results.network_file import load_network, save_network
from dcbench.results.provenance import PeakMemory, describe_device, source_sha256
from dcbench.utils.errors import DcbenchError, NewerFormat
from dcbench.utils.files import remove
from dcbench.utils.wording import counted

Report = Callable[[str, str, int, int], None]
"""Called as ``report(kind of work, which piece, steps done, steps)``; with 0 of 0 when it starts."""


def network_specs(
    architecture: Architecture, recipe: NetworkRecipe, number: int, info: DatasetInfo
) -> list[NetworkSpec]:
    """Return the specs of so many networks of a recipe on a data set; the architecture is resolved."""
    return [
        NetworkSpec(
            dataset=info.name,
            dataset_sha256=info.sha256,
            network=str(architecture),
            source_sha256=source_sha256(type(architecture)),
            recipe=recipe,
            number=each,
        )
        for each in range(number)
    ]


def as_trained(
    stored: StoredNetwork, architecture: Architecture, train: ResidentSplit, seconds: float
) -> TrainedNetwork:
    """Return the network of a file as methods and protocols get it."""
    return TrainedNetwork(
        **vars(stored), architecture=architecture, info=train.info, device=train.device, seconds=seconds
    )


class TrainedNetworks:
    """The source of trained networks for one piece of work; it knows what those that were used have cost."""

    def __init__(self, artefacts: Artefacts, report: Report) -> None:
        """Take the folder where they are kept, and whom to tell how far the training is."""
        self._artefacts, self._report = artefacts, report
        self._seconds: dict[str, float] = {}
        self.peak_memory_bytes = 0
        """The most memory that training one of them took, whoever did."""

    @property
    def seconds(self) -> float:
        """What all networks took that were asked for, in full, whoever made them."""
        return sum(self._seconds.values())

    def __call__(
        self, architecture: Architecture, recipe: NetworkRecipe, number: int, train: ResidentSplit
    ) -> tuple[TrainedNetwork, ...]:
        """Return trained networks; see `dcbench.core.method.Task.trained_networks`.

        Args:
            architecture: resolved.
            recipe, number: how they are trained, and how many.
            train: the training split, whitened if the recipe says so.

        Raises:
            Diverged: if the training of one diverges, naming the network and the epoch.
            StorageError: if one cannot be written.
        """
        specs = network_specs(architecture, recipe, number, train.info)
        found = self._all(specs, architecture, train)
        self._seconds |= {key: cost.seconds for key, (_, cost) in found.items()}
        self.peak_memory_bytes = max(
            self.peak_memory_bytes, *(cost.peak_memory_bytes for _, cost in found.values())
        )
        made = [found[spec.key()] for spec in specs]
        return tuple(as_trained(stored, architecture, train, cost.seconds) for stored, cost in made)

    def _all(
        self, specs: Sequence[NetworkSpec], architecture: Architecture, train: ResidentSplit
    ) -> dict[str, tuple[StoredNetwork, Cost]]:
        """Return all networks by their keys; train those that are missing.

        What another process is training is left to it, and waited for at the end.
        """
        found = {spec.key(): each for spec in specs if (each := self._find(spec))}
        missing = [spec for spec in specs if spec.key() not in found]
        if not missing:
            return found
        there, epochs = len(found), missing[0].recipe.epochs
        work = f"{architecture} on {train.info.name}, {counted(epochs, 'epoch')}"
        piece, total = counted(len(missing), "network"), len(missing) * epochs
        self._report(work, piece, 0, 0)

        told = 0

        def progress(epoch: int, _: int) -> None:
            nonlocal told
            told = (len(found) - there) * epochs + epoch
            self._report(work, piece, told, total)

        for waits in (False, True):
            for spec in [spec for spec in missing if spec.key() not in found]:
                with self._artefacts.training(spec, waits) as held:
                    if held:
                        found[spec.key()] = self._find(spec) or self._make(spec, architecture, train, progress)
        if told < total or not total:  # others have trained some
            self._report(work, piece, total, total)
        return found

    def _find(self, spec: NetworkSpec) -> tuple[StoredNetwork, Cost] | None:
        """Return a network that the results hold undamaged, and what it took."""
        path = self._artefacts.network_path(spec)
        cost = cost_beside(path)
        if cost is None or not path.exists():
            return None
        try:
            stored = load_network(path)
        except NewerFormat:
            raise
        except DcbenchError as error:
            # Of this line, so that Python says it once, though a network is looked for twice.
            warnings.warn(f"{error} The network is trained again.", stacklevel=1)
            return None
        if stored.spec != spec:
            return None
        remove(self._artefacts.checkpoint_path(spec))  # left by a run that was killed just then
        return stored, cost

    def _make(
        self,
        spec: NetworkSpec,
        architecture: Architecture,
        train: ResidentSplit,
        progress: Callable[[int, int], None],
    ) -> tuple[StoredNetwork, Cost]:
        """Train a network, and keep it and what it took; it diverges but once."""
        if reason := self._artefacts.diverged.get(spec.key()):
            raise Diverged(reason)
        memory, device, generator = PeakMemory(train.device), describe_device(train.device), generator_of(spec)
        checkpoint = FileCheckpoint(
            self._artefacts.checkpoint_path(spec),
            generator,
            spec.source_sha256,
            here=lambda: Cost(0.0, memory.read(), active_engine().statement(), device=device),
        )
        try:
            training = train_from_recipe(spec, architecture, train, generator, checkpoint, progress)
        except Diverged as error:
            which = f"network {spec.number} of {spec.network} on {spec.dataset}, trained for {spec.recipe}"
            self._artefacts.diverged[spec.key()] = f"{which}: {error}"
            raise Diverged(f"{which}: {error}") from error
        path = self._artefacts.network_path(spec)
        # The cost is written first, because a network that is there is not made again.
        cost = checkpoint.cost()
        write_cost_beside(path, cost)
        save_network(path, spec, training)
        remove(checkpoint.path)
        return load_network(path), cost
