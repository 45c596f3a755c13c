"""Observers that a user turns on by name: what writes the course of runs for an experiment tracker."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

from pydantic import PrivateAttr

from dcbench.core.component import Component
from dcbench.core.spec import CondenseSpec
from dcbench.hookspecs import Progress, hookimpl
from dcbench.results.artefacts import Artefacts
from dcbench.results.records import Record


@dataclass
class _Run:
    """A run of the tracker, and what it was told: the last iteration, and the scores by their names."""

    tracked: Any
    iteration: int = 0
    scores: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


class Observer(Component):
    """Writes the course of runs for an experiment tracker, which has one run for each condensed set.

    ``--observe NAME`` turns it on. A subclass says how the tracker is used. What it raises, other than in `start`,
    ends the observation and not the run. Several runs of the tracker are open where several cells are worked on.
    """

    kind: ClassVar[str] = "observer"
    _runs: dict[str, _Run] = PrivateAttr(default_factory=dict)

    @abstractmethod
    def start(self, results: Path) -> None:
        """Get ready, before any work on a results folder.

        Raises:
            DcbenchError: if the run should not begin, because a package is not installed, say.
        """

    @abstractmethod
    def open(self, name: str, facts: dict[str, Any]) -> Any:
        """Begin a run of the tracker, and return what the other methods need to know of it.

        Args:
            name: that of the set's file, without its ending.
            facts: data set, method, images per class, matching network and seed, and all options of the method.
        """

    @abstractmethod
    def log(self, run: Any, name: str, value: float, step: int) -> None:
        """Add a number.

        Args:
            run: what `open` returned.
            name: ``loss``; ``accuracy/NETWORK``, a fraction, or the main score of another measure; or
                ``mean_accuracy/NETWORK``, which comes last.
            value: the number.
            step: the iteration of a loss, from 1; the seed of a network; the number of networks of a mean.
        """

    @abstractmethod
    def show(self, run: Any, picture: Path) -> None:
        """Add the picture of the condensed set, a PNG file."""

    @abstractmethod
    def close(self, run: Any, status: str) -> None:
        """End a run of the tracker. The status is ``done``, ``failed`` or ``interrupted``."""

    @hookimpl
    def dcbench_progress(self, progress: Progress) -> None:
        """Log the loss of an iteration, once."""
        if progress.spec is None or progress.loss is None:
            return
        run, (iteration, loss) = self._run(progress.spec), progress.loss
        if iteration > run.iteration:
            run.iteration = iteration
            self.log(run.tracked, "loss", loss, iteration)

    @hookimpl
    def dcbench_set_added(self, spec: CondenseSpec, picture: Path | None) -> None:
        """Show the picture."""
        if picture:
            self.show(self._run(spec).tracked, picture)

    @hookimpl
    def dcbench_record_added(self, record: Record, spec: CondenseSpec) -> None:
        """Log the main score of a measure, such as the accuracy."""
        run = self._run(spec)
        if record.value is not None and record.evaluation_network:
            name = f"{record.main}/{record.evaluation_network}"
            run.scores[name].append(record.value)
            self.log(run.tracked, name, record.value, record.eval_seed or 0)

    @hookimpl
    def dcbench_cell_ended(self, spec: CondenseSpec, status: str) -> None:
        """Log the means of the networks that were trained now, and close the tracker's run."""
        if run := self._runs.pop(spec.key(), None):
            for name, each in run.scores.items():
                self.log(run.tracked, f"mean_{name}", mean(each), len(each))
            self.close(run.tracked, status)

    def _run(self, spec: CondenseSpec) -> _Run:
        key = spec.key()
        if key not in self._runs:
            facts = spec.model_dump(mode="json", exclude={"options", "dataset_sha256"}) | spec.options
            name = Artefacts(Path()).set_path(spec).stem
            self._runs[key] = _Run(self.open(name, facts))
        return self._runs[key]
