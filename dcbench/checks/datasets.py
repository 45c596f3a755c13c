"""The contract of data sets. What is not on this machine is downloaded, as for a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dcbench.checks.check import CheckFailed, require_passed
from dcbench.checks.components import COMPONENT_CHECKS, class_of, defaults
from dcbench.checks.watch import watching
from dcbench.core.dataset import Dataset, Split, Splits
from dcbench.core.loaded_dataset import channel_statistics
from dcbench.engine.augment import parse_strategy
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import default_data_root

Subject = Dataset | type[Dataset]

_kept: dict[tuple[type, str], Splits] = {}


def loads(subject: Subject) -> str:
    """It loads, and returns a training and a test split."""
    splits = _load(_dataset(subject))
    if not isinstance(splits, Splits):
        raise CheckFailed("Splits(train, test, class_names)", type(splits).__name__, "return Splits from load()")
    for which in ("train", "test"):
        if not isinstance(getattr(splits, which), Split):
            found = type(getattr(splits, which)).__name__
            raise CheckFailed(f"a Split as {which}", found, "return Split(images, labels)")
        split = getattr(splits, which)
        if not (isinstance(split.images, Tensor) and isinstance(split.labels, Tensor)):
            raise CheckFailed(
                f"{which} images and labels that are a torch.Tensor",
                f"{type(split.images).__name__} and {type(split.labels).__name__}",
                "torch.from_numpy(array) makes a tensor of an array",
            )
    shape = "x".join(map(str, splits.train.images.shape[1:]))
    return (
        f"{len(splits.train.images):,} images of {shape} to train on, {len(splits.test.images):,} to test, "
        f"{len(splits.class_names)} classes"
    )


def images_are_uint8(subject: Subject) -> None:
    """Images are uint8 (N, C, H, W) on the CPU, of one shape in both splits."""
    splits = _splits(subject)
    for which, images in (("train", splits.train.images), ("test", splits.test.images)):
        if images.dtype != torch.uint8 or images.ndim != 4 or not len(images) or images.device.type != "cpu":
            raise CheckFailed(
                f"{which} images: uint8 of shape (N, C, H, W), at least one, on the CPU",
                f"{images.dtype} of {tuple(images.shape)} on {images.device}",
                "return pixels as they are, 0 to 255, channels first: "
                "torch.from_numpy(array).permute(0, 3, 1, 2) of an array of (N, H, W, C)",
            )
    train, test = splits.train.images, splits.test.images
    if train.shape[1:] != test.shape[1:]:
        raise CheckFailed(
            "images of one shape in both splits",
            f"{tuple(train.shape[1:])} and {tuple(test.shape[1:])}",
            "resize or crop both alike",
        )


def labels_are_classes(subject: Subject) -> None:
    """Labels are int64 (N,) from 0 to K-1, K being the number of class names."""
    splits = _splits(subject)
    classes = len(splits.class_names)
    for which, split in (("train", splits.train), ("test", splits.test)):
        images, labels = split.images, split.labels
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise CheckFailed(
                f"{which} labels: int64 of shape ({len(images)},)",
                f"{labels.dtype} of {tuple(labels.shape)}",
                "return labels.long().flatten(), one for each image",
            )
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise CheckFailed(
                f"{which} labels from 0 to {classes - 1}, for {classes} class names",
                f"{int(labels.min())} to {int(labels.max())}",
                "count classes from 0, without gaps, and name every one of them",
            )


def every_class_is_trained(subject: Subject) -> str | None:
    """Every class has a training image; classes have names of their own."""
    splits = _splits(subject)
    require_passed(labels_are_classes, subject)
    names = splits.class_names
    for which, labels in (("training", splits.train.labels), ("test", splits.test.labels)):
        counts = torch.bincount(labels, minlength=len(names))
        missing = [str(names[label]) for label in torch.nonzero(counts == 0).flatten().tolist()]
        if missing and which == "test":
            return f"no test image of {', '.join(missing[:5])}"
        if missing:
            raise CheckFailed(
                f"a {which} image of every class",
                f"none of {', '.join(missing[:5])}",
                "leave out classes that have no training images, and count the others from 0",
            )
    if len(set(names)) != len(names) or not all(isinstance(name, str) and name for name in names):
        raise CheckFailed("class names that are strings, each its own", str(names)[:100], "correct class_names")
    return None


def loads_the_same_twice(subject: Subject) -> None:
    """Loading again gives the same bytes, whatever the global generators."""
    dataset, first = _dataset(subject), _splits(subject)
    with watching(seed=1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        again = dataset.load(default_data_root())
    for which in ("train", "test"):
        one, other = getattr(first, which), getattr(again, which)
        if not (torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)):
            raise CheckFailed(
                f"the same {which} images and labels in the same order every time",
                "others when it is loaded again",
                "sort file names; split and shuffle with a generator of a fixed seed: "
                "torch.randperm(n, generator=torch.Generator().manual_seed(0))",
            )


def loaded_it_is_here(subject: Subject) -> None:
    """Once it is loaded, `is_here` says so, or that it cannot tell."""
    _splits(subject)
    here = _dataset(subject).is_here(default_data_root())
    if here not in (True, None):
        advice = "let is_here look for the files that load reads"
        raise CheckFailed("True, or None where that cannot be told", repr(here), advice)


def loading_leaves_settings_alone(subject: Subject) -> None:
    """Global generators, grad mode, default dtype and working directory are afterwards as they were."""
    dataset = _dataset(subject)
    with torch.random.fork_rng(devices=[]), watching(seed=2) as observed:
        dataset.load(default_data_root())
    moved = [*observed.settings, *observed.generators]
    if moved:
        raise CheckFailed(
            "settings and global generators of the process that are afterwards as they were",
            f"{', '.join(moved)} changed",
            "use generators of your own: torch.Generator(), numpy.random.default_rng(0), random.Random(0)",
        )


def splits_do_not_share_images(subject: Subject) -> str | None:
    """The test split is not made of training images; how many they share is said."""
    splits = _splits(subject)
    train = set(map(_digest, splits.train.images))
    shared = sum(_digest(image) in train for image in splits.test.images)
    n_test = len(splits.test.images)
    if shared > n_test / 2:
        raise CheckFailed(
            "test images that are not training images",
            f"{shared} of {n_test} test images are, byte for byte",
            "check which files load() reads for which split",
        )
    if shared:
        return f"{shared} of {n_test} test images are training images too, byte for byte"
    return None


def normalisation_fits(subject: Subject) -> str | None:
    """Mean and deviation are both left empty, or one per channel in units of [0, 1]."""
    splits = _splits(subject)
    require_passed(images_are_uint8, subject)
    channels = splits.train.images.shape[1]
    given = (len(splits.mean), len(splits.std))
    if given == (0, 0):
        return None
    if given != (channels, channels) or min(splits.std) <= 0 or max(*splits.mean, *splits.std) > 1:
        raise CheckFailed(
            f"mean and std both empty, or {channels} values each from 0 to 1, std above 0",
            f"mean {splits.mean}, std {splits.std}",
            "divide by 255, or leave them out: they are then measured on the training split",
        )
    mean, _ = channel_statistics(splits.train.images)
    apart = max(abs(one - other) for one, other in zip(mean, splits.mean, strict=True))
    return f"the training split's mean is {mean}, not {splits.mean}" if apart > 0.02 else None


def augmentation_is_spelt_right(subject: Subject) -> None:
    """Evaluation augmentations are strategies that dcbench knows."""
    for protocol, strategy in class_of(subject).augmentation.items():  # type: ignore[attr-defined]
        try:
            parse_strategy(strategy)
        except Exception as error:
            raise CheckFailed(
                f"a strategy for protocol {protocol!r}", f"{strategy!r}: {error}", "see dcbench.engine.augment"
            ) from None


DATASET_CHECKS: tuple[Callable[[Any], str | None], ...] = (
    *COMPONENT_CHECKS,
    loads,
    images_are_uint8,
    labels_are_classes,
    every_class_is_trained,
    loads_the_same_twice,
    loaded_it_is_here,
    loading_leaves_settings_alone,
    splits_do_not_share_images,
    normalisation_fits,
    augmentation_is_spelt_right,
)


def _dataset(subject: Subject) -> Dataset:
    """Return the data set to load.

    Raises:
        DcbenchError: for a class that needs an argument, such as a path.
    """
    if isinstance(subject, Dataset):
        return subject
    made = defaults(subject)
    if made is None:
        subject.parse("")  # says what is missing
        raise DcbenchError(f"dataset {subject.name!r} cannot be made without options.")
    assert isinstance(made, Dataset)
    return made


def _load(dataset: Dataset) -> Splits:
    """Load once per process and data set; global generators as they may happen to be."""
    key = (type(dataset), repr(dataset))
    if key not in _kept:
        _kept.clear()  # one at a time: these are large
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _kept[key] = dataset.load(default_data_root())
    return _kept[key]


def _splits(subject: Subject) -> Splits:
    """Return what was loaded, where it is tensors.

    Raises:
        CheckBlocked: when it is not.
    """
    require_passed(loads, subject)
    return _load(_dataset(subject))


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()
