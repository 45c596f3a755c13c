"""The Python interface: what the command does, for notebooks and programs.

::

    import dcbench

    results = dcbench.run(methods=["gradmatch", "random"], dataset="digits", ipc=[1, 10], budget="quick")
    results.table(dataset="digits", ipc=1)

Cache, locks, keys and records are those of the command: what one has done, the other finds done. Names are the
command line's. The functions print only progress, never exit the process, and raise `DcbenchError` for a mistake.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcbench.utils.errors import DcbenchError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

    from dcbench.core.architecture import Architecture
    from dcbench.core.dataset import Dataset
    from dcbench.core.measure import Measure
    from dcbench.core.method import Method
    from dcbench.core.split import ResidentSplit
    from dcbench.formats.foreign import ForeignFile
    from dcbench.formats.labels import LabelsAre
    from dcbench.leaderboard.results import Results
    from dcbench.plugins import Plugins
    from dcbench.results.condensed import Condensed
    from dcbench.run.objects import Build
    from dcbench.run.plan import Request
    from dcbench.run.session import Completed, Execution

__all__ = ["DcbenchError", "condense", "continual", "evaluate", "leaderboard", "load_set", "run"]

_running = threading.Lock()
"""Held while this process carries out a run: threads and generators of torch are the whole process's."""


@contextmanager
def _alone() -> Iterator[None]:
    """Let no two runs be under way in this process at once."""
    if not _running.acquire(blocking=False):
        raise DcbenchError("a run is under way in this process: wait for it, or start another process.")
    try:
        yield
    finally:
        _running.release()


@_alone()
def run(
    methods: str | Method | Iterable[str | Method] | None = None,
    dataset: str | Dataset | Iterable[str | Dataset] | None = None,
    ipc: int | Iterable[int] | None = None,
    *,
    networks: str | Architecture | Build | Iterable[str | Architecture | Build] | None = None,
    matching_network: str | Architecture | Build | Iterable[str | Architecture | Build] | None = None,
    options: Mapping[str, Any] | None = None,
    budget: str | None = None,
    sets: int | None = None,
    evals: int | None = None,
    protocol: str = "dc",
    measures: str | Measure | Iterable[str | Measure] | None = None,
    seed: int = 0,
    baselines: bool | None = None,
    validation: float | None = None,
    data_root: str | Path | None = None,
    progress: bool = True,
    **execution: Any,
) -> Results:
    """Condense, train fresh networks on the result, record every trial: `dcbench run`.

    Every combination of methods, data sets, images per class and matching networks is run. None stands for the
    default of the command: ``dcbench.run()`` condenses real digits.

    Args:
        methods: names, or instances of `dcbench.api.Method`, whose options are as they are in every budget.
        dataset: names, or instances of `dcbench.api.Dataset`.
        ipc: images per class.
        networks: the evaluation networks: names, instances of `dcbench.api.Architecture`, or classes or functions
            that build a module. These are called with a `dcbench.api.DatasetInfo`, or with nothing if they take
            nothing.
        matching_network: what a method matches on or takes features of, given like ``networks``.
        options: of the methods, as ``{"iterations": 20}`` or ``{"gradmatch.iterations": 20}``; a list of values
            makes a row of each.
        budget: ``full``, or ``quick`` for a first look. None is full where a data set is named.
        sets: condensed sets for each combination.
        evals: evaluation networks for each set and architecture.
        protocol: how evaluation networks are trained.
        measures: what is asked of each of them: names, or instances of `dcbench.api.Measure`. None is test
            accuracy.
        seed: the first seed.
        baselines: whether to run the baselines, too. None runs them where no data set is named.
        validation: a share of the training images on which networks are tested in place of the test split.
        data_root: folder of the data sets.
        progress: whether to show progress bars, in a terminal or a notebook.
        execution: how and where: ``results`` (a folder), ``device``, ``engine``, ``jobs``, ``threads``,
            ``force``, ``checkpoint_every``, ``observe`` (names, or instances of `dcbench.api.Observer`); for a
            cluster ``executor``, ``address``, ``cpus_per_cell``, ``gpus_per_cell`` and ``memory_per_cell``.
            `dcbench run --help` says what they mean.

    Raises:
        DcbenchError: for whatever cannot be served, before any work; or when results cannot be written.
    """
    from dcbench.run.plan import make_plan
    from dcbench.run.session import carry_out

    plugins, how, request = _asked(
        execution,
        data_root,
        methods=_listed("methods", methods),
        datasets=_listed("dataset", dataset),
        ipcs=_listed("ipc", ipc),
        networks=_listed("matching_network", matching_network),
        eval_networks=_listed("networks", networks),
        options=options,
        budget=budget,
        sets=sets,
        evals=evals,
        protocol=protocol,
        measures=_listed("measures", measures),
        seed=seed,
        baselines=baselines,
        validation=validation,
    )
    return _results(carry_out(make_plan(request, plugins), plugins, how, progress))


