"""Specs: what to do, and the keys under which it is known once done.

There are two keys. The condense key covers all that a condensed set depends on; the evaluation key starts
from the hash of the condensed tensors. Adding an evaluation network never condenses anything anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from dcbench.utils.errors import find_name
from dcbench.utils.wording import counted

SCHEMA = 1
"""Raised when the meaning of a field below changes, which gives every spec a new key."""

HARD_LABELS, SOFT_LABELS = "hard-label", "soft-label"
"""The tracks. Sets of different tracks are never ranked together."""

ACCURACY = "accuracy"
"""The measure that is asked of every network unless others are named, and that leaderboards rank by."""

HELD_OUT = "validation"
"""The option of a data set by which held-out training images take the place of its test split."""


def is_held_out(dataset: str) -> bool:
    """Say whether a data set, by its name in records, has held-out training images in place of its test split."""
    return any(part.startswith(f"{HELD_OUT}=") for part in dataset.partition(":")[2].split(","))


class Spec(BaseModel):
    """Something that is known by the hash of its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def key(self) -> str:
        """Return the SHA-256 of the canonical JSON of the fields, as 64 hexadecimal digits.

        A field that has its default is left out, so that keys from before that field stay as they are.
        """
        text = json.dumps(
            {"schema": SCHEMA, **self.model_dump(mode="json", exclude_defaults=True)}, sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()


class Steps(BaseModel):
    """The steps in which the classes of a data set came.

    Attributes:
        dataset, dataset_sha256: the data set, by its name in records and its hash.
        classes: the classes of each step so far, by their numbers in the data set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    dataset_sha256: str
    classes: Annotated[tuple[Annotated[tuple[int, ...], Field(min_length=1)], ...], Field(min_length=1)]

    @property
    def sizes(self) -> tuple[int, int]:
        """How many classes came in each step, and how many steps there were."""
        return len(self.classes[0]), len(self.classes)

    def __str__(self) -> str:
        """Say them in words."""
        size, count = self.sizes
        return f"after {counted(count, 'step')} of {size} classes"


class CondenseSpec(Spec):
    """All that a condensed set depends on.

    Attributes:
        dataset_sha256: hash of the data, as `DatasetInfo.sha256`.
        options: every option, resolved.
        ipc: images per class, or None where the method does not depend on it.
        matching_network: canonical name, or None where the method does not depend on it.
        seed: of every random draw.
        steps: of a memory in continual learning, which joins sets that were condensed of each step's classes
            alone; None for a set that was condensed at once.
    """

    dataset: str
    dataset_sha256: str
    method: str
    method_version: str
    options: dict[str, Any]
    ipc: int | None
    matching_network: str | None
    seed: int
    steps: Steps | None = None

    @property
    def work(self) -> str:
        """The kind of work in words, the same for specs that differ by the seed alone."""
        return ", ".join([f"{self.method} on {self.dataset}", *self._choices()])

    @property
    def set_in_words(self) -> str:
        """Which condensed set it is of its data set, in words."""
        return ", ".join([self.method, *self._choices(), f"seed {self.seed}"])

    def _choices(self) -> list[str]:
        choices = [f"ipc {self.ipc}"] if self.ipc is not None else []
        choices += [f"matched on {self.matching_network}"] if self.matching_network else []
        return choices + ([str(self.steps)] if self.steps else [])


class EvaluationSpec(Spec):
    """All that one result depends on: which tensors, tested on which data, by which network, protocol and measure.

    Attributes:
        recipe: what the protocol does on this data set, see `EvaluationProtocol.recipe`.
        budget: name; the quick budget bounds the protocol's steps.
        seed: of the initialisation, the shuffles and the augmentation.
        measure: what is asked of the network, see `dcbench.core.measure`.
    """

    set_sha256: str
    dataset: str
    dataset_sha256: str
    evaluation_network: str
    protocol: str
    recipe: str = ""
    budget: str
    seed: int
    measure: str = ACCURACY

    def asked(self, measure: object) -> Self:
        """Return the spec of another measure of the same network."""
        return self.model_copy(update={"measure": str(measure)})


@dataclass(frozen=True)
class Budget:
    """How much work a run does, unless said otherwise.

    Attributes:
        name, summary: as users type it and records state it; one line.
        sets: condensed sets per cell, each from its own seed.
        evals: evaluation networks per set and architecture.
        max_steps: bound on the optimiser steps of one evaluation, or None for the protocol's epochs.
        long: whether a run takes so long that compiling networks for it pays.
        official: whether its records may enter a table.
    """

    name: str
    summary: str
    sets: int
    evals: int
    max_steps: int | None
    long: bool
    official: bool


FULL = Budget("full", "the paper's recipe for each set and network", 1, 5, None, long=True, official=True)
QUICK = Budget("quick", "a first look in minutes", 1, 2, 300, long=False, official=False)
BUDGETS = {budget.name: budget for budget in (FULL, QUICK)}


def get_budget(name: str) -> Budget:
    """Return a budget by name; an unknown name raises a `DcbenchError`."""
    return BUDGETS[find_name("budget", name, BUDGETS)]
