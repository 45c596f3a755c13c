"""What a method does while it condenses: what it changes and reads, and how it takes an interruption."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from dcbench.checks.check import CheckFailed, unexpected
from dcbench.checks.tryout import Scenario, Subject, Tryout, condense, difference, method_of, usable
from dcbench.core.method import Method
from dcbench.utils.files import default_data_root

SOON = 5.0
"""Seconds from which on users want to know how long it will take."""


def leaves_its_inputs_alone(subject: Subject) -> None:
    """The training split is not changed."""
    if changed := usable(subject).changed:
        raise CheckFailed(
            f"changed: {', '.join(changed)}", "work on a copy, as of normalised(), draw() or clone()"
        )


def draws_from_its_generator_alone(subject: Subject) -> None:
    """It does not draw from global generators and does not seed them."""
    if generators := usable(subject).observed.generators:
        advice = "pass generator=task.generator to torch's functions; make networks with task.new_network()"
        raise CheckFailed(f"{' and '.join(generators)} moved", advice)


def leaves_settings_alone(subject: Subject) -> None:
    """Grad mode, default dtype, number of threads and working directory are the same before and after."""
    if settings := usable(subject).observed.settings:
        raise CheckFailed("; ".join(settings), "change settings in a with statement, as with torch.no_grad()")


def never_sees_the_test_split(subject: Subject) -> str | None:
    """It loads no data set, reads nothing from the data folder, and another test split changes nothing.

    Files that compiled code reads, or that are read before the method is called, are not seen.
    """
    tryout, other = (usable(subject, Scenario(test_seed=seed)) for seed in (0, 1))
    read, root = sorted(set(tryout.observed.read)), default_data_root().absolute()
    seen = [f"the data set {name!r} was loaded" for name in sorted(set(tryout.observed.datasets))]
    seen += [f"{path} was read" for path in read if Path(path).is_relative_to(root)]
    if seen:
        raise CheckFailed("; ".join(seen[:3]), "use task.train: a method may not see the test split")
    if difference(tryout.condensed, other.condensed):
        found = "another set: from task.info.sha256, which covers the test split, or from something it reads"
        raise CheckFailed(found, "use nothing of task.info but the classes, channels, size, mean and std")
    return f"it reads {', '.join(read[:3])}: no check can tell what that is" if read else None


def goes_on_from_a_checkpoint(subject: Subject) -> str | None:
    """If it is interrupted and continued, it gives the same set as without an interruption."""
    whole = usable(subject)
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
            raise unexpected(first.error, "when a checkpoint is saved:", "offer a dict of finite tensors")
        second = condense(method, Scenario(), path)
    if second.error is not None:
        raise unexpected(second.error, "when going on from a checkpoint:")
    if not second.loads:
        advice = "begin with state = task.checkpoint.load(), and put it back if it is not None"
        raise CheckFailed("it offers checkpoints, and never calls task.checkpoint.load()", advice)
    where = f"after an interruption at offer {save_at} of {whole.offers}"
    if second.offers >= whole.offers > 1:
        found = f"{second.offers} offers {where}: it began at the beginning"
        raise CheckFailed(found, "keep the number of steps done in the state, and start the loop there")
    if found := second.problem() or difference(second.condensed, whole.condensed):
        advice = "save all that the next step needs (optimiser, running means), and draw nothing until it begins"
        raise CheckFailed(f"{found} {where}", advice)
    curves = [{name: curve.tolist() for name, curve in each.condensed.history.items()} for each in (second, whole)]
    return None if repr(curves[0]) == repr(curves[1]) else f"{where} the history is another one: save it too"


def tells_its_progress(subject: Subject) -> str | None:
    """`task.progress(done, total)` counts up to a total that does not change."""
    tryout = usable(subject)
    calls, advice = tryout.progress, "call task.progress(done, total) after each step, with done from 1 to total"
    if not calls:
        if tryout.seconds <= SOON:
            return "it tells no progress, and is done at once"
        raise CheckFailed(f"task.progress is never called in {tryout.seconds:.0f} s", advice)
    done, totals = zip(*calls, strict=True)
    if list(done) != sorted(done) or {done[-1]} != set(totals) or done[0] < 0:
        shown = calls if len(calls) <= 6 else [*calls[:3], *calls[-3:]]
        found = ", ".join(f"progress({done}, {total})" for done, total in shown)
        raise CheckFailed(found, advice)
    return None
