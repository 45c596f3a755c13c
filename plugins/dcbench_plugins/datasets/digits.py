"""The UCI handwritten digits that ship with scikit-learn: real data without a download."""

from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch

from dcbench.api import Dataset, Split, Splits, hookimpl


class Digits(Dataset):
    """UCI handwritten digits, 8x8 grey, 10 classes; ships with scikit-learn.

    The split is dcbench's own: in each class, in scikit-learn's order, every fifth image is a test image. Of the
    1,797 images, 1,442 are training images and 355 test images.
    """

    name = "digits"
    citation = "Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI Repository, 1998"
    unsuitable = frozenset({"flip"})
    sha256 = "ee3b3e34c3393ad7473752189e2dfd6b6d596ea8e8abc5dbaf4ee57df3c1e21c"
    remedy = "The images are a file of scikit-learn: install scikit-learn again."

    def is_here(self, root: Path) -> bool:
        """Return True, because scikit-learn is always installed."""
        return True

    def load(self, root: Path) -> Splits:
        """Return the splits; ``root`` is not used."""
        # `sklearn.datasets.load_digits` reads this file, too, but imports scipy and pandas first, for a second.
        installed = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
        table = torch.from_numpy(np.loadtxt(Path(str(installed)), delimiter=","))
        # The pixels count ink from 0 to 16; 16 becomes 255.
        images = table[:, :-1].mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
        labels = table[:, -1].long()
        held_out = torch.zeros(len(labels), dtype=torch.bool)
        for label in range(10):
            held_out[torch.nonzero(labels == label).flatten()[4::5]] = True
        return Splits(
            train=Split(images[~held_out], labels[~held_out]),
            test=Split(images[held_out], labels[held_out]),
            class_names=tuple(str(digit) for digit in range(10)),
        )


@hookimpl
def dcbench_register_datasets() -> list[type[Dataset]]:
    """Provide the data set."""
    return [Digits]
