"""What a method returns: a usable set, the same from the same task."""

from __future__ import annotations

import torch

import dcbench.checks.tryout as tryouts
from dcbench.checks.check import CheckBlocked, CheckFailed, NotTried, unexpected
from dcbench.checks.tryout import Scenario, Subject, depends, difference, ipcs_of, method_of, try_out, usable
from dcbench.core.condensed_set import CondensedSet
from dcbench.utils.errors import DcbenchError


def condenses(subject: Subject) -> str:
    """It condenses 28 images of 3x8x8 pixels in 3 classes to 1, 2 and 3 images per class, each within a minute."""
    slowest, steps = 0.0, 0
    for ipc in ipcs_of(subject):
        tryout = try_out(method_of(subject), Scenario(ipc))
        if isinstance(tryout.error, DcbenchError):
            raise CheckFailed(f"it refuses ipc {ipc}: {tryout.error}", "serve images of 3x8x8 pixels")
        if tryout.error is not None:
            raise unexpected(tryout.error, f"at {ipc} images per class:")
        if tryout.seconds > tryouts.LIMIT_SECONDS:
            found = f"{'stopped after ' if tryout.stopped else ''}{tryout.seconds:.0f} seconds"
            raise CheckFailed(found, 'give `quick` smaller options, as in quick = {"iterations": 50}')
        if not isinstance(tryout.result, CondensedSet):
            advice = "return CondensedSet(images, labels), or CondensedSet.select(task.train, indices)"
            raise CheckFailed(f"it returns a {type(tryout.result).__name__}", advice)
        slowest, steps = max(slowest, tryout.seconds), max(steps, len(tryout.progress))
    return f"{slowest:.2g} s" + (f" for {steps} steps" if steps else "")


def returns_a_usable_set(subject: Subject) -> str | None:
    """Images, labels, indices and history have the types, shapes and values that `CondensedSet` states."""
    tryout = try_out(method_of(subject), Scenario())
    if not isinstance(tryout.result, CondensedSet):
        raise CheckBlocked(tryout.problem(), "see the check condenses")
    if problem := tryout.problem():
        raise CheckFailed(problem, "return CondensedSet(images.detach().cpu(), labels) as its docstring states")
    remarks = []
    if (largest := float(tryout.condensed.images.abs().max())) > 30:
        remarks.append(f"the largest value is {largest:.0f}, and most are within 3 when normalised: pixels?")
    if tryout.condensed.labels.ndim == 2:
        remarks.append("soft labels: ranked in a track of their own")
    return "; ".join(remarks) or None


def every_class_gets_its_images(subject: Subject) -> str | None:
    """Every class gets exactly `ipc` images, unless `depends_on` leaves ipc out."""
    if "ipc" not in depends(subject):
        return "declared: the number of images is the method's own"
    for ipc in ipcs_of(subject):
        if problem := usable(subject, Scenario(ipc)).problem(ipc):
            advice = "make task.ipc images of each class; if the method decides, leave 'ipc' out of depends_on"
            raise CheckFailed(problem, advice)
    return None


def returns_to_the_cpu(subject: Subject) -> str | None:
    """The condensed set is on the CPU even if the images are on a GPU."""
    if not torch.cuda.is_available():
        return NotTried("there is no CUDA device here")
    usable(subject)
    tryout = try_out(method_of(subject), Scenario(device="cuda"))
    if tryout.error is not None:
        raise unexpected(tryout.error, "on CUDA:", "put tensors on task.device")
    devices = {str(each.device) for each in (tryout.condensed.images, tryout.condensed.labels)}
    if devices != {"cpu"}:
        raise CheckFailed(", ".join(sorted(devices)), "return images.cpu()")
    return None


def same_seed_gives_the_same_bytes(subject: Subject) -> None:
    """The same task gives the same images and labels, byte for byte."""
    one, other = (usable(subject, Scenario(turn=turn)).condensed for turn in (0, 1))
    if found := difference(one, other):
        raise CheckFailed(found, "draw from task.generator alone; use no clock, no hash(), no state of the class")


def depends_on_the_seed_as_it_says(subject: Subject) -> str | None:
    """At each number of images per class, another seed gives another set if and only if the seed is named."""
    sets = {
        ipc: [usable(subject, Scenario(ipc, seed)).condensed for seed in (0, 1, 2)] for ipc in ipcs_of(subject)
    }
    differs = {ipc: any(difference(first, each) for each in others) for ipc, (first, *others) in sets.items()}
    declared = {ipc: "seed" in depends(subject, ipc) for ipc in differs}
    for ipc, differ in differs.items():
        if differ and not declared[ipc]:
            advice = "name 'seed' in depends_on and draw from task.generator, or neither"
            raise CheckFailed(f"another set from the seeds 0, 1 and 2 at ipc {ipc}", advice)
    same = [str(ipc) for ipc, differ in differs.items() if declared[ipc] and not differ]
    found = f"the same set from the seeds 0, 1 and 2 at ipc {', '.join(same)}"
    if same and not any(differs.values()):
        raise CheckFailed(found, "draw from task.generator, or leave 'seed' out of depends_on")
    return f"{found}: if it is so on all data, leave 'seed' out of dependencies(setting) there" if same else None


def depends_on_the_network_as_it_says(subject: Subject) -> str | None:
    """Another matching network changes nothing where `depends_on` leaves the network out."""
    one, other = (usable(subject, Scenario(width=width)).condensed for width in (6, 4))
    differs, declared = bool(difference(one, other)), "network" in depends(subject)
    if differs and not declared:
        raise CheckFailed("another set with another network", "add 'network' to depends_on")
    if declared and not differs:
        return "two networks gave the same set: if it never depends on it, leave 'network' out of depends_on"
    return None
