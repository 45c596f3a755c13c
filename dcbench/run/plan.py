"""From what a user asks for to the cells of a run: the product of everything, each resolved and hashed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from dcbench.condense.condensation import Condensation
from dcbench.core.architecture import Architecture, fit
from dcbench.core.component import Component
from dcbench.core.condensed_set import Origin, SetTraits
from dcbench.core.dataset import Dataset, DatasetInfo, Splits
from dcbench.core.loaded_dataset import LoadedDataset, load_dataset
from dcbench.core.measure import Measure
from dcbench.core.method import IS_START, Method, Setting, dependencies_in
from dcbench.core.spec import Budget, CondenseSpec
from dcbench.evaluate.accuracy import ACCURACY
from dcbench.evaluate.protocol import EvaluationProtocol
from dcbench.plugins import Plugins
from dcbench.results.checked_set import read_checked_set
from dcbench.results.provenance import source_sha256
from dcbench.run.cells import Cell, Plan, Unserved
from dcbench.run.memory_advice import shortage
from dcbench.run.objects import Build, architecture_of, checked, dataset_of, plugin_and_version
from dcbench.utils.errors import DcbenchError, find_name, unknown_name
from dcbench.utils.wording import counted

C = TypeVar("C", bound=Component)


@dataclass(frozen=True)
class Request:
    """What a run is asked to do. Its lists multiply.

    Data sets, methods and networks are as users write them, or objects in place of names.

    Attributes:
        ipcs: images per class.
        options: method options, as ``option`` or ``method.option``, to values, of which strings are as typed.
            Several values, in a list or with commas between, make a method each.
        sets, evals: condensed sets per cell, and evaluation networks per set and architecture, each with seeds
            ``seed``, ``seed + 1``, …
        data_root: where data sets are, or go when they are downloaded.
        baselines: more methods, by name, which take no options but those addressed to them. Where one cannot
            serve, its cell fails and the others go on.
        replacement: whether methods that draw images and have an option ``replacement`` draw with replacement.
        extend: whether methods that have an option ``extend`` go on from the state of fewer steps.
        measures: what is asked of every network.
        leave_out: whether evaluation networks that cannot take the images are left out, with a warning.
    """

    datasets: tuple[str | Dataset, ...]
    methods: tuple[str | Method, ...]
    ipcs: tuple[int, ...]
    networks: tuple[str | Architecture | Build, ...]
    eval_networks: tuple[str | Architecture | Build, ...]
    options: Mapping[str, Any]
    protocol: EvaluationProtocol
    budget: Budget
    sets: int
    evals: int
    seed: int
    device: torch.device
    data_root: Path
    baselines: tuple[str, ...] = ()
    replacement: bool = False
    extend: bool = False
    measures: tuple[Measure, ...] = (ACCURACY,)
    leave_out: bool = False


def make_plan(request: Request, plugins: Plugins, splits: Splits | None = None) -> Plan:
    """Resolve a request: load its data sets, check that everything fits, and list the cells.

    ``splits`` has been read of all its data sets, which differ in their form alone; see `load_dataset`.

    Raises:
        DcbenchError: for any name, option, value or combination that cannot be served, before any work.
    """
    # By what they mean, not by how they are spelt: mlp and mlp:width=128 are the same.
    datasets = unique(dataset_of(each, plugins) for each in request.datasets)
    networks = unique(architecture_of(each, plugins) for each in request.networks)
    eval_networks = unique(architecture_of(each, plugins) for each in request.eval_networks)
    methods = _methods(request, plugins)  # unknown options are found before any data is read
    chosen_from = len(methods) > len(set(map(type, methods)))
    if chosen_from and any(dataset.form.validation is None for dataset in datasets):
        warnings.warn(
            "Some rows differ in options alone, and are tested on the test split. To choose one of them, use "
            "--validation, which tests on held-out training images.",
            stacklevel=2,
        )

    cells: dict[str, Cell] = {}
    hashes: dict[str, str] = {}
    for dataset in datasets:
        data = load_named(dataset, plugins, request.data_root, request.device, splits)
        other = hashes.setdefault(data.info.name, data.info.sha256)
        if other != data.info.sha256:
            raise DcbenchError(f"two different data sets of this run are called {data.info.name!r}.")
        evaluated = unique(_fitting(eval_networks, data.info, request.leave_out))
        for ipc, method, network in product(sorted(set(request.ipcs)), methods, networks):
            for cell in _cells(request, plugins, data, method, ipc, network, evaluated):
                cells.setdefault(cell.spec.key(), cell)
    _warn_of_memory(cells.values(), request.device)
    return Plan(tuple(cells.values()), request.protocol, request.budget, request.device, request.measures)


def _fitting(networks: Sequence[Architecture], info: DatasetInfo, leave_out: bool) -> list[Architecture]:
    """Return evaluation networks resolved for a data set, without those that cannot take its images if asked."""
    fitting, others = [], []
    for network in networks:
        try:
            fitting.append(fit(network, info))
        except DcbenchError:
            others.append(str(network))
            if not leave_out or len(others) == len(networks):
                raise
    if others:
        what = f"{len(others)} of {counted(len(networks), 'evaluation network')} cannot take the images"
        warnings.warn(f"{info.name}: {what}, and are left out: {', '.join(others)}.", stacklevel=2)
    return fitting


@dataclass(frozen=True)
class Outline:
    """A cell of a data set that is not here: what is known of it without its images; ``?`` is not known."""

    dataset: str
    ipc: int | Literal["?"] | None
    method: str
    network: str | None
    seed: int
    trials: int
    protocol: str


def outline(request: Request, plugins: Plugins) -> list[Outline]:
    """Return what a request asks for, without loading its data sets: whether it fits them is not known."""
    datasets = unique(dataset_of(each, plugins) for each in request.datasets)
    networks = unique(architecture_of(each, plugins) for each in request.networks)
    count = len(unique(architecture_of(each, plugins) for each in request.eval_networks))
    found: dict[tuple[str, Outline], None] = {}  # by options, too
    sizes = sorted(set(request.ipcs))
    for dataset, ipc, method, network in product(datasets, sizes, _methods(request, plugins), networks):
        # What a method depends on follows from its options and the ipc, as far as can be told without images.
        unknown = DatasetInfo(dataset.record_name(), ("",), 1, (1, 1), (0.0,), (1.0,), "")
        depends = dependencies_in(method, Setting(unknown, (ipc,), ipc, str(network)))
        sets, evals = (request.sets, request.evals) if "seed" in depends else (1, request.sets * request.evals)
        size, matched = ipc if "ipc" in depends else None, str(network) if "network" in depends else None
        for seed in range(request.seed, request.seed + sets):
            key = dataset.record_name(), size, method.name, matched
            each = Outline(*key, seed, evals * count, request.protocol.name)
            found[str(method), each] = None
    return [each for _, each in found]


def _warn_of_memory(cells: Iterable[Cell], device: torch.device) -> None:
    """Say which methods need more memory than there is."""
    for cell in {cell.spec.work: cell for cell in cells}.values():  # whatever the seed
        source = cell.source
        if not isinstance(source, Condensation):
            continue
        if text := shortage(source.method, source.architecture, cell.data.info, device):
            warnings.warn(text, stacklevel=2)


def _methods(request: Request, plugins: Plugins) -> list[Method]:
    """Return the methods with their options; those that were given as objects are as they are."""
    names = [each for each in request.methods if isinstance(each, str)]
    named = list(dict.fromkeys(map(plugins.method_class, names)))
    classes = list(dict.fromkeys([*named, *map(plugins.method_class, request.baselines)]))
    if request.options and not named:
        raise DcbenchError("options are for methods that are given by name.")
    chosen = distribute_options(request.options, classes, named)
    for word, lack in (("replacement", "draws images with replacement"), ("extend", "goes on from fewer steps")):
        able = [cls.name for cls in classes if getattr(request, word) and word in cls.model_fields]
        if getattr(request, word) and not able:
            others = [name for name, cls in sorted(plugins.methods.items.items()) if word in cls.model_fields]
            raise DcbenchError(f"no method of this run {lack}; of all, {', '.join(others)} can.")
        for name in able:
            chosen[name].setdefault(word, True)
    given = [checked(each, Method, plugins.methods) for each in request.methods if not isinstance(each, str)]
    swept = [cls.for_budget(request.budget, each) for cls in classes for each in _sweep(cls, chosen[cls.name])]
    return [*unique(swept), *given]


def _sweep(cls: type[Method], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the product of the values that the options have; a value that suits its option is one value."""

    def values(name: str, value: Any) -> list[Any]:
        several = value.split(",") if isinstance(value, str) else value
        if not isinstance(several, list | tuple) or len(several) < 2:
            return [value]
        try:
            cls.configure({name: value})
        except DcbenchError:
            return [*several]
        return [value]

    lists = [values(name, value) for name, value in options.items()]
    return [dict(zip(options, each, strict=True)) for each in product(*lists)]


