"""The work on one cell: condense, evaluate, and tell what comes of it.

It is the same in the process of the run, in another process, and on another machine.
`dcbench.run.scheduler` keeps the records and holds the locks.
"""

from __future__ import annotations

import traceback
import warnings
import weakref
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch

import dcbench
from dcbench.condense.checkpoint import checkpointing_every
from dcbench.condense.condensation import StepReport, stored_set
from dcbench.condense.trained_networks import Report, TrainedNetworks
from dcbench.core.architecture import Architecture
from dcbench.core.condensed_set import CondensedSet, Origin
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.measure import Measure
from dcbench.core.spec import CondenseSpec, EvaluationSpec
from dcbench.core.split import ResidentSplit
from dcbench.core.trained_network import TrainedNetwork
from dcbench.engine.memory import free_what_failed, is_out_of_memory
from dcbench.evaluate.accuracy import ACCURACY
from dcbench.evaluate.asking import Answer
from dcbench.evaluate.protocol import EvaluationProtocol
from dcbench.evaluate.side_by_side import evaluate_all
from dcbench.evaluate.trial import Trial
from dcbench.results.artefacts import Artefacts, cost_beside
from dcbench.results.picture import save_picture
from dcbench.results.provenance import describe_device, git_state, now, source_sha256, sources
from dcbench.results.records import Record
from dcbench.run.events import Assignment, Conditions, Ready, Recorded, Step, Tell
from dcbench.run.memory_advice import what_would_fit
from dcbench.utils.errors import NewerFormat, StorageError
from dcbench.utils.files import remove
from dcbench.utils.interruption import ending_steps


