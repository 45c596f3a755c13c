"""From what a user asks for to the cells of a run: the product of everything, each resolved and hashed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch

from dcbench.architectures import Architecture, check_fit
from dcbench.budgets import Budget
from dcbench.component import Component
from dcbench.data import ResidentSplit
from dcbench.datasets import DatasetInfo, LoadedDataset, Split, load_dataset
from dcbench.errors import unknown_name
from dcbench.methods import Method, Setting
from dcbench.plugins import Plugins
from dcbench.protocols import EvaluationProtocol
from dcbench.records import Record
from dcbench.specs import CondenseSpec
from dcbench.store import Store

C = TypeVar("C", bound=Component)


@dataclass(frozen=True)
class Request:
    """What a run is asked to do. Its lists multiply.

    Attributes:
        datasets, methods, networks, eval_networks: as users spell them.
        ipcs: images per class.
        options: method options, as ``option`` or ``method.option``, to values as typed.
        protocol, budget: how to judge, and how much work to do.
        sets: condensed sets per cell, with seeds ``seed``, ``seed + 1``, …
        evals: evaluation networks per set and architecture, with seeds likewise.
        seed: the first seed.
        device: where to compute.
        data_root: where data sets are, or go when they are downloaded.
    """

    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    ipcs: tuple[int, ...]
    networks: tuple[str, ...]
    eval_networks: tuple[str, ...]
    options: Mapping[str, str]
    protocol: EvaluationProtocol
    budget: Budget
    sets: int
    evals: int
    seed: int
    device: torch.device
    data_root: Path


@dataclass(frozen=True)
class Bench:
    """A data set in a run, placed on the device when it is first needed."""

    data: LoadedDataset
    device: torch.device

    @property
    def info(self) -> DatasetInfo:
        """Facts of the data set."""
        return self.data.info

    @cached_property
    def train(self) -> ResidentSplit:
        """The training split, on the device."""
        return self._place(self.data.train)

    @cached_property
    def test(self) -> ResidentSplit:
        """The test split, on the device."""
        return self._place(self.data.test)

    def _place(self, split: Split) -> ResidentSplit:
        return ResidentSplit.place(split, self.info, self.device)


@dataclass(frozen=True)
class Cell:
    """One condensed set and all its evaluations.

    Attributes:
        spec: of the condensation.
        method: resolved.
        changed_options: names of the options that are not the method's defaults in this setting.
        architecture: the matching network's; unused by methods that do not depend on it.
        bench: the data set.
        trials: evaluation networks with their seeds.
    """

    spec: CondenseSpec
    method: Method
    changed_options: tuple[str, ...]
    architecture: Architecture
    bench: Bench
    trials: tuple[tuple[Architecture, int], ...]

    @property
    def work(self) -> str:
        """Name the kind of work, the same for cells that differ by the seed alone."""
        spec = self.spec
        ipc = f", ipc {spec.ipc}" if spec.ipc is not None else ""
        network = f", matched on {spec.matching_network}" if spec.matching_network else ""
        return f"{spec.method} on {spec.dataset}{ipc}{network}"


@dataclass(frozen=True)
class Plan:
    """The cells of a run, in order, and how they are judged."""

    cells: tuple[Cell, ...]
    protocol: EvaluationProtocol
    budget: Budget
    device: torch.device

    def find(self, cell: Cell, network: Architecture, seed: int, store: Store) -> Record | None:
        """Return the successful record of a trial of a cell, if there is one."""
        return store.find(cell.spec.key(), str(network), self.protocol.name, self.budget.name, seed)

    def pending(
        self, cell: Cell, store: Store, force: bool = False, set_sha256: str | None = None
    ) -> list[tuple[Architecture, int]]:
        """Return the trials of a cell that the results do not have yet.

        Args:
            cell: the cell.
            store: the results.
            force: count all trials.
            set_sha256: if given, trials of a set with another hash do not count as done.
        """
        trials = []
        for network, seed in cell.trials:
            record = self.find(cell, network, seed, store)
            if force or record is None or set_sha256 not in (None, record.set_sha256):
                trials.append((network, seed))
        return trials


@dataclass
class _Planner:
    """Resolves a request against what is installed."""

    request: Request
    plugins: Plugins

    def plan(self) -> Plan:
        request, plugins = self.request, self.plugins
        # By what they mean, not by how they are spelt: mlp and mlp:width=128 are the same.
        datasets = _unique(plugins.make_dataset(text) for text in request.datasets)
        networks = _unique(plugins.make_architecture(text) for text in request.networks)
        eval_networks = _unique(plugins.make_architecture(text) for text in request.eval_networks)
        methods = [plugins.method_class(name) for name in dict.fromkeys(request.methods)]
        chosen = distribute_options(request.options, methods)
        for method in methods:  # unknown options are found before any data is read
            self._configure(method, chosen[method.name])

        cells: dict[str, Cell] = {}
        for dataset in datasets:
            bench = Bench(load_dataset(dataset, request.data_root), request.device)
            for network in eval_networks:
                check_fit(network, bench.info)
            for ipc in sorted(set(request.ipcs)):
                for method in methods:
                    for network in networks:
                        for cell in self._cells(bench, method, chosen[method.name], ipc, network, eval_networks):
                            cells.setdefault(cell.spec.key(), cell)
        return Plan(tuple(cells.values()), request.protocol, request.budget, request.device)

    def _configure(self, method: type[Method], options: Mapping[str, Any]) -> Method:
        quick = {} if self.request.budget.official else method.quick
        return method.configure({**quick, **options})

    def _cells(
        self,
        bench: Bench,
        cls: type[Method],
        options: Mapping[str, Any],
        ipc: int,
        network: Architecture,
        eval_networks: list[Architecture],
    ) -> list[Cell]:
        """Return the cells of one combination, one for each condensed set."""
        request, info = self.request, bench.info
        counts = torch.bincount(bench.data.train.labels, minlength=info.num_classes)
        setting = Setting(info, tuple(counts.tolist()), ipc, str(network))
        method = self._configure(cls, options).resolve(setting)
        changed = method.changed_options(cls().resolve(setting))
        if "network" in cls.depends_on:
            check_fit(network, info)
        # A method that ignores the seed has one set; it gets all the evaluations that several would have.
        sets, evals = request.sets, request.evals
        if "seed" not in cls.depends_on:
            sets, evals = 1, sets * evals
        trials = tuple((each, request.seed + number) for each in eval_networks for number in range(evals))
        return [
            Cell(
                CondenseSpec(
                    dataset=info.name,
                    dataset_sha256=info.sha256,
                    method=cls.name,
                    method_version=cls.version,
                    options=method.model_dump(mode="json"),
                    ipc=ipc if "ipc" in cls.depends_on else None,
                    matching_network=str(network) if "network" in cls.depends_on else None,
                    seed=request.seed + number if "seed" in cls.depends_on else 0,
                ),
                method,
                tuple(sorted(changed)),
                network,
                bench,
                trials,
            )
            for number in range(sets)
        ]


def make_plan(request: Request, plugins: Plugins) -> Plan:
    """Resolve a request: load its data sets, check that everything fits, and list the cells.

    Raises:
        DcbenchError: for any name, option, value or combination that cannot be served, before any work.
    """
    return _Planner(request, plugins).plan()


def distribute_options(options: Mapping[str, str], methods: list[type[Method]]) -> dict[str, dict[str, str]]:
    """Give each method its options.

    ``method.option`` goes to that method; a bare ``option`` to every method of the run that has it.

    Raises:
        DcbenchError: for a method that is not in the run, or an option that none of them has.
    """
    chosen: dict[str, dict[str, str]] = {method.name: {} for method in methods}
    # Bare options first, so that one addressed to a method wins over one for all.
    for key, value in sorted(options.items(), key=lambda item: "." in item[0]):
        owner, dot, option = key.rpartition(".")
        if dot:
            if owner not in chosen:
                raise unknown_name("method of this run", owner, chosen)
            chosen[owner][option] = value
            continue
        takers = [method for method in methods if option in method.model_fields]
        if not takers:
            known = {name for method in methods for name in method.model_fields}
            raise unknown_name(f"option of {' and '.join(chosen)}", option, known)
        for method in takers:
            chosen[method.name][option] = value
    return chosen


def _unique(components: Iterable[C]) -> list[C]:
    return list({str(component): component for component in components}.values())
