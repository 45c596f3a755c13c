"""Data sets: what a data set plugin provides, and the facts that dcbench keeps about one."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import PrivateAttr
from pydantic.fields import FieldInfo
from torch import Tensor

from dcbench.core.component import Component
from dcbench.core.dataset_form import DatasetForm
from dcbench.core.spec import HELD_OUT


@dataclass(frozen=True)
class Split:
    """One split of a data set, on the CPU: images, uint8, (N, C, H, W), and labels from 0 to K-1, int64, (N,)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Splits:
    """What a data set plugin returns: the two splits, and one name per class, in label order.

    Attributes:
        mean, std: the channel statistics used for normalisation, in units of the pixel range [0, 1].
            If they are empty, dcbench measures them on the training split.
    """

    train: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class Dataset(Component):
    """A data set plugin: loads a training and a test split of uint8 images.

    Users may ask for it in another form, as in ``mnist:classes=3+7,size=32``: see `DatasetForm`. dcbench brings
    what `load` returns to that form, so a plugin does nothing for it.

    Class attributes:
        unsuitable: operations of `dcbench.engine.siamese` that would change what an image shows, such as ``flip``
            where the images are digits; protocols and methods leave them out.
        sha256: the `DatasetInfo.sha256` that the data must have; empty if the data are not the same everywhere.
            dcbench refuses data with another hash, because they are damaged or of another version.
        remedy: what a user should do about such data: a sentence in which ``{root}`` stands for the data root.
    """

    kind: ClassVar[str] = "dataset"
    unsuitable: ClassVar[frozenset[str]] = frozenset()
    sha256: ClassVar[str] = ""
    remedy: ClassVar[str] = "Remove its files from {root}, so that they are loaded again."
    mend: ClassVar[str] = ""
    """The old name of `remedy`; a subclass that still sets it gets a DeprecationWarning."""
    _form: DatasetForm = PrivateAttr(default_factory=DatasetForm)

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Take the old name of `remedy`; say that `augmentation` does not count."""
        super().__init_subclass__(**arguments)
        if "mend" in vars(cls):
            warnings.warn("Dataset.mend is now Dataset.remedy", DeprecationWarning, stacklevel=2)
            cls.remedy = cls.mend
        if "augmentation" in vars(cls):
            warnings.warn(
                "Dataset.augmentation does not count any more: protocols say how they augment, and "
                "Dataset.unsuitable what does not suit a data set",
                DeprecationWarning,
                stacklevel=2,
            )

    @classmethod
    def option_fields(cls) -> dict[str, FieldInfo]:
        """Return its own options, then those of its form that are not the name of one of its own."""
        return {**cls.model_fields, **DatasetForm.model_fields, **cls.model_fields}

    @classmethod
    def _from_values(cls, values: dict[str, Any]) -> Self:
        own = {key: value for key, value in values.items() if key in cls.model_fields}
        dataset = super()._from_values(own)
        dataset._form = DatasetForm.model_validate({key: values[key] for key in values.keys() - own.keys()})
        return dataset

    @property
    def form(self) -> DatasetForm:
        """The form in which it is used."""
        return self._form

    def __str__(self) -> str:
        """Return the canonical spelling, the form last."""
        return self.form.spelled_after(super().__str__())

    def holding_out(self, share: float) -> Self:
        """Return it with a share of the training images in the place of the test split; see `DatasetForm`."""
        return self.in_form(self.form.model_copy(update={HELD_OUT: share}))

    def in_form(self, form: DatasetForm) -> Self:
        """Return it in another form."""
        dataset = self.model_copy()
        dataset._form = form
        return dataset

    def table_name(self) -> str:
        """Return the name in records and tables, without the form: the canonical spelling unless overridden.

        A data set that is read from a user's file, for example, returns a name and not a path.
        """
        return super().__str__()

    def record_name(self) -> str:
        """Return the name in records and tables, with the form."""
        return self.form.spelled_after(self.table_name())

    def is_here(self, root: Path) -> bool | None:
        """Return whether `load` would work without a download, or None if it cannot tell.

        `dcbench doctor` and dry runs call it. It must not download or change anything.
        """
        return None

    @abstractmethod
    def load(self, root: Path) -> Splits:
        """Return both splits; download files into ``root`` if they are not there.

        If that fails, raise a `DcbenchError` whose message says what to do.
        """


@dataclass(frozen=True)
class DatasetInfo:
    """The facts about a data set, without its images.

    Attributes:
        name: canonical name, as in records.
        channels, size: C, and (H, W) in pixels.
        mean, std: per channel, in units of the pixel range [0, 1].
        sha256: hash of both splits, the class count and the normalisation.
        unsuitable: operations of `dcbench.engine.siamese` that do not suit it.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str
    unsuitable: frozenset[str] = frozenset()

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.class_names)
