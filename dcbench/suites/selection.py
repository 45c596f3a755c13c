"""A suite, or the part of it that a user wants: counted from its files alone, and planned with what is installed.

Only `SuiteSelection.plan` needs plugins and data; it imports what is heavy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcbench.core.component import Spelling
from dcbench.core.spec import get_budget
from dcbench.suites.file import Published, Suite
from dcbench.utils.errors import DcbenchError, find_name

if TYPE_CHECKING:
    import torch

    from dcbench.plugins import Plugins
    from dcbench.run.cells import Cell, Plan

Key = tuple[str, int | None, str, str | None]
"""Data set, images per class, method and matching network."""

LISTS = ("datasets", "methods", "networks", "eval_networks")
KINDS = dict(zip(LISTS, ("dataset", "method", "matching network", "evaluation network"), strict=True))
"""What the lists of names in a suite's file are of."""

EVERYTHING = frozenset({"ipc", "network", "seed"})
"""What the sets of a method depend on, unless something says otherwise."""


@dataclass(frozen=True)
class SuiteFilter:
    """What a user wants of a suite; what is empty or None is as the suite has it.

    Attributes:
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
    """One combination of a suite, with its numbers of condensed sets and of networks for each.

    Size and network are None in the key of a method that does not depend on them. One that ignores the seed has
    one set.
    """

    key: Key
    sets: int
    evals: int
    seeded: bool


@dataclass(frozen=True, kw_only=True)
class SuiteSelection(SuiteFilter):
    """A suite, or the part of it that a user wants: nothing is left open, and names are as the suite spells them.

    Attributes:
        options: the user's.
        depends: by method, what its sets depend on as far as the suite's files tell. A method with a published
            number for all images ignores size and seed; one with a number for no matching network ignores that.
        published: the numbers beside the suite, by what was condensed and the evaluation network.
    """

    suite: Suite
    sets: int
    evals: int
    budget: str
    depends: Mapping[str, frozenset[str]]
    published: Mapping[tuple[Key, str], Published]

    @property
    def truth(self) -> SuiteSelection | None:
        """What an architecture search ranks its networks by, as a suite of its own; None for other suites."""
        told = self.suite.file.truth
        if told is None:
            return None
        changes = {"methods": (told.method,), "protocol": told.protocol, "fixed_evals": None, "truth": None}
        file = self.suite.file.model_copy(update={**changes, "options": {}})
        suite = replace(self.suite, file=file, published=())
        part = replace(self, suite=suite, methods=_tidy(file.methods), sets=1, evals=told.evals)
        return replace(part, options={}, depends=_dependencies(suite), published={})

    @property
    def parts(self) -> tuple[SuiteSelection, ...]:
        """What is run one after another: the truth of an architecture search, then the suite itself."""
        return (self.truth, self) if self.truth else (self,)

    def experiments(self, depends: Mapping[str, frozenset[str]] | None = None) -> list[Experiment]:
        """Return the experiments, by data set and size, sets of any size last.

        ``depends`` says what the sets of methods depend on, where records tell more than published numbers.
        """
        known = {**self.depends, **(depends or {})}
        made: dict[Key, Experiment] = {}
        for dataset, ipc, method, network in product(self.datasets, self.ipcs, self.methods, self.networks):
            on = known[method]
            key = (dataset, ipc if "ipc" in on else None, method, network if "network" in on else None)
            made[key] = Experiment(key, *self.count("seed" in on), "seed" in on)
        order = self.datasets.index
        return sorted(made.values(), key=lambda each: (order(each.key[0]), each.key[1] or math.inf))

    def count(self, seeded: bool) -> tuple[int, int]:
        """Return the sets of an experiment, and the evaluation networks for each set and architecture."""
        if seeded:
            return self.sets, self.evals
        trials = self.sets * self.evals
        return 1, min(trials, self.suite.file.fixed_evals or trials)

    @property
    def trials(self) -> int:
        """The number of networks to train, those that a data set's images do not suit among them."""
        return sum(each.sets * each.evals for each in self.experiments()) * len(self.eval_networks)

    def plan(self, plugins: Plugins, device: torch.device, data_root: Path) -> Plan:
        """Look up all names, load the data sets and list the cells.

        Raises:
            DcbenchError: when something is not installed, saying in which key of the suite; when a data set cannot
                be had or does not fit, saying which part can be run.
        """
        from dcbench.evaluate.protocols import get_protocol
        from dcbench.run.cells import Plan
        from dcbench.run.plan import Request, make_plan

        options = _resolve_options(self, plugins)
        protocol = get_protocol(self.suite.file.protocol, plugins.make_architecture)
        budget = get_budget(self.budget)
        cells: list[Cell] = []
        problems, usable = [], []
        for name in self.datasets:
            request = Request(
                datasets=(name,),
                methods=self.methods,
                ipcs=self.ipcs,
                networks=self.networks,
                eval_networks=self.eval_networks,
                options=options,
                protocol=protocol,
                budget=budget,
                sets=self.sets,
                evals=self.evals,
                seed=self.seed,
                device=device,
                data_root=data_root,
                leave_out=self.suite.file.grid is not None,
            )
            try:
                cells += make_plan(request, plugins).cells
                usable.append(name)
            except DcbenchError as error:
                problems.append(str(error))
        if problems:
            rest = " ".join(f"--dataset {name}" for name in usable)
            hint = [f"Of suite {self.suite.name}, what can be run here is the part with {rest}."] if usable else []
            raise DcbenchError("\n".join(problems + hint))
        return Plan(tuple(map(self._trimmed, cells)), protocol, budget, device)

    def _trimmed(self, cell: Cell) -> Cell:
        """Leave a method that ignores the seed as many evaluations as the suite has for such."""
        if cell.source.origin.seeded:
            return cell
        seeds = range(self.seed, self.seed + self.count(seeded=False)[1])
        return replace(cell, trials=tuple(trial for trial in cell.trials if trial[1] in seeds))