class CellRunner:
    """Works on one cell."""

    def __init__(
        self, assignment: Assignment, data: LoadedDataset, conditions: Conditions, artefacts: Artefacts, tell: Tell
    ) -> None:
        """Prepare; what happens is told in order."""
        self.assignment, self.data, self.conditions = assignment, data, conditions
        self.artefacts, self.tell = artefacts, tell
        self.spec, self.source = assignment.spec, assignment.source
        self._origin = assignment.source.origin
        self._steps_left = False
        for network, _ in assignment.trials:
            source_sha256(type(network))  # now, because files may be edited during hours of work
        for measure in conditions.measures:
            source_sha256(type(measure))

    def run(self) -> None:
        """Do what is left to do. Failures become records.

        Raises:
            StorageError: when the results cannot be written.
        """
        engine = self.conditions.engine
        with engine.active(), checkpointing_every(self.conditions.checkpoint_every):
            condensed = self._condense()
        if condensed is None:
            return
        set_sha256, recorded = condensed.sha256(), self.assignment.recorded
        if set_sha256 in self.assignment.others:
            warnings.warn(
                f"{self.spec.work}: another seed gives the same set. Networks are trained on it once, because "
                "they would be the same networks; --sets 1 with more --evals gives more. If every seed gives "
                f"this set, {self.spec.method} should leave 'seed' out of its dependencies(setting).",
                stacklevel=2,
            )
            return
        # A set that had to be made again, on other hardware say, may differ from what was evaluated.
        trials = [
            (network, seed, measure)
            for network, seed in self.assignment.trials
            for measure in self.conditions.measures
            if recorded.get((str(network), seed, str(measure))) != set_sha256
        ]
        if not trials:
            return
        try:
            with engine.active(), checkpointing_every(self.conditions.checkpoint_every):
                self.conditions.protocol.check_set(condensed.traits)
                test, teacher = self.data.test_split(condensed.zca), self._teacher()
        except (StorageError, NewerFormat):
            raise
        except Exception as error:  # whatever whitening, or training a teacher, may raise
            return self._tell_failure(error)
        for network, group in groupby(trials, key=lambda trial: trial[0]):
            asked: dict[int, list[Measure]] = {}
            for _, seed, measure in group:
                asked.setdefault(seed, []).append(measure)
            with engine.active():  # for each network, since not all of them may compile
                self._evaluate(condensed, set_sha256, network, asked, test, teacher)

    def _condense(self) -> CondensedSet | None:
        """Return the condensed set, from the results or made now; None if that failed."""
        spec, train, made = self.spec, self.data.train, False
        try:
            stored = None if self.assignment.afresh else stored_set(spec, train, self.artefacts)
            if stored is None:
                report = self._reporter()
                with ending_steps():
                    condensed = self.source.make(spec, train, self.artefacts, report, self._train_reporter(report))
                if self._steps_left:  # of a method that tells no steps, or ends before the last
                    report(1, 1)
                remove(self.artefacts.picture_path(spec))
                made = True
            else:
                condensed, made_by = stored
                self._take_origin(made_by)
                remove(self.artefacts.checkpoint_path(spec))  # left by a run that was killed just then
        except (StorageError, NewerFormat):
            raise
        except Exception as error:  # whatever a method may raise
            self._tell_failure(error)
            return None
        self._draw(condensed)
        self.tell(Ready(self.assignment.number, made))
        return condensed

    def _take_origin(self, made_by: Origin | None) -> None:
        """Let records of a set that was there say what made it; warn where that has changed since."""
        if made_by is None:
            return
        now, spec = self._origin, self.spec
        changed = [spec.method] if made_by.source_sha256 != now.source_sha256 else []
        if made_by.network_source_sha256 not in ("", now.network_source_sha256):
            changed.append(str(spec.matching_network))
        if changed:
            warnings.warn(
                f"the code of {' and of '.join(changed)} has changed since {spec.work} was done. "
                "If it computes something else now, raise its version, or run it again with force.",
                stacklevel=2,
            )
        self._origin = replace(made_by, changed_options=now.changed_options, seeded=now.seeded)

    def _draw(self, condensed: CondensedSet) -> None:
        """Draw the set's picture unless it is there. A picture that fails does not make the cell fail."""
        path = self.artefacts.picture_path(self.spec)
        if path.exists():
            return
        try:
            save_picture(path, condensed, self.data.info, self.spec.ipc)
        except StorageError:
            raise
        except Exception as error:  # whatever a set may hold
            warnings.warn(f"no picture of {self.spec.work}: {type(error).__name__}: {error}", stacklevel=2)

    def _evaluate(
        self,
        condensed: CondensedSet,
        set_sha256: str,
        network: Architecture,
        asked: Mapping[int, Sequence[Measure]],
        test: ResidentSplit,
        teacher: TrainedNetwork | None,
    ) -> None:
        """Train one network from each seed, ask what is asked of it, and tell the records."""
        seeds = list(asked)
        specs = [
            EvaluationSpec(
                set_sha256=set_sha256,
                dataset=self.spec.dataset,
                dataset_sha256=self.spec.dataset_sha256,
                evaluation_network=str(network),
                protocol=self.conditions.protocol.name,
                recipe=self.conditions.protocol.recipe(self.data.info),
                budget=self.conditions.budget.name,
                seed=seed,
            )
            for seed in seeds
        ]
        work = f"{network} on {len(condensed.images)} images of {self.spec.dataset}"
        started: dict[int, str] = {}

        def report(index: int, slot: int, done: int, total: int) -> None:
            started.setdefault(index, now())
            piece = f"{self.spec.set_in_words}, network {seeds[index]}"
            left = len(seeds) - index
            self.tell(Step(self.assignment.number, "evaluate", work, piece, done, total, left, slot))

        judged = (condensed, test, network, self.conditions.protocol, self.conditions.budget)
        trials = evaluate_all(specs, *judged, report, teacher.network() if teacher else None, asked)
        with closing(trials):
            for index, (spec, trial) in enumerate(zip(specs, trials, strict=True)):
                if isinstance(trial, Exception):
                    for measure in asked[spec.seed]:
                        self._tell_failure(trial, spec, network, measure)
                    continue
                for answer in trial.answers:
                    if answer.error:
                        self._tell_failure(answer.error, spec, network, answer.measure)
                        continue
                    fields = trial_fields(trial, answer, condensed, started[index], teacher)
                    self._tell_record(spec, network, **fields)

    def _teacher(self) -> TrainedNetwork | None:
        """The protocol's teacher, if it has one: from the results, or trained now."""
        networks = TrainedNetworks(self.artefacts, self._train_reporter())
        return teacher_of(self.conditions.protocol, self.data, networks)

    def _tell_failure(
        self,
        error: Exception,
        trial: EvaluationSpec | None = None,
        network: Architecture | None = None,
        measure: Measure = ACCURACY,
    ) -> None:
        """Keep the traceback, and tell a failed record."""
        trial = trial and trial.asked(measure)
        self.artefacts.write_traceback((trial or self.spec).key(), "".join(traceback.format_exception(error)))
        message = f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            free_what_failed(error)
            used = network
            if trial is None and self.spec.matching_network:  # a set made elsewhere has no object of it
                used = getattr(self.source, "architecture", None)
            fitting = what_would_fit(self.spec, self.data, used, self.conditions, trial is not None)
            message = f"{message.rstrip('. :')}. {fitting}"
        self._tell_record(trial, network, status="failed", error=message, started_at=now(), measure=measure)

    def _tell_record(self, trial: EvaluationSpec | None, network: Architecture | None, **fields: Any) -> None:
        """Tell the record of a trial, or of the condensation."""
        if trial:
            trial = trial.asked(fields["measure"])
            fields |= {"set_sha256": trial.set_sha256, "eval_seed": trial.seed}
            fields["evaluation_network"] = trial.evaluation_network
        fields["key"] = (trial or self.spec).key()
        about = (self.spec, self.data, self._origin, self.conditions, self.artefacts, network)
        self.tell(Recorded(self.assignment.number, describe_work(*about, **fields)))

    def _reporter(self) -> StepReport:
        """Return the callback that passes the steps of the condensation on; say that it starts."""
        # The callback is handed to methods, so it must not lead to this object, which has the test split.
        number, spec, myself = self.assignment.number, self.spec, weakref.ref(self)

        def report(done: int, total: int, loss: tuple[int, float] | None = None) -> None:
            if runner := myself():
                runner._steps_left = done < total or total == 0
                runner.tell(Step(number, "condense", spec.work, f"seed {spec.seed}", done, total, loss=loss))

        report(0, 0)
        return report

    def _train_reporter(self, condensing: StepReport | None = None) -> Report:
        """Return the callback that passes on how far networks are that the work needs.

        ``condensing`` tells that the condensation itself goes on when they are there.
        """
        number, myself = self.assignment.number, weakref.ref(self)  # as above

        def report(work: str, piece: str, done: int, total: int) -> None:
            if runner := myself():
                runner.tell(Step(number, "train", work, piece, done, total))
            if done == total > 0 and condensing:
                condensing(0, 0)

        return report


