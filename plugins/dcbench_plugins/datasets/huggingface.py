"""Data sets of the Hugging Face Hub, and local folders laid out as they are there (parquet files, say).

`hf:OWNER/NAME` is downloaded by the package ``datasets`` into ``huggingface/`` of the data root, once. `hf:FOLDER`
reads a folder of this machine, whose files' names say their split: ``train-0.parquet``, ``test-0.parquet``.

The column of images is the one that holds images; that of labels is the one of class labels, else one with a usual
name. Labels that are not class labels are numbered in the order of their values in the training split. Images are
grey if all of them are. Decoders of JPEG differ slightly, and so may the hash.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dcbench.api import Dataset, DcbenchError, Split, Splits, hookimpl, open_image, option

TITLE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"
GREY = ("1", "L", "LA")
LABEL_NAMES = ("label", "labels", "class", "target")


class HuggingFace(Dataset):
    """A data set of the Hugging Face Hub, hf:OWNER/NAME, or a local folder of parquet files, hf:FOLDER."""

    name = "hf"
    argument = "path"

    path: str = option(..., "its name on the Hub, or a folder")
    config: str | None = option(None, "which configuration, where it has several")
    revision: str | None = option(None, "commit or tag on the Hub; if not given, the newest")
    train: str = option("train", "the split to train on")
    test: str = option("test", "the split to test on")
    image: str | None = option(None, "the column of images; if not given, the only one that holds images")
    label: str | None = option(None, "the column of labels; if not given, the only one of class labels")
    size: str | None = option(
        None,
        "pixels, 32 or 28x40 (height x width), by scaling and cropping; if not given, all must have one size",
        pattern=r"^[1-9]\d{0,3}(x[1-9]\d{0,3})?$",
    )
    title: str | None = option(None, "its name in records and tables; if not given, a folder's", pattern=TITLE)

    @classmethod
    def is_argument(cls, text: str) -> bool:
        """Return whether it is a folder that has parquet files, or has the form of a name on the Hub."""
        folder = Path(os.path.expanduser(text))
        if folder.is_dir():
            return any([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])
        return bool(re.fullmatch(r"\w[\w-]*/\w[\w.-]*", text)) and not text.endswith(".npz")

    def table_name(self) -> str:
        """Return the title, or a folder's name, or the whole spelling."""
        folder = Path(os.path.expanduser(self.path))
        return self.title or (folder.resolve().name if folder.is_dir() else super().table_name())

    def is_here(self, root: Path) -> bool:
        """Return whether it is a folder, or was downloaded into the data root."""
        if Path(os.path.expanduser(self.path)).is_dir():
            return True
        try:
            from datasets.naming import camelcase_to_snakecase
        except ImportError:
            return False
        owner, _, name = self.path.rpartition("/")
        folder = _cache(root) / "___".join(filter(None, (owner, camelcase_to_snakecase(name))))
        return any(folder.rglob("dataset_info.json"))  # written when all else is

    def load(self, root: Path) -> Splits:
        """Read both splits; download them if they are not there.

        Raises:
            DcbenchError: if the package is not installed, the data cannot be had, a split or a column is not
                there, or an image cannot be read or has another size.
        """
        found = self._open(root)
        for name in (self.train, self.test):
            if name not in found:
                raise DcbenchError(
                    f"{self}: there is no split {name!r} among {', '.join(found)}; name it, as in test=validation."
                )
        train, test = found[self.train], found[self.test]
        label = self._column(train.features, "label", self.label, _are_labels)
        image = self._column(train.features, "image", self.image, _are_images)
        names, numbers = _classes(train, label)
        encoded = [_encoded(each, image) for each in (train, test)]
        grey = all(_mode(data) in GREY for split in encoded for data in split)
        reader = _Reader("L" if grey else "RGB", self.size, str(self))
        made = [
            Split(reader.read(data), self._labels(split[label], numbers))
            for data, split in zip(encoded, (train, test), strict=True)
        ]
        return Splits(made[0], made[1], names)

    def _open(self, root: Path) -> Any:
        """Return what the package makes of it: splits by name."""
        try:
            from datasets import load_dataset
        except ImportError:
            raise DcbenchError("dataset 'hf' needs a package: pip install 'dcbench-suite[hf]'.") from None
        folder = Path(os.path.expanduser(self.path))
        where = str(folder) if folder.is_dir() else self.path
        try:
            return load_dataset(where, self.config, revision=self.revision, cache_dir=str(_cache(root)))
        except Exception as error:  # of the package, the file formats and the network
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise DcbenchError(f"{self} cannot be had: {reason}.") from None

    def _column(self, features: Any, what: str, given: str | None, suits: Callable[[str, Any], bool]) -> str:
        """Return the column of images or labels: the user's, or the only one that suits."""
        found = [given] if given else [name for name, feature in features.items() if suits(name, feature)]
        if len(found) != 1 or found[0] not in features:
            problem = f"there is no column {given!r}" if given else f"{len(found)} columns may be the {what}s"
            raise DcbenchError(f"{self}: {problem}. Name one of {', '.join(features)}, as in {what}=COLUMN.")
        return found[0]

    def _labels(self, values: Iterable[Any], numbers: dict[Any, int]) -> torch.Tensor:
        listed = list(values)
        for value in listed:
            if value not in numbers:
                raise DcbenchError(
                    f"{self}: there is no class {value!r} in training. If a split has no labels, name another, "
                    "as in test=validation."
                )
        return torch.tensor([numbers[value] for value in listed])


