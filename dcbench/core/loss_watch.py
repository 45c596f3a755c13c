"""Noticing that training has gone wrong: a loss that is no number any more, or that explodes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EXPLODED = 1e6
"""A loss has exploded when it is more than this many times the first one, or than 1 if the first is less."""
PENDING = 20
"""Losses on a GPU that are looked at together: reading a number off it waits for all that is under way there."""


class Diverged(Exception):
    """A loss or a state that is not finite, or a loss that has exploded. It becomes a recorded failure."""

    def __init__(self, message: str, iteration: int | None = None) -> None:
        """Say what is wrong, and in which iteration of the method it was noticed, where that is known."""
        super().__init__(message)
        self.iteration = iteration


class LossWatch:
    """Looks at one loss per iteration, and raises at the first that is out of bounds.

    Attributes:
        first: the first loss seen, which is finite; None before.
        iteration: the last one that was seen.
    """

    def __init__(self, name: str = "the loss", unit: str = "iteration", explodes: bool = True) -> None:
        """Say what is watched.

        Args:
            name: of the loss, in the message.
            unit: of what is counted, in the message.
            explodes: whether a loss that is finite may be out of bounds.
        """
        self.first: float | None = None
        self.iteration = 0
        self._name, self._unit, self._explodes = name, unit, explodes
        self._pending: list[tuple[int, Tensor]] = []

    def check(self, iteration: int, loss: Tensor | float) -> None:
        """Take note of a loss.

        On the CPU it is looked at now; on a GPU with the next ones, some of which may have been computed by then.

        Args:
            iteration: counted from 1.
            loss: of shape ().

        Raises:
            Diverged: naming the first iteration whose loss is out of bounds.
        """
        if isinstance(loss, Tensor) and loss.device.type != "cpu":
            self._pending.append((iteration, loss.detach().clone()))
            if len(self._pending) >= PENDING:
                self.settle()
            return
        self._look(iteration, float(loss.detach() if isinstance(loss, Tensor) else loss))

    def settle(self) -> None:
        """Look at the losses that were put off.

        Raises:
            Diverged: as `check` does.
        """
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        values = torch.stack([loss for _, loss in pending]).tolist()
        for (iteration, _), value in zip(pending, values, strict=True):
            self._look(iteration, value)

    def _look(self, iteration: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise self._diverged(iteration, f"is {loss} in {self._unit} {iteration}")
        self.iteration = iteration
        if self.first is None:
            self.first = loss
        elif self._explodes and abs(loss) > EXPLODED * max(1.0, abs(self.first)):
            bound = f"more than a million times the first ({self.first:.3g}) and than a million"
            raise self._diverged(iteration, f"is {loss:.3g} in {self._unit} {iteration}, {bound}")

    def _diverged(self, iteration: int, problem: str) -> Diverged:
        return Diverged(f"{self._name} {problem}", iteration if self._unit == "iteration" else None)
