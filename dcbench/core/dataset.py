"""Data sets: what a data set plugin provides, and the checked, hashed form the core works with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from dcbench.core.component import Component


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
