"""Coresets: real images of each class, chosen by their features or by scores."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from dcbench.core.component import option
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.dataset import DatasetInfo
from dcbench.core.method import Method, Setting, Task
from dcbench.core.trained_network import NetworkRecipe, TrainedNetwork

PAPER = "Zhao, Mopuri, Bilen, ICLR 2021"
EVALUATION = f"dcbench, as evaluation in {PAPER}"
BATCH = 256
"""How many images pass through the network at once."""


class Coreset(Method):
    """Real images of each class, chosen with networks that are trained on the whole training split."""

    quick: ClassVar = {"epochs": 10}

    epochs: int = option(30, "epochs of training the network; 0 leaves it as initialised", source="dcbench", ge=0)
    lr: float = option(0.01, "learning rate of the network's SGD", source=EVALUATION, gt=0)
    momentum: float = option(0.9, "momentum of the network's SGD", source=EVALUATION, ge=0, lt=1)
    weight_decay: float = option(5e-4, "weight decay of the network's SGD", source=EVALUATION, ge=0)
    batch_size: int = option(256, "images per step of the network's SGD", source=EVALUATION, ge=1)

    def resolve(self, setting: Setting) -> Self:
        """Raise a `DcbenchError` if a class has fewer than ``ipc`` images."""
        setting.require_enough_images()
        return self

    def trained_networks(
        self, task: Task, count: int = 1, snapshots: tuple[int, ...] = ()
    ) -> tuple[TrainedNetwork, ...]:
        """Return networks trained on the whole training split.

        Those of sets with another seed are others. Methods with the same options share them.

        Args:
            task: gives the training split, the architecture and the seed.
            count: how many.
            snapshots: epochs after which their states are needed, beside the last.
        """
        return task.trained_networks(self.recipe(task.seed, snapshots), count)

    def recipe(self, seed: int, snapshots: tuple[int, ...] = ()) -> NetworkRecipe:
        """Return how the networks of a set of this seed are trained."""
        return NetworkRecipe(
            epochs=self.epochs,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            snapshots=snapshots,
            seed=seed,
        )


class ScoreCoreset(Coreset):
    """A method that chooses the images of each class with the highest scores. A subclass implements `scores`.

    Equal scores are ordered by a draw from the task's generator.
    """

    @abstractmethod
    def scores(self, task: Task) -> Tensor:
        """Return a score for each training image: of any real type, shape (N,), on any device, never NaN."""

    def condense(self, task: Task) -> CondensedSet:
        """Choose the ``ipc`` images of each class with the highest scores."""
        scores, chosen = self.scores(task).cpu(), []
        for members in task.train.class_indices:
            shuffled = members[torch.randperm(len(members), generator=task.generator)]
            order = scores[shuffled].argsort(descending=True, stable=True)
            chosen.append(shuffled[order[: task.ipc]])
        return CondensedSet.select(task.train, torch.cat(chosen))


class FeatureCoreset(Coreset):
    """A method that chooses real images class by class, by their features only. A subclass implements `choose`.

    The features are those of a network trained on the whole training split, as for the coreset baselines of Zhao,
    Mopuri, Bilen, Dataset Condensation with Gradient Matching, ICLR 2021; or they are the pixels.
    """

    space: Literal["features", "pixels"] = option(
        "features", "where distances are taken: penultimate features of a trained network, or pixels", source=PAPER
    )

    def choose(self, features: Tensor, n: int) -> Tensor:
        """Choose images of one class.

        Args:
            features: those of all its images: float64, shape (N, D), on the device.
            n: how many images to choose, at most N.

        Returns:
            the rows of the chosen images: int64, shape (n,), on any device, all different.
        """
        raise NotImplementedError(f"{type(self).__name__} implements neither choose nor choose_by_draw")

    def choose_by_draw(self, features: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Choose as `choose` does. A method that draws random numbers implements this one instead."""
        return self.choose(features, n)

    def dependencies(self, setting: Setting) -> frozenset[str]:
        """Return ``ipc`` alone for pixels, because neither the network nor the seed changes the choice then."""
        return frozenset({"ipc"}) if self.space == "pixels" else self.depends_on

    def needs(self, info: DatasetInfo, seed: int) -> tuple[NetworkRecipe, int] | None:
        """Return the recipe of the network of the features."""
        return (self.recipe(seed), 1) if self.space == "features" else None

    def condense(self, task: Task) -> CondensedSet:
        """Take the trained network of the features, then choose images of each class."""
        network = self.trained_networks(task)[0].network() if self.space == "features" else None
        chosen = []
        for members in task.train.class_indices:
            features = _features(task, network, members)
            rows = self.choose_by_draw(features, task.ipc, task.generator).to(members.device)
            if len(rows) != task.ipc or len({*rows.tolist()} & {*range(len(members))}) != task.ipc:
                raise ValueError(f"{self.name} chose {rows.tolist()}, not {task.ipc} of {len(members)} images")
            chosen.append(members[rows])
        return CondensedSet.select(task.train, torch.cat(chosen))


@torch.no_grad()
def _features(task: Task, network: nn.Module | None, members: Tensor) -> Tensor:
    """Return features of the given images, in float64 so that the order of sums does not matter."""
    batches = []
    for batch in torch.split(members, BATCH):
        images = task.train.normalised(batch)
        features = images.flatten(1) if network is None else task.features(network, images)
        batches.append(features.double())
    return torch.cat(batches)
