"""One cell after the other, in the process of the run."""

from __future__ import annotations

from dcbench.run.cell_runner import CellWork
from dcbench.run.scheduler import Desk


class Serial:
    """Works on the cells in this process."""

    def run(self, desk: Desk) -> None:
        """Work on all cells of a run."""
        while desk.left:
            assignment = desk.take()
            if assignment is not None:
                bench = desk.cells[assignment.number].bench
                CellWork(assignment, bench, desk.conditions, desk.store, desk.hear).run()
                desk.finish(assignment.number)
            elif desk.left:
                desk.wait_for_others()