@_alone()
def continual(
    methods: str | Method | Iterable[str | Method] | None = None,
    dataset: str | Dataset | Iterable[str | Dataset] | None = None,
    ipc: int | Iterable[int] | None = None,
    *,
    steps: int = 5,
    orders: int = 5,
    networks: str | Architecture | Build | Iterable[str | Architecture | Build] | None = None,
    matching_network: str | Architecture | Build | Iterable[str | Architecture | Build] | None = None,
    options: Mapping[str, Any] | None = None,
    budget: str | None = None,
    evals: int | None = None,
    protocol: str = "dc",
    measures: str | Measure | Iterable[str | Measure] | None = None,
    seed: int = 0,
    data_root: str | Path | None = None,
    progress: bool = True,
    **execution: Any,
) -> Results:
    """Condense classes that come in steps, and train fresh networks on the memory: `dcbench continual`.

    `Results.curves` has the accuracy after each step.

    Args:
        methods, dataset: as of `run`.
        ipc: images per class in the memory.
        steps: in how many steps the classes come, as many in each, two at least.
        orders: orders of the classes, of the seeds ``seed``, ``seed + 1``, …
        networks, matching_network, options, budget, evals, protocol, measures, seed, data_root, progress,
        execution: as of `run`.

    Raises:
        DcbenchError: for whatever cannot be served, before any work; or when results cannot be written.
    """
    from dcbench.run.continual import plan_continual
    from dcbench.run.session import carry_out

    plugins, how, request = _asked(
        execution,
        data_root,
        methods=_listed("methods", methods),
        datasets=_listed("dataset", dataset),
        ipcs=_listed("ipc", ipc),
        networks=_listed("matching_network", matching_network),
        eval_networks=_listed("networks", networks),
        options=options,
        budget=budget,
        evals=evals,
        protocol=protocol,
        measures=_listed("measures", measures),
        seed=seed,
        baselines=False,
    )
    plans = plan_continual(request, steps, orders, plugins)
    return _results(*(carry_out(plan, plugins, how, progress) for plan in plans))


@_alone()
def condense(
    method: str | Method,
    dataset: str | Dataset,
    ipc: int = 1,
    *,
    matching_network: str | Architecture | Build | None = None,
    options: Mapping[str, Any] | None = None,
    budget: str = "full",
    seed: int = 0,
    data_root: str | Path | None = None,
    progress: bool = True,
    **execution: Any,
) -> Condensed:
    """Condense a data set, or take the condensed set from the results if it is there.

    Args:
        method: name, or an instance of `dcbench.api.Method`.
        dataset: name, or an instance of `dcbench.api.Dataset`.
        ipc: images per class.
        matching_network, options, budget, seed, data_root, progress, execution: as of `run`.

    Raises:
        DcbenchError: for whatever cannot be served, and when the method fails.
    """
    from dcbench.results.condensed import Condensed
    from dcbench.run.plan import make_plan
    from dcbench.run.session import carry_out, describe_failures

    plugins, how, request = _asked(
        execution,
        data_root,
        methods=(method,),
        datasets=(dataset,),
        ipcs=(ipc,),
        networks=_listed("matching_network", matching_network),
        options=options,
        budget=budget,
        sets=1,
        seed=seed,
    )
    plan = make_plan(request, plugins)
    if len(plan.cells) != 1:
        raise DcbenchError("condense makes one set: give one method, data set, ipc and matching network.")
    cell = plan.cells[0]
    completed = carry_out(replace(plan, cells=(replace(cell, trials=()),)), plugins, how, progress)
    if completed.outcome.failures:
        raise DcbenchError(describe_failures(completed.outcome.failures)[0])
    return Condensed.read(completed.store.set_path(cell.spec), cell.data.train)


