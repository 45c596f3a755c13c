"""What a protocol is: how a condensed set is judged. Frozen and versioned; no method can alter one."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import nn

from dcbench.core.architecture import Architecture
from dcbench.core.condensed_set import CondensedSet, SetTraits
from dcbench.core.dataset import DatasetInfo
from dcbench.core.spec import SOFT_LABELS, Budget
from dcbench.core.trained_network import NetworkRecipe
from dcbench.engine.optimizer import SGD
from dcbench.engine.training import Augmentation, train_network
from dcbench.utils.errors import DcbenchError


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol(ABC):
    """One way of training an evaluation network on a condensed set.

    It owns the augmentation, the optimiser, the schedule and the loss. What counts is the test accuracy after the
    last epoch.

    Attributes:
        name: as users type it and records state it, with its options; a changed protocol gets a new name.
        summary: one line.
        details: what else there is to know; empty for nothing.
        source: where it was published.
        departures: where it differs from the authors' code.
        epochs: passes over the condensed set.
        soft_labels: whether it is meant for sets with soft labels.
        steps: bound on the optimiser's steps, as in ``dc:steps=300``: fewer epochs, at least one, and the
            schedule is over these; None for all of them.
    """

    name: str
    summary: str
    details: str = ""
    source: str
    departures: str
    epochs: int
    soft_labels: bool = False
    steps: int | None = None

    def spelt(self, options: str, make_architecture: Callable[[str], Architecture]) -> Self:
        """Return the protocol with the options that users write after ``name:``.

        Raises:
            DcbenchError: for options that do not fit.
        """
        if not options:
            return self
        key, _, text = options.partition("=")
        if key.strip() != "steps" or not re.fullmatch(r"[1-9][0-9]{0,8}", text.strip()):
            raise DcbenchError(f"protocol {self.name}:{options}: write {self.name}:steps=NUMBER.")
        steps = int(text)
        return replace(self, name=f"{self.name}:steps={steps}", steps=steps)

    def check_dataset(self, info: DatasetInfo) -> None:
        """Raise a `DcbenchError` for a data set that the protocol cannot be used on."""
        self.augmentation(info)

    def check_set(self, traits: SetTraits) -> None:  # noqa: B027  # most protocols take all
        """Raise a `DcbenchError` for sets that the protocol cannot be used on."""

    def unsuited(self, traits: SetTraits) -> str:
        """Say what is lost of sets that the protocol can be used on, but is not meant for; empty for nothing."""
        if traits.track == SOFT_LABELS and not self.soft_labels:
            return "is meant for sets with hard labels"
        return ""

    @abstractmethod
    def augmentation(self, info: DatasetInfo) -> str:
        """Return the augmentation strategy for a data set; empty for none.

        Raises:
            DcbenchError: for a data set that the protocol cannot be used on.
        """

    @abstractmethod
    def recipe(self, info: DatasetInfo) -> str:
        """Return all that is done on a data set, in words, for the evaluation key and the record."""

    def teacher_for(self, info: DatasetInfo) -> tuple[Architecture, NetworkRecipe] | None:
        """Return the network that labels images while others are trained, and its recipe; None without one."""
        return None

    @abstractmethod
    def batch_size_for(self, info: DatasetInfo, n_images: int) -> int:
        """Return the number of images per step."""

    def epochs_for(self, info: DatasetInfo, n_images: int, budget: Budget) -> int:
        """Return the number of epochs on ``n_images`` images, within the protocol's steps and the budget's."""
        steps_per_epoch = math.ceil(n_images / self.batch_size_for(info, n_images))
        bounds = [steps // steps_per_epoch for steps in (self.steps, budget.max_steps) if steps is not None]
        return max(1, min([self._epochs(info), *bounds]))

    def _epochs(self, info: DatasetInfo) -> int:
        return self.epochs

    @abstractmethod
    def train(
        self,
        network: nn.Module,
        condensed: CondensedSet,
        info: DatasetInfo,
        generator: torch.Generator,
        *,
        epochs: int,
        progress: Callable[[int, int], None],
        teacher: nn.Module | None = None,
    ) -> None:
        """Train a fresh network in place, on the device that it is on.

        Args:
            network: in training mode when this returns.
            condensed: what to train on.
            info: the data set's facts.
            generator: a CPU generator, for the shuffles and the augmentation.
            epochs: of `epochs_for`.
            progress: called with the epochs done and their number.
            teacher: the network of `teacher_for`, in evaluation mode, on the same device. It is not changed.

        Raises:
            Diverged: naming the epoch in which the training loss was no longer finite.
        """


@dataclass(frozen=True, kw_only=True)
class SGDProtocol(EvaluationProtocol):
    """SGD with momentum and weight decay on the cross-entropy, with hard labels, probabilities or logits.

    The learning rate is multiplied by ``decay`` once half the epochs are done.

    Attributes:
        batch_size: images per step.
        lr, momentum, weight_decay: of SGD; a set that brings its own learning rate is trained at that.
        decay: factor on the learning rate at half time.
    """

    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    decay: float

    @abstractmethod
    def _augmentation(self, info: DatasetInfo) -> str | Augmentation:
        """Return what `augmentation` names, for `train_network`."""

    def recipe(self, info: DatasetInfo) -> str:
        """Return all that is done on a data set, in words, for the evaluation key and the record."""
        return (
            f"{self._epochs(info)} epochs, batch {self.batch_size}, SGD {self.lr}, momentum {self.momentum}, "
            f"weight decay {self.weight_decay}, x{self.decay} at half time, {self.name} {self.augmentation(info)}"
        )

    def batch_size_for(self, info: DatasetInfo, n_images: int) -> int:
        """Return the same for all sets."""
        return self.batch_size

    def train(
        self,
        network: nn.Module,
        condensed: CondensedSet,
        info: DatasetInfo,
        generator: torch.Generator,
        *,
        epochs: int,
        progress: Callable[[int, int], None],
        teacher: nn.Module | None = None,
    ) -> None:
        """Train a fresh network in place; see `EvaluationProtocol.train`."""
        images, labels = condensed.decoded()
        lr = self.lr if condensed.lr is None else condensed.lr
        optimizer = SGD(network.parameters(), lr=lr, momentum=self.momentum, weight_decay=self.weight_decay)
        # Half time by the epochs done: with an odd number, the longer half comes first.
        half_time = torch.optim.lr_scheduler.MultiStepLR(optimizer, [(epochs + 1) // 2], self.decay)
        device = next(network.parameters()).device
        train_network(
            network,
            images.to(device),
            labels.to(device),
            optimizer,
            epochs=epochs,
            batch_size=self.batch_size,
            generator=generator,
            augmentation=self._augmentation(info),
            scheduler=half_time,
            progress=progress,
        )
