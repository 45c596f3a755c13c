"""Which records are a suite's: told from the records and the suite's files alone, but for two rare cases.

Plugins are loaded, which takes seconds, where a data set is known by an argument such as a path, and where a
network is recorded with more options than the suite states: either the images or a user may have added those.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from dcbench.core.component import Spelling
from dcbench.core.spec import ACCURACY, get_budget
from dcbench.leaderboard.scores import drop_other_augmentations
from dcbench.results.records import Record
from dcbench.results.store import latest
from dcbench.suites.selection import Key, SuiteSelection, tidy
from dcbench.utils.errors import DcbenchError

if TYPE_CHECKING:
    from dcbench.plugins import Plugins


@dataclass(frozen=True)
class NetworkNames:
    """How records of a data set spell one network of a suite: in several ways where that depends on the images."""

    dataset: str
    network: str
    found: tuple[str, ...]

    @property
    def taken(self) -> str | None:
        """The spelling that counts; None where that cannot be told without the images.

        If a network is recorded as the suite spells it, a user set the options of all others.
        """
        if self.network in self.found:
            return self.network
        return self.found[0] if len(self.found) == 1 else None


@dataclass(frozen=True)
class SuiteRecords:
    """What records say of a suite, or of a part of it.

    Attributes:
        records: those that count, one for each trial, with names as the suite spells them.
        depends: what the sets of methods depend on, of those that have records.
        altered: methods whose records were made with other options than the suite's: what they give is not to be
            compared with the published numbers.
        other_data: how many were left out since they are of other data under the same name.
        spellings: of the networks that are not recorded as the suite spells them.
    """

    records: list[Record]
    depends: Mapping[str, frozenset[str]]
    altered: frozenset[str]
    other_data: int
    spellings: tuple[NetworkNames, ...]


def suite_records(
    selection: SuiteSelection, records: Iterable[Record], plugins: Callable[[], Plugins]
) -> SuiteRecords:
    """Find the records of a suite: of its combinations, seeds, protocol and budget, made with its options.

    The newest record says which version of the data and of a method is meant. There is never more than one record
    for a trial. Plugins are loaded if need be.
    """
    names = _Names(selection, plugins)
    pairs = [
        (record, renamed)
        for record in drop_other_augmentations(latest(each for each in records if each.measure == ACCURACY))
        if (renamed := names.renamed(record)) and _belongs(renamed, selection)
    ]
    current = _like_the_newest(pairs, lambda record: record.dataset, lambda record: record.dataset_sha256)
    kept = _like_the_newest(current, _key, _making)
    spellings: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record, renamed in kept:
        for network, spelling in _networks(record, renamed):
            spellings[renamed.dataset, network].add(spelling)
    known = {place: NetworkNames(*place, tuple(sorted(each))) for place, each in sorted(spellings.items())}
    kept = [
        (record, renamed)
        for record, renamed in kept
        if all(known[renamed.dataset, name].taken == spelling for name, spelling in _networks(record, renamed))
    ]
    # Options that depend on the setting may have been resolved otherwise in the past.
    kept = _like_the_newest(kept, lambda each: (_key(each), each.condense_seed), lambda each: each.condense_key)
    own = [renamed for _, renamed in kept]
    return SuiteRecords(
        records=own,
        depends={record.method: _depends_on(record) for record in own},
        altered=frozenset(each.method for each in own if not _has(each, selection.suite.file.options)),
        other_data=len(pairs) - len(current),
        spellings=tuple(each for each in known.values() if each.taken != each.network),
    )


class _Names:
    """Finds what a suite calls the data sets, methods and networks of records."""

    def __init__(self, selection: SuiteSelection, plugins: Callable[[], Plugins]) -> None:
        self.selection, self.plugins = selection, cache(plugins)
        self.datasets = {
            tidy(self.plugins().make_dataset(name).record_name()) if ":" in name else name: name
            for name in selection.datasets
        }
        self.declared, self.canonical = cache(self._declared), cache(self._canonical)

    def renamed(self, record: Record) -> Record | None:
        """Return a record with the suite's names; None where its data set or method is none of the suite's."""
        dataset = self.datasets.get(tidy(record.dataset))
        if dataset is None or record.method not in self.selection.methods or record.imported or record.steps:
            return None
        update = {
            "dataset": dataset,
            "matching_network": self.declared(record.matching_network, self.selection.networks),
            "evaluation_network": self.declared(record.evaluation_network, self.selection.eval_networks),
        }
        return record.model_copy(update=update)

    def _declared(self, spelling: str | None, networks: tuple[str, ...]) -> str | None:
        """Return a record's network as the suite spells it: without the options that depend on the images."""
        if spelling is None or (same := tidy(spelling)) in networks:
            return spelling and same
        name = Spelling.of(spelling).name
        alike = [each for each in networks if Spelling.of(each).name == name]
        if alike and (known := self.canonical(tuple(alike)).get(same)):
            return known
        left = {each: self._left_open(same, each) for each in alike}
        fitting = [(count, each) for each, count in left.items() if count is not None]
        return min(fitting)[1] if fitting else spelling

    def _canonical(self, networks: tuple[str, ...]) -> dict[str, str]:
        """Return networks by the spelling that records have where nothing depends on the images."""
        known = {}
        for each in networks:
            with suppress(DcbenchError):  # where its plugin is not installed
                known[tidy(str(self.plugins().make_architecture(each)))] = each
        return known

    def _left_open(self, spelling: str, network: str) -> int | None:
        """Count the options that a network leaves to the images; None if they cannot have made it the spelling."""
        from dcbench.core.architecture import Architecture

        try:
            stated = self.plugins().make_architecture(network)
            recorded = type(stated).from_spelling(spelling)
        except DcbenchError:
            return None
        values, theirs = stated.model_dump(mode="json"), recorded.model_dump(mode="json")
        left = [name for name, value in values.items() if value is None and theirs[name] is not None]
        resolves = type(stated).resolve is not Architecture.resolve
        same = all(value == theirs[name] for name, value in values.items() if name not in left)
        return len(left) if same and (resolves or not left) else None


