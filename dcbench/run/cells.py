"""The cells of a run: each one condensed set, how it comes about, and its evaluations."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import torch

from dcbench.condense.condensation import StepReport
from dcbench.condense.trained_networks import Report, network_specs
from dcbench.core.architecture import Architecture
from dcbench.core.condensed_set import CondensedSet, Origin, SetTraits
from dcbench.core.dataset import DatasetInfo
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.measure import Measure
from dcbench.core.spec import SOFT_LABELS, Budget, CondenseSpec
from dcbench.core.split import ResidentSplit
from dcbench.core.trained_network import NetworkSpec
from dcbench.evaluate.accuracy import ACCURACY
from dcbench.evaluate.protocol import EvaluationProtocol
from dcbench.evaluate.protocols import PROTOCOLS
from dcbench.results.artefacts import Artefacts
from dcbench.results.records import Record
from dcbench.results.store import Store
from dcbench.utils.errors import DcbenchError


class SetSource(Protocol):
    """How a condensed set comes about."""

    @property
    def origin(self) -> Origin:
        """Where the method, or a set made elsewhere, comes from."""

    @property
    def traits(self) -> SetTraits:
        """What the set is, or as far as its method says, will be."""

    @property
    def set_sha256(self) -> str | None:
        """Hash of the set, where it is known before it is made; else None."""

    def networks(self, spec: CondenseSpec, info: DatasetInfo) -> list[NetworkSpec]:
        """Return the trained networks that making the set of a spec needs, as far as its method says."""

    def make(
        self,
        spec: CondenseSpec,
        train: ResidentSplit,
        artefacts: Artefacts,
        progress: StepReport,
        report: Report,
    ) -> CondensedSet:
        """Make the set of a spec and keep it in the results, with what it cost.

        Args:
            spec: what to make.
            train: the training split, on the device. The test split is not an argument.
            artefacts: where checkpoints and the result go.
            progress: told how far it is.
            report: told how far the training of networks is that the set needs.
        """


@dataclass(frozen=True)
class Unserved:
    """The set that a baseline cannot make in a setting: its cell fails, and the others go on."""

    problem: str
    origin: Origin
    traits: SetTraits
    set_sha256: None = None

    def networks(self, *_: object) -> list[NetworkSpec]:
        """Return none."""
        return []

    def make(self, *_: object) -> CondensedSet:
        """Raise a `DcbenchError` that says why."""
        raise DcbenchError(self.problem)


@dataclass(frozen=True)
class Cell:
    """One condensed set and all its evaluations; ``trials`` has the evaluation networks with their seeds."""

    spec: CondenseSpec
    source: SetSource
    data: LoadedDataset
    trials: tuple[tuple[Architecture, int], ...]


@dataclass(frozen=True)
class Plan:
    """The cells of a run, in order, and how they are judged: each network of a trial is asked all measures."""

    cells: tuple[Cell, ...]
    protocol: EvaluationProtocol
    budget: Budget
    device: torch.device
    measures: tuple[Measure, ...] = (ACCURACY,)

    def __post_init__(self) -> None:
        """Let the protocol and the measures refuse, with a `DcbenchError`, what they cannot be used on.

        What it can be used on, but is not meant for, is a warning.
        """
        for data in {id(cell.data): cell.data for cell in self.cells}.values():
            self.protocol.check_dataset(data.info)
            for measure in self.measures:
                if reason := measure.unsuited(data.info):
                    raise DcbenchError(f"measure {measure} cannot be asked on {data.info.name}: it {reason}.")
        judged = {(cell.spec.method, cell.source.traits) for cell in self.cells if cell.trials}
        for method, traits in sorted(judged, key=str):
            try:
                self.protocol.check_set(traits)
            except DcbenchError as error:
                raise DcbenchError(f"{method}: {error}") from None
            if lost := self.protocol.unsuited(traits):
                soft = traits.track == SOFT_LABELS
                meant = [
                    each.name
                    for each in PROTOCOLS.values()
                    if each.soft_labels == soft and not each.unsuited(traits)
                ]
                hint = f"Its sets are for the protocol {' or '.join(meant)}."
                warnings.warn(f"{method}: protocol {self.protocol.name} {lost}. {hint}", stacklevel=2)

    def trials(self, cell: Cell, store: Store) -> Iterator[tuple[Architecture, int, Measure, Record | None]]:
        """Yield the trials of a cell, a measure each, with its successful record in the results or None."""
        key = cell.spec.key()
        info = cell.data.info
        augmented, recipe = (None, self.protocol.augmentation(info)), self.protocol.recipe(info)
        names: dict[int, str] = {}  # writing a network's name takes longer than finding a record
        asked = [(measure, str(measure)) for measure in self.measures]
        for (network, seed), (measure, word) in product(cell.trials, asked):
            name = names.get(id(network)) or names.setdefault(id(network), str(network))
            record = store.find(key, name, self.protocol.name, self.budget.name, seed, word)
            same = record and record.augmentation in augmented and record.recipe == recipe
            yield network, seed, measure, record if same else None

    def networks(self, store: Store, force: bool = False) -> list[NetworkSpec]:
        """Return the trained networks that are needed for what is left to do, each once."""
        needed: dict[str, NetworkSpec] = {}
        for cell in self.cells:
            info, pending = cell.data.info, self.pending(cell, store, force)
            specs = []
            if force or not store.set_path(cell.spec).exists():
                specs += cell.source.networks(cell.spec, info) if pending or not cell.trials else []
            if pending and (teacher := self.protocol.teacher_for(info)):
                specs += network_specs(*teacher, 1, info)
            needed |= {spec.key(): spec for spec in specs}
        return [*needed.values()]

    def covered(self, store: Store) -> list[Record]:
        """Return the successful records of all trials that the results have."""
        return [record for cell in self.cells for *_, record in self.trials(cell, store) if record]

    def pending(self, cell: Cell, store: Store, force: bool = False) -> list[tuple[Architecture, int, Measure]]:
        """Return the trials of a cell that the results do not have yet; with ``force``, all of them."""
        set_sha256 = cell.source.set_sha256
        return [
            (network, seed, measure)
            for network, seed, measure, record in self.trials(cell, store)
            if force or record is None or set_sha256 not in (None, record.set_sha256)
        ]
