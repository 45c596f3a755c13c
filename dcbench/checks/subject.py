"""What the checks of methods are about: a method, what it did when it was tried out, and comparing sets."""

from __future__ import annotations

import torch

from dcbench.checks.check import CheckBlocked
from dcbench.checks.components import class_of
from dcbench.checks.trial import Scenario, Trial, try_out
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.method import Method
from dcbench.utils.errors import DcbenchError

Subject = Method | type[Method]


def method_class(subject: Subject) -> type[Method]:
    """Return the class."""
    return class_of(subject)  # type: ignore[return-value]


def method_of(subject: Subject) -> Method:
    """Return the method to try: an instance as it is, of a class that with the quick budget's options."""
    if isinstance(subject, Method):
        return subject
    try:
        return subject.configure(dict(subject.quick))
    except DcbenchError as error:
        raise CheckBlocked("a method that can be made", str(error), "see quick_options_are_valid") from None


def ipcs_of(subject: Subject) -> tuple[int, ...]:
    """Return the images per class to try: several, unless the method does not depend on them."""
    return (1, 2, 3) if "ipc" in method_of(subject).dependencies() else (2,)


def trial_of(subject: Subject, scenario: Scenario | None = None) -> Trial:
    """Return a trial that ended with a condensed set.

    Raises:
        CheckBlocked: when it did not, which the check `condenses` is about.
    """
    trial = try_out(method_of(subject), scenario or Scenario())
    if not isinstance(trial.result, CondensedSet):
        found = f"{type(trial.error).__name__}: {trial.error}" if trial.error else "none"
        raise CheckBlocked("a condensed set", found, "see the check condenses")
    return trial


def same(one: CondensedSet, other: CondensedSet) -> bool:
    """Say whether two sets have the same images and labels, byte for byte."""
    return one.sha256() == other.sha256()


def same_history(one: CondensedSet, other: CondensedSet) -> bool:
    """Say whether two sets have the same curves."""
    return one.history.keys() == other.history.keys() and all(
        torch.equal(one.history[name].nan_to_num(), other.history[name].nan_to_num()) for name in one.history
    )


def difference(one: object, other: CondensedSet) -> str:
    """Say how two sets differ."""
    if not isinstance(one, CondensedSet) or one.images.shape != other.images.shape:
        return "another number of images, or none"
    images = (one.images != other.images).flatten(1).any(1)
    largest = float((one.images - other.images).abs().max())
    return f"{int(images.sum())} of {len(images)} images differ, by at most {largest:.3g}"
