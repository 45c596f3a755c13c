"""Budgets: how much work a run does."""

from __future__ import annotations

from dataclasses import dataclass

from dcbench.utils.errors import unknown_name


@dataclass(frozen=True)
class Budget:
    """How much work a run does, unless said otherwise.

    Attributes:
        name: as users type it and records state it.
        summary: one line.
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


FULL = Budget(
    "full",
    "the paper's recipe for each set and network",
    sets=1,
    evals=5,
    max_steps=None,
    long=True,
    official=True,
)
QUICK = Budget("quick", "a first look in minutes", sets=1, evals=2, max_steps=300, long=False, official=False)

BUDGETS = {budget.name: budget for budget in (FULL, QUICK)}


def get_budget(name: str) -> Budget:
    """Return a budget by name.

    Raises:
        DcbenchError: when there is none of that name.
    """
    if name not in BUDGETS:
        raise unknown_name("budget", name, BUDGETS)
    return BUDGETS[name]
