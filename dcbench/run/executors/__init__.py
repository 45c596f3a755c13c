"""Executors: who works on the cells of a run, and where. One module for each way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dcbench.run.scheduler import Scheduler


class Executor(Protocol):
    """Takes cells from the scheduler until none is left, and brings what comes of them."""

    def run(self, scheduler: Scheduler) -> None:
        """Work on all cells of a run.

        Raises:
            StorageError: when the results cannot be written.
        """