def _networks(record: Record, renamed: Record) -> list[tuple[str, str]]:
    """Return the networks of a record as the suite spells them, each with the record's spelling."""
    networks = (renamed.matching_network, renamed.evaluation_network)
    spellings = (record.matching_network, record.evaluation_network)
    return [(name, tidy(text)) for name, text in zip(networks, spellings, strict=True) if name and text]


def _like_the_newest(
    pairs: list[tuple[Record, Record]], group: Callable[[Record], Any], value: Callable[[Record], Any]
) -> list[tuple[Record, Record]]:
    """Leave out records that differ from the newest of their group in some value."""
    in_time = sorted((renamed for _, renamed in pairs), key=lambda each: (each.started_at, each.condense_key))
    newest = {group(record): value(record) for record in in_time}
    return [pair for pair in pairs if value(pair[1]) == newest[group(pair[1])]]


def _key(record: Record) -> Key:
    return (record.dataset, record.ipc, record.method, record.matching_network)


def _making(record: Record) -> tuple[object, ...]:
    """Return what tells sets of one method from each other, but for the seed."""
    return record.method_version, record.seeded, {name: record.options[name] for name in record.changed_options}


def _depends_on(record: Record) -> frozenset[str]:
    parts = {"ipc": record.ipc, "network": record.matching_network, "seed": record.seeded}
    return frozenset(name for name, part in parts.items() if part)


def _belongs(record: Record, selection: SuiteSelection) -> bool:
    """Say whether a record, with the suite's names, is of the suite's combinations, seeds and options.

    Options of the user go before those of the suite.
    """
    sets, evals = selection.count(record.seeded)
    first = selection.seed
    bare = {key for key in selection.options if "." not in key}
    own = {key: each for key, each in selection.suite.file.options.items() if key.rpartition(".")[2] not in bare}
    return (
        (record.protocol, record.budget) == (selection.suite.file.protocol, selection.budget)
        and record.ipc in (None, *selection.ipcs)
        and record.matching_network in (None, *selection.networks)
        and record.evaluation_network in selection.eval_networks
        and record.condense_seed in (range(first, first + sets) if record.seeded else range(1))
        and record.eval_seed in range(first, first + evals)
        and _has(record, own | dict(selection.options))
    )


def _has(record: Record, options: Mapping[str, str]) -> bool:
    """Say whether a record has some options and, where its budget brings none of its own, no others changed."""
    stated = {key: text for key, text in options.items() if key in record.options}
    for key, text in options.items():
        owner, dot, name = key.rpartition(".")
        if dot and tidy(owner) == record.method:
            stated[name] = text
    if get_budget(record.budget).official and not {*record.changed_options} <= stated.keys():
        return False
    return all(_is(record, name, text) for name, text in stated.items())


def _is(record: Record, name: str, text: str) -> bool:
    """Say whether an option of a record has a value as typed; ``none`` leaves it to the setting."""
    if text.lower() == "none":
        return name not in record.changed_options
    value = record.options.get(name)
    try:
        return str(value) == text or bool(json.loads(text) == value)
    except (ValueError, RecursionError):
        return False
