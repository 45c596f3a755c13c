"""Trained networks of a results folder: read, or made now by whoever comes first."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from dcbench.condense.checkpoint import FileCheckpoint
from dcbench.core.architecture import Architecture
from dcbench.core.split import ResidentSplit
from dcbench.core.trained_network import NetworkRecipe, NetworkSpec, TrainedNetwork
from dcbench.engine.engine import active_engine
from dcbench.engine.trained_networks import generator_of, train_from_recipe
from dcbench.results.artefacts import Artefacts, Cost, cost_beside, write_cost_beside
from dcbench.results.network_file import StoredNetwork, load_network, save_network
from dcbench.results.provenance import PeakMemory, describe_device, source_sha256
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import remove, storing

Report = Callable[[str, str, int, int], None]
"""Called as ``report(kind of work, which piece, steps done, steps)``; with 0 of 0 when it starts."""


class TrainedNetworks:
    """The source of trained networks for one piece of work; it knows what those that were used have cost."""

    def __init__(self, artefacts: Artefacts, report: Report) -> None:
        """Take the folder where they are kept, and whom to tell how far the training is."""
        self._artefacts, self._report = artefacts, report
        self._seconds: dict[str, float] = {}

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
            Diverged: if the training loss of one is not finite.
            StorageError: if one cannot be written.
        """
        specs = [
            NetworkSpec(
                dataset=train.info.name,
                dataset_sha256=train.info.sha256,
                network=str(architecture),
                source_sha256=source_sha256(type(architecture)),
                recipe=recipe,
                number=each,
            )
            for each in range(number)
        ]
        found = self._all(specs, architecture, train)
        self._seconds |= {key: cost.seconds for key, (_, cost) in found.items()}
        made = [(spec, *found[spec.key()]) for spec in specs]
        return tuple(
            TrainedNetwork(
                spec,
                architecture,
                train.info,
                train.device,
                stored.accuracy,
                stored.held_out_accuracy,
                stored.held_out,
                stored.sha256,
                cost.seconds,
                stored.read,
            )
            for spec, stored, cost in made
        )

    def _all(
        self, specs: Sequence[NetworkSpec], architecture: Architecture, train: ResidentSplit
    ) -> dict[str, tuple[StoredNetwork, Cost]]:
        """Return all networks by their keys; train those that are missing.

        What another process is training is left to it, and waited for at the end.
        """
        found = {spec.key(): each for spec in specs if (each := self._find(spec))}
        missing = [spec for spec in specs if spec.key() not in found]
        report = self._reporter(architecture, train, missing)
        for waits in (False, True):
            left = []
            for spec in missing:
                with _held(self._artefacts.network_lock(spec), waits) as held:
                    if held:
                        found[spec.key()] = self._find(spec) or self._make(spec, architecture, train, report)
                    else:
                        left.append(spec)
            missing = left
        return found

    def _reporter(
        self, architecture: Architecture, train: ResidentSplit, missing: Sequence[NetworkSpec]
    ) -> Callable[[int, int], None]:
        """Return the callback for the epochs of one network after the other; say that they start."""
        if not missing:
            return lambda epoch, epochs: None
        work = f"{architecture} on {train.info.name}, {missing[0].recipe.epochs} epochs"
        piece = f"{len(missing)} network{'s' * (len(missing) > 1)}"
        total, done = len(missing) * missing[0].recipe.epochs, count(1)
        self._report(work, piece, 0, 0)
        return lambda epoch, epochs: self._report(work, piece, next(done), total)

    def _find(self, spec: NetworkSpec) -> tuple[StoredNetwork, Cost] | None:
        """Return a network that the results hold undamaged, and what it took."""
        path = self._artefacts.network_path(spec)
        cost = cost_beside(path)
        if cost is None or not path.exists():
            return None
        try:
            stored = load_network(path)
        except DcbenchError as error:
            warnings.warn(f"{error} The network is trained again.", stacklevel=2)
            return None
        return (stored, cost) if stored.spec == spec else None

    def _make(
        self,
        spec: NetworkSpec,
        architecture: Architecture,
        train: ResidentSplit,
        progress: Callable[[int, int], None],
    ) -> tuple[StoredNetwork, Cost]:
        memory, device, generator = PeakMemory(train.device), describe_device(train.device), generator_of(spec)
        checkpoint = FileCheckpoint(
            self._artefacts.network_checkpoint_path(spec),
            generator,
            spec.source_sha256,
            here=lambda: Cost(0.0, memory.read(), active_engine().statement(), device=device),
        )
        training = train_from_recipe(spec, architecture, train, generator, checkpoint, progress)
        path = self._artefacts.network_path(spec)
        # The cost is written first, because a network that is there is not made again.
        cost = checkpoint.cost()
        write_cost_beside(path, cost)
        save_network(path, spec, training)
        remove(checkpoint.path)
        return load_network(path), cost


@contextmanager
def _held(lock: FileLock, waits: bool) -> Iterator[bool]:
    """Hold a lock within; say whether it is held: without waiting, not where another process holds it."""
    try:
        with storing(Path(lock.lock_file)):
            lock.acquire(blocking=waits)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
