"""The Python interface: what the command does, for notebooks and programs.

::

    import dcbench

    results = dcbench.run(methods=["gradmatch", "random"], dataset="digits", ipc=[1, 10], budget="quick")
    results.table(dataset="digits", ipc=1)

Cache, locks, keys and records are the command's: what one has done, the other finds done. Names are those of the
command line. Nothing is printed but progress, the process never ends, and a mistake raises `DcbenchError`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from dcbench.utils.errors import DcbenchError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

    from dcbench.core.architecture import Architecture
    from dcbench.core.dataset import Dataset
    from dcbench.core.method import Method
    from dcbench.core.split import ResidentSplit
    from dcbench.formats.foreign import ForeignFile, Pixels
    from dcbench.leaderboard.results import Results
    from dcbench.plugins import Plugins
    from dcbench.results.condensed import Condensed
    from dcbench.run.cells import Plan
    from dcbench.run.objects import Build
    from dcbench.run.plan import Request
    from dcbench.run.session import Completed, Execution

__all__ = ["DcbenchError", "condense", "evaluate", "leaderboard", "load_set", "run"]

P = ParamSpec("P")
T = TypeVar("T")
_running = threading.Lock()
"""Held while this process carries out a run: threads and generators of torch are the whole process's."""


def _alone(function: Callable[P, T]) -> Callable[P, T]:
    """Let no two runs be under way in this process at once."""

    @wraps(function)
    def alone(*args: P.args, **words: P.kwargs) -> T:
        if not _running.acquire(blocking=False):
            raise DcbenchError("a run is under way in this process: wait for it, or start another process.")
        try:
            return function(*args, **words)
        finally:
            _running.release()

    return alone


@_alone
def run(
    methods: str | Method | Sequence[str | Method] = (),
    dataset: str | Dataset | Sequence[str | Dataset] = (),
    ipc: int | Sequence[int] = (),
    *,
    networks: str | Architecture | Build | Sequence[str | Architecture | Build] = (),
    matching_network: str | Architecture | Build | Sequence[str | Architecture | Build] = (),
    options: Mapping[str, Any] | None = None,
    budget: str | None = None,
    sets: int | None = None,
    evals: int | None = None,
    protocol: str = "dc",
    seed: int = 0,
    baselines: bool | None = None,
    data_root: str | Path | None = None,
    progress: bool = True,
    **execution: Any,
) -> Results:
    """Condense, train fresh networks on the result, record every trial: `dcbench run`.

    What is left out is as the command has it: ``dcbench.run()`` condenses real digits. Lists multiply.

    Args:
        methods: names, or instances of `dcbench.api.Method`.
        dataset: names, or instances of `dcbench.api.Dataset`.
        ipc: images per class.
        networks: the evaluation networks: names, instances of `dcbench.api.Architecture`, or classes or functions
            that build a module. These are called with a `dcbench.api.DatasetInfo`, or with nothing if they take
            nothing.
        matching_network: what a method matches on or takes features of, given like ``networks``.
        options: of the methods, as ``{"iterations": 20}`` or ``{"gradmatch.iterations": 20}``.
        budget: ``full``, or ``quick`` for a first look. None is full where a data set is named.
        sets: condensed sets for each combination.
        evals: evaluation networks for each set and architecture.
        protocol: how evaluation networks are trained.
        seed: the first seed.
        baselines: whether to run the baselines, too. None runs them where no data set is named.
        data_root: folder of the data sets.
        progress: whether to show progress bars, in a terminal or a notebook.
        execution: how and where: ``results`` (a folder), ``device``, ``engine``, ``jobs``, ``threads``,
            ``force``, ``checkpoint_every``; for a cluster ``executor``, ``address``, ``cpus_per_cell``,
            ``gpus_per_cell`` and ``memory_per_cell``. `dcbench run --help` says what they mean.

    Raises:
        DcbenchError: for whatever cannot be served, before any work; or when results cannot be written.
    """
    from dcbench.run.plan import make_plan

    plugins, how, request = _asked(
        execution,
        data_root,
        methods=_listed(methods),
        datasets=_listed(dataset),
        ipcs=_listed(ipc),
        networks=_listed(matching_network),
        eval_networks=_listed(networks),
        options=options,
        budget=budget,
        sets=sets,
        evals=evals,
        protocol=protocol,
        seed=seed,
        baselines=baselines,
    )
    return _results(_carry_out(make_plan(request, plugins), plugins, how, progress))


