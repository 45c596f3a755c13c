"""Forms of a data set: some classes, fewer training images, a held-out part, another size, grey or colour.

Every data set takes these options, as in ``cifar100:classes=0-19,train_per_class=100``. One that has an option of
the same name itself, such as ``folder:PATH,size=32``, keeps its own meaning of it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, field_validator
from torch import Tensor

from dcbench.core.component import option
from dcbench.utils.errors import DcbenchError, find_name

if TYPE_CHECKING:
    from dcbench.core.dataset import Split, Splits

CLASSES = r"[0-9]{1,5}(-[0-9]{1,5})?(\+[0-9]{1,5}(-[0-9]{1,5})?)*"
SIZE = r"[1-9][0-9]{0,3}(x[1-9][0-9]{0,3})?"
GREY_WEIGHTS = (19595, 38470, 7471)
"""The luma of ITU-R BT.601, times 2**16: what Pillow's grey conversion uses."""


class DatasetForm(BaseModel):
    """The form in which a data set is used. With the defaults, it is used as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: str | None = option(
        None,
        "the classes to keep, by number from 0 or by name, as in 0-19, 3+7 or cat+dog; records have the numbers, "
        "in the order of which they become 0, 1, 2, …",
    )
    train_per_class: int | None = option(
        None, "training images to keep of each class, at even distances in the data set's order", ge=1
    )
    validation: float | None = option(
        None,
        "share of the training images of each class, at even distances, that is held out and takes the place of "
        "the test split, which is then not used; for choosing options, and kept out of official tables",
        gt=0,
        lt=1,
    )
    size: str | None = option(
        None,
        "pixels, 32 or 28x40 (height x width): images are scaled to cover it, bilinear, and cropped at the centre",
    )
    channels: Literal[1, 3] | None = option(
        None, "1: colour becomes grey, as Pillow does it; 3: grey is repeated three times"
    )

    @field_validator("classes")
    @classmethod
    def _canonical_classes(cls, text: str | None) -> str | None:
        """Spell the same classes the same way, but for names, whose numbers are not known here."""
        if text is None:
            return None
        named = not re.fullmatch(CLASSES, text)
        if len(set(text.split("+")) if named else class_labels(text)) < 2:
            raise ValueError("two classes at least are needed, as in 3+7 or cat+dog")
        return text if named else _spelled(class_labels(text))

    @field_validator("size")
    @classmethod
    def _canonical_size(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(SIZE, text):
            raise ValueError("write pixels from 1 to 9999, as in 32 or 28x40")
        height, _, width = (text or "").partition("x")
        return height if height == width else text

    def __str__(self) -> str:
        """Return the options that are not at their defaults, as users write them; empty for none."""
        changed = self.model_dump(exclude_defaults=True)
        return ",".join(f"{key}={changed[key]}" for key in sorted(changed))

    def with_classes(self, labels: Iterable[int]) -> DatasetForm:
        """Return the same form with these classes alone, by their numbers in the whole data set."""
        return self.model_copy(update={"classes": _spelled(sorted(labels))})

    def numbered(self, class_names: tuple[str, ...]) -> DatasetForm:
        """Return the same form with the numbers of classes in place of their names.

        Raises:
            DcbenchError: if the data set has no class of a name.
        """
        if self.classes is None or re.fullmatch(CLASSES, self.classes):
            return self
        labels = {class_names.index(find_name("class", name, class_names)) for name in self.classes.split("+")}
        if len(labels) < 2:
            raise DcbenchError(f"classes={self.classes} is one class, and two at least are needed.")
        return self.model_copy(update={"classes": _spelled(sorted(labels))})

    def spelled_after(self, name: str) -> str:
        """Return a data set's name or spelling with this form."""
        text = str(self)
        return f"{name}{',' if ':' in name else ':'}{text}" if text else name

    def apply(self, splits: Splits) -> Splits:
        """Return both splits in this form.

        The statistics for normalisation stay as long as the pixels do; of changed pixels they are measured anew.

        Raises:
            DcbenchError: if the data set does not have the classes, the images or the channels for it.
        """
        if self.classes is not None:
            splits = _with_classes(splits, class_labels(self.classes))
        if self.train_per_class is not None:
            splits = replace(splits, train=_thinned(splits.train, splits.class_names, self.train_per_class))
        if self.validation is not None:
            splits = _held_out(splits, self.validation)
        train, test = (replace(each, images=self._pixels(each.images)) for each in (splits.train, splits.test))
        if train.images is splits.train.images:
            return splits
        return replace(splits, train=train, test=test, mean=(), std=())

    def _pixels(self, images: Tensor) -> Tensor:
        """Return images, uint8, (N, C, H, W), in the form's channels and size; or the same object."""
        have = images.shape[1]
        if self.channels == 1 and have != 1:
            if have != 3:
                raise DcbenchError(f"only colour images become grey, and these have {have} channels")
            parts = [weight * images[:, [channel]].int() for channel, weight in enumerate(GREY_WEIGHTS)]
            images = (torch.stack(parts).sum(0) + 2**15 >> 16).to(torch.uint8)
        if self.size is not None:
            height, _, width = self.size.partition("x")
            images = _resized(images, int(height), int(width or height))
        if self.channels == 3 and have != 3:
            if have != 1:
                raise DcbenchError(f"only grey images get three channels, and these have {have}")
            images = images.expand(-1, 3, -1, -1).contiguous()
        return images


