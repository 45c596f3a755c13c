"""Data sets that torchvision downloads, whose checksums it compares then.

A download adds files to the data root; nothing else there changes. If the root holds the original ``.gz`` files of
MNIST, FashionMNIST or KMNIST, these are unpacked into a temporary folder. Channel means and deviations that are
stated are those of Zhao, Mopuri, Bilen, ICLR 2021; the others are measured.

torchvision compares the checksums of SVHN's, CIFAR's and STL-10's files whenever it reads them. For MNIST and
FashionMNIST it does so only for the packed files, so dcbench compares the hash of their content. Of GTSRB and
Imagenette, dcbench counts the images. Decoders of JPEG differ slightly, and so may the hash of Imagenette.
"""

import shutil
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from dcbench.api import Dataset, DcbenchError, Split, Splits, hookimpl, open_image, option

FAULTS = (RuntimeError, OSError, EOFError, ValueError, AssertionError, LookupError, TypeError, HTTPException)
"""What torchvision raises for files that are absent or damaged, and for downloads that break."""

DIGITS = tuple(str(digit) for digit in range(10))


class _TorchvisionDataset(Dataset):
    """What they have in common.

    Class attributes:
        source: the class of torchvision.
        split_names: what torchvision calls the two splits where it names them; else it takes ``train=True``.
    """

    source: ClassVar[str]
    split_names: ClassVar[tuple[str, str] | None] = None
    channel_mean: ClassVar[tuple[float, ...]] = ()
    channel_std: ClassVar[tuple[float, ...]] = ()

    def load(self, root: Path) -> Splits:
        """Read both splits from ``root``; download them if they are not there."""
        train, test = self._open(root, train=True), self._open(root, train=False)
        names = self._class_names(train)
        return Splits(self._split(train), self._split(test), names, self.channel_mean, self.channel_std)

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
        split = {"split": self.split_names[not train]} if self.split_names else {"train": train}
        return self._torchvision_class()(root, **split, **self._choices(), download=download)

    def _choices(self) -> dict[str, Any]:
        """Return what else torchvision's class is to be told."""
        return {}

    def _class_names(self, opened: Any) -> tuple[str, ...]:
        return tuple(getattr(opened, "classes", DIGITS))

    def _split(self, opened: Any) -> Split:
        """Bring torchvision's arrays to uint8 (N, C, H, W) and int64 (N,)."""
        labels = getattr(opened, "targets", None)
        labels = torch.as_tensor(np.asarray(opened.labels if labels is None else labels)).long()
        images = torch.as_tensor(np.asarray(opened.data))
        if images.ndim == 3:  # N H W: grey
            images = images.unsqueeze(1)
        elif images.shape[-1] == 3:  # N H W C: the CIFAR family
            images = images.permute(0, 3, 1, 2)
        return Split(images.contiguous(), labels)


class _MNISTFamily(_TorchvisionDataset):
    """The IDX files of MNIST, FashionMNIST and KMNIST, packed or not."""

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
    source, split_names = "SVHN", ("train", "test")
    channel_mean, channel_std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)


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


class KMNIST(_MNISTFamily):
    """Kuzushiji-MNIST, cursive Japanese characters, 28x28 grey, 10 classes, 60,000 + 10,000 images."""

    name = "kmnist"
    citation = "Clanuwat et al., Deep Learning for Classical Japanese Literature, 2018"
    unsuitable = frozenset({"flip"})
    source = "KMNIST"


class EMNIST(_TorchvisionDataset):
    """EMNIST handwritten letters and digits, 28x28 grey, upright; emnist:split=letters has 26 classes.

    Its files, and so torchvision's images, lie on their side; here they are turned upright. The labels of
    ``letters`` count from 0.
    """

    name = "emnist"
    citation = "Cohen, Afshar, Tapson, van Schaik, EMNIST: an extension of MNIST to handwritten letters, 2017"
    unsuitable = frozenset({"flip"})
    source = "EMNIST"

    split: Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"] = option(
        "balanced", "which of its six divisions", source="table II"
    )

    def _choices(self) -> dict[str, Any]:
        return {"split": self.split}

    def _class_names(self, opened: Any) -> tuple[str, ...]:
        return tuple(name for name in opened.classes if name != "N/A")

    def _split(self, opened: Any) -> Split:
        split = super()._split(opened)
        return Split(split.images.transpose(2, 3).contiguous(), split.labels - opened.classes.count("N/A"))


