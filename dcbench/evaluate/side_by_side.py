"""Several networks on one condensed set: side by side, one thread each, where their work is small.

On ten images two threads take as long for a network as one does, and longer beside a busy process, because they
wait for each other after every operation. So each thread trains a network of its own. The numbers are those of one
thread, and a record says so. Whether work is small is decided by its size alone, never by a clock or the load: the
same spec gives the same bytes on a busy day.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from itertools import islice
from queue import SimpleQueue

from torch import nn

from dcbench.core.architecture import Architecture, new_network
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.measure import Measure
from dcbench.core.spec import Budget, EvaluationSpec
from dcbench.core.split import ResidentSplit
from dcbench.engine.compiled import count_weight_flops
from dcbench.engine.engine import SHARE_FROM, active_engine, draws_or_changes
from dcbench.evaluate.accuracy import ACCURACY
from dcbench.evaluate.protocol import EvaluationProtocol
from dcbench.evaluate.trial import Trial, evaluate

SMALL = 2e10
"""Floating-point operations of a training step below which a network is trained by one thread.

A ConvNet's on 70 images of 32x32, whose activations take 200 MB."""
TINY = 1e8
"""Operations below which networks wait for Python, which is one thread's at a time: then one network at a time."""
SLOTS = 8
"""Networks at once, at most: for more, Python is too slow."""

Progress = Callable[[int, int], None]
Report = Callable[[int, int, int, int], None]
"""Called as ``report(number of the network, its slot, epochs done, epochs)``; with 0 of 0 when it starts."""


class _Stopped(Exception):
    """Nobody waits for the result any more."""


def evaluate_all(
    specs: Sequence[EvaluationSpec],
    condensed: CondensedSet,
    test: ResidentSplit,
    architecture: Architecture,
    protocol: EvaluationProtocol,
    budget: Budget,
    report: Report,
    teacher: nn.Module | None = None,
    measures: Mapping[int, Sequence[Measure]] | None = None,
) -> Generator[Trial | Exception, None, None]:
    """Yield the trials of specs that differ in their seeds, in order, or what was raised instead.

    See `dcbench.evaluate.trial.evaluate`. ``report`` is called in the caller's thread, and ``measures`` says what
    is asked of the network of each seed; without it, its accuracy.
    """

    def one(spec: EvaluationSpec, progress: Progress, draws: bool = True) -> Trial | Exception:
        asked = measures[spec.seed] if measures else (ACCURACY,)
        judged = (condensed, test, architecture, protocol, budget)
        try:
            return evaluate(spec, *judged, progress, draws, teacher, asked)
        except Exception as error:  # whatever a network may raise
            return error

    slots = min(_slots(condensed, test, architecture, protocol), len(specs))
    if slots:
        yield from _side_by_side(specs, slots, one, report)
        return
    for number, spec in enumerate(specs):
        report(number, 0, 0, 0)
        yield one(spec, partial(report, number, 0))


def _slots(
    condensed: CondensedSet, test: ResidentSplit, architecture: Architecture, protocol: EvaluationProtocol
) -> int:
    """Return how many networks are trained at once, one thread each; 0 for one at a time by all threads."""
    engine = active_engine()
    if not engine.side_by_side or engine.workers == 1:
        return 0
    decoded = len(condensed.images) * condensed.factor**2
    size = min(decoded, protocol.batch_size_for(test.info, decoded))
    try:
        network = new_network(architecture, test.info, seed=0).train()
        flops = 3 * size * count_weight_flops(network, condensed.images[:2])
        draws, _ = draws_or_changes(network, condensed.images[:2])
    except Exception:  # whatever a network may raise: its trial will say so
        return 0
    if draws or flops >= (SHARE_FROM if engine.compiles else SMALL):  # what may be compiled is shared out
        return 0
    return min(SLOTS, engine.workers) if flops >= TINY else 1


def _side_by_side(
    specs: Sequence[EvaluationSpec], slots: int, one: Callable[..., Trial | Exception], report: Report
) -> Generator[Trial | Exception, None, None]:
    """Evaluate in so many of the engine's threads; what they have to tell goes through a queue."""
    engine, stopped = active_engine(), threading.Event()
    news: SimpleQueue[tuple[int, int, tuple[int, int] | Trial | Exception]] = SimpleQueue()
    waiting, running = iter(range(len(specs))), list[Future[None]]()
    results: dict[int, Trial | Exception] = {}

    def progress(number: int, slot: int, done: int, total: int) -> None:
        if stopped.is_set():
            raise _Stopped
        news.put((number, slot, (done, total)))

    def work(number: int, slot: int) -> None:
        with replace(engine, workers=1, side_by_side=False).current():
            news.put((number, slot, one(specs[number], partial(progress, number, slot), draws=False)))

    def begin(slot: int) -> None:
        for number in islice(waiting, 1):
            report(number, slot, 0, 0)
            running.append(engine.pool().submit(work, number, slot))

    try:
        for slot in range(slots):
            begin(slot)
        for number in range(len(specs)):
            while number not in results:
                other, slot, result = news.get()
                if isinstance(result, tuple):
                    report(other, slot, *result)
                else:
                    results[other] = result
                    begin(slot)
            yield results.pop(number)
    finally:
        stopped.set()
        wait(running)