def _cells(
    request: Request,
    plugins: Plugins,
    data: LoadedDataset,
    configured: Method,
    ipc: int,
    network: Architecture,
    eval_networks: list[Architecture],
) -> list[Cell]:
    """Return the cells of one combination, one for each condensed set."""
    info, cls = data.info, type(configured)
    method, changed, traits, start, problem = configured, dict[str, Any](), SetTraits(), None, ""
    try:
        counts = torch.bincount(data.host_train.labels, minlength=info.num_classes)
        setting = Setting(info, tuple(counts.tolist()), ipc, str(network))
        depends = dependencies_in(configured, setting)
        seeded, matched = "seed" in depends, "network" in depends
        if matched:
            network = fit(network, info)
            setting = replace(setting, network=str(network), architecture=network)
        method, start = _start_of(configured.resolve(setting), data, ipc)
        changed, traits = method.changed_from_defaults(setting), method.set_traits()
    except DcbenchError as error:
        if cls.name not in request.baselines or cls.name in request.methods:
            raise
        problem = str(error)
    except Exception as error:  # whatever a method may raise
        where = f"on {info.name} with {ipc} images per class: {type(error).__name__}: {error}"
        raise DcbenchError(f"method {str(configured)!r} cannot be used {where}") from error
    plugin, version = plugin_and_version(configured, plugins.methods)
    network_code = source_sha256(type(network)) if matched else ""
    origin = Origin(
        plugin.distribution, plugin.version, source_sha256(cls), tuple(sorted(changed)), seeded, network_code
    )
    # A method that ignores the seed has one set; it gets all the evaluations that several would have.
    sets, evals = (request.sets, request.evals) if seeded else (1, request.sets * request.evals)
    trials = tuple((each, request.seed + number) for each in eval_networks for number in range(evals))
    spec = CondenseSpec(
        dataset=info.name,
        dataset_sha256=info.sha256,
        method=cls.name,
        method_version=version,
        options=method.model_dump(mode="json"),
        ipc=ipc if "ipc" in depends else None,
        matching_network=str(network) if matched else None,
        seed=request.seed if seeded else 0,
    )
    if problem:
        return [Cell(spec, Unserved(problem, origin, traits), data, trials)]
    specs = [spec.model_copy(update={"seed": spec.seed + number}) for number in range(sets)]
    return [Cell(each, Condensation(method, network, origin, traits, start=start), data, trials) for each in specs]


