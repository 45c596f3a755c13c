"""Executors: who works on the cells of a run, and where. One module for each way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dcbench.run.scheduler import Desk


class Executor(Protocol):
    """Takes cells from the desk until none is left, and brings what comes of them."""

    def run(self, desk: Desk) -> None:
        """Work on all cells of a run.

        Raises:
            StorageError: when the results cannot be written.
        """
