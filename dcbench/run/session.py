"""A run from outside: what the command and the Python interface have in common.

What is asked for becomes a plan, the plan is carried out with progress bars, and what came of it is returned.
Nothing here prints a table or ends the process.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dcbench.core.architecture import Architecture
from dcbench.core.dataset import Dataset
from dcbench.core.measure import Measure
from dcbench.core.method import Method
from dcbench.core.spec import get_budget
from dcbench.engine.engine import choose_engine
from dcbench.evaluate.accuracy import ACCURACY
from dcbench.evaluate.protocols import get_protocol
from dcbench.plugins import Plugins
from dcbench.results.records import Record
from dcbench.results.store import Store
from dcbench.run import defaults
from dcbench.run.cells import Cell, Plan
from dcbench.run.display import Display
from dcbench.run.executors import Executor
from dcbench.run.executors.processes import Processes
from dcbench.run.executors.serial import Serial
from dcbench.run.imported_sets import worse_than_guessing
from dcbench.run.objects import Build, dataset_of, measure_of
from dcbench.run.observer import Observer
from dcbench.run.plan import Request, unique
from dcbench.run.scheduler import Outcome, Scheduler
from dcbench.utils.devices import choose_device
from dcbench.utils.errors import DcbenchError, StorageError
from dcbench.utils.files import default_data_root, ensure_writable
from dcbench.utils.interruption import asked, stopped_by_signals


@dataclass(frozen=True)
class Execution:
    """How and where a plan is carried out. The options of `dcbench run` of these names say more.

    Attributes:
        device, engine: what computes.
        jobs: cells to work on at once, each in a process of its own.
        threads: of each cell.
        executor: ``local`` or ``ray``.
        address, cpus_per_cell, gpus_per_cell, memory_per_cell: for Ray.
        results: folder of the results.
        checkpoint_every: seconds between two checkpoints of a condensation, at least.
        force: whether what is done is done again.
        observe: observers that are told what happens, by name or as objects.
    """

    device: str = "auto"
    engine: str = "auto"
    jobs: int | None = None
    threads: int | None = None
    executor: str = "local"
    address: str | None = None
    cpus_per_cell: float | None = None
    gpus_per_cell: float | None = None
    memory_per_cell: float | None = None
    results: Path = Path("results")
    checkpoint_every: float | None = None
    force: bool = False
    observe: tuple[str | Observer, ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers that are too small."""
        check_number("jobs", self.jobs)
        check_number("threads", self.threads)
        for name in ("checkpoint_every", "cpus_per_cell", "gpus_per_cell", "memory_per_cell"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and value >= 0):
                raise DcbenchError(f"{name} must be a number of at least 0, not {value!r}.")

    def observers(self, plugins: Plugins) -> list[Observer]:
        """Return the observers; a `DcbenchError` says that there is none of a name, or what its options are."""
        made = (plugins.make_observer(each) if isinstance(each, str) else each for each in self.observe)
        return list(dict.fromkeys(made))

    def choose_executor(self, device: torch.device) -> Executor:
        """Return who works on the cells of a plan for this device.

        Raises:
            DcbenchError: for options that do not go together, or when Ray is not there.
        """
        if self.executor == "ray":
            return self._cluster(device)
        if self.executor != "local":
            raise DcbenchError(f"executor {self.executor!r}: use local or ray.")
        for name in ("address", "cpus_per_cell", "gpus_per_cell", "memory_per_cell"):
            if getattr(self, name) is not None:
                raise DcbenchError(f"{name} goes with the executor ray.")
        if self.jobs is not None and self.jobs > 1:
            return Processes(self.jobs, self.threads or max(1, torch.get_num_threads() // self.jobs))
        return Serial()

    def _cluster(self, device: torch.device) -> Executor:
        kind, _, index = self.device.partition(":")
        if index:
            raise DcbenchError(f"device {self.device}: Ray says which GPU a cell gets; choose the device cuda.")
        if self.gpus_per_cell is not None and kind == ("cpu" if self.gpus_per_cell else "cuda"):
            raise DcbenchError(f"the device {kind} does not go with {self.gpus_per_cell:g} GPUs per cell.")
        from dcbench.run.executors.ray_cluster import Needs, RayCluster

        cpus = self.cpus_per_cell or 1.0
        gpus = float(device.type == "cuda") if self.gpus_per_cell is None else self.gpus_per_cell
        memory = int(self.memory_per_cell * 2**30) if self.memory_per_cell else None
        threads = self.threads or max(1, int(cpus))
        return RayCluster(Needs(cpus, gpus, memory), threads, self.engine, self.address, self.jobs)


@dataclass(frozen=True)
class Completed:
    """What came of a plan.

    Attributes:
        plan: what was to be done.
        store: the results.
        outcome: what was done now, and what failed.
        records: the successful records of all trials of the plan, older ones too.
        made: the cells whose condensed sets were not there before.
    """

    plan: Plan
    store: Store
    outcome: Outcome
    records: list[Record]
    made: list[Cell]


class Interrupted(KeyboardInterrupt):
    """A signal interrupted a run; says what is kept, and where.

    Attributes:
        signal: its number.
    """

    def __init__(self, message: str, number: int) -> None:
        """Take what is to be said."""
        super().__init__(message)
        self.signal = number


def new_request(
    plugins: Plugins,
    *,
    methods: Sequence[str | Method] = (),
    datasets: Sequence[str | Dataset] = (),
    ipcs: Sequence[int] = (),
    networks: Sequence[str | Architecture | Build] = (),
    eval_networks: Sequence[str | Architecture | Build] = (),
    options: Mapping[str, Any] | None = None,
    budget: str | None = None,
    sets: int | None = None,
    evals: int | None = None,
    protocol: str | None = None,
    measures: Sequence[str | Measure] = (),
    seed: int = 0,
    baselines: bool | None = None,
    replacement: bool = False,
    extend: bool = False,
    validation: float | None = None,
    device: str = "auto",
    data_root: Path | None = None,
) -> Request:
    """Return what a user asks for; what is left out is as `dcbench run` has it.

    Raises:
        DcbenchError: for a budget, a protocol or a device that is not there, or a number that is too small.
    """
    for name, text in (("budget", budget), ("protocol", protocol), ("device", device)):
        if not isinstance(text, str | None):
            raise DcbenchError(f"{name} must be a name, not {text!r}.")
    if not isinstance(options or {}, Mapping) or not all(isinstance(key, str) for key in options or {}):
        raise DcbenchError(f"options must be a dictionary with names of options, not {options!r}.")
    for ipc in ipcs:
        check_number("ipc", ipc)
    check_number("sets", sets)
    check_number("evals", evals)
    check_number("seed", seed, least=0)
    chosen = get_budget(budget or ("full" if datasets else "quick"))
    usual = defaults.EVAL_NETWORKS if chosen.official else defaults.QUICK_EVAL_NETWORKS
    wanted = not datasets if baselines is None else baselines
    named = tuple(datasets) or (defaults.DATASET,)
    if validation is not None:
        if not 0 < validation < 1:
            raise DcbenchError(f"validation must be a share between 0 and 1, not {validation!r}.")
        named = tuple(dataset_of(each, plugins).holding_out(validation) for each in named)
    return Request(
        datasets=named,
        methods=tuple(methods) or defaults.METHODS,
        ipcs=tuple(ipcs) or (defaults.IPC,),
        networks=tuple(networks) or (defaults.NETWORK,),
        eval_networks=tuple(eval_networks) or usual,
        options=options or {},
        protocol=get_protocol(protocol or defaults.PROTOCOL, plugins.make_architecture),
        budget=chosen,
        sets=sets or chosen.sets,
        evals=evals or chosen.evals,
        seed=seed,
        device=choose_device(device),
        data_root=data_root or default_data_root(),
        # An installation without these plugins runs without them.
        baselines=tuple(name for name in defaults.BASELINES if wanted and name in plugins.methods.items),
        replacement=replacement,
        extend=extend,
        measures=tuple(unique(measure_of(each, plugins) for each in measures)) or (ACCURACY,),
    )


def carry_out(plan: Plan, plugins: Plugins, execution: Execution, progress: bool = True) -> Completed:
    """Carry out a plan, with progress bars on standard error or in the notebook if asked.

    The observers of the plugins are told. Global state, such as torch's number of threads, is as before when this
    returns or raises.

    Raises:
        DcbenchError: when the results cannot be written. What was done is kept.
        Interrupted: when the user interrupts.
    """
    executor = execution.choose_executor(plan.device)
    if not isinstance(executor, Serial):
        _refuse_code_without_file(plan)
    freely = execution.threads is None
    engine = choose_engine(execution.engine, plan.device, plan.budget.long, side_by_side=freely)
    ensure_writable(execution.results)
    with ExitStack() as afterwards:
        for observer in execution.observers(plugins):
            observer.start(execution.results)
            plugins.manager.register(observer, str(observer))
            afterwards.callback(plugins.manager.unregister, observer)
        afterwards.callback(torch.set_num_threads, torch.get_num_threads())
        if execution.threads is not None and isinstance(executor, Serial):
            torch.set_num_threads(execution.threads)
        afterwards.enter_context(stopped_by_signals())
        store = Store(execution.results)
        made = [cell for cell in plan.cells if execution.force or not store.set_path(cell.spec).exists()]
        before = len(store.records)
        try:
            with Display(plan.budget, plugins) if progress else nullcontext():
                store.clear_left_over()
                every = execution.checkpoint_every
                outcome = Scheduler(plan, plugins, store, execution.force, engine, executor, every).run()
        except StorageError as error:
            raise DcbenchError(
                f"{error} What was done is kept in {store.root}. When this is solved, run the same again to go on."
            ) from error
        except KeyboardInterrupt:
            # As they are in the folder: the runner may not have counted the last.
            kept = [f"{len(Store(store.root).records) - before} new records"]
            states = [cell.spec for cell in plan.cells if store.checkpoint_path(cell.spec).exists()]
            kept += [f"the state of {spec.work}, seed {spec.seed}" for spec in states]
            told = f"Interrupted. Kept in {store.root}: {'; '.join(kept)}. Run the same again to go on"
            raise Interrupted(told, asked() or signal.SIGINT) from None
        records = plan.covered(store)
        for data in {id(cell.data): cell.data for cell in plan.cells}.values():
            for text in worse_than_guessing(records, data.info):
                warnings.warn(text, stacklevel=2)
        return Completed(plan, store, outcome, records, made)


def _refuse_code_without_file(plan: Plan) -> None:
    """Refuse components that other processes cannot import."""
    if hasattr(sys.modules["__main__"], "__file__"):
        return
    for cell in plan.cells:
        source = [getattr(cell.source, name, None) for name in ("method", "architecture")]
        for each in (*source, *(network for network, _ in cell.trials), *plan.measures):
            if type(each).__module__ == "__main__":
                raise DcbenchError(f"{each} is defined in a notebook: leave out jobs, or move it into a module.")


def check_number(name: str, value: object, least: int = 1) -> None:
    """Raise a `DcbenchError` for what is neither None nor a whole number of at least so much."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise DcbenchError(f"{name} must be a whole number of at least {least}, not {value!r}.")


def describe_failures(records: Iterable[Record]) -> list[str]:
    """Return what failed, and why; an error that several share, such as that of a teacher, stands once."""
    alike: dict[str, dict[str, None]] = {}
    for record in records:
        where = f", ipc {record.ipc}" if record.ipc is not None else ""
        where += f", on {record.evaluation_network}" if record.evaluation_network else ""
        alike.setdefault(record.error, {})[f"{record.method} on {record.dataset}{where}"] = None
    return [f"{'; '.join(places)}: {error}" for error, places in alike.items()]
