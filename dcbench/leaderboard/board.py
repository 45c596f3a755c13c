"""A leaderboard read from its folder: the submissions, the rules, the rows and the tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dcbench.leaderboard.continual import Curve, curves
from dcbench.leaderboard.dd_ranking import with_dd_ranking
from dcbench.leaderboard.rules import Rules, read_rules
from dcbench.leaderboard.scores import Competitor, Row, competitor, official, rows
from dcbench.leaderboard.search import with_search
from dcbench.leaderboard.standings import Standings, standings
from dcbench.results.records import Record
from dcbench.results.submission import SUBMISSIONS, Found, MethodCard, Submission, find_submissions
from dcbench.utils.errors import DcbenchError


@dataclass(frozen=True)
class Leaderboard:
    """Everything that tables and page are made from: the submissions in the order of their folders, and more."""

    submissions: tuple[Submission, ...]
    rules: Rules
    rows: tuple[Row, ...]
    tables: tuple[Standings, ...]
    curves: tuple[Curve, ...] = ()
    _of: Mapping[tuple[str, str, str], Submission] = field(default_factory=dict, repr=False)
    """By condense key, protocol and measure: one set may be judged by several, in several submissions."""

    def of(self, dataset: str | None = None, ipc: int | None = None) -> Leaderboard:
        """Return the part of a data set and of some images per class; None stands for all."""

        def wanted(each: Row | Standings | Curve) -> bool:
            return dataset in (None, each.dataset) and ipc in (None, each.ipc or ipc)

        rows, tables = tuple(filter(wanted, self.rows)), tuple(filter(wanted, self.tables))
        return replace(self, rows=rows, tables=tables, curves=tuple(filter(wanted, self.curves)))

    def submission(self, row: Row) -> Submission | None:
        """Return the submission that has the records of a row; the first of several."""
        found = ((key, row.protocol, row.measure) for key in row.condense_keys)
        return next((self._of[each] for each in found if each in self._of), None)

    def method_card(self, row: Row) -> MethodCard | None:
        """Return what is said of a row's method."""
        submission = self.submission(row)
        return submission.card.method(row.method) if submission and submission.card else None

    def mark(self, row: Row) -> str | None:
        """Return the version that verified a row, the tolerance, and how much of the row if not all; or None."""
        submission = self.submission(row)
        if submission is None or submission.verification is None:
            return None
        version, verified = submission.verification.dcbench, submission.verification.verified
        done = [set(verified[key]) for key in row.condense_keys if verified.get(key)]
        everywhere = set.intersection(*done) if done else set()
        if not everywhere:
            return None
        tolerances = {each.network: each.tolerance for each in _found(row, submission)}
        tolerance = tolerances.get("", max(tolerances.values(), default=None))
        parts = [f"±{100 * tolerance:.1f}"] if tolerance is not None else []
        parts += [f"{len(done)} of {len(row.condense_keys)} sets"] * (len(done) < len(row.condense_keys))
        parts += [f"on {', '.join(sorted(everywhere))}"] * (not everywhere >= row.scores.keys())
        return f"{version} ({', '.join(parts)})" if parts else version


def read_leaderboard(folder: Path, all_budgets: bool = False) -> Leaderboard:
    """Read a folder of submissions and work out its tables; a function of what is in the folder alone.

    Args:
        folder: a leaderboard, or the results of a run.
        all_budgets: include records of reduced budgets, in tables of their own.

    Raises:
        DcbenchError: naming the file, when one cannot be read.
    """
    submissions, rules = find_submissions(folder), read_rules(folder)
    entering = [(each, each.records if all_budgets else official(each.records)) for each in submissions]
    if (folder / SUBMISSIONS).is_dir():
        refuse_shared_rows(entering)
    of = {
        (each.condense_key, each.protocol, each.measure): one for one, some in reversed(entering) for each in some
    }
    every = [record for _, records in entering for record in records]
    table = [_with_found(row, of[row.condense_keys[0], row.protocol, row.measure]) for row in rows(every)]

    def may_be_reference(row: Row) -> bool:
        return not rules.references or of[row.condense_keys[0], row.protocol, row.measure].name in rules.references

    tables = with_dd_ranking(standings(table, rules, may_be_reference), rules.dd_ranking)
    tables = with_search(tables, rules.search)
    return Leaderboard(submissions, rules, tuple(table), tuple(tables), tuple(curves(every)), of)


def _found(row: Row, submission: Submission | None) -> list[Found]:
    """Return what the verification of a row's submission found on its sets."""
    stated = submission.verification.found if submission and submission.verification else ()
    judged = row.protocol, row.measure
    return [
        each
        for each in stated
        if each.condense_key in row.condense_keys and (each.protocol, each.measure) == judged
    ]


def _with_found(row: Row, submission: Submission) -> Row:
    """Return a row with the means that a verification found on the networks on which it tried all sets."""
    means: dict[str, dict[str, tuple[float]]] = defaultdict(dict)
    for each in _found(row, submission):
        means[each.network][each.condense_key] = (each.mean,)
    complete = {name: sets for name, sets in means.items() if name and len(sets) == len(row.condense_keys)}
    return replace(row, found=complete) if complete else row


def refuse_shared_rows(entering: Iterable[tuple[Submission, Iterable[Record]]]) -> None:
    """Raise a `DcbenchError` where two submissions have records of the same row."""
    owners: dict[Competitor, Submission] = {}
    for each, records in entering:
        for record in records:
            owner = owners.setdefault(competitor(record), each)
            if owner is not each:
                raise DcbenchError(
                    f"{owner.name} and {each.name} both have records of {record.method} on {record.ranked_on[0]}, "
                    f"ipc {record.ipc or 'all'}: a row is of one submission. Submit the others without it."
                )
