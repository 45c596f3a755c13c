"""Budgets: how much work a run does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """How much work a run does, unless said otherwise.

    Attributes:
        name: as users type it and records state it.
        summary: one line.
        sets: condensed sets per cell, each from its own seed.
        evals: evaluation networks per set and architecture.
        max_steps: bound on the optimiser steps of one evaluation, or None for the protocol's epochs.
        official: whether its records may enter a table.
    """

    name: str
    summary: str
    sets: int
    evals: int
    max_steps: int | None
    official: bool


FULL = Budget("full", "the paper's recipe", sets=1, evals=5, max_steps=None, official=True)
QUICK = Budget("quick", "a first look in minutes", sets=1, evals=3, max_steps=300, official=False)

BUDGETS = {budget.name: budget for budget in (FULL, QUICK)}
