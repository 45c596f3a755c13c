"""Continual learning: the classes come in steps, and a memory keeps condensed images of them.

It is the class-incremental setting of Zhao and Bilen (Dataset Condensation with Distribution Matching, WACV 2023,
``CL_DM.py``), after GDumb (Prabhu et al., ECCV 2020). Each step's set is condensed of its classes alone, by an
ordinary cell. After each step, fresh networks are trained on the memory, which is the sets of all steps so far,
and tested on the classes seen. They have an output for each of these. The authors' have one for each class of the
data set; training lowers the outputs of those without images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, product

import numpy as np
import torch
from torch import Tensor

from dcbench.condense.condensation import header, stored_set
from dcbench.core.architecture import Architecture, fit
from dcbench.core.condensed_set import CondensedSet, Origin, SetTraits, check_set
from dcbench.core.dataset import Dataset, DatasetInfo, Splits
from dcbench.core.dataset_form import class_labels
from dcbench.core.loaded_dataset import LoadedDataset, read_splits
from dcbench.core.spec import CondenseSpec, Steps
from dcbench.core.split import ResidentSplit
from dcbench.core.trained_network import NetworkSpec
from dcbench.plugins import Plugins
from dcbench.results.artefacts import Artefacts, Cost, cost_beside, write_cost_beside
from dcbench.results.set_file import save_set
from dcbench.run.cells import Cell, Plan
from dcbench.run.objects import architecture_of, dataset_of
from dcbench.run.plan import Request, load_named, make_plan, unique
from dcbench.run.session import check_number
from dcbench.utils.errors import DcbenchError


@dataclass(frozen=True)
class Part:
    """The set of one step, and what its classes are called in the memory.

    Attributes:
        spec, info: what was condensed, and the facts about its data.
        labels: of the memory, for the labels 0, 1, … of the set.
    """

    spec: CondenseSpec
    info: DatasetInfo
    labels: tuple[int, ...]

    def read(self, train: ResidentSplit, artefacts: Artefacts) -> CondensedSet:
        """Return the set as a part of the memory, whose training split is given.

        Images go through pixels into the memory's normalised space, because the data of each step may have
        statistics of their own. A learned learning rate is left out, because steps may have learned others.

        Raises:
            DcbenchError: where it is not in the results.
        """
        labels = torch.tensor(self.labels)
        positions = torch.nonzero(torch.isin(train.labels.cpu(), labels)).flatten()
        own = train.part(positions)
        own = replace(own, labels=torch.searchsorted(labels, own.labels.cpu()).to(train.device), info=self.info)
        found = stored_set(self.spec, own, artefacts)
        if found is None:
            raise DcbenchError(f"the set of a step is not there: {self.spec.work}, seed {self.spec.seed}")
        condensed, _ = found
        if condensed.indices is not None:
            return CondensedSet.select(train, positions[condensed.indices])
        images = condensed.images
        if (self.info.mean, self.info.std) != (train.info.mean, train.info.std):
            mean, std = torch.tensor([self.info.mean, self.info.std]).view(2, 1, -1, 1, 1)
            images = train.normalise((images * std + mean).to(train.device)).cpu()
        of_memory = _renumbered(condensed.targets, labels, train.info.num_classes)
        return CondensedSet(images, of_memory, factor=condensed.factor)


def _renumbered(labels: Tensor, new: Tensor, count: int) -> Tensor:
    """Return hard labels, or probabilities, (N, K), with the classes' new numbers among ``count``."""
    if labels.ndim == 1:
        return new[labels]
    return torch.zeros(len(labels), count).index_copy(1, new, labels)


@dataclass(frozen=True)
class Memory:
    """The sets of the steps so far, as one; see `dcbench.run.cells.SetSource`."""

    steps: tuple[Part, ...]
    origin: Origin
    traits: SetTraits
    set_sha256: None = None

    @property
    def parts(self) -> tuple[CondenseSpec, ...]:
        """The specs of the sets that it is made of."""
        return tuple(part.spec for part in self.steps)

    def networks(self, *_: object) -> list[NetworkSpec]:
        """Return none."""
        return []

    def make(self, spec: CondenseSpec, train: ResidentSplit, artefacts: Artefacts, *_: object) -> CondensedSet:
        """Join the sets, and keep the memory with what they took together; see `dcbench.run.cells.SetSource`."""
        sets = [part.read(train, artefacts) for part in self.steps]
        whole = torch.cat([each.images for each in sets]), torch.cat([each.labels for each in sets])
        indices = [each.indices for each in sets if each.indices is not None]
        chosen = torch.cat(indices) if len(indices) == len(sets) else None
        condensed = CondensedSet(*whole, indices=chosen, factor=sets[0].factor)
        check_set(condensed, train, spec.ipc)
        if cost := self._cost(artefacts):
            write_cost_beside(artefacts.set_path(spec), cost)
        save_set(artefacts.set_path(spec), condensed, header(spec, condensed, train, self.origin))
        return condensed

    def _cost(self, artefacts: Artefacts) -> Cost | None:
        """Return what the sets took together; None where that is not known of all."""
        costs = [cost for part in self.parts if (cost := cost_beside(artefacts.set_path(part)))]
        if len(costs) < len(self.parts):
            return None
        return Cost(
            sum(cost.seconds for cost in costs),
            max(cost.peak_memory_bytes for cost in costs),
            ", then ".join(dict.fromkeys(cost.engine for cost in costs)),
            device=", then ".join(dict.fromkeys(cost.device for cost in costs)),
            networks_seconds=sum(cost.networks_seconds for cost in costs),
        )


