"""MNIST, FashionMNIST, SVHN, CIFAR-10 and CIFAR-100. torchvision downloads them and checks their checksums.

A download adds files to the data root; nothing else there changes. If the root holds the original ``.gz`` files of
MNIST or FashionMNIST, these are unpacked into a temporary folder. The channel means and deviations are those of
Zhao, Mopuri, Bilen, ICLR 2021.

torchvision compares the checksums of SVHN's and CIFAR's files whenever it reads them. For MNIST and FashionMNIST
it does so only for the packed files, so dcbench compares the hash of their content.
"""

import shutil
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from dcbench.api import Dataset, DcbenchError, Split, Splits, hookimpl

FAULTS = (RuntimeError, OSError, EOFError, ValueError, AssertionError, LookupError, TypeError, HTTPException)
"""What torchvision raises for files that are absent or damaged, and for downloads that break."""

DIGITS = tuple(str(digit) for digit in range(10))


class _TorchvisionDataset(Dataset):
    """What the five have in common."""

    source: ClassVar[str]
    channel_mean: ClassVar[tuple[float, ...]]
    channel_std: ClassVar[tuple[float, ...]]

    def load(self, root: Path) -> Splits:
        """Read both splits from ``root``; download them if they are not there."""
        train, test = self._open(root, train=True), self._open(root, train=False)
        names = getattr(train, "classes", DIGITS)
        return Splits(_split(train), _split(test), tuple(names), self.channel_mean, self.channel_std)

    def is_here(self, root: Path) -> bool:
        """Return whether torchvision finds all files undamaged."""
        try:
            for train in (True, False):
                self._construct(root, train, download=False)
        except FAULTS:
            return False
        return True

    def _open(self, root: Path, train: bool) -> Any:
        try:
            return self._construct(root, train, download=False)
        except FAULTS:
            return self._download(root, train)

    def _download(self, root: Path, train: bool) -> Any:
        try:
            root.mkdir(parents=True, exist_ok=True)
            return self._construct(root, train, download=True)
        except FAULTS as error:
            raise self._absent(root, error) from None

    def _absent(self, root: Path, error: Exception) -> DcbenchError:
        reason = str(getattr(error, "reason", error)).strip().rstrip(".")
        return DcbenchError(
            f"dataset {self.name!r} is not whole in {root} and could not be downloaded there ({reason}). "
            "Name the folder that has it, laid out as torchvision does, as the data root, or in DCBENCH_DATA."
        )

    def _torchvision_class(self) -> Any:
        from torchvision import datasets  # takes seconds to import, and most commands do without

        return getattr(datasets, self.source)

    def _construct(self, root: Path, train: bool, download: bool) -> Any:
        return self._torchvision_class()(root, train=train, download=download)


class _MNISTFamily(_TorchvisionDataset):
    """The IDX files of MNIST and FashionMNIST, packed or not."""

    remedy = "Remove its unpacked files from {root}, so that the packed ones or a download take their place."

    def is_here(self, root: Path) -> bool:
        """Return whether torchvision finds all unpacked files, or all packed ones, undamaged."""
        from torchvision.datasets.utils import check_integrity

        raw, packed = root / self.source / "raw", self._torchvision_class().resources
        return super().is_here(root) or all(check_integrity(raw / name, md5) for name, md5 in packed)

    def _open(self, root: Path, train: bool) -> Any:
        packed = list((root / self.source / "raw").glob("*.gz"))
        try:
            return self._construct(root, train, download=False)
        except FAULTS:
            if len(packed) < 4:
                return self._download(root, train)
        # torchvision checks the sums of the packed files and unpacks them beside where they are.
        with tempfile.TemporaryDirectory() as scratch:
            raw = Path(scratch, self.source, "raw")
            raw.mkdir(parents=True)
            for file in packed:
                shutil.copy(file, raw)
            try:
                return self._construct(Path(scratch), train, download=True)
            except FAULTS as error:
                raise self._absent(root, error) from None


class MNIST(_MNISTFamily):
    """MNIST handwritten digits, 28x28 grey, 10 classes, 60,000 + 10,000 images."""

    name = "mnist"
    citation = "LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition, 1998"
    unsuitable = frozenset({"flip"})
    sha256 = "4ab01f269f442bda9e383e4f20e1fc697093a7a8261353be0bfd288f98f2686c"
    source = "MNIST"
    channel_mean, channel_std = (0.1307,), (0.3081,)


class FashionMNIST(_MNISTFamily):
    """FashionMNIST articles of clothing, 28x28 grey, 10 classes, 60,000 + 10,000 images."""

    name = "fashion_mnist"
    citation = "Xiao, Rasul, Vollgraf, Fashion-MNIST, 2017"
    sha256 = "136bb3569a59b4a45479cc9671b43e35b61358207a5fbc43267a9abccd18a5af"
    source = "FashionMNIST"
    channel_mean, channel_std = (0.2861,), (0.3530,)


class SVHN(_TorchvisionDataset):
    """Street View House Numbers, 32x32 colour, 10 classes, 73,257 + 26,032 images."""

    name = "svhn"
    citation = "Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011"
    unsuitable = frozenset({"flip"})
    source = "SVHN"
    channel_mean, channel_std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)

    def _construct(self, root: Path, train: bool, download: bool) -> Any:
        return self._torchvision_class()(root, split="train" if train else "test", download=download)


class CIFAR10(_TorchvisionDataset):
    """CIFAR-10 natural images, 32x32 colour, 10 classes, 50,000 + 10,000 images."""

    name = "cifar10"
    citation = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
    source = "CIFAR10"
    channel_mean, channel_std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class CIFAR100(_TorchvisionDataset):
    """CIFAR-100 natural images, 32x32 colour, 100 classes, 50,000 + 10,000 images."""

    name = "cifar100"
    citation = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
    source = "CIFAR100"
    channel_mean, channel_std = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)


def _split(dataset: Any) -> Split:
    """Bring torchvision's arrays to uint8 (N, C, H, W) and int64 (N,)."""
    labels = getattr(dataset, "targets", None)
    labels = torch.as_tensor(np.asarray(dataset.labels if labels is None else labels)).long()
    images = torch.as_tensor(np.asarray(dataset.data))
    if images.ndim == 3:  # N H W: grey
        images = images.unsqueeze(1)
    elif images.shape[-1] == 3:  # N H W C: the CIFAR family
        images = images.permute(0, 3, 1, 2)
    return Split(images.contiguous(), labels)


@hookimpl
def dcbench_register_datasets() -> list[type[Dataset]]:
    """Provide the data sets."""
    return [MNIST, FashionMNIST, SVHN, CIFAR10, CIFAR100]
