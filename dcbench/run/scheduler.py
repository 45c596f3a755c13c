"""The scheduler of a run: it hands the cells of a plan out to an executor, and handles what comes of them.

Only the scheduler appends records, so a worker that was given up can add nothing later. It holds the lock of every
cell that is being worked on, so each cell is done by one of two runs on the same folder.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from filelock import BaseFileLock

from dcbench.condense.condensation import stored_set
from dcbench.core.architecture import Architecture
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.measure import Measure
from dcbench.core.spec import CondenseSpec
from dcbench.engine.engine import PLAIN, Engine
from dcbench.hookspecs import Progress
from dcbench.plugins import Plugins
from dcbench.results.provenance import changed_packages, now, sources
from dcbench.results.records import Record
from dcbench.results.store import Store
from dcbench.run.cell_runner import describe_work
from dcbench.run.cells import Cell, Plan
from dcbench.run.events import Assignment, Conditions, Event, Ready, Recorded, Step, TrialName, Warned
from dcbench.run.executors import Executor
from dcbench.run.executors.serial import Serial
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import remove
from dcbench.utils.wording import counted

ATTEMPTS = 3
"""After so many attempts that ended with the death of the worker, the cell has failed."""
POLL_SECONDS = 0.5

DatasetKey = tuple[str, str]
"""Name and hash of a data set."""


@dataclass
class Outcome:
    """What a run did: condensed sets made, trials added, records of what failed."""

    condensed: int = 0
    evaluated: int = 0
    failures: list[Record] = field(default_factory=list)


class Scheduler:
    """Hands out what is left of a plan, and keeps its results in one folder.

    ``slots`` says how many cells are worked on at once.
    """

    def __init__(
        self,
        plan: Plan,
        plugins: Plugins,
        store: Store,
        force: bool = False,
        engine: Engine = PLAIN,
        executor: Executor | None = None,
        checkpoint_every: float | None = None,
    ) -> None:
        """Find out what is left to do; with ``force``, everything is.

        The executor works on the cells; by default it is this process, one cell after the other.
        """
        self.plan, self.plugins, self.store, self.force = plan, plugins, store, force
        self.executor = executor or Serial()
        self.conditions = Conditions(plan.protocol, plan.budget, engine, checkpoint_every, plan.measures)
        pending = ((cell, len(plan.pending(cell, store, force))) for cell in plan.cells)
        todo = [
            (cell, trials)
            for cell, trials in pending  # without trials, the set alone is wanted
            if trials or not (cell.trials or (store.set_path(cell.spec).exists() and not force))
        ]
        self.cells = [cell for cell, _ in todo]
        self.outcome = Outcome()
        self.slots = 1
        self._pieces = [1 + trials for _, trials in todo]
        self._done = [0] * len(todo)
        self._waiting = deque(range(len(todo)))
        self._locks: dict[int, BaseFileLock] = {}
        self._begun: Counter[int] = Counter()
        self._added: dict[int, dict[TrialName, str]] = {}
        self._alike = Counter(cell.spec.work for cell in self.cells)
        self._ready: set[int] = set()
        self._failed: set[int] = set()
        self._warned = False
        self._by_seed: dict[str, list[Cell]] = defaultdict(list)
        for cell in plan.cells:
            self._by_seed[_but_for_the_seed(cell.spec)].append(cell)
        self._warn_of_changed_code()
        self._refuse_other_sets()

    def run(self) -> Outcome:
        """Do what is left to do. Failures are recorded, and the other cells go on.

        Raises:
            StorageError: when the results cannot be written.
        """
        try:
            if self.cells:
                self.executor.run(self)
        finally:
            while self._locks:
                number, lock = self._locks.popitem()
                lock.release()
                self._tell_end(number, "interrupted")
        return self.outcome

    def datasets(self) -> dict[DatasetKey, LoadedDataset]:
        """Return the data sets of the cells."""
        return {(cell.spec.dataset, cell.spec.dataset_sha256): cell.data for cell in self.cells}

    @property
    def left(self) -> int:
        """How many cells nobody works on yet."""
        return len(self._waiting)

    def next_cell(self) -> Assignment | None:
        """Return the next cell to work on; None if there is none, or other runs work on all that are left."""
        for _ in range(len(self._waiting)):
            number = self._waiting.popleft()
            lock = self.store.try_lock(self.cells[number].spec.key())
            if lock is None:
                self._waiting.append(number)
                continue
            self._locks[number] = lock
            assignment = self._assign(number)
            if assignment is not None:
                return assignment
            self.complete(number)
        return None

    def wait_for_others(self) -> None:
        """Wait a moment for cells that other runs are working on."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"another run on {self.store.root} is working on {counted(self.left, 'cell')} of this one, too; "
                "waiting for it.",
                stacklevel=2,
            )
        time.sleep(POLL_SECONDS)

    def _assign(self, number: int) -> Assignment | None:
        """Return a cell with what is left of it now; None if another run has done it in the meantime."""
        cell, store = self.cells[number], self.store
        store.refresh()
        if self.force:
            recorded = self._added.get(number, {})
        elif self.plan.pending(cell, store) or not (cell.trials or store.set_path(cell.spec).exists()):
            records = (record for *_, record in self.plan.trials(cell, store) if record)
            recorded = {_trial_of(record): str(record.set_sha256) for record in records}
        else:
            return None
        self._begun[number] += 1
        afresh = self.force and number not in self._ready
        if afresh and self._begun[number] == 1:  # a later one is of this run, whose worker died
            remove(store.checkpoint_path(cell.spec))
        return Assignment(number, cell.spec, cell.source, cell.trials, recorded, afresh, self._others(cell))

    def _others(self, cell: Cell) -> frozenset[str]:
        """Return the hashes of the sets of smaller seeds that were evaluated, as far as the results have them."""
        alike = self._by_seed[_but_for_the_seed(cell.spec)]
        smaller = (other for other in alike if other.spec.seed < cell.spec.seed)
        records = (record for other in smaller for *_, record in self.plan.trials(other, self.store))
        return frozenset(str(record.set_sha256) for record in records if record)

    def handle(self, event: Event, slot: int = 0) -> None:
        """Keep a record, or tell the observers and the user what happens; ``slot`` is the worker's number."""
        match event:
            case Step():
                self._show(event, slot)
            case Ready():
                if event.number not in self._ready:
                    self._count_piece(event.number)
                self._ready.add(event.number)
                self._tell_set(self.cells[event.number].spec)
                self.outcome.condensed += event.made
            case Recorded():
                self._add(event.number, event.record)
            case Warned():
                warnings.warn(event.text, stacklevel=2)

    def complete(self, number: int) -> None:
        """Count a cell as worked on, and release its lock."""
        self._done[number] = self._pieces[number]
        self._alike[self.cells[number].spec.work] -= 1
        lock = self._locks.pop(number)
        if number not in self._failed:
            self.store.remove_lock(self.cells[number].spec.key())
        lock.release()
        self._tell_end(number, "failed" if number in self._failed else "done")

    def requeue(self, number: int, reason: str) -> None:
        """Take back a cell whose worker died for some reason. After the last attempt it has failed."""
        cell = self.cells[number]
        if self._begun[number] < ATTEMPTS:
            warnings.warn(f"a worker died on {cell.spec.work}, seed {cell.spec.seed} ({reason}).", stacklevel=2)
            self._locks.pop(number).release()
            self._waiting.appendleft(number)
            return
        record = describe_work(
            cell.spec,
            cell.data,
            cell.source.origin,
            self.conditions,
            self.store,
            status="failed",
            error=f"the worker died {ATTEMPTS} times, the last time: {reason}",
            key=cell.spec.key(),
            started_at=now(),
        )
        self._add(number, record)
        self.complete(number)

    def _add(self, number: int, record: Record) -> None:
        self.store.append(record)
        self.plugins.observe("dcbench_record_added", record=record, spec=self.cells[number].spec)
        if record.status == "failed":
            self.outcome.failures.append(record)
            self._failed.add(number)
            return
        self._added.setdefault(number, {})[_trial_of(record)] = str(record.set_sha256)
        self.outcome.evaluated += 1
        self._count_piece(number)

    def _count_piece(self, number: int) -> None:
        self._done[number] = min(self._done[number] + 1, self._pieces[number])

    def _show(self, step: Step, slot: int) -> None:
        spec = self.cells[step.number].spec
        left = self._alike[spec.work] if step.phase == "condense" else step.left
        piece = (step.phase, step.work, step.piece, step.done, step.total, left)
        slot += self.slots * step.slot
        moment = Progress(*piece, sum(self._done), sum(self._pieces), slot, spec, step.loss)
        self.plugins.observe("dcbench_progress", progress=moment)

    def _tell_set(self, spec: CondenseSpec) -> None:
        path, picture = self.store.set_path(spec), self.store.picture_path(spec)
        self.plugins.observe(
            "dcbench_set_added", spec=spec, path=path, picture=picture if picture.exists() else None
        )

    def _tell_end(self, number: int, status: str) -> None:
        self.plugins.observe("dcbench_cell_ended", spec=self.cells[number].spec, status=status)

    def _warn_of_changed_code(self) -> None:
        """Say when results of other code are taken as done."""
        changed = {
            name
            for cell in self.plan.cells
            for network, _, measure, record in self.plan.trials(cell, self.store)
            for name in (_other_code(record, cell, network, measure) if record else ())
        }
        for name in sorted(changed) if not self.force else ():
            warnings.warn(
                f"the code of {name} has changed since some of these results were made. "
                "If it computes something else now, raise its version, or run it again with force.",
                stacklevel=2,
            )

    def _refuse_other_sets(self) -> None:
        """Raise a `DcbenchError` where the results have another set of the same spec than one that was brought."""
        for cell in self.cells:
            path, brought = self.store.set_path(cell.spec), cell.source.set_sha256
            stored = stored_set(cell.spec, cell.data.train, self.store) if brought else None
            if stored and stored[0].sha256() != brought:
                raise DcbenchError(f"{path} is another set of the same spec: choose another results folder.")


def _other_code(record: Record, cell: Cell, network: Architecture, measure: Measure) -> Iterator[str]:
    """Name what is behind a record and has other code now; what the record does not know of is not named."""
    origin = cell.source.origin
    if record.source_sha256 != origin.source_sha256:
        yield record.method
    for part, digest in sources(origin, network, measure).items():
        if record.sources.get(part, digest) != digest:
            yield str(getattr(record, part))
    for package in changed_packages(type(network), record.packages):
        yield f"{network}, which is {package}'s,"


def _trial_of(record: Record) -> TrialName:
    return str(record.evaluation_network), int(record.eval_seed or 0), record.measure


def _but_for_the_seed(spec: CondenseSpec) -> str:
    return spec.model_copy(update={"seed": 0}).key()