@_alone()
def evaluate(
    images: Tensor | Condensed | str | Path | Sequence[Condensed | str | Path],
    labels: Tensor | str | Path | None = None,
    *,
    dataset: str | Dataset,
    normalised: bool = False,
    raw: bool = False,
    zca: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    grey: bool = False,
    labels_are: LabelsAre | None = None,
    lr: float | None = None,
    temperature: float | None = None,
    factor: int | None = None,
    networks: str | Architecture | Build | Iterable[str | Architecture | Build] | None = None,
    method: str | None = None,
    matched_on: str | None = None,
    evals: int | None = None,
    protocol: str = "dc",
    measures: str | Measure | Iterable[str | Measure] | None = None,
    budget: str = "full",
    seed: int = 0,
    data_root: str | Path | None = None,
    progress: bool = True,
    **execution: Any,
) -> Results:
    """Train fresh networks on condensed images made anywhere, and test them: `dcbench evaluate`.

    Args:
        images: uint8 or floating, shape (N, C, H, W); or a file or folder that the command reads, or a set of
            `condense` or `load_set`, or a list of these.
        labels: integers of shape (N,), or probabilities or logits of shape (N, K); or the file with the labels; or
            ``"in-order"`` for images that are sorted by class, with as many of each.
        dataset: to test on.
        normalised: images are normalised by the data set's mean and deviation.
        raw: images are pixels from 0 to 1. uint8 always is raw.
        zca: images are pixels that were ZCA-whitened; the test images are whitened then, too.
        mean, std: of each channel, by which the images were normalised, if not by those of the data set.
        grey: whether images in colour become grey, for a grey data set.
        labels_are: of rows of numbers, ``"logits"``, or ``"classes"`` for the class of the largest of each.
        lr: the learning rate that was learned with the images; None for that of their file, or the protocol's.
        temperature: of labels that are logits: networks are trained on their softmax at this temperature.
        factor: each image is a grid of ``factor`` x ``factor``, each enlarged to the full size for training.
        networks: as of `run`.
        method: name of the row in the tables.
        matched_on: name of the network that the images were matched on.
        evals, protocol, measures, budget, seed, data_root, progress, execution: as of `run`.

    Raises:
        DcbenchError: for images or labels that do not fit the data set, and for whatever else cannot be served.
    """
    from dcbench.run.imported_sets import make_claim, plan_imports
    from dcbench.run.session import carry_out

    paths, label_file = _given_sets(images, labels)
    claim = make_claim(
        method=method,
        matched_on=matched_on,
        normalised=normalised,
        raw=raw,
        zca=zca,
        mean=mean,
        std=std,
        grey=grey,
        labels=label_file,
        labels_are=labels_are,
        lr=lr,
        temperature=temperature,
        factor=factor,
    )
    plugins, how, request = _asked(
        execution,
        data_root,
        datasets=(dataset,),
        eval_networks=_listed("networks", networks),
        budget=budget,
        evals=evals,
        protocol=protocol,
        measures=_listed("measures", measures),
        seed=seed,
    )
    plan, _ = plan_imports(paths, claim, request, plugins)
    return _results(carry_out(plan, plugins, how, progress))


def leaderboard(folder: str | Path = "leaderboards", all_budgets: bool = False) -> Results:
    """Return the records of a leaderboard, or of the results of a run, that may enter a table.

    Where there are several protocols, `Results.table` gives tables of ``dc`` unless it is told another.

    Args:
        folder: of a leaderboard, or of results.
        all_budgets: include records of the quick budget, in tables of their own.

    Raises:
        DcbenchError: when there are none, or a file cannot be read.
    """
    from dcbench.leaderboard.board import read_leaderboard
    from dcbench.leaderboard.results import Results
    from dcbench.leaderboard.scores import official
    from dcbench.run.defaults import PROTOCOL

    path = _path(folder) or Path()
    if not path.is_dir():
        raise DcbenchError(f"{path} is not a folder: give one with a leaderboard, or with the results of a run.")
    board = read_leaderboard(path, all_budgets)
    every = [record for each in board.submissions for record in each.records if record.status == "ok"]
    records = every if all_budgets else official(every)
    if not records:
        hint = " all_budgets=True includes those of the quick budget." if every else ""
        raise DcbenchError(f"{path} has no records that may enter a table.{hint}")
    return Results(records, path, rules=board.rules, protocol=PROTOCOL)