def without_classes(name: str) -> tuple[list[str], list[int]]:
    """Return the parts of a record's name of a data set but for its classes, and these; none for all of them."""
    head, _, options = name.partition(":")
    parts = [part for part in options.split(",") if part]
    chosen = [part.removeprefix("classes=") for part in parts if part.startswith("classes=")]
    rest = [part for part in parts if not part.startswith("classes=")]
    return [head, *rest], class_labels(chosen[0]) if chosen else []


def class_labels(text: str) -> list[int]:
    """Return the classes that ``0-2+7`` names, sorted, each once.

    Raises:
        ValueError: for a range that runs backwards.
    """
    labels: set[int] = set()
    for part in text.split("+"):
        first, _, last = part.partition("-")
        if int(last or first) < int(first):
            raise ValueError(f"the range {part} runs backwards")
        labels.update(range(int(first), int(last or first) + 1))
    return sorted(labels)


def _spelled(labels: list[int]) -> str:
    """Return sorted classes as text, three or more in a row as a range."""
    runs = [
        [label for _, label in run]
        for _, run in itertools.groupby(enumerate(labels), key=lambda each: each[1] - each[0])
    ]
    return "+".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else "+".join(map(str, run)) for run in runs)


def _with_classes(splits: Splits, labels: list[int]) -> Splits:
    count = len(splits.class_names)
    if labels[-1] >= count:
        raise DcbenchError(f"its classes are 0 to {count - 1}, and {labels[-1]} is none of them")
    renumbered = torch.full((count,), -1)
    renumbered[labels] = torch.arange(len(labels))

    def kept(split: Split) -> Split:
        new = renumbered[split.labels]
        return replace(split, images=split.images[new >= 0], labels=new[new >= 0])

    names = tuple(splits.class_names[label] for label in labels)
    return replace(splits, train=kept(splits.train), test=kept(splits.test), class_names=names)


def _thinned(split: Split, class_names: tuple[str, ...], count: int) -> Split:
    """Keep ``count`` images of each class, spread over the split, because its order may mean something."""
    chosen = []
    for label, name in enumerate(class_names):
        members = torch.nonzero(split.labels == label).flatten()
        if len(members) < count:
            raise DcbenchError(f"class {name!r} has {len(members)} training images, not {count}")
        chosen.append(_spread(members, count))
    return _part(split, torch.cat(chosen).sort().values)


def _held_out(splits: Splits, share: float) -> Splits:
    """Put a share of the training images of each class, one at least, in the place of the test split."""
    train, held = splits.train, torch.zeros(len(splits.train.labels), dtype=torch.bool)
    for label, name in enumerate(splits.class_names):
        members = torch.nonzero(train.labels == label).flatten()
        count = max(1, round(share * len(members)))
        if count >= len(members):
            raise DcbenchError(
                f"class {name!r} has {len(members)} training images: none would be left to train on"
            )
        held[_spread(members, count)] = True
    return replace(
        splits, train=_part(train, torch.nonzero(~held).flatten()), test=_part(train, held.nonzero().flatten())
    )


def _spread(members: Tensor, count: int) -> Tensor:
    """Return ``count`` of some indices, at even distances."""
    return members[torch.arange(count) * len(members) // count]


def _part(split: Split, indices: Tensor) -> Split:
    return replace(split, images=split.images[indices], labels=split.labels[indices])


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    """Scale to cover the size and crop at the centre. Pillow does it in integers, the same on every machine."""
    if images.shape[2:] == (height, width):
        return images
    arrays = images.numpy()
    resized = np.empty((*images.shape[:2], height, width), dtype=np.uint8)
    for at in np.ndindex(*images.shape[:2]):
        resized[at] = ImageOps.fit(Image.fromarray(arrays[at]), (width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(resized)
