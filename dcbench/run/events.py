"""What is sent to whoever works on a cell, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from dcbench.core.architecture import Architecture
from dcbench.core.measure import Measure
from dcbench.core.spec import Budget, CondenseSpec
from dcbench.engine.engine import Engine
from dcbench.evaluate.accuracy import ACCURACY
from dcbench.evaluate.protocol import EvaluationProtocol
from dcbench.results.records import Record
from dcbench.run.cells import SetSource

TrialName = tuple[str, int, str]
"""Evaluation network, its seed, and the measure."""


@dataclass(frozen=True)
class Assignment:
    """A cell to work on, as it may be sent anywhere: all but the data set.

    Attributes:
        number: of the cell in the run.
        recorded: for trials that are done, by network, seed and measure, the hash of the set that was evaluated.
        afresh: make the set again even if it is there.
        others: hashes of the sets of smaller seeds, on which the same networks were trained.
    """

    number: int
    spec: CondenseSpec
    source: SetSource
    trials: tuple[tuple[Architecture, int], ...]
    recorded: Mapping[TrialName, str] = field(default_factory=dict)
    afresh: bool = False
    others: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Conditions:
    """How all cells of a run are worked on; ``checkpoint_every`` is in seconds, None for the usual."""

    protocol: EvaluationProtocol
    budget: Budget
    engine: Engine
    checkpoint_every: float | None = None
    measures: tuple[Measure, ...] = (ACCURACY,)


@dataclass(frozen=True)
class Step:
    """So many steps of a piece of work are done; 0 of 0 when it starts. ``left`` counts trials like this one.

    ``slot`` is 0, but for trials that are worked on beside another of the same cell. ``loss`` is that of a method,
    with its iteration.
    """

    number: int
    phase: Literal["train", "condense", "evaluate"]
    work: str
    piece: str
    done: int
    total: int
    left: int = 1
    slot: int = 0
    loss: tuple[int, float] | None = None


@dataclass(frozen=True)
class Ready:
    """The condensed set is there; ``made`` says whether it was made now."""

    number: int
    made: bool


@dataclass(frozen=True)
class Recorded:
    """A trial is done, or something failed."""

    number: int
    record: Record


@dataclass(frozen=True)
class Warned:
    """Something is to be said to the user."""

    text: str


Event = Step | Ready | Recorded | Warned

Tell = Callable[[Event], None]
