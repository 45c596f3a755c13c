"""From records to scores: a pure function, whatever the order of the records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dcbench.budgets import BUDGETS
from dcbench.records import Record
from dcbench.store import RECORDS, latest, read_records

COMPETITOR = ["dataset", "ipc", "method", "options", "matching_network", "protocol", "budget", "track"]
"""What makes a row: everything that may differ between two of them but the seeds and the network."""


@dataclass(frozen=True)
class Score:
    """The accuracies of one competitor on one evaluation network, as fractions.

    Attributes:
        mean: over sets of the mean over networks.
        between_std: standard deviation of the sets' means (n - 1); None for a single set.
        within_std: root mean square over sets of the deviation over networks; None for single networks.
        sets: number of condensed sets.
        trials: number of networks trained, over all sets.
    """

    mean: float
    between_std: float | None
    within_std: float | None
    sets: int
    trials: int


@dataclass(frozen=True)
class Row:
    """One competitor of a table.

    Attributes:
        dataset, ipc, method, options, matching_network, protocol, budget, track: who it is; ``options``
            spells those that are not the method's defaults, e.g. ``iterations=50``.
        scores: by evaluation network.
        unseen_mean: mean of the scores on networks other than the matching network, as a fraction.
        condense_seconds: mean over sets.
    """

    dataset: str
    ipc: int | None
    method: str
    options: str
    matching_network: str | None
    protocol: str
    budget: str
    track: str
    scores: dict[str, Score]
    unseen_mean: float | None
    condense_seconds: float | None


def find_records(folder: Path) -> list[Record]:
    """Read every file of records below a folder."""
    return [record for path in sorted(folder.rglob(RECORDS)) for record in read_records(path)]


def official(records: Iterable[Record]) -> list[Record]:
    """Return the records that may enter a table: successful, and not made on a reduced budget."""
    return [
        record
        for record in records
        if record.status == "ok" and record.budget in BUDGETS and BUDGETS[record.budget].official
    ]


def rows(records: Iterable[Record]) -> list[Row]:
    """Summarise records: best mean first within each data set and ipc; sets of any size at the end."""
    kept = sorted(latest(records), key=lambda record: record.key)
    if not kept:
        return []
    frame = pd.DataFrame([_flat(record) for record in kept])
    made = [_row(competitor, group) for competitor, group in frame.groupby(COMPETITOR, dropna=False, sort=True)]
    return sorted(made, key=_order)


def networks_of(table: Sequence[Row]) -> list[str]:
    """Return the evaluation networks of a table, sorted."""
    return sorted({network for row in table for network in row.scores})


def scores_frame(table: Sequence[Row]) -> pd.DataFrame:
    """Return a table in long form: a line per row and evaluation network, accuracies as fractions."""
    lines = []
    for row in table:
        for network, score in sorted(row.scores.items()):
            lines.append(
                {
                    "dataset": row.dataset,
                    "ipc": row.ipc,
                    "method": row.method,
                    "options": row.options,
                    "matching_network": row.matching_network,
                    "protocol": row.protocol,
                    "budget": row.budget,
                    "track": row.track,
                    "evaluation_network": network,
                    "mean": score.mean,
                    "between_std": score.between_std,
                    "within_std": score.within_std,
                    "sets": score.sets,
                    "trials": score.trials,
                    "unseen_mean": row.unseen_mean,
                    "condense_seconds": row.condense_seconds,
                }
            )
    return pd.DataFrame(lines).astype({"ipc": "Int64"}) if lines else pd.DataFrame()


def _flat(record: Record) -> dict[str, object]:
    changed = {name: record.options[name] for name in sorted(record.changed_options)}
    return {
        "dataset": record.dataset,
        "ipc": record.ipc or 0,
        "method": record.method,
        "options": ", ".join(f"{name}={value}" for name, value in changed.items()),
        "matching_network": record.matching_network or "",
        "protocol": record.protocol,
        "budget": record.budget,
        "track": record.track,
        "evaluation_network": record.evaluation_network,
        "condense_key": record.condense_key,
        "condense_seconds": record.condense_seconds,
        "accuracy": record.accuracy,
    }


def _row(competitor: tuple[object, ...], group: pd.DataFrame) -> Row:
    dataset, ipc, method, options, matching, protocol, budget, track = competitor
    scores = {str(network): _score(trials) for network, trials in group.groupby("evaluation_network", sort=True)}
    unseen = [score.mean for network, score in scores.items() if network != matching]
    seconds = group.groupby("condense_key")["condense_seconds"].first().mean()
    return Row(
        dataset=str(dataset),
        ipc=int(str(ipc)) or None,
        method=str(method),
        options=str(options),
        matching_network=str(matching) or None,
        protocol=str(protocol),
        budget=str(budget),
        track=str(track),
        scores=scores,
        unseen_mean=sum(unseen) / len(unseen) if unseen else None,
        condense_seconds=None if pd.isna(seconds) else float(seconds),
    )


def _score(trials: pd.DataFrame) -> Score:
    by_set = trials.groupby("condense_key", sort=True)["accuracy"]
    means, variances = by_set.mean(), by_set.var(ddof=1).dropna()
    return Score(
        mean=float(means.mean()),
        between_std=float(means.std(ddof=1)) if len(means) > 1 else None,
        within_std=float(variances.mean() ** 0.5) if len(variances) else None,
        sets=len(means),
        trials=len(trials),
    )


def _order(row: Row) -> tuple[object, ...]:
    mean = sum(score.mean for score in row.scores.values()) / len(row.scores)
    ipc = row.ipc if row.ipc is not None else float("inf")
    return (row.dataset, ipc, -mean, row.method, row.options, row.matching_network or "", row.protocol, row.budget)