class QMNIST(_TorchvisionDataset):
    """QMNIST, MNIST with its test images restored, 28x28 grey, 10 classes, 60,000 + 60,000 images."""

    name = "qmnist"
    citation = "Yadav, Bottou, Cold Case: The Lost MNIST Digits, NeurIPS 2019"
    unsuitable = frozenset({"flip"})
    source = "QMNIST"

    def _split(self, opened: Any) -> Split:
        split = super()._split(opened)
        return Split(split.images, split.labels[:, 0].contiguous())  # the others say who wrote it, and where


class USPS(_TorchvisionDataset):
    """USPS digits from envelopes, 16x16 grey, 10 classes, 7,291 + 2,007 images."""

    name = "usps"
    citation = "Hull, A Database for Handwritten Text Recognition Research, TPAMI 1994"
    unsuitable = frozenset({"flip"})
    source = "USPS"


class STL10(_TorchvisionDataset):
    """STL-10 natural images, 96x96 colour, 10 classes, 5,000 + 8,000 images with labels."""

    name = "stl10"
    citation = "Coates, Lee, Ng, An Analysis of Single-Layer Networks in Unsupervised Feature Learning, 2011"
    source, split_names = "STL10", ("train", "test")


class _Photographs(_TorchvisionDataset):
    """Image files of many sizes. Each is scaled to cover a square, bilinear, and cropped at the centre.

    Class attributes:
        counts: images of the two splits. torchvision takes a folder that was unpacked in part for a whole one.
    """

    counts: ClassVar[tuple[int, int]]
    size: int

    def _construct(self, root: Path, train: bool, download: bool) -> Any:
        opened = super()._construct(root, train, download)
        found, expected = len(opened), self.counts[not train]
        if found != expected:
            raise ValueError(f"its {'training' if train else 'test'} split has {found:,} images, not {expected:,}")
        return opened

    def _split(self, opened: Any) -> Split:
        images = np.empty((len(opened), self.size, self.size, 3), dtype=np.uint8)
        for number, (file, _) in enumerate(opened._samples):
            with open_image(Path(file)) as image:
                square = (self.size, self.size)
                images[number] = np.asarray(ImageOps.fit(image.convert("RGB"), square, Image.Resampling.BILINEAR))
        labels = torch.tensor([label for _, label in opened._samples])
        return Split(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels)


class GTSRB(_Photographs):
    """German traffic signs, photographs, 32x32 colour, 43 classes, 26,640 + 12,630 images."""

    name = "gtsrb"
    citation = "Stallkamp et al., The German Traffic Sign Recognition Benchmark, IJCNN 2011"
    unsuitable = frozenset({"flip"})
    source, split_names = "GTSRB", ("train", "test")
    counts = (26640, 12630)

    size: int = option(32, "height and width in pixels", ge=8, le=256)

    def _class_names(self, opened: Any) -> tuple[str, ...]:
        return tuple(str(label) for label in range(43))


class Imagenette(_Photographs):
    """Imagenette, photographs of ten easy classes of ImageNet, 128x128 colour, 9,469 + 3,925 images."""

    name = "imagenette"
    citation = "Howard, Imagenette, fast.ai, 2019"
    source, split_names = "Imagenette", ("train", "val")
    counts = (9469, 3925)

    size: int = option(128, "height and width in pixels, of photographs whose shorter side has 160", ge=8, le=160)

    def _choices(self) -> dict[str, Any]:
        return {"size": "160px"}

    def _class_names(self, opened: Any) -> tuple[str, ...]:
        return tuple(names[0] for names in opened.classes)


@hookimpl
def dcbench_register_datasets() -> list[type[Dataset]]:
    """Provide the data sets."""
    return [
        *(MNIST, FashionMNIST, KMNIST, EMNIST, QMNIST, USPS),
        *(SVHN, CIFAR10, CIFAR100, STL10, GTSRB, Imagenette),
    ]
