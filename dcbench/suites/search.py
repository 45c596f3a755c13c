"""An architecture search: do networks that are trained on a small set rank as they do when trained on the truth?

A pure function of the records of a suite and of its `Truth`. Each condensed set ranks the networks by itself, as a
user with one set would; a correlation is the mean over the sets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dcbench.leaderboard.rank_correlation import Agreement, agreement, best, in_common
from dcbench.leaderboard.report.words import sample
from dcbench.leaderboard.scores import Row, rows
from dcbench.leaderboard.statistics import Trials
from dcbench.results.records import Record
from dcbench.suites.records import SuiteRecords, suite_records
from dcbench.suites.selection import Key, SuiteSelection

if TYPE_CHECKING:
    from dcbench.plugins import Plugins

BEST = 0.1
"""The share of the networks, by the truth, that counts as the best."""

Accuracies = Mapping[str, float]
"""Accuracies by network, fractions."""


@dataclass(frozen=True)
class Ranking:
    """How what networks were trained on ranks them.

    Attributes:
        key, protocol: what they were trained on, and how.
        sample: sets x networks of each architecture.
        found: their accuracies, the mean over sets.
        overall, best: the agreement with the truth over all networks, and over their best tenth by the truth.
        chosen: the accuracy by the truth of the network that is the best here, the mean over sets and ties.
        seconds: to train one network of each architecture.
    """

    key: Key
    protocol: str
    sample: str
    found: Accuracies
    overall: Agreement
    best: Agreement
    chosen: float
    seconds: float


@dataclass(frozen=True)
class SearchedDataset:
    """The search on one data set.

    Attributes:
        truth: the accuracies that the networks are ranked by.
        rankings: in the order of the suite. Before them, where the truth has several networks of an architecture,
            the first of each against the mean of its others: what another seed changes.
    """

    dataset: str
    truth: Accuracies
    rankings: tuple[Ranking, ...]


@dataclass(frozen=True)
class Search:
    """What the records say of an architecture search.

    Attributes:
        datasets: those with records of the truth.
        parts: the records that count, of the truth and of the suite.
    """

    datasets: tuple[SearchedDataset, ...]
    parts: tuple[SuiteRecords, SuiteRecords]


def search(selection: SuiteSelection, records: Iterable[Record], plugins: Callable[[], Plugins]) -> Search:
    """Compare the rankings of a suite's networks with that of its truth.

    `suite_records` says which records count.
    """
    if selection.truth is None:
        raise ValueError(f"suite {selection.suite.name} is no architecture search")
    given = list(records)
    true, own = (suite_records(part, given, plugins) for part in (selection.truth, selection))
    places = {each.key: place for place, each in enumerate(selection.experiments(own.depends))}
    found = sorted(rows(own.records), key=lambda row: places[_key(row)])
    datasets = []
    for row in sorted(rows(true.records), key=lambda row: selection.datasets.index(row.dataset)):
        truth = {network: score.mean for network, score in row.scores.items()}
        first, others = _halves(record for record in true.records if record.dataset == row.dataset)
        rankings = [_ranking(row, first, others, true.records)]
        rankings += [
            _ranking(each, truth, each.trials, own.records) for each in found if each.dataset == row.dataset
        ]
        datasets.append(SearchedDataset(row.dataset, truth, tuple(each for each in rankings if each)))
    return Search(tuple(datasets), (true, own))


def _key(of: Row | Record) -> Key:
    return of.dataset, of.ipc, of.method, of.matching_network


def _halves(records: Iterable[Record]) -> tuple[Accuracies, Trials]:
    """Return the accuracies of the first networks, and those of the others as trials, where there are others."""
    by_seed: dict[str, dict[int, float]] = defaultdict(dict)
    for record in records:
        by_seed[str(record.evaluation_network)][record.eval_seed or 0] = record.accuracy or 0.0
    ordered = {name: [own[seed] for seed in sorted(own)] for name, own in by_seed.items() if len(own) > 1}
    return {name: own[0] for name, own in ordered.items()}, {name: {"": own[1:]} for name, own in ordered.items()}


def _ranking(row: Row, truth: Accuracies, trials: Trials, records: Iterable[Record]) -> Ranking | None:
    """Return how a row ranks the networks that all its sets have; None where it has none of the truth's."""
    networks, x, y = in_common(truth, trials)
    if not networks:
        return None
    top = best(x, BEST)
    seconds = defaultdict(list)
    for record in records:
        if _key(record) == _key(row):
            seconds[record.evaluation_network].append(record.eval_seconds or 0.0)
    return Ranking(
        key=_key(row),
        protocol=row.protocol,
        sample=sample(max(row.scores.values(), key=lambda score: score.trials)),
        found=dict(zip(networks, y.mean(axis=0).tolist(), strict=True)),
        overall=agreement(x, y),
        best=agreement(x[top], y[:, top]),
        chosen=float(np.mean([x[best(each)].mean() for each in y])),
        seconds=float(sum(map(np.mean, seconds.values()))),
    )
