"""From rows to the tables of a leaderboard: who stands where, and how surely."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dcbench.core.spec import ACCURACY, HARD_LABELS
from dcbench.leaderboard.rank_correlation import Agreement
from dcbench.leaderboard.rules import Rules
from dcbench.leaderboard.scores import Board, Row
from dcbench.leaderboard.statistics import Estimate, Interval, better, satterthwaite
from dcbench.results.records import TeacherFacts
from dcbench.utils.errors import DcbenchError

SUPERSEDED = "superseded by "


@dataclass(frozen=True)
class Entry:
    """One row in a table.

    Attributes:
        reference: ``floor`` or ``ceiling`` for those that the others are measured against, else empty.
        mean: over the table's networks, as a fraction; None where some are missing.
        estimate: that mean with its error; None where it cannot be told.
        found: the mean that a verification found, by which the row is ranked; None where it did not try all of it.
        unseen_mean: over the table's unseen networks, as a fraction; None where there are none or one is missing.
        drop: how far that lies below the network matched on, as a fraction.
        below: where the row lies below the floor on the network that it was matched on, in words; else None.
        over_random: how far the mean lies above that of the table's random images, as a fraction; None where the
            table has none, or is of hard labels alone.
        gap: share of the gap between floor and ceiling that the mean closes; None where one of them is unknown.
        gap_half_width: half the width of the 95 % interval of the gap; None where an error is unknown.
        rank: the best and the worst place that it may have: one more than the rows that are surely better, and the
            number of rows less those that are surely worse, see `dcbench.leaderboard.statistics.better`. None if
            it is not ranked.
        lrs, ars: DD-Ranking's scores, see `dcbench.leaderboard.dd_ranking`; None where a mean is missing.
        agreement: how well it ranks many networks, see `dcbench.leaderboard.search`; None in most tables.
        provisional: what it lacks to be ranked; empty for a ranked row.
    """

    row: Row
    reference: str = ""
    mean: float | None = None
    estimate: Estimate | None = None
    found: Estimate | None = None
    unseen_mean: float | None = None
    drop: float | None = None
    over_random: float | None = None
    below: str | None = None
    gap: float | None = None
    gap_half_width: float | None = None
    rank: tuple[int, int] | None = None
    lrs: float | None = None
    ars: float | None = None
    agreement: Agreement | None = None
    provisional: tuple[str, ...] = ()

    @property
    def superseded(self) -> bool:
        """Whether a row of a newer version of the method stands in the table, too."""
        return any(reason.startswith(SUPERSEDED) for reason in self.provisional)

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval around the mean."""
        return self.estimate.interval if self.estimate else None


@dataclass(frozen=True)
class Standings(Board):
    """One table: rows that may be compared with each other, best first, references at the end.

    Attributes:
        ipc: images per class; None for a table of sets of any size alone.
        networks: over which the mean is taken.
        unseen: those of them that no ranked row was matched on, so that all ranked rows compare on them. Where
            every row is provisional, those that no row was matched on.
        missing: references of which there is no record.
        random: the method of random images with the labels, or under the teacher, of the table's rows; None for a
            table of hard labels alone, where that is the floor.
    """

    ipc: int | None
    networks: tuple[str, ...]
    unseen: tuple[str, ...]
    entries: tuple[Entry, ...]
    missing: tuple[str, ...]
    random: str | None = None

    @property
    def teachers(self) -> tuple[TeacherFacts, ...]:
        """The teacher of the rows, if there is one."""
        return tuple({teacher for entry in self.entries for teacher in entry.row.teachers})


def standings(
    rows: Sequence[Row], rules: Rules, may_be_reference: Callable[[Row], bool] = lambda row: True
) -> list[Standings]:
    """Return the tables of some rows: one for each board and number of images per class.

    Sets of any size, such as the whole training split, stand in each table of their board and are not ranked. The
    references stand in tables of soft labels, too. ``may_be_reference`` says which rows may be floor or ceiling.
    """
    boards: dict[Board, list[Row]] = defaultdict(list)
    references: dict[Board, list[Row]] = defaultdict(list)
    for row in rows:
        boards[row.board].append(row)
        if may_be_reference(row):
            references[replace(row.board, track="any")].append(row)
    made = []
    for board, here in sorted(boards.items()):
        sizes: list[int | None] = [*sorted({row.ipc for row in here if row.ipc is not None})]
        for ipc in sizes or [None]:
            made.append(_Maker(references[replace(board, track="any")], rules, here, ipc).table())
    return made


