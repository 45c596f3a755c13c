"""The protocol ``dsa``, of siamese augmentation: the field's usual one."""

from __future__ import annotations

from dataclasses import dataclass

from dcbench.core.dataset import DatasetInfo
from dcbench.engine.siamese import FULL, SiameseAugmentation, suitable_strategy
from dcbench.evaluate.protocol import SGDProtocol


@dataclass(frozen=True, kw_only=True)
class SiameseProtocol(SGDProtocol):
    """Every batch is changed by one operation, each image with parameters of its own.

    Attributes:
        strategy: the operations; those that do not suit a data set are left out on it.
    """

    strategy: str = FULL

    def augmentation(self, info: DatasetInfo) -> str:
        """Return the operations that suit a data set."""
        return suitable_strategy(info, self.strategy)

    def _augmentation(self, info: DatasetInfo) -> SiameseAugmentation:
        return SiameseAugmentation(self.augmentation(info))


DSA = SiameseProtocol(
    name="dsa",
    summary="1,000 epochs of SGD at 0.01, a tenth of that after half of them; siamese augmentation",
    details=(
        "each batch gets one operation, drawn uniformly, and each image parameters of its own: brightness, "
        "saturation and contrast; a shift by up to an eighth of the side; a square of half the side set to 0; a "
        "flip for half of the images; a stretch by 1/1.2 to 1.2; a rotation by up to 15 degrees; align_corners is "
        "false. Digits are not flipped. What counts is the accuracy after the last epoch"
    ),
    source="Zhao, Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021",
    departures=(
        "the authors' code runs 1,001 epochs, and drops the rate after 502 and the momentum with it; "
        "data sets that it does not know have all operations but those that do not suit them"
    ),
    epochs=1000,
    batch_size=256,
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    decay=0.1,
)
