"""A suite, or a part of it, with every name looked up: its experiments, and the plan that carries them out.

All but the plan works without any data set on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch

from dcbench.core.architecture import Architecture
from dcbench.core.component import Spelling
from dcbench.core.dataset import Dataset
from dcbench.core.method import Method
from dcbench.core.spec import Budget, get_budget
from dcbench.evaluate.protocols import EvaluationProtocol, get_protocol
from dcbench.plugins import Plugins
from dcbench.run.cells import Cell, Plan
from dcbench.run.plan import Request, distribute_options, make_plan
from dcbench.suites.file import Published, Suite
from dcbench.utils.errors import DcbenchError, find_name

T = TypeVar("T")

Key = tuple[str, int | None, str, str | None]
"""Data set, images per class, method and matching network."""


@dataclass(frozen=True)
class SuiteFilter:
    """What a user wants of a suite; what is empty or None is as the suite has it.

    Attributes:
        datasets, methods, ipcs, networks, eval_networks: the only ones wanted.
        sets, evals, budget: instead of the suite's.
        options: method options, as ``option`` or ``method.option``, to values as typed; added to the suite's.
        seed: the first seed.
    """

    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    ipcs: tuple[int, ...] = ()
    networks: tuple[str, ...] = ()
    eval_networks: tuple[str, ...] = ()
    sets: int | None = None
    evals: int | None = None
    budget: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Experiment:
    """One combination of a suite, with all its condensed sets.

    Attributes:
        key: which; size and network are None where the method does not depend on them.
        sets: condensed sets.
        evals: evaluation networks per set and architecture.
        seeded: whether the condensed set depends on the seed. If not, there is only one.
    """

    key: Key
    sets: int
    evals: int
    seeded: bool


@dataclass(frozen=True)
class SuiteSelection:
    """A suite, or the part of it that a user wants, with every name looked up.

    Attributes:
        suite: the suite.
        datasets: as the suite spells them, by their name in records.
        methods: configured but not resolved, by name.
        altered: names of the methods whose options, or whose budget, are not the suite's: what they give is not
            to be compared with the published numbers.
        options: of each method.
        ipcs, networks, eval_networks: the lists that multiply.
        published: the numbers beside the suite, by what was condensed and the evaluation network.
        sets, evals, fixed_evals, seed, protocol, budget: as in `dcbench.suites.file.SuiteFile` and `SuiteFilter`.
    """

    suite: Suite
    datasets: Mapping[str, str]
    methods: Mapping[str, Method]
    altered: frozenset[str]
    options: Mapping[str, Mapping[str, str]]
    ipcs: tuple[int, ...]
    networks: Mapping[str, Architecture]
    eval_networks: Mapping[str, Architecture]
    published: Mapping[tuple[Key, str], Published]
    sets: int
    evals: int
    fixed_evals: int | None
    seed: int
    protocol: EvaluationProtocol
    budget: Budget

    def experiments(self) -> list[Experiment]:
        """Return the experiments, by data set and size, sets of any size last."""
        made: dict[Key, Experiment] = {}
        for dataset in self.datasets:
            for ipc in self.ipcs:
                for name, method in self.methods.items():
                    depends = method.dependencies()
                    for network in self.networks:
                        size = ipc if "ipc" in depends else None
                        key = (dataset, size, name, network if "network" in depends else None)
                        made[key] = self._experiment(key, "seed" in depends)
        order = list(self.datasets)
        return sorted(made.values(), key=lambda each: (order.index(each.key[0]), each.key[1] or math.inf))

    def _experiment(self, key: Key, seeded: bool) -> Experiment:
        if seeded:
            return Experiment(key, self.sets, self.evals, seeded)
        trials = self.sets * self.evals
        return Experiment(key, 1, min(trials, self.fixed_evals or trials), seeded)

    def narrow(self, choice: SuiteFilter, plugins: Plugins) -> SuiteSelection:
        """Return the part of this one that a user wants.

        Raises:
            DcbenchError: for a name that is not in the suite, or an option that its methods or networks lack.
        """
        of = f"of suite {self.suite.name}"
        methods = _chosen(f"method {of}", choice.methods, self.methods)
        budget = get_budget(choice.budget) if choice.budget else self.budget
        given = distribute_options(choice.options, [type(method) for method in methods.values()])
        options = {name: {**self.options[name], **given[name]} for name in methods}
        configured = {name: type(methods[name]).for_budget(budget, options[name]) for name in methods}
        other = budget != self.budget
        sizes = {str(ipc): ipc for ipc in self.ipcs}
        networks, eval_networks = (
            [_network_name(text, plugins) for text in texts] for texts in (choice.networks, choice.eval_networks)
        )
        return replace(
            self,
            datasets=_chosen(f"dataset {of}", choice.datasets, self.datasets),
            methods=configured,
            altered=frozenset(name for name in methods if other or configured[name] != self.methods[name]),
            options=options,
            ipcs=tuple(_chosen(f"ipc {of}", map(str, choice.ipcs), sizes).values()),
            networks=_chosen(f"matching network {of}", networks, self.networks),
            eval_networks=_chosen(f"evaluation network {of}", eval_networks, self.eval_networks),
            sets=choice.sets or (budget.sets if other else self.sets),
            evals=choice.evals or (budget.evals if other else self.evals),
            seed=choice.seed,
            budget=budget,
        )

    def plan(self, plugins: Plugins, device: torch.device, data_root: Path) -> Plan:
        """Load the data sets and list the cells.

        Raises:
            DcbenchError: when a data set cannot be had or does not fit, saying which part can be run.
        """
        cells: list[Cell] = []
        problems, usable = [], []
        for name, dataset in self.datasets.items():
            try:
                cells += make_plan(self._request(dataset, device, data_root), plugins).cells
                usable.append(name)
            except DcbenchError as error:
                problems.append(str(error))
        if problems:
            rest = " ".join(f"--dataset {name}" for name in usable)
            hint = [f"Of suite {self.suite.name}, what can be run here is the part with {rest}."] if usable else []
            raise DcbenchError("\n".join(problems + hint))
        return Plan(tuple(map(self._trimmed, cells)), self.protocol, self.budget, device)

    def _request(self, dataset: str, device: torch.device, data_root: Path) -> Request:
        return Request(
            datasets=(dataset,),
            methods=tuple(self.methods),
            ipcs=self.ipcs,
            networks=tuple(self.networks),
            eval_networks=tuple(self.eval_networks),
            options={f"{name}.{key}": value for name, each in self.options.items() for key, value in each.items()},
            protocol=self.protocol,
            budget=self.budget,
            sets=self.sets,
            evals=self.evals,
            seed=self.seed,
            device=device,
            data_root=data_root,
        )

    def _trimmed(self, cell: Cell) -> Cell:
        """Leave a method that ignores the seed as many evaluations as the suite has for such."""
        if self.fixed_evals is None or "seed" in self.methods[cell.spec.method].dependencies():
            return cell
        seeds = range(self.seed, self.seed + self.fixed_evals)
        return replace(cell, trials=tuple(trial for trial in cell.trials if trial[1] in seeds))


def resolve_suite(suite: Suite, plugins: Plugins) -> SuiteSelection:
    """Look up all that a suite names.

    Raises:
        DcbenchError: naming the file, and the key or the published number, of what is not installed or does not
            fit.
    """
    file = suite.file

    def lookup(key: str, find: Callable[[str], T], names: Iterable[str]) -> list[T]:
        try:
            return [find(name) for name in names]
        except DcbenchError as error:
            raise DcbenchError(f"{suite.path}: key {key!r}: {error}") from None

    datasets = lookup("datasets", plugins.make_dataset, file.datasets)
    recorded: dict[str, Dataset] = {}
    for dataset in datasets:
        other = recorded.setdefault(dataset.table_name(), dataset)
        if str(other) != str(dataset):
            raise DcbenchError(
                f"{suite.path}: key 'datasets': {other} and {dataset} would both be recorded as "
                f"{dataset.table_name()!r}."
            )
    classes = lookup("methods", plugins.method_class, file.methods)
    networks = lookup("networks", plugins.make_architecture, file.networks)
    eval_networks = lookup("eval_networks", plugins.make_architecture, file.eval_networks)
    (protocol,) = lookup("protocol", get_protocol, [file.protocol])
    (budget,) = lookup("budget", get_budget, [file.budget])
    try:
        options = distribute_options(file.options, list(dict.fromkeys(classes)))
        methods = {cls.name: cls.for_budget(budget, options[cls.name]) for cls in classes}
    except DcbenchError as error:
        raise DcbenchError(f"{suite.path}: key 'options': {error}") from None
    part = SuiteSelection(
        suite=suite,
        datasets={each.table_name(): text for each, text in zip(datasets, file.datasets, strict=True)},
        methods=methods,
        altered=frozenset(),
        options=options,
        ipcs=tuple(sorted(set(file.ipcs))),
        networks={str(network): network for network in networks},
        eval_networks={str(network): network for network in eval_networks},
        published={},
        sets=file.sets,
        evals=file.evals,
        fixed_evals=file.fixed_evals,
        seed=0,
        protocol=protocol,
        budget=budget,
    )
    return replace(part, published=_published(part, plugins))


def _published(part: SuiteSelection, plugins: Plugins) -> dict[tuple[Key, str], Published]:
    """Find the experiment of each published number."""
    keys = {experiment.key for experiment in part.experiments()}
    found: dict[tuple[Key, str], Published] = {}
    for number in part.suite.published:
        spelt = (number.dataset, number.ipc or "all", number.method, number.matching_network or "no network")
        where = f"{part.suite.path.with_name(part.suite.file.published)}: the number of " + ", ".join(
            map(str, (*spelt, number.evaluation_network))
        )
        try:
            matching = number.matching_network and str(plugins.make_architecture(number.matching_network))
            evaluated = str(plugins.make_architecture(number.evaluation_network))
        except DcbenchError as error:
            raise DcbenchError(f"{where}: {error}") from None
        dataset = _spellings(part.datasets).get(number.dataset, "")
        key = (dataset, number.ipc, number.method, matching)
        if key not in keys or evaluated not in part.eval_networks:
            raise DcbenchError(f"{where}, is of no experiment of the suite.")
        if (key, evaluated) in found:
            raise DcbenchError(f"{where}, is there twice.")
        found[key, evaluated] = number
    return found


def _network_name(text: str, plugins: Plugins) -> str:
    """Return how a suite spells the network that a user means; what is none is left for `_chosen` to refuse."""
    installed = plugins.architectures.find(Spelling.of(text).name)
    return str(plugins.make_architecture(text)) if installed else text


def _chosen(what: str, wanted: Iterable[str], offered: Mapping[str, T]) -> dict[str, T]:
    """Return what is wanted of what is offered, in the order of the latter; everything if nothing is wanted."""
    spelt = _spellings(offered)
    names = {spelt[find_name(what, name, spelt)] for name in wanted}
    return {name: each for name, each in offered.items() if not names or name in names}


def _spellings(offered: Iterable[str]) -> dict[str, str]:
    """Return what is offered by the names that mean it, with and without the version of what is installed."""
    names = list(offered)
    return {Spelling.of(each).unversioned: each for each in names} | {each: each for each in names}
