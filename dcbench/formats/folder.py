"""A condensed set as a folder of images, with a folder for each class."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcbench.core.dataset import DatasetInfo
from dcbench.formats.images import IMAGE_ENDINGS, open_image
from dcbench.utils.errors import DcbenchError

NUMBERED = re.compile(r"(\D*)0*(\d+)")
"""The number of a class, with zeros or a word before it: ``3``, ``00003`` (RDED), ``new003`` (SRe2L)."""


def read_folder(path: Path, info: DatasetInfo, grey: bool) -> tuple[Tensor, Tensor, str]:
    """Read a folder per class, in label order, named after the class or its number; hidden ones are left out.

    Args:
        path: the folder. A `DcbenchError` says what in it does not fit.
        info: of the data set: its classes, channels and size.
        grey: for a grey data set, whether images in colour become grey.

    Returns:
        Images, uint8 of shape (N, C, H, W); labels, int64 of shape (N,); a hash of names and contents.
    """
    folders = sorted(each.name for each in path.iterdir() if each.is_dir() and each.name[0] != ".")
    classes = _classes(path, folders, info)
    digest, images, labels = hashlib.sha256(), [], []
    for name in sorted(folders, key=lambda name: classes[name]):
        for file in sorted(each for each in (path / name).iterdir() if each.name[0] != "."):
            if file.suffix.lower() not in IMAGE_ENDINGS:
                raise DcbenchError(f"{file} is not an image ({', '.join(IMAGE_ENDINGS)}): remove it or hide it.")
            digest.update(f"{name}/{file.name}".encode() + file.read_bytes())
            images.append(_read_image(file, info, grey))
            labels.append(classes[name])
    if not images:
        raise DcbenchError(f"{path} has no images.")
    return torch.stack(images), torch.tensor(labels), digest.hexdigest()


def _classes(path: Path, folders: Sequence[str], info: DatasetInfo) -> Mapping[str, int]:
    """Return the class of each folder."""
    names = {name: label for label, name in enumerate(info.class_names)}
    strange = [name for name in folders if name not in names]
    if folders and not strange:
        return names
    found = {name: NUMBERED.fullmatch(name) for name in folders}
    numbers = {name: int(match[2]) for name, match in found.items() if match}
    words = {match[1] for match in found.values() if match}
    fitting = {*numbers.values()} <= {*range(info.num_classes)} and len({*numbers.values()}) == len(folders)
    if folders and fitting and len(words) == 1:
        return numbers
    outside = [name for name in strange if numbers.get(name, info.num_classes) >= info.num_classes] or strange
    what = f"has a folder {outside[0]!r}" if outside else "has no folders"
    shown = ", ".join(info.class_names[:10]) + ", …" * (info.num_classes > 10)
    raise DcbenchError(
        f"{path} {what}: a folder per class is named {shown}, or by the number of the class, such as 0 or 00000."
    )


def _read_image(file: Path, info: DatasetInfo, grey: bool) -> Tensor:
    """Return an image of just the data set's size, in its channels: uint8, (C, H, W)."""
    with open_image(file) as image:
        if image.has_transparency_data or image.mode not in ("1", "L", "P", "RGB"):
            raise ValueError(f"it is of mode {image.mode}: save it as L or RGB, without transparency")
        if (image.height, image.width) != info.size:
            found, expected = (f"{height}x{width}" for height, width in ((image.height, image.width), info.size))
            raise ValueError(f"it has {found} pixels, {info.name} has {expected}")
        colours = np.array(image.convert("RGB")).reshape(*info.size, 3)
        if info.channels == 3:
            return torch.from_numpy(colours).permute(2, 0, 1)
        if not grey and np.ptp(colours, axis=2).any():
            raise ValueError(f"it is in colour and {info.name} is grey; --grey makes such images grey")
        return torch.from_numpy(np.array(Image.fromarray(colours).convert("L")))[None]
