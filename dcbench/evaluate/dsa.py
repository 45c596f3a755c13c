"""The protocol ``dsa``, of siamese augmentation: the field's usual one."""

from __future__ import annotations

from dataclasses import dataclass

from dcbench.core.dataset import DatasetInfo
from dcbench.engine.siamese import FULL, SiameseAugmentation, suitable_strategy
from dcbench.evaluate.protocol import EvaluationProtocol


@dataclass(frozen=True, kw_only=True)
class SiameseProtocol(EvaluationProtocol):
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
