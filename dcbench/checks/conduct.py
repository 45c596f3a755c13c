"""What a method must leave alone: its inputs, the process, and the test split."""

from __future__ import annotations

from pathlib import Path

from dcbench.checks.check import CheckFailed
from dcbench.checks.method_results import usable
from dcbench.checks.subject import (
    Subject,
    same,
    trial_of,
)
from dcbench.checks.trial import Scenario
from dcbench.utils.files import default_data_root


def leaves_its_inputs_alone(subject: Subject) -> None:
    """The training split and the method's options are not changed."""
    changed = trial_of(subject).changed
    if changed:
        raise CheckFailed(
            "inputs that are afterwards as they were",
            f"changed: {', '.join(changed)}",
            "work on a copy: task.train.images.clone(); normalised() and draw() already return new tensors",
        )


def draws_from_its_generator_alone(subject: Subject) -> None:
    """No global generator is drawn from or seeded."""
    generators = trial_of(subject).observed.generators
    if generators:
        raise CheckFailed(
            "global generators that are afterwards as they were",
            f"{' and '.join(generators)} moved",
            "pass generator=task.generator to torch.rand, randn, randint and randperm; make networks with "
            "task.new_network(); wrap what takes no generator in torch.random.fork_rng() and seed it from a draw",
        )


def leaves_settings_alone(subject: Subject) -> None:
    """Grad mode, default dtype, number of threads and working directory are afterwards as they were."""
    settings = trial_of(subject).observed.settings
    if settings:
        found = "; ".join(f"{name} is {after} (was {before})" for name, (before, after) in settings.items())
        raise CheckFailed(
            "settings of the process that are afterwards as they were",
            found,
            "use torch.no_grad() as a decorator or in a with statement, and leave the other settings alone",
        )


def never_sees_the_test_split(subject: Subject) -> str | None:
    """It loads no data set, reads nothing from the data folder, and another test split changes nothing.

    Files that are read by compiled code, or before the method is called, are not seen.
    """
    trial, other = (usable(subject, Scenario(test_seed=seed)) for seed in (0, 1))
    observed, root = trial.observed, default_data_root()
    read = sorted(set(observed.files))
    from_root = [path for path in read if Path(path).is_relative_to(root.absolute())]
    if observed.datasets or from_root:
        what = [f"the data set {name!r} was loaded" for name in sorted(set(observed.datasets))]
        what += [f"{path} was read" for path in from_root[:3]]
        raise CheckFailed(
            "a method that uses the images it is given",
            "; ".join(what),
            "use task.train; a data set has a test split, which a method is not to see",
        )
    if not same(trial.condensed, other.condensed):
        raise CheckFailed(
            "the same set from the same training split, whatever the test split",
            "another set: task.info.sha256, which covers the test split too, or something read elsewhere, counts",
            "use nothing of task.info but the classes, channels, size, mean and std",
        )
    remarks = [f"it reads {', '.join(read[:3])}: no check can tell what that is"] if read else []
    remarks += [f"it connects to {', '.join(sorted(set(observed.hosts))[:3])}"] if observed.hosts else []
    return "; ".join(remarks) or None