def _start_of(method: Method, data: LoadedDataset, ipc: int) -> tuple[Method, Tensor | None]:
    """Return a method that starts from a set's file so that it names the set by its hash, with the set's images.

    Other methods are returned as they are. A `DcbenchError` says why a set cannot be started from.
    """
    for name in (name for name, field in type(method).model_fields.items() if IS_START in field.metadata):
        value = getattr(method, name)
        if value.startswith("set:"):
            raise DcbenchError(f"{method.name}: {name}={value} names a set by its hash: give its file.")
        if value in ("noise", "real"):
            continue
        found = read_checked_set(Path(value), data).condensed
        labels, whitened = found.labels, method.set_traits().zca
        even = labels.ndim == 1 and bool((labels.bincount(minlength=data.info.num_classes) == ipc).all())
        problems = {
            f"does not have {ipc} labelled image{'s' * (ipc > 1)} of each class": not even,
            f"has images that are {'not ' * whitened}whitened": found.zca != whitened,
            "has several images in each": found.factor != 1,
        }
        for problem, is_so in problems.items():
            if is_so:
                raise DcbenchError(f"{method.name} cannot start from {value}, because it {problem}.")
        images = found.images[labels.argsort(stable=True)]
        return method.model_copy(update={name: f"set:{found.sha256()[:12]}"}), images
    return method, None


def load_named(
    dataset: Dataset, plugins: Plugins, data_root: Path, device: torch.device, splits: Splits | None = None
) -> LoadedDataset:
    """Load a data set for a run, of ``splits`` where they have been read.

    Raises:
        DcbenchError: when it cannot be had, or goes by the name of another that is installed.
    """
    name = dataset.table_name()

    def bare(name: str) -> str:  # CIFAR-10 and cifar10 are the same
        return re.sub("[^a-z0-9]", "", name.casefold())

    taken = {bare(each): each for each in plugins.datasets}.get(bare(name))
    if taken and dataset.record_name() != str(dataset):
        how = f", as in {dataset},title=NAME" if "title" in type(dataset).model_fields else ""
        raise DcbenchError(
            f"{dataset} would be recorded as {name!r}, and {taken!r} is another data set's name. "
            f"Give it one of its own{how}."
        )
    return load_dataset(dataset, data_root, device, splits)


def distribute_options(
    options: Mapping[str, Any], methods: list[type[Method]], named: list[type[Method]] | None = None
) -> dict[str, dict[str, Any]]:
    """Give each method its options.

    ``method.option`` goes to that method, a bare ``option`` to every method (of those ``named``, if given) that
    has it.

    Raises:
        DcbenchError: for a method that is not in the run, or an option that none of them has.
    """
    named = methods if named is None else named
    chosen: dict[str, dict[str, Any]] = {method.name: {} for method in methods}
    # Bare options first, so that one addressed to a method wins over one for all.
    for key, value in sorted(options.items(), key=lambda item: "." in item[0]):
        owner, dot, option = key.rpartition(".")
        if dot:
            chosen[find_name("method of this run", owner, chosen)][option] = value
            continue
        takers = [method for method in named if option in method.model_fields]
        if not takers:
            known = {name for method in named for name in method.model_fields}
            raise unknown_name(f"option of {' and '.join(method.name for method in named)}", option, known)
        for method in takers:
            chosen[method.name][option] = value
    return chosen


def unique(components: Iterable[C]) -> list[C]:
    """Keep one of those that are the same, whatever their spelling."""
    return list({str(component): component for component in components}.values())
