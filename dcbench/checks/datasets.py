"""The contract of data sets. Data that are not on this machine are downloaded, as for a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dcbench.checks.check import CheckFailed, require_passed, unexpected
from dcbench.checks.components import COMPONENT_CHECKS, class_of, configured
from dcbench.checks.watch import watching
from dcbench.core.dataset import Dataset, Splits
from dcbench.core.loaded_dataset import channel_statistics, load_dataset
from dcbench.engine.augment import parse_strategy
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import default_data_root

Subject = Dataset | type[Dataset]


@dataclass
class Loaded:
    """What two loads of a data set gave.

    Attributes:
        splits: of the first.
        problem: why a run cannot use them; empty where it can.
        differs: the splits that were not the same the second time.
        moved: settings and global generators that the second load changed.
    """

    splits: Splits
    problem: str = ""
    differs: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)


@lru_cache(1)  # since data sets are large
def _load(dataset: Dataset) -> Loaded:
    """Load twice, the second time as a run does, with different states of the global generators.

    Raises:
        DcbenchError: where the data cannot be had.
    """
    root = default_data_root()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loaded = Loaded(dataset.load(root))
        torch.manual_seed(1)
        try:
            with watching(seed=1) as observed:
                again = load_dataset(dataset, root)
        except DcbenchError as error:
            loaded.problem = str(error)
            return loaded
    loaded.moved = [*observed.settings, *observed.generators]
    for name, split in (("train", again.host_train), ("test", again.host_test)):
        first = getattr(loaded.splits, name)
        if not (torch.equal(first.images, split.images) and torch.equal(first.labels, split.labels)):
            loaded.differs.append(name)
    return loaded


def _usable(subject: Subject) -> Loaded:
    """Return what was loaded.

    Raises:
        CheckBlocked: when no run can use it.
    """
    require_passed(loads, subject)
    return _load(configured(subject))


def loads(subject: Subject) -> str:
    """It loads, and returns a training and a test split that a run can use."""
    try:
        loaded = _load(configured(subject))
    except DcbenchError:
        raise
    except Exception as error:
        raise unexpected(error, "when it loads") from None
    splits = loaded.splits
    if loaded.problem:
        raise CheckFailed(
            "Splits(Split(images, labels), Split(images, labels), class_names)",
            loaded.problem,
            "return images as uint8 tensors (N, C, H, W) from 0 to 255, of one shape in both splits, and labels "
            "as int64 tensors (N,) from 0, one class name for each; torch.from_numpy makes tensors of arrays",
        )
    shape = "x".join(map(str, splits.train.images.shape[1:]))
    return (
        f"{len(splits.train.images):,} images of {shape} to train on, {len(splits.test.images):,} to test, "
        f"{len(splits.class_names)} classes"
    )


def every_class_is_trained(subject: Subject) -> str | None:
    """Every class has a training image, and no two classes have the same name."""
    splits = _usable(subject).splits
    names = splits.class_names
    if len(set(names)) != len(names) or not all(isinstance(name, str) and name for name in names):
        raise CheckFailed("class names that are strings, each its own", str(names)[:100], "correct class_names")
    absent = [
        ", ".join([name for label, name in enumerate(names) if not bool((labels == label).any())][:5])
        for labels in (splits.train.labels, splits.test.labels)
    ]
    if absent[0]:
        raise CheckFailed(
            "a training image of every class",
            f"none of {absent[0]}",
            "leave out classes that have no training images, and count the others from 0",
        )
    return f"no test image of {absent[1]}" if absent[1] else None


def loads_the_same_twice(subject: Subject) -> None:
    """Loading again gives the same bytes, whatever the state of the global generators."""
    differs = _usable(subject).differs
    if differs:
        raise CheckFailed(
            f"the same {' and '.join(differs)} images and labels in the same order every time",
            "others when it is loaded again",
            "sort file names; split and shuffle with a generator of a fixed seed: "
            "torch.randperm(n, generator=torch.Generator().manual_seed(0))",
        )


def loaded_it_is_here(subject: Subject) -> None:
    """After loading, `is_here` returns True, or None if it cannot tell."""
    _usable(subject)
    here = configured(subject).is_here(default_data_root())
    if here not in (True, None):
        advice = "let is_here look for the files that load reads"
        raise CheckFailed("True, or None where that cannot be told", repr(here), advice)


def loading_leaves_settings_alone(subject: Subject) -> None:
    """Global generators, grad mode, default dtype and working directory are the same before and after."""
    moved = _usable(subject).moved
    if moved:
        raise CheckFailed(
            "the same settings and global generators of the process after loading as before",
            f"{', '.join(moved)} changed",
            "use generators of your own: torch.Generator(), numpy.random.default_rng(0), random.Random(0)",
        )


def splits_do_not_share_images(subject: Subject) -> str | None:
    """The test split does not consist of training images; the check prints how many images both have."""
    splits = _usable(subject).splits
    train = set(map(_digest, splits.train.images))
    shared, n_test = sum(_digest(image) in train for image in splits.test.images), len(splits.test.images)
    message = f"{shared} of {n_test} test images are training images too, byte for byte"
    if shared > n_test / 2:
        advice = "check which files load() reads for which split"
        raise CheckFailed("test images that are not training images", message, advice)
    return message if shared else None


def normalisation_fits(subject: Subject) -> str | None:
    """Mean and deviation are both left empty, or one per channel in units of [0, 1]."""
    splits = _usable(subject).splits
    if not splits.mean:
        return None
    if max(*splits.mean, *splits.std) > 1:
        raise CheckFailed(
            "mean and std from 0 to 1",
            f"mean {splits.mean}, std {splits.std}",
            "divide by 255, or leave them out: they are then measured on the training split",
        )
    mean, _ = channel_statistics(splits.train.images)
    apart = max(abs(one - other) for one, other in zip(mean, splits.mean, strict=True))
    return f"the training split's mean is {mean}, not {splits.mean}" if apart > 0.02 else None


def augmentation_is_known(subject: Subject) -> None:
    """Evaluation augmentations are strategies that dcbench knows."""
    for protocol, strategy in class_of(subject).augmentation.items():
        try:
            parse_strategy(strategy)
        except Exception as error:
            raise CheckFailed(
                f"a strategy for protocol {protocol!r}", f"{strategy!r}: {error}", "see dcbench.engine.augment"
            ) from None


DATASET_CHECKS: tuple[Callable[[Any], str | None], ...] = (
    *COMPONENT_CHECKS,
    loads,
    every_class_is_trained,
    loads_the_same_twice,
    loaded_it_is_here,
    loading_leaves_settings_alone,
    splits_do_not_share_images,
    normalisation_fits,
    augmentation_is_known,
)


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()