class _Reader:
    """Decodes images of one mode and size; without a size, that of the first image."""

    def __init__(self, mode: str, size: str | None, source: str) -> None:
        """Take the mode, the size as users write it, and what messages name."""
        self.mode, self.source = mode, source
        height, _, width = (size or "").partition("x")
        self.size = (int(height), int(width or height)) if size else None
        self.fits = size is not None

    def read(self, encoded: list[bytes]) -> torch.Tensor:
        """Return images: uint8, (N, C, H, W)."""
        decoded = [self._decode(data) for data in encoded]
        images = torch.from_numpy(np.stack(decoded))
        return images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()

    def _decode(self, data: bytes) -> NDArray[np.uint8]:
        with open_image(data) as opened:
            image = ImageOps.exif_transpose(opened).convert(self.mode)
        self.size = self.size or (image.height, image.width)
        if self.fits:
            image = ImageOps.fit(image, self.size[::-1], Image.Resampling.BILINEAR)
        if (image.height, image.width) != self.size:
            shape, others = f"{image.height}x{image.width}", "x".join(map(str, self.size))
            raise DcbenchError(
                f"{self.source}: images have {others} and {shape} pixels. Give one size, as in size={others}."
            )
        return np.asarray(image)


def _cache(root: Path) -> Path:
    return root / "huggingface"


def _are_images(name: str, feature: Any) -> bool:
    is_struct = isinstance(feature, dict) and "bytes" in feature
    return is_struct or type(feature).__name__ == "Image" or getattr(feature, "dtype", "") == "binary"


def _are_labels(name: str, feature: Any) -> bool:
    return type(feature).__name__ == "ClassLabel" or name in LABEL_NAMES


def _classes(train: Any, label: str) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the names of the classes, and the number of each label."""
    names = getattr(train.features[label], "names", None)
    if names:
        return tuple(names), {number: number for number in range(len(names))}
    values = sorted(set(train[label]))
    return tuple(map(str, values)), {value: number for number, value in enumerate(values)}


def _encoded(split: Any, column: str) -> list[bytes]:
    """Return the images as they are stored, not decoded."""
    from datasets import Image as ImageFeature

    cells = split.cast_column(column, ImageFeature(decode=False))[column]
    return [cell["bytes"] or Path(cell["path"]).read_bytes() for cell in cells]


def _mode(data: bytes) -> str:
    with open_image(data) as image:
        return image.mode


@hookimpl
def dcbench_register_datasets() -> list[type[Dataset]]:
    """Provide the data set."""
    return [HuggingFace]