def find_table(tables: Sequence[Standings], wanted: Mapping[str, object]) -> Standings:
    """Return the one table whose fields have the wanted values, compared as text.

    None stands for any value, but for the measure: for accuracy, where there are tables of it.

    Raises:
        DcbenchError: where there is no such table, or several.
    """
    asked = {name: str(value) for name, value in wanted.items() if value is not None}
    if ACCURACY in {each.measure for each in tables}:
        asked.setdefault("measure", ACCURACY)
    found = [each for each in tables if all(str(getattr(each, name)) == asked[name] for name in asked)]
    if len(found) != 1:
        names = ("dataset", "ipc", "track", "protocol", "measure")
        there = "; ".join(", ".join(f"{name}={getattr(each, name)!r}" for name in names) for each in tables)
        raise DcbenchError(f"{len(found)} tables are of that kind: name one of {there or 'none'}.")
    return found[0]


@dataclass
class _Maker:
    """Makes one table of the rows of a board; the references may be of another track."""

    references: Sequence[Row]
    rules: Rules
    board: Sequence[Row]
    ipc: int | None
    networks: tuple[str, ...] = field(init=False)
    unseen: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        sized = [row for row in self.board if row.ipc == self.ipc]
        common = set.intersection(*(set(row.scores) for row in sized))
        judged = sized[0].dataset, sized[0].protocol, sized[0].measure
        self.networks = self.rules.networks_for(*judged) or tuple(sorted(common))
        complete = [row for row in sized if not self._lacks(row)] or sized
        matched = {row.matching_network for row in complete}
        self.unseen = tuple(network for network in self.networks if network not in matched)

    def table(self) -> Standings:
        """Return the table."""
        names = {"floor": self.rules.floor, "ceiling": self.rules.ceiling}
        references = {kind: self._reference(name) for kind, name in names.items()}
        kinds = {id(row): kind for kind, row in references.items()}
        shown = [row for row in self.board if row.ipc in (None, self.ipc)]
        shown += [row for row in references.values() if row and all(row is not each for each in shown)]
        ends = [row for row in references.values() if row]
        entries = [self._entry(row, kinds.get(id(row), ""), ends if len(ends) == 2 else []) for row in shown]
        entries = [replace(each, below=self._below(each.row, references["floor"])) for each in entries]
        entries = self._ranked(entries)
        missing = [name for kind, name in names.items() if name and references[kind] is None]
        random, sign = self._random(), self.board[0].sign
        if random and (base := self._mean_of(random, entries)) is not None:
            entries = [
                each if each.mean is None else replace(each, over_random=sign * (each.mean - base))
                for each in entries
            ]
        elif random and random not in missing:
            missing.append(random)
        return Standings(
            **vars(self.board[0].board),
            ipc=self.ipc,
            networks=self.networks,
            unseen=self.unseen,
            entries=tuple(sorted(entries, key=_order)),
            missing=tuple(missing),
            random=random,
        )

    def _random(self) -> str | None:
        """Return the method of random images with soft labels, or under the teacher, if the table is of these."""
        if self.board[0].track != HARD_LABELS:
            return self.rules.soft_floor or None
        return self.rules.taught_floor or None if self.board[0].teacher else None

    def _mean_of(self, random: str, entries: Sequence[Entry]) -> float | None:
        """Return the mean of the random images of this track; the highest, if they were matched on several."""
        wanted = (random, "", self.ipc, self.board[0].board)
        found = [
            each.mean
            for each in entries
            if (each.row.method, each.row.options, each.row.ipc, each.row.board) == wanted
            and each.row in self.references
        ]
        sign = self.board[0].sign
        return max((mean for mean in found if mean is not None), key=lambda mean: sign * mean, default=None)

    def _reference(self, name: str) -> Row | None:
        """Return the row of a reference: with its default options, hard labels, of its newest version."""
        fitting = [
            row
            for row in self.references
            if (row.method, row.options, row.track) == (name, "", HARD_LABELS) and row.ipc in (None, self.ipc)
        ]
        # One that was matched on a network would be another row for every network.
        return max(fitting, key=_newest, default=None)

    def _entry(self, row: Row, reference: str, ends: Sequence[Row]) -> Entry:
        """Return a row as it stands between the ends of the scale: floor and ceiling, or none."""
        unseen = row.mean_over(self.unseen) if row.matching_network not in self.unseen else None
        own = row.scores.get(row.matching_network or "")
        gap, half_width = self._gap(row, *ends) if ends else (None, None)
        return Entry(
            row,
            reference,
            mean=row.mean_over(self.networks),
            estimate=row.estimate_over(self.networks),
            found=row.found_over(self.networks),
            unseen_mean=unseen,
            drop=row.sign * (own.mean - unseen) if own and unseen is not None else None,
            gap=gap,
            gap_half_width=None if reference else half_width,
            provisional=(*self._lacks(row), *self._superseded(row)),
        )

    def _below(self, row: Row, floor: Row | None) -> str | None:
        """Say that a row of hard labels is below the floor on the network that it was matched on, if it is."""
        if floor is None or row.board != floor.board or row.ipc != floor.ipc or row.matching_network is None:
            return None
        own, least = (each.scores.get(row.matching_network) for each in (row, floor))
        lower = own is not None and least is not None and row.sign * own.mean < row.sign * least.mean
        return f"below {floor.method} on {row.matching_network}" if lower and row is not floor else None

    def _gap(self, row: Row, floor: Row, ceiling: Row) -> tuple[float | None, float | None]:
        """Return the share of the gap that a row closes and half its interval, by the errors of all three means.

        Its variance is the sum over the three of (derivative of the share times error of the mean) squared.
        """
        mean, low, high = (each.mean_over(self.networks) for each in (row, floor, ceiling))
        if mean is None or low is None or high is None or row.sign * (high - low) <= 0:
            return None, None
        gap = (mean - low) / (high - low)
        known = [each.estimate_over(self.networks) for each in (row, floor, ceiling)]
        parts = [
            ((slope * each.error / (high - low)) ** 2, each.freedom)
            for slope, each in zip((1, 1 - gap, gap), known, strict=True)
            if each
        ]
        if len(parts) < 3:
            return gap, None
        return gap, Estimate(gap, sum(part for part, _ in parts) ** 0.5, satterthwaite(parts)).half_width

    def _ranked(self, entries: Sequence[Entry]) -> list[Entry]:
        """Give each entry that lacks nothing its rank."""
        # One that lacks nothing, is of the table's size, and not only a reference from another track.
        board, size = self.board[0].board, self.ipc
        rivals = [
            (number, each.found or each.estimate)
            for number, each in enumerate(entries)
            if not each.provisional and each.row.ipc == size is not None and each.row.board == board
        ]
        sign = self.board[0].sign
        above = better([replace(each, mean=sign * each.mean) for _, each in rivals if each])
        ranked = list(entries)
        for place, (number, _) in enumerate(rivals):
            rank = 1 + int(above[:, place].sum()), len(rivals) - int(above[place].sum())
            ranked[number] = replace(entries[number], rank=rank)
        return ranked

    def _superseded(self, row: Row) -> list[str]:
        """Say which newer version of a row's method has a row that lacks nothing."""

        def who(row: Row) -> tuple[object, ...]:
            return row.method, row.options, row.matching_network, row.ipc

        newest = max(
            (each for each in self.board if who(each) == who(row) and not self._lacks(each)),
            key=_newest,
            default=row,
        )
        return [SUPERSEDED + newest.method_name] if _newest(newest) > _newest(row) else []

    def _lacks(self, row: Row) -> list[str]:
        """Say what a row lacks to be ranked."""
        lacking = [network for network in self.networks if network not in row.scores]
        reasons = [f"not tried on {', '.join(lacking)}"] if lacking else []
        scores = [row.scores[network] for network in self.networks if network in row.scores]
        sets, trials = self.rules.sets if row.seeded else 1, self.rules.evals
        fewest = min((score.sets for score in scores), default=0)
        each = min((score.fewest for score in scores), default=0)
        reasons += [f"{fewest} of {sets} sets"] * (fewest < sets)
        reasons += [f"{each} of {trials} networks a set"] * (each < trials)
        if any(score.sets < len(row.condense_keys) for score in scores):
            reasons.append("not every set tried on every network")
        if not reasons and row.estimate_over(self.networks) is None:
            reasons.append("one set or network cannot tell how much another would differ")
        return reasons


def _newest(row: Row) -> tuple[object, ...]:
    version = row.method_version
    return (row.matching_network is None, len(version), version)  # 10 is newer than 9


def _order(entry: Entry) -> tuple[object, ...]:
    """Sort by the mean, what is not ranked after what is; the ceiling at the end."""
    row = entry.row
    mean = entry.found.mean if entry.found else entry.mean
    return (row.ipc is None, mean is None, bool(entry.provisional), -row.sign * (mean or 0), *row.made_by)
