"""One cell after the other, in the process of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcbench.run.cell_runner import CellRunner

if TYPE_CHECKING:
    from dcbench.run.scheduler import Scheduler


class Serial:
    """Works on the cells in this process."""

    def run(self, scheduler: Scheduler) -> None:
        """Work on all cells of a run."""
        while scheduler.left:
            assignment = scheduler.next_cell()
            if assignment is not None:
                data = scheduler.cells[assignment.number].data
                CellRunner(assignment, data, scheduler.conditions, scheduler.store, scheduler.handle).run()
                scheduler.complete(assignment.number)
            elif scheduler.left:
                scheduler.wait_for_others()
