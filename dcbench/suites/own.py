"""Which records are a suite's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dcbench.core.architecture import Architecture
from dcbench.core.method import Method
from dcbench.leaderboard.scores import drop_other_augmentations
from dcbench.results.records import Record
from dcbench.results.store import latest
from dcbench.suites.part import Experiment, Key, SuiteSelection
from dcbench.utils.errors import DcbenchError


@dataclass(frozen=True)
class NetworkNames:
    """How records of a data set spell one network of a part, where that depends on the images.

    Attributes:
        dataset, network: the data set, and the network as the part spells it.
        found: the spellings of records that are the part's in all else, sorted.
    """

    dataset: str
    network: str
    found: tuple[str, ...]

    @property
    def taken(self) -> str | None:
        """The spelling that counts; None where that cannot be told without the images.

        A network that is recorded as the part spells it was not changed by the images: whatever else is recorded
        has options that a user set. Of several other spellings, any may be what the images make of the network.
        """
        if self.network in self.found:
            return self.network
        return self.found[0] if len(self.found) == 1 else None


@dataclass(frozen=True)
class SuiteRecords:
    """What records say of a part.

    Attributes:
        records: the part's own, one for each trial, with the networks as the part spells them.
        other_data: how many were left out since they are of other data under the same name.
        spellings: of the networks that are not recorded as the part spells them.
    """

    records: list[Record]
    other_data: int
    spellings: tuple[NetworkNames, ...]


def own_records(part: SuiteSelection, records: Iterable[Record]) -> SuiteRecords:
    """Find the records of a part.

    They are those that carrying out the part would take as done: of the part's combinations, seeds, protocol and
    budget, and made with its options by the method as it is installed. As no data set is loaded, the newest
    record says which version of the data is meant, and what was made of a network is known from records alone:
    see `NetworkNames`. There is never more than one record for a trial.
    """
    experiments = {experiment.key: experiment for experiment in part.experiments()}
    alike = drop_other_augmentations(latest(records))
    pairs = [(record, _named(record, part)) for record in alike if record.dataset in part.datasets]
    pairs = [(record, named) for record, named in pairs if _belongs(named, part, experiments)]
    current = _of_one_version(pairs)
    found: dict[tuple[str, str], set[str]] = {}
    for record, named in current:
        for network, spelling in _networks(record, named):
            found.setdefault((record.dataset, network), set()).add(spelling)
    spellings = {pair: NetworkNames(*pair, tuple(sorted(each))) for pair, each in sorted(found.items())}
    kept = [
        named
        for record, named in current
        if all(spellings[record.dataset, name].taken == spelling for name, spelling in _networks(record, named))
    ]
    asked = tuple(each for each in spellings.values() if each.taken != each.network)
    return SuiteRecords(_of_one_set(kept), len(pairs) - len(current), asked)


def _networks(record: Record, named: Record) -> list[tuple[str, str]]:
    """Return the networks of a record as the part spells them, each with the record's spelling."""
    both = (
        (named.matching_network, record.matching_network),
        (named.evaluation_network, record.evaluation_network),
    )
    return [(network, spelling) for network, spelling in both if network and spelling]


def _of_one_version(pairs: list[tuple[Record, Record]]) -> list[tuple[Record, Record]]:
    """Leave out records of other data under the same name: those whose hash is not the newest record's."""
    in_time = sorted((record for record, _ in pairs), key=lambda record: record.started_at)
    newest = {record.dataset: record.dataset_sha256 for record in in_time}
    return [pair for pair in pairs if pair[0].dataset_sha256 == newest[pair[0].dataset]]


def _of_one_set(records: list[Record]) -> list[Record]:
    """Leave one condensed set for each experiment and seed: the newest record's.

    There are several where options that depend on the setting were resolved otherwise in the past.
    """
    in_time = sorted(records, key=lambda record: (record.started_at, record.condense_key))
    newest = {_set_of(record): record.condense_key for record in in_time}
    return [record for record in records if record.condense_key == newest[_set_of(record)]]


def _set_of(record: Record) -> tuple[Key, int]:
    return (record.dataset, record.ipc, record.method, record.matching_network), record.condense_seed


def _named(record: Record, part: SuiteSelection) -> Record:
    """Return a record with its networks as the part spells them."""
    return record.model_copy(
        update={
            "matching_network": _declared(record.matching_network, part.networks),
            "evaluation_network": _declared(record.evaluation_network, part.eval_networks),
        }
    )


def _belongs(record: Record, part: SuiteSelection, experiments: Mapping[Key, Experiment]) -> bool:
    experiment = experiments.get((record.dataset, record.ipc, record.method, record.matching_network))
    if experiment is None or record.evaluation_network not in part.eval_networks:
        return False
    if (record.protocol, record.budget) != (part.protocol.name, part.budget.name):
        return False
    set_seeds = range(part.seed, part.seed + experiment.sets) if experiment.seeded else range(1)
    eval_seeds = range(part.seed, part.seed + experiment.evals)
    if record.condense_seed not in set_seeds or record.eval_seed not in eval_seeds:
        return False
    return _made_by(part.methods[record.method], record)


def _made_by(method: Method, record: Record) -> bool:
    """Say whether a method, not resolved, made a record: options that depend on the setting must be at that."""
    if record.method_version != method.version or set(record.options) != set(method.model_dump()):
        return False
    return all(
        name not in record.changed_options if value is None else record.options[name] == value
        for name, value in method.model_dump(mode="json").items()
    )


def _declared(spelling: str | None, networks: Mapping[str, Architecture]) -> str | None:
    """Return a record's network as the suite spells it: without the options that depend on the images."""
    if spelling is None or spelling in networks:
        return spelling
    fitting = [name for name, network in networks.items() if _fits(spelling, network)]
    return min(fitting, key=lambda name: _left_open(networks[name]), default=spelling)


def _left_open(network: Architecture) -> int:
    """Count the options that a network leaves to the images."""
    return sum(value is None for value in network.model_dump(mode="json").values())


def _fits(spelling: str, network: Architecture) -> bool:
    """Say whether a network may have been resolved to another spelling."""
    head, _, options = spelling.partition(":")
    if head != str(network).partition(":")[0] or type(network).resolve is Architecture.resolve:
        return False
    try:
        recorded = type(network).parse(options).model_dump(mode="json")
    except DcbenchError:
        return False
    return all(value in (None, recorded[name]) for name, value in network.model_dump(mode="json").items())
