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
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import storing, write_atomically


@dataclass(frozen=True, eq=False)
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
        return cls(condensed, header, path.resolve())

    @property
    def images(self) -> Tensor:
        """float32, shape (N, C, H, W), in normalised space, on the CPU."""
        return self.set.images

    @property
    def labels(self) -> Tensor:
        """int64, shape (N,), or soft: float32, shape (N, K)."""
        return self.set.labels

    def __repr__(self) -> str:
        """Return one line, since notebooks show it."""
        return f"Condensed({self.header['spec']['method']}, images {tuple(self.images.shape)}, {self.path})"

    def save(self, path: str | Path) -> None:
        """Write the set to a file: safetensors, with its provenance; of the whole training split without images.

        Raises:
            DcbenchError: when the set is not that of its file any more, or the file cannot be written.
        """
        data = self.unchanged_file().read_bytes()
        with storing(Path(path)):
            write_atomically(Path(path), data)

    def unchanged_file(self) -> Path:
        """Return the file of the set.

        Raises:
            DcbenchError: when the file is gone, or the tensors were changed since it was read.
        """
        if not self.path.exists():
            raise DcbenchError(f"{self.path}, the file of this condensed set, is gone.")
        if self.set.sha256() != self.header["set_sha256"]:
            raise DcbenchError("the condensed set was changed since it was made: give its images and labels.")
        return self.path

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
        )
        return draw_picture(self.set, info, spec["ipc"])
