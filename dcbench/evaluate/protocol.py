"""What a protocol is: how a condensed set is judged. Frozen and versioned; no method can alter one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dcbench.core.dataset import DatasetInfo
from dcbench.core.spec import Budget


@dataclass(frozen=True)
class EvaluationProtocol:
    """One way of training an evaluation network on a condensed set.

    SGD with momentum and weight decay; the learning rate is multiplied by ``decay`` once half the epochs
    are done. What counts is the test accuracy after the last epoch.

    Attributes:
        name: as users type it and records state it; a changed protocol gets a new name.
        summary: one line.
        source: where it was published.
        departures: where it differs from the authors' code.
        epochs: passes over the condensed set.
        augmented_epochs: passes where the data set has an augmentation under this protocol.
        batch_size: images per step.
        lr, momentum, weight_decay: of SGD.
        decay: factor on the learning rate at half time.
    """

    name: str
    summary: str
    source: str
    departures: str
    epochs: int
    augmented_epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    decay: float

    def augmentation(self, info: DatasetInfo) -> str:
        """Return the augmentation strategy for a data set; empty for none."""
        return info.augmentation.get(self.name, "")

    def epochs_for(self, info: DatasetInfo, n_images: int, budget: Budget) -> int:
        """Return the number of epochs on ``n_images`` images, within the budget's steps."""
        epochs = self.augmented_epochs if self.augmentation(info) else self.epochs
        if budget.max_steps is None:
            return epochs
        steps_per_epoch = math.ceil(n_images / self.batch_size)
        return max(1, min(epochs, budget.max_steps // steps_per_epoch))
