"""A user's own data as a folder of images.

`folder:PATH` reads ``PATH/train/CLASS/`` and ``PATH/test/CLASS/``, the layout of torchvision's ImageFolder. The
folders of ``train`` are the classes, in the order of their names as strings; ``test`` may lack some of them. Other
folders in PATH, such as ``val``, are left alone.

- Files: every file in a class's folder must have the ending of an image, so that no image is left out by mistake.
  Hidden files (``.DS_Store``) are skipped. Files are read in the order of their names; if a file has several
  frames, the first one counts.
- Size: with ``size``, images are scaled to cover it with their aspect ratio kept (bilinear, antialiased), and
  cropped at the centre. Without it, all images must have one size.
- Channels: 1 if every image has a grey mode (a grey image that is stored as colour is colour), else 3. Palettes
  become RGB. Transparent images get a white background, and rotations noted in EXIF are applied, so that networks
  learn what a viewer shows.
- Grey images with more than 8 bits are refused, because the range in use cannot be known.

The hash is that of the pixels, not of the files. Decoders of JPEG differ slightly, and then the hash differs too:
to share results, use PNG or `npz:PATH`. These two also have checksums. A damaged file of another kind may be read
as another image; the data set then has another hash, so its records are never mixed with those of the undamaged
one.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dcbench.api import IMAGE_ENDINGS, Dataset, DcbenchError, Split, Splits, hookimpl, open_image, option

TITLE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"

LAYOUT = "Expected: train/CLASS/IMAGE and test/CLASS/IMAGE in the folder."

GREY = ("1", "L", "LA")
"""PIL's modes of grey images with 8 bits or fewer, the last with transparency."""


class Folder(Dataset):
    """Your own data as a folder of images, folder:PATH, with train/CLASS/ and test/CLASS/."""

    name = "folder"
    argument = "path"

    path: str = option(..., "the folder that has train/ and test/")
    size: str | None = option(
        None,
        "pixels, 32 or 28x40 (height x width), by scaling and cropping; if not given, all must have one size",
        pattern=r"^[1-9]\d{0,3}(x[1-9]\d{0,3})?$",
    )
    channels: Literal[1, 3] | None = option(None, "1 for grey, 3 for colour; if not given, as the images are")
    title: str | None = option(None, "its name in records and tables; if not given, the folder's", pattern=TITLE)

    @classmethod
    def is_argument(cls, text: str) -> bool:
        """Return whether it is a folder that has ``train``."""
        return Path(os.path.expanduser(text), "train").is_dir()

    def table_name(self) -> str:
        """Return the title, or the folder's name.

        Raises:
            DcbenchError: if there is no title, and the folder's name is not a valid one.
        """
        name = self.title or Path(os.path.abspath(self.path)).name
        if not re.fullmatch(TITLE, name):
            raise DcbenchError(
                f"{self.path}: {name!r} is no name for tables (at most 60 letters, digits, '-', '_', '.'). "
                "Give it one, as in folder:PATH,title=NAME."
            )
        return name

    def load(self, root: Path) -> Splits:
        """Read both splits; ``root`` is not used, the path is relative to the working directory.

        Raises:
            DcbenchError: if folders are missing or empty, or an image cannot be read or has another size.
        """
        path = Path(os.path.expanduser(self.path))
        train, test = _classes(path / "train"), _classes(path / "test")
        _check(path, train, test)
        files = {
            which: [(file, label) for label, name in enumerate(train) for file in classes.get(name, [])]
            for which, classes in (("train", train), ("test", test))
        }
        everything = [file for split in files.values() for file, _ in split]
        grey = self.channels == 1 or (self.channels is None and all(_mode(file) in GREY for file in everything))
        reader = _Reader("L" if grey else "RGB", self.size, everything[0])
        return Splits(_split(reader, files["train"]), _split(reader, files["test"]), tuple(train))


class _Reader:
    """Reads images of one mode and size."""

    def __init__(self, mode: Literal["L", "RGB"], size: str | None, first: Path) -> None:
        """Take the mode and the size; without a size, that of the first image."""
        self.mode, self.first, self.resizes = mode, first, size is not None
        if size is not None:
            height, _, width = size.partition("x")
            self.size = int(height), int(width or height)
        else:
            self.size = self._pixels(first).shape[:2]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (1 if self.mode == "L" else 3), *self.size

    def read(self, file: Path) -> NDArray[np.uint8]:
        """Return an image: uint8, (C, H, W)."""
        pixels = self._pixels(file)
        height, width = self.size
        if pixels.shape[:2] != self.size:
            raise DcbenchError(
                f"{file} has {pixels.shape[0]}x{pixels.shape[1]} pixels, {self.first} {height}x{width}. "
                f"Give one size for all, as in folder:PATH,size={height}x{width}."
            )
        return pixels.reshape(height, width, -1).transpose(2, 0, 1)

    def _pixels(self, file: Path) -> NDArray[np.uint8]:
        """Return uint8, (H, W) or (H, W, 3)."""
        with open_image(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.has_transparency_data:
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image.convert("RGBA"))
            image = image.convert(self.mode)
            if self.resizes:
                height, width = self.size
                image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
            return np.asarray(image)


def _mode(file: Path) -> str:
    with open_image(file) as image:
        return image.mode


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of each class of a split, both sorted.

    Raises:
        DcbenchError: when the folder is not there, has no classes, or has something else among the images.
    """
    try:
        classes = {each.name: _visible(each) for each in _visible(folder) if each.is_dir()}
    except OSError as error:
        raise DcbenchError(f"{error.filename or folder} cannot be read: {error.strerror}. {LAYOUT}") from None
    if not classes:
        raise DcbenchError(f"{folder} has no folders. {LAYOUT}")
    for name, files in classes.items():
        if not name.isprintable():
            raise DcbenchError(f"{folder} has a class whose name cannot be printed, {name!r}.")
        for file in files:
            if file.suffix.lower() not in IMAGE_ENDINGS or file.is_dir():
                raise DcbenchError(
                    f"{file} is not an image ({', '.join(IMAGE_ENDINGS)}). Remove it, or hide it by a name "
                    "with a dot in front."
                )
    return classes


def _visible(folder: Path) -> list[Path]:
    # By name: paths compare differently on other systems.
    return sorted((each for each in folder.iterdir() if each.name[0] != "."), key=lambda each: each.name)


def _check(path: Path, train: Mapping[str, list[Path]], test: Mapping[str, list[Path]]) -> None:
    """Raise a `DcbenchError` if a split has no images, or the splits have different classes."""
    strange = [name for name in test if name not in train]
    if strange:
        raise DcbenchError(
            f"{path / 'test' / strange[0]}: there is no class {strange[0]!r} in {path / 'train'}, which has "
            f"{', '.join(train)}."
        )
    empty = [path / "train" / name for name, files in train.items() if not files]
    if not any(test.values()):
        empty.append(path / "test")
    if empty:
        raise DcbenchError(f"{empty[0]} has no images ({', '.join(IMAGE_ENDINGS)}). {LAYOUT}")


def _split(reader: _Reader, files: list[tuple[Path, int]]) -> Split:
    images: NDArray[Any] = np.empty((len(files), *reader.shape), dtype=np.uint8)
    for index, (file, _) in enumerate(files):
        images[index] = reader.read(file)
    return Split(torch.from_numpy(images), torch.tensor([label for _, label in files]))


@hookimpl
def dcbench_register_datasets() -> list[type[Dataset]]:
    """Provide the data set."""
    return [Folder]