def plan_continual(request: Request, steps: int, orders: int, plugins: Plugins) -> tuple[Plan, Plan]:
    """Return two plans, to be carried out one after the other: the sets of the steps, and the memories of them.

    The order of seed s is that of the authors' code, ``numpy.random.RandomState(s).permutation``; its sets have
    that seed, too. Networks have the seeds of the request in every order.

    Args:
        request: methods, data sets, images per class and networks, which multiply; ``sets`` does not count.
        steps: in how many steps the classes come, as many in each.
        orders: how many orders of the classes, with seeds ``request.seed``, ``request.seed + 1``, …

    Raises:
        DcbenchError: for what `make_plan` refuses, steps of unequal sizes or of one class, and whitened sets.
    """
    check_number("orders", orders)
    before, cells = dict[str, Cell](), dict[str, Cell]()
    for dataset in unique(dataset_of(each, plugins) for each in request.datasets):
        data = load_named(dataset, plugins, request.data_root, request.device)
        size = _step_size(data.info, steps)
        splits = read_splits(dataset, request.data_root)
        dataset = dataset.in_form(dataset.form.numbered(splits.class_names))
        for seed in range(request.seed, request.seed + orders):
            order = _Order(replace(request, seed=seed), dataset, data, splits, plugins, size)
            made = list(zip(*order.sets(), strict=True))
            before |= {cell.spec.key(): cell for combination in made for cell in combination}
            for memory in order.memories(made, request.seed):
                cells[memory.spec.key()] = memory
    how = (request.protocol, request.budget, request.device, request.measures)
    return Plan(tuple(before.values()), *how), Plan(tuple(cells.values()), *how)


def _step_size(info: DatasetInfo, steps: int) -> int:
    """Return how many classes each step has."""
    count = info.num_classes
    check_number("steps", steps, least=2)
    if count % steps or count // steps < 2:
        able = [str(each) for each in range(2, count // 2 + 1) if count % each == 0]
        how = f"They can come in {' or '.join(able)}" if able else "No number of steps serves"
        raise DcbenchError(
            f"{info.name}: its {count} classes cannot come in {steps} steps, because each step has as many, two "
            f"at least. {how}."
        )
    return count // steps


def classes_of_steps(labels: Sequence[int], size: int, seed: int) -> list[tuple[int, ...]]:
    """Return the classes of each step, sorted, of some classes by their numbers: ``size`` in each."""
    order = np.random.RandomState(seed % 2**32).permutation(list(labels)).tolist()
    return [tuple(sorted(order[at : at + size])) for at in range(0, len(order), size)]


@dataclass(frozen=True)
class _Order:
    """One order of the classes of a data set; the request has its seed."""

    request: Request
    dataset: Dataset
    data: LoadedDataset
    splits: Splits
    plugins: Plugins
    size: int

    @property
    def classes(self) -> list[tuple[int, ...]]:
        """The classes of each step, sorted, by their numbers in the whole data set."""
        form = self.dataset.form.classes
        labels = class_labels(form) if form else range(self.data.info.num_classes)
        return classes_of_steps(labels, self.size, self.request.seed)

    def _with(self, labels: tuple[int, ...]) -> Dataset:
        """Return the data set with some of its classes."""
        return self.dataset.in_form(self.dataset.form.with_classes(labels))

    def sets(self) -> Iterator[list[Cell]]:
        """Yield the cells of each step: one for each combination of the request, always in the same order."""
        for labels in self.classes:
            named = (self._with(labels),)
            plan = make_plan(replace(self.request, datasets=named, sets=1), self.plugins, self.splits)
            for cell in plan.cells:
                if cell.source.traits.zca:
                    raise DcbenchError(
                        f"{cell.spec.method}: its sets are whitened, each by the images of its step, so they "
                        "cannot be joined. Turn whitening off."
                    )
            yield [replace(cell, trials=()) for cell in plan.cells]

    def memories(self, made: list[tuple[Cell, ...]], first_eval_seed: int) -> Iterator[Cell]:
        """Yield the memory after each step of each combination, whose sets in all steps are given."""
        request = self.request
        seeds = range(first_eval_seed, first_eval_seed + request.evals)
        for count, seen in enumerate(accumulate(self.classes), start=1):
            data = self.data
            if count < len(self.classes):
                named = self._with(seen), self.plugins, request.data_root, request.device
                data = load_named(*named, self.splits)
            networks = (fit(architecture_of(each, self.plugins), data.info) for each in request.eval_networks)
            trials = tuple(product(unique(networks), seeds))
            for cells in made:
                yield self._memory(cells[:count], data, trials)

    def _memory(
        self, sets: tuple[Cell, ...], data: LoadedDataset, trials: tuple[tuple[Architecture, int], ...]
    ) -> Cell:
        """Return the memory of the sets of the first steps, on the data of the classes seen."""
        classes, first = tuple(self.classes[: len(sets)]), sets[0]
        seen = sorted(label for step in classes for label in step)
        parts = tuple(
            Part(cell.spec, cell.data.info, tuple(map(seen.index, step)))
            for cell, step in zip(sets, classes, strict=True)
        )
        steps = Steps(dataset=self.data.info.name, dataset_sha256=self.data.info.sha256, classes=classes)
        of = {"dataset": data.info.name, "dataset_sha256": data.info.sha256}
        spec = first.spec.model_copy(update={**of, "seed": self.request.seed, "steps": steps})
        origin = replace(first.source.origin, seeded=True)  # the seed draws the order
        return Cell(spec, Memory(parts, origin, replace(first.source.traits, lr=False)), data, trials)
