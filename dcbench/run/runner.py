"""Carrying out a plan: what is left of it goes over the scheduler to those who work on it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from dcbench.condense.condensation import stored_set
from dcbench.core.architecture import Architecture
from dcbench.engine.engine import PLAIN, Engine
from dcbench.plugins import Plugins
from dcbench.results.provenance import changed_packages, sources
from dcbench.results.records import Record
from dcbench.results.store import Store
from dcbench.run.cells import Cell, Plan
from dcbench.run.events import Conditions
from dcbench.run.executors import Executor
from dcbench.run.executors.serial import Serial
from dcbench.run.scheduler import Outcome, Scheduler
from dcbench.utils.errors import DcbenchError


class Runner:
    """Carries out one plan into one results folder."""

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
        self.conditions = Conditions(plan.protocol, plan.budget, engine, checkpoint_every)
        pending = ((cell, len(plan.pending(cell, store, force))) for cell in plan.cells)
        self.todo = [
            (cell, trials)
            for cell, trials in pending  # without trials, the set alone is wanted
            if trials or not (cell.trials or (store.set_path(cell.spec).exists() and not force))
        ]
        self.outcome = Outcome()
        self._warn_of_changed_code()
        self._refuse_other_sets()

    def run(self) -> Outcome:
        """Do what is left to do. Failures are recorded, and the other cells go on.

        Raises:
            StorageError: when the results cannot be written.
        """
        scheduler = Scheduler(self.plan, self.todo, self.store, self.plugins, self.conditions, self.force)
        self.outcome = scheduler.outcome
        try:
            if self.todo:
                self.executor.run(scheduler)
        finally:
            scheduler.release()
        return self.outcome

    def _warn_of_changed_code(self) -> None:
        """Say when results of other code are taken as done."""
        changed = {
            name
            for cell in self.plan.cells
            for network, _, record in self.plan.trials(cell, self.store)
            for name in (_other_code(record, cell, network) if record else ())
        }
        for name in sorted(changed) if not self.force else ():
            warnings.warn(
                f"the code of {name} has changed since some of these results were made. "
                "If it computes something else now, raise its version, or run it again with force.",
                stacklevel=2,
            )

    def _refuse_other_sets(self) -> None:
        """Raise a `DcbenchError` where the results have another set of the same spec than one that was brought."""
        for cell, _ in self.todo:
            path, brought = self.store.set_path(cell.spec), cell.source.set_sha256
            stored = stored_set(cell.spec, cell.data.train, self.store) if brought else None
            if stored and stored[0].sha256() != brought:
                raise DcbenchError(f"{path} is another set of the same spec: choose another results folder.")


def _other_code(record: Record, cell: Cell, network: Architecture) -> Iterator[str]:
    """Name what is behind a record and has other code now; what the record does not know of is not named."""
    origin = cell.source.origin
    if record.source_sha256 != origin.source_sha256:
        yield record.method
    for part, digest in sources(origin, network).items():
        if record.sources.get(part, digest) != digest:
            yield str(getattr(record, part))
    for package in changed_packages(type(network), record.packages):
        yield f"{network}, which is {package}'s,"