def select(suite: Suite, wanted: SuiteFilter | None = None) -> SuiteSelection:
    """Return the part of a suite that a user wants, or all of it.

    Raises:
        DcbenchError: for a name that is not in the suite, or a published number that is of no experiment in it.
    """
    file, wanted = suite.file, wanted or SuiteFilter()
    with _naming(suite, "budget"):
        get_budget(file.budget)
    names: dict[str, Any] = {name: _tidy(getattr(file, name)) for name in KINDS}
    whole = SuiteSelection(
        suite=suite,
        **names,
        ipcs=tuple(sorted(set(file.ipcs))),
        options=wanted.options,
        sets=wanted.sets or file.sets,
        evals=wanted.evals or file.evals,
        seed=wanted.seed,
        budget=file.budget,
        depends=_dependencies(suite),
        published={},
    )
    chosen: dict[str, Any] = {
        name: _chosen(f"{kind} of suite {suite.name}", getattr(wanted, name), getattr(whole, name))
        for name, kind in KINDS.items()
    }
    for owner in {key.rpartition(".")[0] for key in wanted.options} - {""}:
        find_name(f"method of suite {suite.name}", owner, chosen["methods"])
    ipcs = _chosen(f"ipc of suite {suite.name}", map(str, wanted.ipcs), map(str, whole.ipcs))
    part = replace(whole, **chosen, ipcs=tuple(map(int, ipcs)), published=_published(whole))
    if wanted.budget in (None, file.budget):
        return part
    budget = get_budget(wanted.budget)
    return replace(part, budget=budget.name, sets=wanted.sets or budget.sets, evals=wanted.evals or budget.evals)


@contextmanager
def _naming(suite: Suite, key: str) -> Iterator[None]:
    """Name the file and the key of a suite in what is wrong with it."""
    try:
        yield
    except DcbenchError as error:
        raise DcbenchError(f"{suite.path}: key {key!r}: {error}") from None


