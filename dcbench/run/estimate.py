"""How long a plan will take, by what the records of the results say that the same work took on this machine."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from datetime import timedelta
from itertools import groupby

from dcbench.core.spec import CondenseSpec
from dcbench.results.provenance import describe_device
from dcbench.results.records import Record
from dcbench.results.store import Store
from dcbench.run.cells import Plan
from dcbench.run.plan import Outline
from dcbench.utils.wording import counted

Span = tuple[float, float, float]
"""Seconds: the mean, the least and the most."""


def estimate(plans: Sequence[Plan], outlines: Sequence[Outline], store: Store, force: bool = False) -> str:
    """Say how long what plans for one device have left to do will take; nothing is known of the ``outlines``.

    Work is of one kind if it differs in the seed alone, or in the threads and the engine: hence the least and the
    most. The training of networks that a method or a teacher needs is not in it.
    """
    machine = describe_device(plans[0].device, 1).removesuffix(", 1 thread")
    here = [record for record in store.records if record.status == "ok" and record.device.startswith(machine)]
    sets = _spans((_set_kind(each), each.set_sha256, each.condense_seconds) for each in here)
    trials = _spans(
        (
            _trial_kind(each, str(each.evaluation_network), each.protocol, each.budget, each.measure),
            each.key,
            each.eval_seconds,
        )
        for each in here
    )
    found_sets: list[Span | None] = [None] * len(outlines)
    found_trials: list[Span | None] = [None] * sum(each.trials for each in outlines)
    for plan, cell in [(each, cell) for each in plans for cell in each.cells]:
        pending = plan.pending(cell, store, force)
        for network, asked in groupby(pending, key=lambda trial: trial[:2]):
            judged = str(network[0]), plan.protocol.name, plan.budget.name
            # One training for all measures; which takes longest is the best guess.
            spans = [trials.get(_trial_kind(cell.spec, *judged, str(measure))) for *_, measure in asked]
            found_trials.append(max((span for span in spans if span), default=None))
        if cell.spec.steps:  # joining sets takes no time
            continue
        if (pending or not cell.trials) and (force or not store.set_path(cell.spec).exists()):
            found_sets.append(sets.get(_set_kind(cell.spec)))
    measured = [span for span in (*found_sets, *found_trials) if span]
    unknown = (
        f"{counted(found_sets.count(None), 'condensation')} and {counted(found_trials.count(None), 'evaluation')}"
    )
    if not measured:
        return f"Time: unknown, because nothing of the kind was measured on this machine ({unknown})."
    mean, low, high = (timedelta(seconds=round(sum(each))) for each in zip(*measured, strict=True))
    known = f"Time: about {mean} ({low} to {high}, the least and the most that it took on this machine so far)."
    return known + f" Not counted: {unknown}, never measured here." * (None in (*found_sets, *found_trials))


def _spans(
    found: Iterable[tuple[Hashable, Hashable, float | None]],
) -> dict[Hashable, Span]:
    """Return the mean, the least and the most of each kind, where each piece of work counts once."""
    seconds: dict[Hashable, dict[Hashable, float]] = defaultdict(dict)
    for kind, piece, taken in found:
        if taken is not None:
            seconds[kind][piece] = taken
    spans = {}
    for kind, pieces in seconds.items():
        values = pieces.values()
        spans[kind] = (sum(values) / len(values), min(values), max(values))
    return spans


def _set_kind(of: Record | CondenseSpec) -> Hashable:
    options = json.dumps(of.options, sort_keys=True)
    return of.dataset, of.ipc, of.method, of.method_version, options, of.matching_network


def _trial_kind(of: Record | CondenseSpec, network: str, protocol: str, budget: str, measure: str) -> Hashable:
    # Sets of one size take the same time, whoever made them; without a size they are the method's.
    return of.dataset, of.ipc or of.method, network, protocol, budget, measure
