"""From records to scores: a pure function, whatever the order of the records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from dcbench.budgets import BUDGETS
from dcbench.records import Record
from dcbench.statistics import Replicates, Score, Trials, bootstrap, score
from dcbench.store import RECORDS, latest, read_records

COMPETITOR = [
    "dataset",
    "dataset_sha256",
    "ipc",
    "method",
    "method_version",
    "options",
    "all_options",
    "seeded",
    "matching_network",
    "protocol",
    "budget",
    "track",
]
"""What makes a row: everything that may differ between two of them but the seeds and the network."""

Board = tuple[str, str, str, str, str]
"""Data set and its hash, protocol, budget, track: what is never compared across."""


@dataclass(frozen=True)
class Row:
    """One competitor of a table.

    Attributes:
        dataset, dataset_sha256, ipc, method, method_version, options, matching_network, protocol, budget,
            track: who it is; ``options`` spells those that are not the method's defaults, e.g.
            ``iterations=50``.
        scores: by evaluation network.
        unseen_mean: mean of the scores on networks other than the matching network, as a fraction; for
            methods that match on none, on those that no row of the same table was matched on.
        condense_seconds: mean over sets.
        peak_memory_bytes: the most that condensing any of the sets took.
        storage_bytes: of the largest of the sets.
        devices: on which networks were trained, sorted.
        seeded: whether another seed would give another set.
        condense_keys: of its sets, in the order of their seeds.
        replicates: of the mean on every network, see `dcbench.statistics.bootstrap`.
    """

    dataset: str
    dataset_sha256: str
    ipc: int | None
    method: str
    method_version: str
    options: str
    matching_network: str | None
    protocol: str
    budget: str
    track: str
    scores: dict[str, Score]
    unseen_mean: float | None
    condense_seconds: float | None
    peak_memory_bytes: int | None = None
    storage_bytes: int | None = None
    devices: tuple[str, ...] = ()
    seeded: bool = True
    condense_keys: tuple[str, ...] = ()
    replicates: Mapping[str, Replicates] = field(default_factory=dict, repr=False, compare=False)

    @property
    def drop(self) -> float | None:
        """How much lower the mean over unseen networks is than on the network matched on, as a fraction."""
        own = self.scores.get(self.matching_network or "")
        return own.mean - self.unseen_mean if own and self.unseen_mean is not None else None

    @property
    def method_name(self) -> str:
        """The method, with its version unless that is the first."""
        return self.method if self.method_version == "1" else f"{self.method}@{self.method_version}"

    @property
    def board(self) -> Board:
        """What a row must share with another to be compared with it, but for the images per class."""
        return (self.dataset, self.dataset_sha256, self.protocol, self.budget, self.track)


def find_records(folder: Path) -> list[Record]:
    """Read every file of records below a results folder. Damaged lines are left out, with a warning."""
    return [record for path in sorted(folder.rglob(RECORDS)) for record in read_records(path, strict=False)]


def official(records: Iterable[Record]) -> list[Record]:
    """Return the records that may enter a table: successful, and not made on a reduced budget."""
    return [
        record
        for record in records
        if record.status == "ok" and record.budget in BUDGETS and BUDGETS[record.budget].official
    ]


def rows(records: Iterable[Record]) -> list[Row]:
    """Summarise records: best first within each data set and ipc; sets of any size at the end."""
    kept = sorted(latest(records), key=lambda record: (record.key, record.condense_key))
    if not kept:
        return []
    frame = pd.DataFrame([_flat(record) for record in kept])
    made = [_row(competitor, group) for competitor, group in frame.groupby(COMPETITOR, sort=True)]
    matched = {(row.board, row.matching_network) for row in made}
    made = [replace(row, unseen_mean=_unseen_mean(row, matched)) for row in made]
    return sorted(made, key=lambda row: _order(row, made))


def networks_of(table: Sequence[Row]) -> list[str]:
    """Return the evaluation networks of a table, sorted."""
    return sorted({network for row in table for network in row.scores})


def scores_frame(table: Sequence[Row]) -> pd.DataFrame:
    """Return a table in long form: a line per row and evaluation network, accuracies as fractions."""
    lines = []
    for row in table:
        for network, found in sorted(row.scores.items()):
            lines.append(
                {
                    "dataset": row.dataset,
                    "dataset_sha256": row.dataset_sha256,
                    "ipc": row.ipc,
                    "method": row.method,
                    "method_version": row.method_version,
                    "options": row.options,
                    "matching_network": row.matching_network,
                    "protocol": row.protocol,
                    "budget": row.budget,
                    "track": row.track,
                    "evaluation_network": network,
                    "mean": found.mean,
                    "between_std": found.between_std,
                    "within_std": found.within_std,
                    "low": found.interval[0] if found.interval else None,
                    "high": found.interval[1] if found.interval else None,
                    "sets": found.sets,
                    "trials": found.trials,
                    "unseen_mean": row.unseen_mean,
                    "condense_seconds": row.condense_seconds,
                    "peak_memory_bytes": row.peak_memory_bytes,
                    "storage_bytes": row.storage_bytes,
                    "devices": "; ".join(row.devices),
                }
            )
    return (
        pd.DataFrame(lines).astype({"ipc": "Int64", "peak_memory_bytes": "Int64", "storage_bytes": "Int64"})
        if lines
        else pd.DataFrame()
    )


def competitor(record: Record) -> tuple[str, ...]:
    """Return what tells the row of a record from others."""
    flat = _flat(record)
    return tuple(str(flat[name]) for name in COMPETITOR)


def _flat(record: Record) -> dict[str, object]:
    changed = {name: record.options[name] for name in sorted(record.changed_options)}
    return {
        "dataset": record.dataset,
        "dataset_sha256": record.dataset_sha256,
        "ipc": record.ipc or 0,
        "method": record.method,
        "method_version": record.method_version,
        "options": ", ".join(f"{name}={value}" for name, value in changed.items()),
        "all_options": json.dumps(record.options, sort_keys=True),
        "matching_network": record.matching_network or "",
        "protocol": record.protocol,
        "budget": record.budget,
        "track": record.track,
        "evaluation_network": record.evaluation_network,
        "condense_key": record.condense_key,
        "condense_seconds": record.condense_seconds,
        "condense_seed": record.condense_seed,
        "peak_memory_bytes": record.peak_memory_bytes,
        "storage_bytes": record.storage_bytes,
        "device": record.device,
        "seeded": record.seeded,
        "accuracy": record.accuracy,
    }


def _row(competitor: tuple[object, ...], group: pd.DataFrame) -> Row:
    who = dict(zip(COMPETITOR, map(str, competitor), strict=True))
    trials: Trials = {
        str(network): {str(key): list(each) for key, each in group_of_one.groupby("condense_key")["accuracy"]}
        for network, group_of_one in group.groupby("evaluation_network")
    }
    seeded = bool(group["seeded"].any())
    replicates = bootstrap(trials, seeded, json.dumps(who, sort_keys=True))
    sets = group.sort_values("condense_seed").groupby("condense_key", sort=False)
    seconds = sets["condense_seconds"].first().mean()
    return Row(
        dataset=who["dataset"],
        dataset_sha256=who["dataset_sha256"],
        ipc=int(who["ipc"]) or None,
        method=who["method"],
        method_version=who["method_version"],
        options=who["options"],
        matching_network=who["matching_network"] or None,
        protocol=who["protocol"],
        budget=who["budget"],
        track=who["track"],
        scores={network: score(by_set, replicates.get(network), seeded) for network, by_set in trials.items()},
        unseen_mean=None,
        condense_seconds=None if pd.isna(seconds) else float(seconds),
        peak_memory_bytes=_greatest(group["peak_memory_bytes"]),
        storage_bytes=_greatest(group["storage_bytes"]),
        devices=tuple(sorted(set(group["device"]))),
        seeded=seeded,
        condense_keys=tuple(map(str, sets.groups)),
        replicates=replicates,
    )


def _greatest(values: pd.Series[float]) -> int | None:
    greatest = values.max()
    return None if pd.isna(greatest) else int(greatest)


def _unseen_mean(row: Row, matched: set[tuple[Board, str | None]]) -> float | None:
    """Average over the networks not matched on.

    A baseline that matches on none is averaged over the same networks as the rows it is compared with, where
    that leaves any.
    """
    unseen = [
        score.mean
        for network, score in row.scores.items()
        if (network != row.matching_network if row.matching_network else (row.board, network) not in matched)
    ]
    if not unseen and not row.matching_network:
        unseen = [score.mean for score in row.scores.values()]
    return sum(unseen) / len(unseen) if unseen else None


def _order(row: Row, table: Sequence[Row]) -> tuple[object, ...]:
    """Sort by the mean over the networks that all rows of the same board and ipc have in common."""
    rivals = [set(other.scores) for other in table if (other.board, other.ipc) == (row.board, row.ipc)]
    common = sorted(set.intersection(*rivals)) or sorted(row.scores)
    mean = sum(row.scores[network].mean for network in common) / len(common)
    ipc = row.ipc if row.ipc is not None else float("inf")
    who = (row.method, row.method_version, row.options, row.matching_network or "", row.budget)
    return (row.dataset, row.dataset_sha256, ipc, row.protocol, row.track, -mean, *who)
