"""Long work: a method goes on after interruptions, tells how far it is, and is quick where that is asked."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import torch

from dcbench.checks.check import CheckFailed, NotTried, raised
from dcbench.checks.method_results import usable
from dcbench.checks.tryout import (
    LIMIT_SECONDS,
    Scenario,
    Subject,
    Tryout,
    condense,
    difference,
    ipcs_of,
    method_of,
    same,
    same_history,
    try_out,
)
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.method import Method

SOON = 5.0
"""Seconds from which on users want to know how long it will take."""


def goes_on_from_a_checkpoint(subject: Subject) -> str | None:
    """Interrupted and gone on with, it gives the set of an uninterrupted run."""
    whole = usable(subject, Scenario())
    if not whole.offers:
        return "it offers no checkpoint: after an interruption it starts anew"
    later = random.Random(0).randint(1, max(1, whole.offers - 1))
    remarks = [_interrupt_and_go_on(method_of(subject), whole, save_at) for save_at in sorted({1, later})]
    return next(filter(None, remarks), None)


def _interrupt_and_go_on(method: Method, whole: Tryout, save_at: int) -> str | None:
    """Compare a run that was interrupted after an offer with one that was not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        first = condense(method, Scenario(), path, save_at)
        if first.error is not None:
            expected, found, _ = raised(first.error)
            raise CheckFailed(
                f"{expected} when a checkpoint is saved",
                found,
                "offer a dict of finite tensors under names of your own",
            )
        if not first.stopped and whole.offers > save_at:
            raise CheckFailed(
                "an interruption to end the method", "it went on", "do not catch BaseException in condense"
            )
        second = condense(method, Scenario(), path)
    if second.error is not None:
        expected, found, advice = raised(second.error)
        raise CheckFailed(f"{expected} when going on from a checkpoint", found, advice)
    if not second.loads:
        raise CheckFailed(
            "a method that goes on from what it saved",
            "it offers checkpoints, and never calls task.checkpoint.load()",
            "begin with state = task.checkpoint.load(); where it is not None, put it back",
        )
    if second.offers >= whole.offers > 1:
        raise CheckFailed(
            f"{whole.offers - save_at} steps after an interruption at offer {save_at} of {whole.offers}",
            f"{second.offers} offers: it began at the beginning",
            "keep the number of steps done in the state, and start the loop there",
        )
    if not isinstance(second.result, CondensedSet) or not same(second.result, whole.condensed):
        raise CheckFailed(
            f"the set of an uninterrupted run, after an interruption at offer {save_at} of {whole.offers}",
            difference(second.result, whole.condensed),
            "keep all that the next step needs: images, optimiser state (momentum), running means, steps done; "
            "draw nothing between offer() and the next step, nor between load() and it. The generator's state "
            "is kept for you",
        )
    if not same_history(second.result, whole.condensed):
        return "after an interruption the history is another one: keep it in the state"
    return None


def tells_its_progress(subject: Subject) -> str | None:
    """`task.progress(done, total)` counts up to a total that stays."""
    trial = usable(subject, Scenario())
    calls = trial.progress
    if not calls:
        if trial.seconds > SOON:
            raise CheckFailed(
                f"progress from a method that takes {trial.seconds:.0f} s here",
                "task.progress is never called",
                "call task.progress(done, total) after each step",
            )
        return "it tells no progress, and is done at once"
    done, totals = [call[0] for call in calls], {call[1] for call in calls}
    if len(totals) > 1 or done != sorted(done) or done[-1] != calls[-1][1] or done[0] < 0:
        raise CheckFailed(
            "steps done that never fall, up to a total that stays the same",
            f"{_few(calls)}",
            "call task.progress(done, total) with done from 1 to total, in steps of equal work",
        )
    return None


def quick_is_quick(subject: Subject) -> str:
    """With the options of the quick budget, it is ready within a minute."""
    trials = [usable(subject, Scenario(ipc)) for ipc in ipcs_of(subject)]
    slowest = max(trial.seconds for trial in trials)
    if slowest > LIMIT_SECONDS:
        raise CheckFailed(
            f"at most {LIMIT_SECONDS:g} seconds for 28 images of 3x8x8 pixels",
            f"{slowest:.0f} seconds",
            'give `quick` smaller options, as in quick = {"iterations": 50}',
        )
    steps = max((trial.progress[-1][1] for trial in trials if trial.progress), default=None)
    return f"{slowest:.2g} s" + (f" for {steps} steps" if steps else "")


def returns_to_the_cpu(subject: Subject) -> str | None:
    """With the images on a GPU, the condensed set is on the CPU all the same."""
    if not torch.cuda.is_available():
        return NotTried("there is no CUDA device here")
    usable(subject, Scenario())
    trial = try_out(method_of(subject), Scenario(device="cuda"))
    if trial.error is not None:
        expected, found, advice = raised(trial.error)
        raise CheckFailed(f"{expected} on CUDA", found, f"put tensors on task.device; {advice}")
    devices = {str(each.device) for each in (trial.condensed.images, trial.condensed.labels)}
    if devices != {"cpu"}:
        raise CheckFailed("images and labels on the CPU", ", ".join(sorted(devices)), "return images.cpu()")
    return None


def _few(calls: list[tuple[object, object]]) -> str:
    shown = [f"progress({done}, {total})" for done, total in calls]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "…", *shown[-3:]])