def tidy(text: str) -> str:
    """Return a name in one spelling: underscores, options in alphabetical order, the version left open."""
    name, _, options = Spelling.of(text)
    parts = sorted(options.split(","), key=lambda part: ("=" in part, part if "=" in part else ""))
    return f"{name.replace('-', '_')}:{','.join(parts)}" if options else name.replace("-", "_")


def _tidy(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(tidy, names)))


def _chosen(what: str, wanted: Iterable[str], offered: Iterable[str]) -> tuple[str, ...]:
    """Return what is wanted of what is offered, in the order of the latter; everything if nothing is wanted."""
    names = tuple(offered)
    asked = {find_name(what, tidy(name), names) for name in wanted}
    return tuple(name for name in names if not asked or name in asked)


def _dependencies(suite: Suite) -> dict[str, frozenset[str]]:
    """Return for each method what its sets depend on, as far as the suite's files tell."""
    fixed = _tidy(suite.file.fixed)
    depends = {
        method: EVERYTHING - ({"seed"} if method in fixed else set()) for method in _tidy(suite.file.methods)
    }
    for number in suite.published:
        ignored = {"ipc", "seed"} if number.ipc is None else set()
        ignored |= set() if number.matching_network else {"network"}
        depends[tidy(number.method)] = depends.get(tidy(number.method), EVERYTHING) - ignored
    return depends


def _published(whole: SuiteSelection) -> dict[tuple[Key, str], Published]:
    """Find the experiment of each published number."""
    keys = {(each.key, network) for each in whole.experiments() for network in whole.eval_networks}
    placed: dict[tuple[Key, str], Published] = {}
    for number in whole.suite.published:
        matching = tidy(number.matching_network) if number.matching_network else None
        key = (tidy(number.dataset), number.ipc, tidy(number.method), matching), tidy(number.evaluation_network)
        if key not in keys or key in placed:
            names = (number.dataset, number.ipc or "all", number.method, number.matching_network or "no network")
            what = ", ".join(map(str, (*names, number.evaluation_network)))
            wrong = "is there twice" if key in placed else "is of no experiment of the suite"
            file = whole.suite.path.with_name(whole.suite.file.published)
            raise DcbenchError(f"{file}: the number of {what}, {wrong}.")
        placed[key] = number
    return placed


def _resolve_options(selection: SuiteSelection, plugins: Plugins) -> dict[str, str]:
    """Return the options of each method as ``method.option``, once all that the suite names has been found.

    Raises:
        DcbenchError: naming the file and the key of what is not installed or does not fit.
    """
    from dcbench.evaluate.protocols import get_protocol
    from dcbench.run.plan import distribute_options

    suite, file = selection.suite, selection.suite.file
    recorded: dict[str, str] = {}
    with _naming(suite, "datasets"):
        for dataset in map(plugins.make_dataset, file.datasets):
            name = dataset.record_name()
            if recorded.setdefault(name, str(dataset)) != str(dataset):
                raise DcbenchError(f"{recorded[name]} and {dataset} would both be recorded as {name!r}.")
    with _naming(suite, "methods"):
        classes = {cls.name: cls for cls in map(plugins.method_class, file.methods)}
    for key in ("networks", "eval_networks"):
        with _naming(suite, key):
            for network in getattr(file, key):
                plugins.make_architecture(network)
    with _naming(suite, "protocol"):
        get_protocol(file.protocol, plugins.make_architecture)
    if file.truth:
        with _naming(suite, "truth"):
            plugins.method_class(file.truth.method)
            get_protocol(file.truth.protocol, plugins.make_architecture)
    with _naming(suite, "options"):
        own = distribute_options(file.options, list(classes.values()))
        for name, cls in classes.items():
            cls.configure(own[name])
    given = distribute_options(selection.options, [classes[name] for name in selection.methods])
    for name, values in given.items():  # one value of each: several are for `dcbench run`
        classes[name].configure(values)
    return {
        f"{name}.{key}": value for name in selection.methods for key, value in {**own[name], **given[name]}.items()
    }