def load_set(path: str | Path, data_root: str | Path | None = None) -> Condensed:
    """Read a condensed set of dcbench's.

    Args:
        path: ``results/sets/….safetensors``.
        data_root: folder of the data sets, which a coreset without its images needs.

    Raises:
        DcbenchError: when it cannot be read, or is damaged.
    """
    from dcbench.core.loaded_dataset import load_dataset
    from dcbench.plugins import Plugins
    from dcbench.results.condensed import Condensed
    from dcbench.utils.files import default_data_root

    def train(dataset: str) -> ResidentSplit:
        root = _path(data_root) or default_data_root()
        return load_dataset(Plugins.load().make_dataset(dataset), root).train

    return Condensed.read(_path(path) or Path(), train)


def _asked(
    words: Mapping[str, Any], data_root: str | Path | None, **asked: Any
) -> tuple[Plugins, Execution, Request]:
    """Load the plugins; return them with how and what a user asks for."""
    from dcbench.plugins import Plugins
    from dcbench.run.session import Execution, new_request

    known = [field.name for field in fields(Execution)]
    for name in words:
        if name not in known:
            raise unknown_name("argument", name, known)
    given = {
        "results": _path(words.get("results")) or Path("results"),
        "observe": _listed("observe", words.get("observe")),
    }
    how = Execution(**{**words, **given})
    plugins = Plugins.load()
    return plugins, how, new_request(plugins, device=how.device, data_root=_path(data_root), **asked)


def _results(*completed: Completed) -> Results:
    """Return the records of plans that were carried out one after the other, and warn of failures."""
    from dcbench.leaderboard.results import Results
    from dcbench.run.session import describe_failures

    failures = [failure for each in completed for failure in each.outcome.failures]
    for failure in describe_failures(failures):
        warnings.warn(f"failed: {failure}", stacklevel=5)
    records = [record for each in completed for record in each.records]
    return Results(records, completed[0].store.root, failures)


def _given_sets(images: Any, labels: Any) -> tuple[tuple[Path | ForeignFile, ...], str | Path | None]:
    """Return files and sets in memory, and where the labels are that are given in words."""
    from dcbench.formats.foreign import from_tensors
    from dcbench.results.condensed import Condensed

    several = images if isinstance(images, list | tuple) else [images]
    if several and all(isinstance(each, str | Path | Condensed) for each in several):
        if labels is not None and any(isinstance(each, Condensed) for each in several):
            raise DcbenchError("a condensed set has labels: give none beside it, or its images and other labels.")
        files = (each.unchanged_file() if isinstance(each, Condensed) else Path(each) for each in several)
        return tuple(files), labels if isinstance(labels, str) else _path(labels)
    if images is None or not several:
        raise DcbenchError("images are missing: give tensors, a file, or a condensed set.")
    if labels is None:
        raise DcbenchError("labels are missing: give those of the images, of shape (N,) or (N, K).")
    return (from_tensors(images, labels),), None


def _listed(name: str, given: Any) -> tuple[Any, ...]:
    """Return one or several things as a tuple; of None, which stands for the default, an empty one."""
    from pydantic import BaseModel

    if given is None:
        return ()
    one = isinstance(given, str | type | BaseModel) or not isinstance(given, Iterable)
    things = (given,) if one else tuple(given)
    if not things:
        raise DcbenchError(f"{name} is empty: name at least one, or leave it out.")
    # Numbers of numpy, say, but not True.
    return tuple(
        int(each) if isinstance(each, Integral) and not isinstance(each, bool) else each for each in things
    )


def _path(given: Any) -> Path | None:
    if not isinstance(given, str | Path | None):
        raise DcbenchError(f"{given!r} is no path: give a string or a pathlib.Path.")
    return None if given is None else Path(given)
