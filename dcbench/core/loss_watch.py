"""Stop training that has gone wrong: a loss that is not finite any more, or that explodes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EXPLODED = 1e6
"""A loss has exploded when it is more than this many times the first one, or than 1 if the first is less."""
PENDING = 20
"""Losses on a GPU that are read together, because reading a number waits for all work in progress there."""


class Diverged(Exception):
    """A loss or a state is not finite, or a loss has exploded.

    The run records it as a failure, but for a network that is evaluated: that is a result.
    """

    def __init__(self, message: str, iteration: int | None = None) -> None:
        """Take what is wrong and, if it is known, the iteration of the method in which it was noticed."""
        super().__init__(message)
        self.iteration = iteration


class LossWatch:
    """Check one loss per iteration, and raise at the first one that is out of bounds."""

    def __init__(self, name: str = "the loss", unit: str = "iteration", explodes: bool = True) -> None:
        """Set how messages call the loss and count its steps, and whether a finite loss may be out of bounds."""
        self.first: float | None = None
        self.last: float | None = None
        self.iteration = 0
        self._name, self._unit, self._explodes = name, unit, explodes
        self._pending: list[tuple[int, Tensor]] = []

    def check(self, iteration: int, loss: Tensor | float) -> None:
        """Check the loss, of shape (), of an iteration, counted from 1; raise `Diverged` for one out of bounds.

        On a GPU several losses are checked together, so that the GPU need not wait.
        """
        if isinstance(loss, Tensor) and loss.device.type != "cpu":
            self._pending.append((iteration, loss.detach().clone()))
            if len(self._pending) >= PENDING:
                self.settle()
            return
        self._look(iteration, float(loss.detach() if isinstance(loss, Tensor) else loss))

    def settle(self) -> None:
        """Check the losses that still wait; raise `Diverged` as `check` does."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        values = torch.stack([loss for _, loss in pending]).tolist()
        for (iteration, _), value in zip(pending, values, strict=True):
            self._look(iteration, value)

    def _look(self, iteration: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise self._diverged(iteration, f"is {loss} in {self._unit} {iteration}")
        self.iteration, self.last = iteration, loss
        if self.first is None:
            self.first = loss
        elif self._explodes and abs(loss) > EXPLODED * max(1.0, abs(self.first)):
            bound = f"more than a million times the first ({self.first:.3g}) and than a million"
            raise self._diverged(iteration, f"is {loss:.3g} in {self._unit} {iteration}, {bound}")

    def _diverged(self, iteration: int, problem: str) -> Diverged:
        return Diverged(f"{self._name} {problem}", iteration if self._unit == "iteration" else None)
