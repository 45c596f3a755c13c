"""The protocol ``dc``, of gradient matching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dcbench.core.dataset import DatasetInfo
from dcbench.evaluate.protocol import SGDProtocol


@dataclass(frozen=True, kw_only=True)
class GradientMatchingProtocol(SGDProtocol):
    """Few epochs, or more where the authors augment.

    Attributes:
        augmented_epochs: passes over the condensed set where it is augmented.
        augmentations: strategies of `dcbench.engine.augment` by data set; others have none.
    """

    augmented_epochs: int
    augmentations: Mapping[str, str]

    def augmentation(self, info: DatasetInfo) -> str:
        """Return the strategy for a data set; empty for none."""
        return self.augmentations.get(info.name, "")

    _augmentation = augmentation

    def recipe(self, info: DatasetInfo) -> str:
        """Return nothing, because records of this protocol had their keys before these had recipes."""
        return ""

    def _epochs(self, info: DatasetInfo) -> int:
        return self.augmented_epochs if self.augmentation(info) else self.epochs


DC = GradientMatchingProtocol(
    name="dc",
    summary="300 epochs of SGD at 0.01, a tenth of that after half of them; augmentation on MNIST only",
    source="Zhao, Mopuri, Bilen, Dataset Condensation with Gradient Matching, ICLR 2021",
    departures=(
        "the authors' code runs 301 and 1,001 epochs, drops the rate after 152 and 502 and the momentum with it, "
        "scales with nearest neighbours and rotates with cubic interpolation where this is bilinear, and "
        "augments for the ConvNet with BatchNorm on every data set"
    ),
    epochs=300,
    augmented_epochs=1000,
    batch_size=256,
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    decay=0.1,
    augmentations={"mnist": "crop_scale_rotate"},
)
