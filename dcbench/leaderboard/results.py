"""Records as the Python interface gives them: data frames of trials and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dcbench.leaderboard.continual import curves
from dcbench.leaderboard.report.words import count, label, sample
from dcbench.leaderboard.rules import Rules
from dcbench.leaderboard.scores import rows
from dcbench.leaderboard.standings import Standings, find_table, standings
from dcbench.results.records import Record
from dcbench.utils.errors import DcbenchError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Results:
    """Records, and the tables that they give.

    Attributes:
        records: of successful trials.
        folder: where they are.
        failures: records of what failed.
        rules: that say which networks count, and what the others are measured against.
        protocol: whose tables `table` means where there are those of several; empty for none.
    """

    records: Sequence[Record]
    folder: Path
    failures: Sequence[Record] = ()
    rules: Rules = field(default_factory=Rules)
    protocol: str = ""

    def __repr__(self) -> str:
        """Return one line, since notebooks show it."""
        return f"Results({len(self.records)} trials, {len(self.failures)} failures, {self.folder})"

    def trials(self) -> pd.DataFrame:
        """Return a row for each trained network, a column for each field of its record."""
        import pandas as pd

        fields = [field.alias or name for name, field in Record.model_fields.items()]
        return pd.DataFrame([record.model_dump(by_alias=True) for record in self.records], columns=fields)

    def table(
        self,
        dataset: str | None = None,
        ipc: int | None = None,
        track: str | None = None,
        protocol: str | None = None,
        measure: str | None = None,
    ) -> pd.DataFrame:
        """Return a row for each method, best first.

        Its columns: ``matched on``; a column for each evaluation network, with the mean accuracy as a fraction
        (or the mean of the measure's main score);
        ``mean`` over the networks that all rows have; ``low`` and ``high``, its 95 % interval (None where there is
        one trial alone); ``over random``, for soft labels and under a teacher alone, how far the mean lies above
        that of random images with such labels; and ``n``, sets x networks for each. References with hard labels
        are left out of a table of soft ones.

        Args:
            dataset, ipc, track, protocol: which table; what is left out must be the same in all.
            measure: what was asked of the networks; None for accuracy where that was asked.

        Raises:
            DcbenchError: when there is no such table, or several.
        """
        import pandas as pd

        if not self.records:
            raise DcbenchError("there are no successful trials; the failures are in .failures.")
        if protocol is None and len({table.protocol for table in self._standings}) > 1:
            protocol = self.protocol or None
        wanted = {"dataset": dataset, "ipc": ipc, "track": track, "protocol": protocol, "measure": measure}
        chosen = find_table(self._standings, wanted)
        return pd.DataFrame(
            [
                {
                    "method": label(entry.row),
                    "matched on": entry.row.matching_network,
                    **{name: score.mean for name, score in sorted(entry.row.scores.items())},
                    "mean": entry.mean,
                    "low": entry.interval[0] if entry.interval else None,
                    "high": entry.interval[1] if entry.interval else None,
                    **({"over random": entry.over_random} if chosen.random else {}),
                    "n": count(entry.row),
                }
                for entry in chosen.entries
                if entry.row.track == chosen.track
            ]
        ).set_index("method")

    def curves(self) -> pd.DataFrame:
        """Return the accuracies of continual learning: a row for each method, network and number of classes seen.

        Its columns: ``dataset``, ``ipc``, ``protocol``, ``measure``, ``method``, ``matched on``, ``network``,
        ``classes``, ``mean`` over orders of the classes as a fraction, ``low`` and ``high``, its 95 % interval
        (None for one order), and ``n``, orders x networks for each.
        """
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    **{name: getattr(curve, name) for name in ("dataset", "ipc", "protocol", "measure")},
                    "method": label(curve),
                    "matched on": curve.matching_network,
                    "network": curve.network,
                    "classes": count,
                    "mean": score.mean,
                    "low": score.interval[0] if score.interval else None,
                    "high": score.interval[1] if score.interval else None,
                    "n": sample(score),
                }
                for curve in curves(self.records)
                for count, score in curve.scores.items()
            ]
        )

    @cached_property
    def _standings(self) -> Sequence[Standings]:
        return standings(rows(self.records), self.rules)