def teacher_of(
    protocol: EvaluationProtocol, data: LoadedDataset, networks: TrainedNetworks
) -> TrainedNetwork | None:
    """Return the teacher that a protocol needs on a data set, trained on the training split; None without one."""
    needed = protocol.teacher_for(data.info)
    return networks(*needed, 1, data.train)[0] if needed else None


def trial_fields(
    trial: Trial,
    answer: Answer,
    condensed: CondensedSet,
    started_at: str,
    teacher: TrainedNetwork | None = None,
) -> dict[str, Any]:
    """Return what `describe_work` is told of what a network answered, but for what its spec says."""
    scores = dict(answer.scores)
    known = ("accuracy", "balanced_accuracy") if answer.measure == ACCURACY else ()
    return {
        "status": "ok",
        "track": condensed.track,
        **{name: scores.pop(name, None) for name in known},
        "scores": scores,
        "measure": answer.measure,
        "diverged": trial.diverged,
        "eval_seconds": round(trial.seconds + answer.seconds, 3),
        "storage_bytes": condensed.storage_bytes,
        "brings": condensed.brings,
        "packages": dict(trial.packages),
        "started_at": started_at,
        "threads": trial.threads,
        "teacher": teacher.facts if teacher else {},
        "teacher_seconds": teacher.seconds if teacher else 0.0,
    }


def describe_work(
    spec: CondenseSpec,
    data: LoadedDataset,
    origin: Origin,
    conditions: Conditions,
    artefacts: Artefacts,
    network: Architecture | None = None,
    measure: Measure = ACCURACY,
    threads: int | None = None,
    teacher_seconds: float = 0.0,
    **fields: Any,
) -> Record:
    """Return a record of a condensed set, or of a network that was trained on it.

    By default the threads are those of this thread; the fields are those that the other arguments do not tell.
    """
    cost, (git_sha, git_dirty) = cost_beside(artefacts.set_path(spec)), git_state()
    return Record(
        condense_key=spec.key(),
        **spec.model_dump(exclude={"seed"}),
        condense_seed=spec.seed,
        changed_options=list(origin.changed_options),
        seeded=origin.seeded,
        protocol=conditions.protocol.name,
        budget=conditions.budget.name,
        augmentation=conditions.protocol.augmentation(data.info),
        recipe=conditions.protocol.recipe(data.info),
        engine=_both(cost.engine if cost else "", conditions.engine.statement()),
        n_test=len(data.host_test.labels),
        condense_seconds=round(cost.seconds, 3) if cost else None,
        networks_seconds=round((cost.networks_seconds if cost else 0.0) + teacher_seconds, 3),
        measure=str(measure),
        main=measure.main,
        unit=measure.unit,
        lower_is_better=measure.lower_is_better,
        peak_memory_bytes=cost.peak_memory_bytes if cost else None,
        plugin=origin.distribution,
        plugin_version=origin.version,
        source_sha256=origin.source_sha256,
        sources=sources(origin, network, measure),
        device=_both(cost.device if cost else "", describe_device(data.device, threads)),
        torch=torch.__version__,
        dcbench=dcbench.__version__,
        git_sha=git_sha,
        git_dirty=git_dirty,
        **fields,
    )


def _both(condensed_by: str, evaluated_by: str) -> str:
    """Return the engine or the device, or both where another one made the set."""
    if condensed_by in ("", evaluated_by):
        return evaluated_by
    return f"{condensed_by} to condense, {evaluated_by} to evaluate"
