"""Carrying out a plan: condense, evaluate, record, and go on when a cell fails."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

import dcbench
from dcbench.architectures import Architecture
from dcbench.cells import Cell, Plan
from dcbench.condense import stored_set
from dcbench.condensed import CondensedSet
from dcbench.engine import PLAIN, Engine
from dcbench.errors import DcbenchError
from dcbench.evaluate import evaluate
from dcbench.plugins import Plugins
from dcbench.progress import Progress
from dcbench.provenance import describe_device, git_state, now
from dcbench.records import Record
from dcbench.report.picture import save_picture
from dcbench.specs import EvaluationSpec
from dcbench.store import Cost, Store


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        condensed: condensed sets made.
        evaluated: trials added.
        failures: records of what failed.
    """

    condensed: int = 0
    evaluated: int = 0
    failures: list[Record] = field(default_factory=list)


class Runner:
    """Carries out one plan into one results folder."""

    def __init__(
        self, plan: Plan, plugins: Plugins, store: Store, force: bool = False, engine: Engine = PLAIN
    ) -> None:
        """Find out what is left to do.

        Args:
            plan: what to do.
            plugins: whose observers are told.
            store: the results.
            force: do again what is done.
            engine: how to compute.
        """
        self.plan, self.plugins, self.store, self.force, self.engine = plan, plugins, store, force, engine
        pending = ((cell, plan.pending(cell, store, force)) for cell in plan.cells)
        self.todo = [(cell, trials) for cell, trials in pending if trials]
        self.outcome = Outcome()
        self._warn_of_changed_code()
        self._refuse_other_sets()
        self._run_done = 0
        self._run_total = sum(1 + len(trials) for _, trials in self.todo)

    def run(self) -> Outcome:
        """Do what is left to do. Failures are recorded, and the other cells go on."""
        with self.engine.active():
            self._run()
        return self.outcome

    def _run(self) -> None:
        for index, (cell, trials) in enumerate(self.todo):
            done_before = self._run_done
            condensed = self._condense(cell, index)
            if condensed is not None:
                set_sha256 = condensed.sha256()
                # A set that had to be made again, on other hardware say, may differ from what was evaluated.
                now_pending = self.plan.pending(cell, self.store, self.force, set_sha256)
                for number in range(len(now_pending)):
                    self._evaluate(cell, condensed, set_sha256, now_pending, number)
            self._run_done = done_before + 1 + len(trials)

    def _warn_of_changed_code(self) -> None:
        """Say when results of other code are taken as done."""
        changed = {
            cell.spec.method
            for cell in self.plan.cells
            for network, seed in cell.trials
            if (record := self.plan.find(cell, network, seed, self.store))
            and record.source_sha256 != cell.maker.origin.source_sha256
        }
        for name in sorted(changed) if not self.force else ():
            warnings.warn(
                f"the code of {name} has changed since some of these results were made. "
                "If it computes something else now, raise its version, or use --force.",
                stacklevel=2,
            )

    def _refuse_other_sets(self) -> None:
        """Raise a `DcbenchError` where the results have another set of the same spec than one that was brought."""
        for cell, _ in self.todo:
            path, brought = self.store.set_path(cell.spec), cell.maker.set_sha256
            stored = stored_set(cell.spec, cell.bench.train, self.store) if brought else None
            if stored and stored.sha256() != brought:
                raise DcbenchError(f"{path} is another set of the same spec: use other --results for yours.")

    def _condense(self, cell: Cell, index: int) -> CondensedSet | None:
        """Return the cell's condensed set, from the results or made now; None if that failed."""
        spec = cell.spec
        try:
            condensed = None if self.force else stored_set(spec, cell.bench.train, self.store)
            if condensed is None:
                alike = [other for other, _ in self.todo[index:] if other.work == cell.work]
                report = self._reporter("condense", cell.work, f"seed {spec.seed}", len(alike))
                train, store, afresh = cell.bench.train, self.store, self.force
                condensed = cell.maker.make(spec, train, store, report, afresh)
                self.outcome.condensed += 1
                store.picture_path(spec).unlink(missing_ok=True)
        except Exception as error:
            self._record_failure(cell, error)
            return None
        self._draw(cell, condensed)
        self._run_done += 1
        return condensed

    def _draw(self, cell: Cell, condensed: CondensedSet) -> None:
        """Draw the set's picture unless it is there. A set whose picture fails is none the worse."""
        path = self.store.picture_path(cell.spec)
        if path.exists():
            return
        try:
            save_picture(path, condensed, cell.bench.info, cell.spec.ipc)
        except Exception as error:
            warnings.warn(f"no picture of {cell.work}: {type(error).__name__}: {error}", stacklevel=2)

    def _evaluate(
        self,
        cell: Cell,
        condensed: CondensedSet,
        set_sha256: str,
        trials: list[tuple[Architecture, int]],
        number: int,
    ) -> None:
        """Run one trial and record it."""
        network, seed = trials[number]
        left = sum(1 for other, _ in trials[number:] if other == network)
        work = f"{network} on {len(condensed.images)} images of {cell.spec.dataset}"
        report = self._reporter("evaluate", work, f"{cell.work}, seed {seed}", left)
        spec = EvaluationSpec(
            set_sha256=set_sha256,
            dataset=cell.spec.dataset,
            dataset_sha256=cell.spec.dataset_sha256,
            evaluation_network=str(network),
            protocol=self.plan.protocol.name,
            budget=self.plan.budget.name,
            seed=seed,
        )
        started_at = now()
        try:
            test = cell.bench.test_for(condensed)
            trial = evaluate(spec, condensed, test, network, self.plan.protocol, self.plan.budget, report)
        except Exception as error:
            self._record_failure(cell, error, spec)
            return
        self._add(
            cell,
            status="ok",
            key=spec.key(),
            set_sha256=spec.set_sha256,
            evaluation_network=spec.evaluation_network,
            track=condensed.track,
            eval_seed=seed,
            accuracy=trial.accuracy,
            eval_seconds=round(trial.seconds, 3),
            storage_bytes=condensed.storage_bytes,
            started_at=started_at,
        )
        self.outcome.evaluated += 1
        self._run_done += 1

    def _record_failure(self, cell: Cell, error: Exception, trial: EvaluationSpec | None = None) -> None:
        """Record what failed, and keep the traceback."""
        key = trial.key() if trial else cell.spec.key()
        self.store.write_traceback(key, "".join(traceback.format_exception(error)))
        record = self._add(
            cell,
            status="failed",
            error=f"{type(error).__name__}: {error}",
            key=key,
            set_sha256=trial.set_sha256 if trial else None,
            evaluation_network=trial.evaluation_network if trial else None,
            track=None,
            eval_seed=trial.seed if trial else None,
            accuracy=None,
            eval_seconds=None,
            storage_bytes=None,
            started_at=now(),
        )
        self.outcome.failures.append(record)

    def _add(self, cell: Cell, *, status: Literal["ok", "failed"], **fields: Any) -> Record:
        """Write a record with what the cell and the machine say, and tell the observers."""
        spec, cost = cell.spec, self.store.read_cost(cell.spec)
        git_sha, git_dirty = git_state()
        record = Record(
            status=status,
            condense_key=spec.key(),
            dataset=spec.dataset,
            dataset_sha256=spec.dataset_sha256,
            ipc=spec.ipc,
            method=spec.method,
            method_version=spec.method_version,
            options=spec.options,
            changed_options=list(cell.maker.origin.changed_options),
            matching_network=spec.matching_network,
            condense_seed=spec.seed,
            seeded=cell.maker.origin.seeded,
            protocol=self.plan.protocol.name,
            budget=self.plan.budget.name,
            engine=self._engine_name(cost),
            n_test=len(cell.bench.data.test.labels),
            condense_seconds=round(cost.seconds, 3) if cost else None,
            peak_memory_bytes=cost.peak_memory_bytes if cost else None,
            plugin=cell.maker.origin.distribution,
            plugin_version=cell.maker.origin.version,
            source_sha256=cell.maker.origin.source_sha256,
            device=describe_device(self.plan.device),
            torch=torch.__version__,
            dcbench=dcbench.__version__,
            git_sha=git_sha,
            git_dirty=git_dirty,
            **fields,
        )
        self.store.append(record)
        self.plugins.observe("dcbench_record_added", record=record)
        return record

    def _engine_name(self, cost: Cost | None) -> str:
        """Return the engine, or both where another one made the set."""
        ours = self.engine.statement()
        if cost is None or cost.engine == ours:
            return ours
        return f"{cost.engine} to condense, {ours} to evaluate"

    def _reporter(
        self, phase: Literal["condense", "evaluate"], work: str, piece: str, left: int
    ) -> Callable[[int, int], None]:
        """Return the callback that passes a piece's steps on to the observers; says that it starts."""
        # The callback is handed to methods, so it must not lead to the runner, which has the test split.
        observe, run_done, run_total = self.plugins.observe, self._run_done, self._run_total

        def report(done: int, total: int) -> None:
            moment = Progress(phase, work, piece, done, total, left, run_done, run_total)
            observe("dcbench_progress", progress=moment)

        report(0, 0)
        return report
