"""A data set in memory: loaded, checked and hashed, with its splits on the device."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from dcbench.core.dataset import Dataset, DatasetInfo, Split, Splits
from dcbench.core.split import ResidentSplit
from dcbench.core.whitening import WhitenedSplit, whiten
from dcbench.utils.errors import DcbenchError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class LoadedDataset:
    """Both splits of a data set and its facts. A split moves to ``device`` when it is first needed.

    Only the evaluation sees the test split.
    """

    info: DatasetInfo
    host_train: Split
    host_test: Split
    device: torch.device = CPU

    @cached_property
    def train(self) -> ResidentSplit:
        """The training split, on the device."""
        return ResidentSplit.place(self.host_train, self.info, self.device)

    @cached_property
    def test(self) -> ResidentSplit:
        """The test split, on the device."""
        return ResidentSplit.place(self.host_test, self.info, self.device)

    def on(self, device: torch.device) -> LoadedDataset:
        """Return the same data set for another device."""
        return replace(self, device=device)

    def train_split(self, zca: bool) -> ResidentSplit:
        """Return the training split, whitened if ``zca`` is true."""
        return self._whitened[0] if zca else self.train

    def test_split(self, zca: bool) -> ResidentSplit:
        """Return the test split; if ``zca`` is true, whitened by the statistics of the training split."""
        return self._whitened[1] if zca else self.test

    @cached_property
    def _whitened(self) -> tuple[ResidentSplit, ResidentSplit]:
        train = whiten(self.train)
        return train, WhitenedSplit(self.test.images, self.test.labels, self.info, train.whitening)


def load_dataset(
    dataset: Dataset, root: Path, device: torch.device = CPU, splits: Splits | None = None
) -> LoadedDataset:
    """Load, check and hash a data set; a `DcbenchError` says why its data or its plugin are not usable.

    ``splits`` is what `read_splits` returned for the data set in any form; if it is given, no file is read.
    """
    data, read = None, splits or read_splits(dataset, root)
    if splits is None:
        data = _described(dataset, read, device)
        if dataset.sha256 not in ("", data.info.sha256):
            raise DcbenchError(
                f"dataset {dataset.name!r} is damaged, or not the version that dcbench knows by that name: its "
                f"data have the hash {data.info.sha256[:12]}, not {dataset.sha256[:12]}. "
                + dataset.remedy.replace("{root}", str(root))
            )
    try:
        dataset = dataset.in_form(dataset.form.numbered(read.class_names))
        formed = dataset.form.apply(read)
    except DcbenchError as error:
        raise DcbenchError(f"dataset {dataset} cannot be had: {str(error).rstrip('.')}.") from None
    return data if data and formed is read else _described(dataset, formed, device)


def read_splits(dataset: Dataset, root: Path) -> Splits:
    """Return the splits of a data set without its form; a `DcbenchError` says why they are not usable."""
    try:
        splits = dataset.load(root)
        problem = _problem(splits)
    except DcbenchError:
        raise
    except Exception as error:
        raise DcbenchError(f"dataset {dataset.name!r} cannot be used: {type(error).__name__}: {error}") from error
    if problem:
        known = f" So it is damaged. {dataset.remedy.replace('{root}', str(root))}" if dataset.sha256 else ""
        raise DcbenchError(f"dataset {dataset.name!r} cannot be used: {problem}.{known}")
    return splits


def _described(dataset: Dataset, splits: Splits, device: torch.device) -> LoadedDataset:
    """Return splits with their facts."""
    train, test, num_classes = splits.train, splits.test, len(splits.class_names)
    mean, std = (splits.mean, splits.std) if splits.mean else channel_statistics(train.images)
    _, channels, height, width = train.images.shape
    info = DatasetInfo(
        name=dataset.record_name(),
        class_names=splits.class_names,
        channels=channels,
        size=(height, width),
        mean=mean,
        std=std,
        sha256=_hash(train, test, num_classes, mean, std),
        unsuitable=dataset.unsuitable,
    )
    return LoadedDataset(info, train, test, device)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, in units of [0, 1], rounded to 4 decimals.

    They are computed from exact integer histograms, so the result does not depend on the order of summation.
    A constant channel gets a deviation of 1.

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
    """Return what is wrong with the splits of a plugin; empty if they are usable."""
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
    if not (isinstance(images, Tensor) and isinstance(labels, Tensor)):
        return f"images and labels must be tensors, not {type(images)} and {type(labels)}"
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