@_alone
def condense(
    method: str | Method,
    dataset: str | Dataset,
    ipc: int = 1,
    *,
    matching_network: str | Architecture | Build = (),  # type: ignore[assignment]
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
    from dcbench.run.session import describe_failure

    plugins, how, request = _asked(
        execution,
        data_root,
        methods=(method,),
        datasets=(dataset,),
        ipcs=(ipc,),
        networks=_listed(matching_network),
        options=options,
        budget=budget,
        sets=1,
        seed=seed,
    )
    plan = make_plan(request, plugins)
    (cell,) = plan.cells
    completed = _carry_out(replace(plan, cells=(replace(cell, trials=()),)), plugins, how, progress)
    if completed.outcome.failures:
        raise DcbenchError(describe_failure(completed.outcome.failures[0]))
    return Condensed.read(completed.store.set_path(cell.spec), cell.data.train)


@_alone
def evaluate(
    images: Tensor | Condensed | str | Path | Sequence[str | Path],
    labels: Tensor | str | Path | None = None,
    *,
    dataset: str | Dataset,
    normalised: bool = False,
    raw: bool = False,
    zca: bool = False,
    networks: str | Architecture | Build | Sequence[str | Architecture | Build] = (),
    method: str | None = None,
    matched_on: str | None = None,
    evals: int | None = None,
    protocol: str = "dc",
    budget: str = "full",
    seed: int = 0,
    data_root: str | Path | None = None,
    progress: bool = True,
    **execution: Any,
) -> Results:
    """Train fresh networks on condensed images made anywhere, and test them: `dcbench evaluate`.

    Args:
        images: uint8 or floating, shape (N, C, H, W); or a file or folder that the command reads, several of them,
            or a set of `condense` or `load_set`.
        labels: integers of shape (N,), or probabilities of shape (N, K); or the file with the labels.
        dataset: to test on.
        normalised: images are normalised by the data set's mean and deviation.
        raw: images are pixels from 0 to 1. uint8 always is raw.
        zca: images are pixels that were ZCA-whitened; the test images are whitened then, too.
        networks: as of `run`.
        method: who made the images, as the row is to be named.
        matched_on: the network that they were matched on.
        evals, protocol, budget, seed, data_root, progress, execution: as of `run`.

    Raises:
        DcbenchError: for images or labels that do not fit the data set, and for whatever else cannot be served.
    """
    from dcbench.run.imported_sets import Claim, plan_imports

    said = [name for name, given in (("normalised", normalised), ("raw", raw), ("zca", zca)) if given]
    if len(said) > 1:
        raise DcbenchError(f"images are one of {' and '.join(said)}, not both.")
    pixels = cast("Pixels | None", said[0] if said else None)
    plugins, how, request = _asked(
        execution,
        data_root,
        datasets=(dataset,),
        eval_networks=_listed(networks),
        budget=budget,
        evals=evals,
        protocol=protocol,
        seed=seed,
    )
    paths, label_file = _sets_to_judge(images, labels, pixels)
    plan, _ = plan_imports(paths, Claim(method, matched_on, pixels, label_file), request, plugins)
    return _results(_carry_out(plan, plugins, how, progress))


def leaderboard(folder: str | Path = "leaderboards") -> Results:
    """Return the records of a leaderboard, or of the results of a run, that may enter a table.

    Raises:
        DcbenchError: when there are none, or a file cannot be read.
    """
    from dcbench.leaderboard.board import read_leaderboard
    from dcbench.leaderboard.results import Results
    from dcbench.leaderboard.scores import official

    board = read_leaderboard(Path(folder))
    records = [record for each in board.submissions for record in official(each.records)]
    if not records:
        raise DcbenchError(f"{folder} has no records that may enter a table.")
    return Results(records, Path(folder), rules=board.rules)


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

    return Condensed.read(Path(path), train)


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
    how = Execution(**{**words, "results": Path(words.get("results", "results"))})
    plugins = Plugins.load()
    return plugins, how, new_request(plugins, device=how.device, data_root=_path(data_root), **asked)


def _carry_out(plan: Plan, plugins: Plugins, execution: Execution, progress: bool) -> Completed:
    from dcbench.run.session import carry_out

    return carry_out(plan, plugins, execution, progress)


def _results(completed: Completed) -> Results:
    from dcbench.leaderboard.results import Results
    from dcbench.run.session import describe_failure

    for record in completed.outcome.failures:
        warnings.warn(f"failed: {describe_failure(record)}", stacklevel=5)
    return Results(completed.records, completed.store.root, completed.outcome.failures)


def _sets_to_judge(
    images: Any, labels: Any, pixels: Pixels | None
) -> tuple[tuple[Path | ForeignFile, ...], Path | None]:
    """Return what is to be judged, and the file with the labels if there is one."""
    from dcbench.formats.foreign import from_tensors
    from dcbench.results.condensed import Condensed

    if isinstance(images, Condensed):
        return (images.path,), None
    if isinstance(images, str | Path):
        return (Path(images),), _path(labels)
    if isinstance(images, Sequence) and all(isinstance(each, str | Path) for each in images):
        return tuple(map(Path, images)), _path(labels)
    if labels is None:
        raise DcbenchError("labels are missing: give those of the images, of shape (N,) or (N, K).")
    return (from_tensors(images, labels, pixels),), None


def _listed(given: Any) -> tuple[Any, ...]:
    """Return one or several things as a tuple."""
    return tuple(given) if isinstance(given, list | tuple | range) else (given,)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
