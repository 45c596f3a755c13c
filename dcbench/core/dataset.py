"""Data sets: what a data set plugin provides, and the checked, hashed form the core works with."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from dcbench.core.component import Component
from dcbench.engine.augment import parse_strategy
from dcbench.utils.errors import DcbenchError


@dataclass(frozen=True)
class Split:
    """One split of a data set, on the CPU.

    Attributes:
        images: uint8, shape (N, C, H, W).
        labels: int64, shape (N,), values 0 to K-1.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Splits:
    """What a data set plugin returns.

    Attributes:
        train, test: the two splits.
        class_names: one name per class, in label order.
        mean, std: the channel statistics used for normalisation, in units of the pixel range [0, 1].
            Left empty, they are measured on the training split.
    """

    train: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class Dataset(Component):
    """A data set plugin: loads a training and a test split of uint8 images.

    Class attributes:
        augmentation: evaluation augmentation that a published protocol uses on this data set, by the
            protocol's name; see `dcbench.engine.augment` for the spelling.
        sha256: what `DatasetInfo.sha256` must be, for data that are the same everywhere; empty for others. A
            file that was damaged, or is of another version, is then never taken for the data set.
        mend: what to do where it is something else: a sentence, in which ``{root}`` stands for the data root.
    """

    kind: ClassVar[str] = "dataset"
    augmentation: ClassVar[Mapping[str, str]] = {}
    sha256: ClassVar[str] = ""
    mend: ClassVar[str] = "Remove its files from {root}, so that they are had anew."

    def table_name(self) -> str:
        """Return the name under which it is recorded and ranked: the canonical spelling, unless overridden.

        A data set read from a user's file, say, is known by a name and not by a path.
        """
        return str(self)

    def is_here(self, root: Path) -> bool | None:
        """Say whether `load` would do without a download; None where that cannot be told.

        `dcbench doctor` and dry runs ask. Nothing may be downloaded, and nothing changed, to find out.
        """
        return None

    @abstractmethod
    def load(self, root: Path) -> Splits:
        """Return both splits, downloading into ``root`` what is not there.

        Raises:
            DcbenchError: when the data are absent and cannot be had, saying what to do.
        """


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without looking at an image.

    Attributes:
        name: canonical name, as in records.
        class_names: one per class.
        channels: C.
        size: (H, W) in pixels.
        mean, std: per channel, in units of the pixel range [0, 1].
        sha256: hash of both splits, the class count and the normalisation.
        augmentation: evaluation augmentation by protocol name.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str
    augmentation: Mapping[str, str]

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.class_names)


@dataclass(frozen=True)
class LoadedDataset:
    """Both splits in memory with their info. Only the evaluation ever sees ``test``."""

    info: DatasetInfo
    train: Split
    test: Split


def load_dataset(dataset: Dataset, root: Path) -> LoadedDataset:
    """Load, check and hash a data set.

    Raises:
        DcbenchError: when the data cannot be had, the plugin's tensors are not what a split must be, or have
            another hash than it says.
    """
    try:
        splits = dataset.load(root)
        for strategy in dataset.augmentation.values():
            parse_strategy(strategy)
        problem = _problem(splits)
    except DcbenchError:
        raise
    except Exception as error:
        raise DcbenchError(f"dataset {dataset.name!r} cannot be used: {type(error).__name__}: {error}") from error
    mend = dataset.mend.replace("{root}", str(root))
    if problem:
        known = f" It is damaged, then. {mend}" if dataset.sha256 else ""
        raise DcbenchError(f"dataset {dataset.name!r} cannot be used: {problem}.{known}")
    train, test, num_classes = splits.train, splits.test, len(splits.class_names)
    mean, std = (splits.mean, splits.std) if splits.mean else channel_statistics(train.images)
    _, channels, height, width = train.images.shape
    info = DatasetInfo(
        name=dataset.table_name(),
        class_names=splits.class_names,
        channels=channels,
        size=(height, width),
        mean=mean,
        std=std,
        sha256=_hash(train, test, num_classes, mean, std),
        augmentation=dataset.augmentation,
    )
    if dataset.sha256 not in ("", info.sha256):
        raise DcbenchError(
            f"dataset {dataset.name!r} is damaged, or not the version that is known by that name: what was read "
            f"has the hash {info.sha256[:12]}, not {dataset.sha256[:12]}. {mend}"
        )
    return LoadedDataset(info, train, test)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, in units of [0, 1], rounded to 4 decimals.

    Computed from exact integer histograms, so the result does not depend on summation order.
    Constant channels get a deviation of 1.

    Args:
        images: uint8, shape (N, C, H, W).
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten().int(), minlength=256).double()
        weights = counts / counts.sum()
        mean = (weights * levels).sum()
        std = (weights * (levels - mean) ** 2).sum().sqrt()
        means.append(round(float(mean), 4))
        stds.append(round(float(std), 4) or 1.0)
    return tuple(means), tuple(stds)


def _problem(splits: Splits) -> str:
    """Say what is wrong with what a plugin returned; nothing if it is usable."""
    for which, split in (("training", splits.train), ("test", splits.test)):
        problem = _split_problem(split, len(splits.class_names))
        if problem:
            return f"in its {which} split, {problem}"
    if splits.train.images.shape[1:] != splits.test.images.shape[1:]:
        return "its splits have images of different shapes"
    channels = splits.train.images.shape[1]
    given = (len(splits.mean), len(splits.std))
    if given not in ((0, 0), (channels, channels)) or not all(value > 0 for value in splits.std):
        return f"mean and std must both be empty or have {channels} values, std above 0"
    return ""


def _split_problem(split: Split, num_classes: int) -> str:
    images, labels = split.images, split.labels
    if images.dtype != torch.uint8 or images.ndim != 4:
        return f"images must be uint8 of shape (N, C, H, W), not {images.dtype} of {tuple(images.shape)}"
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        return f"labels must be int64 of shape ({len(images)},), not {labels.dtype} of {tuple(labels.shape)}"
    if len(labels) == 0:
        return "it is empty"
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        return f"labels must lie in 0..{num_classes - 1}, not {int(labels.min())}..{int(labels.max())}"
    return ""


def _hash(train: Split, test: Split, num_classes: int, mean: object, std: object) -> str:
    shapes = [list(split.images.shape) for split in (train, test)]
    header = {"num_classes": num_classes, "mean": mean, "std": std, "shapes": shapes}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for split in (train, test):
        digest.update(split.images.contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().data)
    return digest.hexdigest()
