"""An architecture search in tables for the terminal, and as plain data for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from dcbench.leaderboard.rank_correlation import FEWEST, Agreement
from dcbench.leaderboard.report.terminal import empty_table
from dcbench.leaderboard.report.words import correlation, percent, seconds
from dcbench.suites.search import Ranking, Search, SearchedDataset
from dcbench.suites.selection import SuiteSelection
from dcbench.utils.wording import counted

LEGEND = (
    "Spearman's rho and Kendall's tau-b of two accuracies of each network: trained on what the row says, and by "
    "the truth. Each condensed set ranks by itself; mean over sets. In brackets: the 95 % interval of a bootstrap "
    f"over networks, if there are {FEWEST}; another condensed set may change more. Second line: over the best "
    "tenth by the truth, rounded up, with all that are tied with its last. n: condensed sets x networks of each "
    "architecture. chosen: what the best network of the row has by the truth, in %. seconds: to train one network "
    "of each architecture. Another seed: the first network of each architecture on the truth against its others."
)


def tables(selection: SuiteSelection, search: Search) -> list[tuple[str, Table]]:
    """Return a table with its heading for each data set."""
    made = []
    for each in search.datasets:
        low, high = (percent(bound(each.truth.values())) for bound in (min, max))
        count = f"{len(each.truth)} of {len(selection.eval_networks)} networks"
        heading = f"{each.dataset}: {count}, which have {low} to {high} % by the truth"
        made.append((heading, _table(selection, each)))
    return made


def remarks(selection: SuiteSelection, search: Search) -> list[str]:
    """Return what is to be read beneath the tables, a paragraph each, the last of them how much is done."""
    file, paragraphs = selection.suite.file, [LEGEND]
    if file.truth:
        count = f"{counted(file.truth.evals, 'network')} of each architecture"
        paragraphs.append(f"Truth: {file.truth.method} under {file.truth.protocol}, {count}.")
    paragraphs += [f"Source: {file.source}.", *file.notes]
    for each in search.datasets:
        if lacking := [name for name in selection.eval_networks if name not in each.truth]:
            why = "cannot take the images, or are not trained yet"
            paragraphs.append(f"{each.dataset}: {counted(len(lacking), 'network')} {why}: {'; '.join(lacking)}.")
    for part in search.parts:
        if part.other_data:
            paragraphs.append(f"Left out: {part.other_data:,} records of other data than the newest record's.")
        if part.altered:
            paragraphs.append(f"{', '.join(sorted(part.altered))}: with other options than the suite's.")
    done = [
        f"{len(records.records):,} of at most {part.trials:,} trials under {part.suite.file.protocol}"
        for part, records in zip(selection.parts, search.parts, strict=True)
    ]
    return [*paragraphs, f"Done: {', '.join(done)}."]


def as_data(selection: SuiteSelection, search: Search) -> dict[str, Any]:
    """Return all of it as plain data; accuracies are fractions, by network."""
    file = selection.suite.file
    return {
        "suite": selection.suite.name,
        **file.model_dump(mode="json", include={"title", "source", "notes", "protocol", "truth"}),
        "budget": selection.budget,
        "networks": selection.eval_networks,
        "datasets": [
            asdict(each) | {"rankings": [*map(_ranking_data, each.rankings)]} for each in search.datasets
        ],
    }


def _ranking_data(ranking: Ranking) -> dict[str, Any]:
    names = zip(("dataset", "ipc", "method", "matching_network"), ranking.key, strict=True)
    return {**dict(names), **{name: value for name, value in asdict(ranking).items() if name != "key"}}


def _table(selection: SuiteSelection, searched: SearchedDataset) -> Table:
    shown = empty_table()
    for name in ("ipc", "trained on"):
        shown.add_column(name, overflow="fold")
    for name in ("n", "networks", "Spearman", "Kendall", "chosen", "seconds"):
        shown.add_column(name, justify="right", no_wrap=True)
    for ranking in searched.rankings:
        _, ipc, method, network = ranking.key
        again = ranking.protocol != selection.suite.file.protocol
        name = f"{method}{' (truth, another seed)' * again}"
        name += f", matched on {network}" * (network is not None and len(selection.networks) > 1)
        head = str(ipc or "all"), escape(name), ranking.sample
        tail = percent(ranking.chosen), seconds(ranking.seconds)
        shown.add_row(*head, str(ranking.overall.networks), *_said(ranking.overall), *tail)
        shown.add_row("", "", "", f"best {ranking.best.networks}", *_said(ranking.best), "", "")
    return shown


def _said(agreement: Agreement) -> Iterator[str]:
    """Yield both correlations with their intervals."""
    for each in (agreement.spearman, agreement.kendall):
        yield escape(correlation(each))
