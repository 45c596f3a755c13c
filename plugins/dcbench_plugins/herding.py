"""Herding: real images whose mean feature is nearest to their class's, chosen greedily.

Welling, Herding Dynamical Weights to Learn, ICML 2009; as a coreset baseline for condensation in Zhao,
Mopuri, Bilen, ICLR 2021, with the feature space of a network trained on the whole training split.

For each class, with mean feature mu, pick one image after the other:

    x_k = argmin over the images not yet chosen of || mu - (f(x) + sum_{j<k} f(x_j)) / k ||
"""

from typing import Literal

import torch
from torch import Tensor, nn

from dcbench.api import CondensedSet, Method, Setting, Task, hookimpl, option, train_network

PAPER = "Zhao, Mopuri, Bilen, ICLR 2021"


class Herding(Method):
    """Real images chosen greedily so that their mean feature follows the class's."""

    name = "herding"
    citation = "Welling, Herding Dynamical Weights to Learn, ICML 2009"
    quick = {"epochs": 10}

    space: Literal["features", "pixels"] = option(
        "features", "where distances are taken: penultimate features of a trained network, or pixels", source=PAPER
    )
    epochs: int = option(30, "epochs of training the feature network; 0 leaves it as initialised", ge=0)
    lr: float = option(0.01, "learning rate of the feature network's SGD", source=PAPER, gt=0)
    momentum: float = option(0.9, "momentum of the feature network's SGD", source=PAPER, ge=0, lt=1)
    weight_decay: float = option(5e-4, "weight decay of the feature network's SGD", source=PAPER, ge=0)
    batch_size: int = option(256, "images per step of the feature network's SGD", source=PAPER, ge=1)

    def resolve(self, setting: Setting) -> "Herding":
        """Refuse more images per class than there are."""
        setting.require_enough_images()
        return self

    def condense(self, task: Task) -> CondensedSet:
        """Train the feature network, then herd each class."""
        network = self._trained_network(task) if self.space == "features" else None
        chosen = []
        for members in task.train.class_indices:
            features = _features(task, network, members)
            chosen.append(members[herd(features, task.ipc)])
        return CondensedSet.select(task.train, torch.cat(chosen))

    def _trained_network(self, task: Task) -> nn.Module:
        network = task.new_network()
        optimizer = torch.optim.SGD(
            network.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
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


def herd(features: Tensor, n: int) -> Tensor:
    """Choose ``n`` rows greedily so that their running mean stays near the mean of all rows.

    Args:
        features: float, shape (N, D).
        n: how many, at most N.

    Returns:
        int64 row indices on the CPU, shape (n,), in order of choice. Ties go to the lower index.
    """
    mean = features.mean(dim=0)
    total = torch.zeros_like(mean)
    free = torch.ones(len(features), dtype=torch.bool, device=features.device)
    chosen = []
    for k in range(1, n + 1):
        distance = torch.linalg.vector_norm(mean - (features + total) / k, dim=1)
        best = torch.where(free, distance, torch.inf).argmin()
        free[best] = False
        total += features[best]
        chosen.append(best)
    return torch.stack(chosen).cpu()


@torch.no_grad()
def _features(task: Task, network: nn.Module | None, members: Tensor) -> Tensor:
    """Return features of the given images in float64, for sums that do not depend on their order."""
    batches = []
    for batch in torch.split(members, 256):
        images = task.train.normalised(batch)
        features = images.flatten(1) if network is None else task.features(network, images)
        batches.append(features.double())
    return torch.cat(batches)


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [Herding]
