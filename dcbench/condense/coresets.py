"""Coresets: real images of each class, chosen by their features."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from dcbench.core.component import option
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.method import Method, Setting, Task
from dcbench.engine.optimizer import SGD
from dcbench.engine.training import train_network

PAPER = "Zhao, Mopuri, Bilen, ICLR 2021"
EVALUATION = f"dcbench, as evaluation in {PAPER}"
BATCH = 256
"""How many images pass through the network at once."""


class FeatureCoreset(Method):
    """A method that chooses real images class by class, by their features only. A subclass implements `choose`.

    The features are those of a network trained on the whole training split, as for the coreset baselines of Zhao,
    Mopuri, Bilen, Dataset Condensation with Gradient Matching, ICLR 2021; or they are the pixels.
    """

    quick: ClassVar = {"epochs": 10}

    space: Literal["features", "pixels"] = option(
        "features", "where distances are taken: penultimate features of a trained network, or pixels", source=PAPER
    )
    epochs: int = option(
        30, "epochs of training the feature network; 0 leaves it as initialised", source="dcbench", ge=0
    )
    lr: float = option(0.01, "learning rate of the feature network's SGD", source=EVALUATION, gt=0)
    momentum: float = option(0.9, "momentum of the feature network's SGD", source=EVALUATION, ge=0, lt=1)
    weight_decay: float = option(5e-4, "weight decay of the feature network's SGD", source=EVALUATION, ge=0)
    batch_size: int = option(256, "images per step of the feature network's SGD", source=EVALUATION, ge=1)

    @abstractmethod
    def choose(self, features: Tensor, n: int) -> Tensor:
        """Choose images of one class.

        Args:
            features: those of all its images: float64, shape (N, D), on the device.
            n: how many images to choose, at most N.

        Returns:
            the rows of the chosen images: int64, shape (n,), on any device, all different.
        """

    def dependencies(self) -> frozenset[str]:
        """Return ``ipc`` alone for pixels, because neither the network nor the seed changes the choice then."""
        return frozenset({"ipc"}) if self.space == "pixels" else self.depends_on

    def resolve(self, setting: Setting) -> Self:
        """Raise a `DcbenchError` if a class has fewer than ``ipc`` images."""
        setting.require_enough_images()
        return self

    def condense(self, task: Task) -> CondensedSet:
        """Train the feature network, then choose images of each class."""
        network = self._trained_network(task) if self.space == "features" else None
        chosen = []
        for members in task.train.class_indices:
            rows = self.choose(_features(task, network, members), task.ipc).to(members.device)
            if len(rows) != task.ipc or len({*rows.tolist()} & {*range(len(members))}) != task.ipc:
                raise ValueError(f"{self.name} chose {rows.tolist()}, not {task.ipc} of {len(members)} images")
            chosen.append(members[rows])
        return CondensedSet.select(task.train, torch.cat(chosen))

    def _trained_network(self, task: Task) -> nn.Module:
        network = task.new_network()
        optimizer = SGD(network.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        train_network(
            network,
            task.train.normalised(slice(None)),
            task.train.labels,
            optimizer,
            epochs=self.epochs,
            batch_size=self.batch_size,
            generator=task.generator,
            progress=task.progress,
        )
        return network.eval()


@torch.no_grad()
def _features(task: Task, network: nn.Module | None, members: Tensor) -> Tensor:
    """Return features of the given images, in float64 so that the order of sums does not matter."""
    batches = []
    for batch in torch.split(members, BATCH):
        images = task.train.normalised(batch)
        features = images.flatten(1) if network is None else task.features(network, images)
        batches.append(features.double())
    return torch.cat(batches)
