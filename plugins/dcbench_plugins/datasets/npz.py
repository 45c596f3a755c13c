"""A user's own data in one ``.npz`` file, laid out as MedMNIST's.

`npz:PATH` reads ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``: the convention of Yang et
al., MedMNIST v2, Scientific Data 2023. Images are uint8, (N, H, W) or (N, H, W, C) with 1 or 3 channels; labels
are whole numbers or truth values, (N,) or (N, 1), from 0 to K-1, and every one of them occurs in training. Without
``train_images``, a split has keras's names: ``x_train`` and ``y_train``. If there is an array of strings
``class_names`` or ``classes``, it names the classes. Everything else in the file is ignored, also the
``val_images`` and ``val_labels`` of MedMNIST: networks are neither trained nor tested on them.

Nothing is unpickled.
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dcbench.api import ArrayFile, Dataset, DcbenchError, Split, Splits, hookimpl, open_arrays, option

TITLE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"

EXPECTED = (
    "Expected: train_images and test_images, uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3); "
    "train_labels and test_labels, whole numbers of shape (N,) or (N, 1). Or x_train, y_train, x_test and y_test."
)


class Npz(Dataset):
    """Your own data in one file, npz:PATH, laid out as MedMNIST's."""

    name = "npz"
    argument = "path"

    path: str = option(..., "the .npz file")
    title: str | None = option(
        None, "its name in records and tables; if not given, the file's without .npz", pattern=TITLE
    )

    @classmethod
    def is_argument(cls, text: str) -> bool:
        """Return whether it has the ending of such a file."""
        return text.endswith(".npz")

    def table_name(self) -> str:
        """Return the title, or the file's name without its ending.

        Raises:
            DcbenchError: if there is no title, and the file's name is not a valid one.
        """
        name = self.title or Path(self.path).stem
        if not re.fullmatch(TITLE, name):
            raise DcbenchError(
                f"{self.path}: {name!r} is no name for tables (at most 60 letters, digits, '-', '_', '.'). "
                "Give it one, as in npz:PATH,title=NAME."
            )
        return name

    def load(self, root: Path) -> Splits:
        """Read both splits; ``root`` is not used, the path is relative to the working directory.

        Raises:
            DcbenchError: if the file is not there, is not a zip of arrays, or an array is not as expected.
        """
        path = Path(os.path.expanduser(self.path))
        with open_arrays(path, EXPECTED) as arrays:
            return _read(arrays)


def _read(arrays: ArrayFile) -> Splits:
    """Read and check both splits.

    Raises:
        ValueError: if something is not as expected.
    """
    train, test = _split(arrays, "train"), _split(arrays, "test")
    shapes = [tuple(split.images.shape[1:]) for split in (train, test)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"train_images are of (C, H, W) {shapes[0]}, test_images of {shapes[1]}.")
    num_classes = _count_classes(train.labels.numpy())
    strange = set(test.labels.tolist()) - set(range(num_classes))
    if strange:
        raise ValueError(f"test_labels has the label {min(strange)}, train_labels 0 to {num_classes - 1} only.")
    return Splits(train, test, _class_names(arrays, num_classes))


def _split(arrays: ArrayFile, which: str) -> Split:
    """Return a split.

    Raises:
        ValueError: if images and labels are not as expected, or do not fit each other.
    """
    names = f"{which}_images", f"{which}_labels"
    if names[0] not in arrays.names and f"x_{which}" in arrays.names:
        names = f"x_{which}", f"y_{which}"
    images, labels = map(arrays.read, names)
    shape = images.shape
    if images.dtype != np.uint8:
        raise ValueError(f"{names[0]} is of dtype {images.dtype}.")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise ValueError(f"{names[0]} has the shape {shape}.")
    if min(shape) < 1:
        raise ValueError(f"{names[0]} is empty: its shape is {shape}.")
    if labels.dtype.kind not in "iubf":
        raise ValueError(f"{names[1]} is of dtype {labels.dtype}.")
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.trunc(labels))).all():
        raise ValueError(f"{names[1]} has numbers that are not whole.")
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(f"{names[1]} has {labels.shape[1]} labels per image, and only one can be learnt.")
    if labels.shape not in ((shape[0],), (shape[0], 1)):
        raise ValueError(f"{names[1]} has the shape {labels.shape}, {names[0]} {shape}.")
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    labels = labels.reshape(-1).astype(np.int64)
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels))


def _count_classes(labels: NDArray[Any]) -> int:
    """Return K of training labels 0 to K-1.

    Raises:
        ValueError: if one of them is missing, or there are others.
    """
    values = np.unique(labels)
    lowest, highest, count = int(values[0]), int(values[-1]), len(values)
    if (lowest, highest) == (0, count - 1):
        return count
    message = f"train_labels has {count} different values from {lowest} to {highest}"
    if lowest >= 0:
        missing = next(label for label, value in enumerate(values) if label != value)
        message += f", and {missing} is not among them"
    raise ValueError(f"{message}: labels must be 0 to K-1, with every one of them in training.")


def _class_names(arrays: ArrayFile, num_classes: int) -> tuple[str, ...]:
    """Return the names of the classes: the file's own, or their numbers.

    Raises:
        ValueError: if the file does not have one printable name for each class.
    """
    for name in ("class_names", "classes"):
        if name not in arrays.names or (array := arrays.read(name)).dtype.kind not in "US":
            continue
        names = (np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array).ravel().tolist()
        if array.shape != (num_classes,) or len(set(names)) != num_classes:
            raise ValueError(f"{name} has {len(set(names))} names, train_labels {num_classes} classes.")
        bad = [each for each in names if not each or not each.isprintable()]
        if bad:
            raise ValueError(f"{name} has a name that cannot be printed, {bad[0]!r}.")
        return tuple(names)
    return tuple(str(label) for label in range(num_classes))


@hookimpl
def dcbench_register_datasets() -> list[type[Dataset]]:
    """Provide the data set."""
    return [Npz]
