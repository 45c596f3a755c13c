"""A condensed set as the Python interface gives it: its tensors, its file, its picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image
from torch import Tensor

from dcbench.core.condensed_set import CondensedSet
from dcbench.core.dataset import DatasetInfo
from dcbench.core.split import ResidentSplit
from dcbench.results.picture import draw_picture
from dcbench.results.set_file import load_set
from dcbench.utils.files import write_atomically


@dataclass(frozen=True)
class Condensed:
    """A condensed set with its provenance.

    Attributes:
        set: the condensed set.
        header: what its file says of it: spec, hashes, classes, normalisation.
        path: its file.
    """

    set: CondensedSet
    header: Mapping[str, Any]
    path: Path

    @classmethod
    def read(cls, path: Path, train: ResidentSplit | Callable[[str], ResidentSplit]) -> Condensed:
        """Read a set's file; see `dcbench.results.set_file.load_set`."""
        condensed, header = load_set(path, train)
        return cls(condensed, header, path)

    @property
    def images(self) -> Tensor:
        """float32, shape (N, C, H, W), in normalised space, on the CPU."""
        return self.set.images

    @property
    def labels(self) -> Tensor:
        """int64, shape (N,), or soft: float32, shape (N, K)."""
        return self.set.labels

    def save(self, path: str | Path) -> None:
        """Write the set to a file: safetensors, with its provenance."""
        write_atomically(Path(path), self.path.read_bytes())

    def picture(self) -> Image:
        """Return the picture of the set, a row for each class."""
        spec, normalisation = self.header["spec"], self.header["normalisation"]
        info = DatasetInfo(
            name=spec["dataset"],
            class_names=tuple(self.header["classes"]),
            channels=self.images.shape[1],
            size=(self.images.shape[2], self.images.shape[3]),
            mean=tuple(normalisation["mean"]),
            std=tuple(normalisation["std"]),
            sha256=spec["dataset_sha256"],
            augmentation={},
        )
        return draw_picture(self.set, info, spec["ipc"])
