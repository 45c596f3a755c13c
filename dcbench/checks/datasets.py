"""The contract of data sets. Data that are not on this machine are downloaded, as for a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from dcbench.checks.check import CheckFailed, require_passed, unexpected
from dcbench.checks.components import COMPONENT_CHECKS, class_of, configured
from dcbench.checks.watch import Observed, watching
from dcbench.core.dataset import Dataset, Splits
from dcbench.core.loaded_dataset import channel_statistics, load_dataset
from dcbench.engine.siamese import OPERATIONS
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import default_data_root

Subject = Dataset | type[Dataset]


@dataclass(frozen=True)
class Loaded:
    """What two loads of a data set gave: the first's splits, what the second did to the process, and problems."""

    splits: Splits
    observed: Observed
    problem: str = ""
    differs: bool = False


@lru_cache(1)  # since data sets are large
def _load(dataset: Dataset) -> Loaded:
    """Load twice, the second time as a run does, with different states of the global generators."""
    root = default_data_root()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        splits = dataset.load(root)
        torch.manual_seed(1)
        with watching(seed=1) as observed:
            try:
                again = load_dataset(dataset, root)
            except DcbenchError as error:
                return Loaded(splits, observed, problem=str(error))
    pairs = ((splits.train, again.host_train), (splits.test, again.host_test))
    same = [torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in pairs]
    return Loaded(splits, observed, differs=not all(same))


def _usable(subject: Subject) -> Loaded:
    """Return what was loaded; raise `CheckBlocked` when no run can use it."""
    require_passed(loads, subject)
    return _load(configured(subject))


def loads(subject: Subject) -> str:
    """It loads, and returns a training and a test split that a run can use."""
    try:
        loaded = _load(configured(subject))
    except DcbenchError:
        raise
    except Exception as error:
        raise unexpected(error, "when it loads:") from None
    if loaded.problem:
        raise CheckFailed(loaded.problem, "return Splits and Split as their docstrings state")
    train, test, names = loaded.splits.train, loaded.splits.test, loaded.splits.class_names
    shape = "x".join(map(str, train.images.shape[1:]))
    return (
        f"{len(train.images):,} images of {shape} to train on, {len(test.images):,} to test, {len(names)} classes"
    )


def every_class_is_trained(subject: Subject) -> str | None:
    """Every class has a training image, and no two classes have the same name."""
    splits = _usable(subject).splits
    names = splits.class_names
    if len(set(names)) != len(names) or not all(isinstance(name, str) and name for name in names):
        raise CheckFailed(f"class_names are {str(names)[:100]}", "use strings, each its own")
    untrained, untested = (
        ", ".join([name for label, name in enumerate(names) if not bool((split.labels == label).any())][:5])
        for split in (splits.train, splits.test)
    )
    if untrained:
        raise CheckFailed(
            f"no training image of {untrained}", "leave out these classes, and count the others from 0"
        )
    return f"no test image of {untested}" if untested else None


def loads_the_same_twice(subject: Subject) -> None:
    """Loading again gives the same bytes, whatever the state of the global generators."""
    if _usable(subject).differs:
        advice = "sort file names; split and shuffle with generator=torch.Generator().manual_seed(0)"
        raise CheckFailed("other images or labels, or another order, the second time", advice)


def loaded_it_is_here(subject: Subject) -> None:
    """After loading, `is_here` returns True, or None if it cannot tell."""
    _usable(subject)
    here = configured(subject).is_here(default_data_root())
    if here not in (True, None):
        raise CheckFailed(repr(here), "let is_here look for the files that load reads")


def loading_leaves_settings_alone(subject: Subject) -> None:
    """Global generators, grad mode, default dtype and working directory are the same before and after."""
    observed = _usable(subject).observed
    if moved := [*observed.settings, *observed.generators]:
        raise CheckFailed(f"changed: {'; '.join(moved)}", "use a generator of your own, as torch.Generator()")


def splits_do_not_share_images(subject: Subject) -> str | None:
    """The test split does not consist of training images; the check prints how many images both have."""
    splits = _usable(subject).splits
    train = {hash(image.numpy().tobytes()) for image in splits.train.images}
    shared = sum(hash(image.numpy().tobytes()) in train for image in splits.test.images)
    message = f"{shared} of {len(splits.test.images)} test images are training images too, byte for byte"
    if shared > len(splits.test.images) / 2:
        raise CheckFailed(message, "check which files load() reads for which split")
    return message if shared else None


def normalisation_fits(subject: Subject) -> str | None:
    """Mean and deviation are both left empty, or one per channel in units of [0, 1]."""
    splits = _usable(subject).splits
    if not splits.mean:
        return None
    if max(*splits.mean, *splits.std) > 1:
        raise CheckFailed(f"mean {splits.mean}, std {splits.std}", "divide by 255, or leave both out")
    mean, _ = channel_statistics(splits.train.images)
    apart = max(abs(one - other) for one, other in zip(mean, splits.mean, strict=True))
    return f"the training split's mean is {mean}, not {splits.mean}" if apart > 0.02 else None


def unsuitable_is_known(subject: Subject) -> None:
    """What does not suit the data set are operations that dcbench knows."""
    for operation in sorted(class_of(subject).unsuitable):
        if operation not in OPERATIONS:
            raise CheckFailed(f"{operation!r}", f"use some of {', '.join(OPERATIONS)}")


DATASET_CHECKS: tuple[Callable[[Any], str | None], ...] = (
    *COMPONENT_CHECKS,
    loads,
    every_class_is_trained,
    loads_the_same_twice,
    loaded_it_is_here,
    loading_leaves_settings_alone,
    splits_do_not_share_images,
    normalisation_fits,
    unsuitable_is_known,
)
