"""From records to scores: a pure function, whatever the order of the records."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from dcbench.core.spec import BUDGETS, is_held_out
from dcbench.leaderboard.statistics import Estimate, Score, Trials, estimate, score
from dcbench.results.records import OF_ONE_SET, Record, TeacherFacts
from dcbench.results.store import RECORDS, latest, read_records

MADE_ELSEWHERE = "made elsewhere: "
MOST_COLUMNS = 8
"""A table with more networks, as those of an architecture search, says how many there are, and their range."""
AS_RECORDED = (
    *("protocol", "budget"),
    *("measure", "main", "unit", "lower_is_better"),
    *("ipc", "method", "method_version", "matching_network", "seeded"),
)
"""Fields of a `Competitor` that a record has under the same names."""


@dataclass(frozen=True, order=True)
class Board:
    """What a row must share with another to be compared with it, but for the images per class.

    Attributes:
        teacher: hash of the network that labelled the images; empty under a protocol without one.
        measure: what was asked of the networks, as ``accuracy``.
        main, unit, lower_is_better: the score of it that counts, see `dcbench.core.measure.Measure`.
    """

    dataset: str
    dataset_sha256: str
    protocol: str
    budget: str
    track: str
    teacher: str
    measure: str
    main: str
    unit: str
    lower_is_better: bool

    @property
    def sign(self) -> int:
        """1 where a higher score is better, else -1."""
        return -1 if self.lower_is_better else 1

    @property
    def of_fractions(self) -> bool:
        """Whether scores lie between 0 and 1."""
        return self.unit == "%"


@dataclass(frozen=True)
class Competitor(Board):
    """What makes a row: everything that may differ between two of them but the seeds and the network.

    Attributes:
        ipc: None where the set is of any size.
        options: those that are not the method's defaults, e.g. ``iterations=50``.
        all_options: all that the sets have in common, as JSON.
        steps: of continual learning: how many classes came in each step, and after how many steps the row is; None
            for sets that were condensed at once. The data set is then that of all classes, and the sets are the
            memories of several orders of them.
    """

    ipc: int | None
    method: str
    method_version: str
    options: str
    matching_network: str | None
    all_options: str
    seeded: bool
    steps: tuple[int, int] | None

    @property
    def method_name(self) -> str:
        """The method, with its version unless that is the first."""
        return self.method if self.method_version == "1" else f"{self.method}@{self.method_version}"

    @property
    def board(self) -> Board:
        """What a row must share with another to be compared with it, but for the images per class."""
        return Board(*(getattr(self, each.name) for each in fields(Board)))

    @property
    def made_elsewhere(self) -> bool:
        """Whether dcbench evaluated sets that it did not condense."""
        return self.all_options.startswith(MADE_ELSEWHERE)


@dataclass(frozen=True)
class Row(Competitor):
    """One competitor of a table.

    Attributes:
        scores: of the measure's main score, by evaluation network.
        unseen_mean: mean of the scores, as a fraction, on the networks that no row of the same board was matched
            on, so that rows compare that were matched on different networks. It is None where there is no such
            network, or where this row lacks one that another row of the same size was evaluated on.
        condense_seconds: mean over sets, without trained networks.
        networks_seconds: mean over sets of what the trained networks took that a set used, in full.
        peak_memory_bytes: the most that condensing any of the sets took.
        storage_bytes: of the largest of the sets.
        devices: on which networks were trained and, where that was another, sets condensed; sorted.
        engines: that computed, sorted.
        commits: of dcbench's code, as far as it was in a repository, sorted; ``+`` marks one that was changed.
        condense_keys: of its sets, in the order of their seeds.
        teachers: that of its networks, under a protocol that has one.
        test_images: of the data set; the fewest where records differ.
        trials: main scores by evaluation network and set.
        found: means that a verification found, by evaluation network and set, of networks on which all sets were
            verified.
    """

    scores: dict[str, Score]
    unseen_mean: float | None
    condense_seconds: float | None
    networks_seconds: float = 0.0
    peak_memory_bytes: int | None = None
    storage_bytes: int | None = None
    devices: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    condense_keys: tuple[str, ...] = ()
    teachers: tuple[TeacherFacts, ...] = ()
    test_images: int = 0
    trials: Trials = field(default_factory=dict, repr=False, compare=False)
    found: Trials = field(default_factory=dict, repr=False, compare=False)

    def estimate_over(self, networks: Sequence[str]) -> Estimate | None:
        """Return the mean over some networks with its error; None if one is missing, or too little was tried."""
        return self._over(self.trials, networks)

    def found_over(self, networks: Sequence[str]) -> Estimate | None:
        """Return the mean over some networks that a verification found; None where it did not try all of them."""
        return self._over(self.found, networks)

    def _over(self, trials: Trials, networks: Sequence[str]) -> Estimate | None:
        known = {network: trials[network] for network in networks if network in trials}
        return estimate(known, self.seeded, self.of_fractions) if len(known) == len(networks) else None

    def mean_over(self, networks: Sequence[str]) -> float | None:
        """Return the mean over some networks, as a fraction; None where there are none or one is missing."""
        if not networks or not all(network in self.scores for network in networks):
            return None
        return sum(self.scores[network].mean for network in networks) / len(networks)

    @property
    def diverged(self) -> str:
        """How many networks diverged, in words; empty for none."""
        counts = {name: each for name, each in self.scores.items() if each.diverged}
        some = [f"{each.diverged} of {each.trials} on {name}" for name, each in counts.items()]
        return f"diverged: {', '.join(some)}" if some else ""

    @property
    def made_by(self) -> tuple[str, str, str, str]:
        """Method, its version, its options, and the network matched on or nothing: what made the sets."""
        return self.method, self.method_version, self.options, self.matching_network or ""


def find_records(folder: Path) -> list[Record]:
    """Read every file of records below a results folder. Damaged lines are left out, with a warning."""
    return [record for path in sorted(folder.rglob(RECORDS)) for record in read_records(path, strict=False)]


def official(records: Iterable[Record]) -> list[Record]:
    """Return the records that may enter a table: successful, of the full budget, tested on the test split."""
    budgets = {name for name, budget in BUDGETS.items() if budget.official}
    return [
        record
        for record in records
        if record.status == "ok" and record.budget in budgets and not is_held_out(record.dataset)
    ]


def drop_other_augmentations(records: Iterable[Record]) -> list[Record]:
    """Leave out trials whose images were augmented in another way than the newest on the same data and protocol.

    Those of which it is not known how are kept.
    """
    kept = list(records)
    known = [
        (record.started_at, record.augmentation, _judged_by(record))
        for record in kept
        if record.augmentation is not None
    ]
    newest = {judged_by: augmentation for _, augmentation, judged_by in sorted(known)}
    return [record for record in kept if record.augmentation in (None, newest.get(_judged_by(record)))]


def _judged_by(record: Record) -> tuple[str, str, str]:
    return record.dataset, record.dataset_sha256, record.protocol


def rows(records: Iterable[Record], in_steps: bool = False) -> list[Row]:
    """Summarise records: best first within each data set and ipc; sets of any size at the end.

    They are those of sets that were condensed at once, or with ``in_steps`` those of continual learning.
    """
    wanted = (record for record in records if bool(record.steps) == in_steps)
    kept = sorted(drop_other_augmentations(_latest(wanted)), key=lambda record: (record.key, record.condense_key))
    groups = by_row(kept)
    tables: dict[tuple[Board, int | None], list[Row]] = defaultdict(list)
    for who in sorted(groups, key=repr):
        row = _row(who, groups[who])
        tables[row.board, row.ipc].append(row)
    matched = {(board, row.matching_network) for (board, _), table in tables.items() for row in table}
    made = []
    for (board, _), table in tables.items():
        unseen = [network for network in networks_of(table) if (board, network) not in matched]
        common = sorted(set.intersection(*(set(row.scores) for row in table)))
        for row in table:
            row = replace(row, unseen_mean=row.mean_over(unseen))
            made.append((_order(row, common), row))
    return [row for _, row in sorted(made, key=lambda pair: pair[0])]


def _latest(records: Iterable[Record]) -> list[Record]:
    """Return the latest records of each row; another row may be of the same set as it was made elsewhere."""
    successful = (record for record in records if record.status == "ok")
    return [record for row in by_row(successful).values() for record in latest(row)]


def by_row(records: Iterable[Record]) -> dict[Competitor, list[Record]]:
    """Return records by the rows that they are of."""
    groups: dict[Competitor, list[Record]] = defaultdict(list)
    for record in records:
        groups[competitor(record)].append(record)
    return groups


def networks_of(table: Sequence[Row]) -> list[str]:
    """Return the evaluation networks of a table, sorted."""
    return sorted({network for row in table for network in row.scores})


def columns_of(table: Sequence[Row]) -> list[str]:
    """Return the evaluation networks that get a column: none of a table with more than `MOST_COLUMNS`."""
    networks = networks_of(table)
    return networks if len(networks) <= MOST_COLUMNS else []


def competitor(record: Record) -> Competitor:
    """Return what tells the row of a record from others."""
    options = record.options
    changed = ", ".join(
        [*(f"{name}={options[name]}" for name in sorted(record.changed_options)), *_brought(record)]
    )
    if record.imported:
        options = {name: value for name, value in options.items() if name not in OF_ONE_SET | {"lr"}}
    dataset, dataset_sha256 = record.ranked_on
    return Competitor(
        dataset=dataset,
        dataset_sha256=dataset_sha256,
        **{name: getattr(record, name) for name in AS_RECORDED},
        track=str(record.track),
        teacher=record.teacher.get("sha256", ""),
        options=changed,
        all_options=MADE_ELSEWHERE * record.imported + json.dumps(options, sort_keys=True),
        steps=record.steps.sizes if record.steps else None,
    )


def _brought(record: Record) -> list[str]:
    """Say what a set brings with it. A learned rate differs between sets, so its value does not stand there."""
    named = {name: value for name, value in sorted(record.brings.items()) if name not in record.changed_options}
    return ["learned lr" if name == "lr" else f"{name}={value:g}" for name, value in named.items()]


def _row(who: Competitor, records: Sequence[Record]) -> Row:
    trials, seconds = _trials(records), _seconds(records)
    scores = {network: score(by_set, who.seeded, who.of_fractions) for network, by_set in trials.items()}
    diverged = Counter(record.evaluation_network for record in records if record.diverged)
    balanced = {network: score(by_set) for network, by_set in _trials(records, "balanced_accuracy").items()}
    for network, each in scores.items():
        other = balanced.get(network)
        known = other.mean if other and other.trials == each.trials else None
        scores[network] = replace(each, diverged=diverged[network], balanced=known)
    return Row(
        **vars(who),
        scores=scores,
        unseen_mean=None,
        condense_seconds=_mean(own for own, _ in seconds.values()),
        networks_seconds=_mean(networks for _, networks in seconds.values()) or 0.0,
        peak_memory_bytes=_greatest(record.peak_memory_bytes for record in records),
        storage_bytes=_greatest(record.storage_bytes for record in records),
        # Old records count one thread as "1 threads".
        devices=tuple(sorted({re.sub(r"\b1 threads$", "1 thread", record.device) for record in records})),
        engines=tuple(sorted({record.engine for record in records})),
        commits=tuple(
            sorted({each.git_sha[:10] + "+" * bool(each.git_dirty) for each in records if each.git_sha})
        ),
        condense_keys=tuple(seconds),
        teachers=tuple(TeacherFacts(**each) for each in [records[0].teacher] if each),
        test_images=min(record.n_test for record in records),
        trials=trials,
    )


def _trials(records: Iterable[Record], name: str = "value") -> Trials:
    """Return the main scores of records, or another, by network and set, both sorted."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if (value := getattr(record, name)) is not None:
            found[str(record.evaluation_network)][record.condense_key].append(value)
    return {network: dict(sorted(by_set.items())) for network, by_set in sorted(found.items())}


def _seconds(records: Iterable[Record]) -> dict[str, tuple[float | None, float]]:
    """Return the seconds of each condensed set, and of its networks, by its key, in the order of the seeds."""
    seconds: dict[str, tuple[float | None, float]] = {}
    for record in sorted(records, key=lambda record: record.condense_seed):
        if seconds.get(record.condense_key, (None, 0.0))[0] is None:
            seconds[record.condense_key] = record.condense_seconds, record.networks_seconds
    return seconds


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _greatest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _order(row: Row, common: Sequence[str]) -> tuple[object, ...]:
    """Sort by the mean over the networks in common, if there are any."""
    mean = row.mean_over(common or sorted(row.scores)) or 0.0
    ipc = row.ipc if row.ipc is not None else float("inf")
    board = row.dataset, row.dataset_sha256, ipc, row.protocol, row.track, row.measure
    return (*board, -row.sign * mean, *row.made_by, row.budget)
