"""Which records are a suite's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dcbench.architectures import Architecture
from dcbench.errors import DcbenchError
from dcbench.methods import Method
from dcbench.records import Record
from dcbench.store import latest
from dcbench.suites.part import Experiment, Key, Part


def own_records(part: Part, records: Iterable[Record]) -> list[Record]:
    """Return the records of a part, one for each trial, with the networks as the part spells them.

    They are those that carrying out the part would take as done, whatever the version of the data: of the part's
    combinations, seeds, protocol and budget, and made with its options by the method as it is installed.
    """
    experiments = {experiment.key: experiment for experiment in part.experiments()}
    named = (_named(record, part) for record in latest(records) if record.dataset in part.datasets)
    return [record for record in named if _belongs(record, part, experiments)]


def _named(record: Record, part: Part) -> Record:
    return record.model_copy(
        update={
            "matching_network": _declared(record.matching_network, part.networks),
            "evaluation_network": _declared(record.evaluation_network, part.eval_networks),
        }
    )


def _belongs(record: Record, part: Part, experiments: Mapping[Key, Experiment]) -> bool:
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
    if record.method_version != method.version or set(record.options) != set(type(method).model_fields):
        return False
    return all(
        name not in record.changed_options if value is None else record.options[name] == value
        for name, value in method.model_dump(mode="json").items()
    )


def _declared(spelling: str | None, networks: Mapping[str, Architecture]) -> str | None:
    """Return a record's network as the suite spells it: without the options that depend on the images."""
    if spelling is None or spelling in networks:
        return spelling
    return next((name for name, network in networks.items() if _fits(spelling, network)), spelling)


def _fits(spelling: str, network: Architecture) -> bool:
    head, _, options = spelling.partition(":")
    if head != str(network).partition(":")[0]:
        return False
    try:
        recorded = type(network).parse(options).model_dump(mode="json")
    except DcbenchError:
        return False
    return all(value in (None, recorded[name]) for name, value in network.model_dump(mode="json").items())
