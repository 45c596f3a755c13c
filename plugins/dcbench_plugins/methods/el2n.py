"""EL2N: the real images of each class with the greatest error early in training.

Paul, Ganguli, Dziugaite, Deep Learning on a Data Diet: Finding Important Examples Early in Training, NeurIPS 2021.
The score of an image x with the one-hot label y is a mean over several networks, each trained for a few epochs:

    EL2N(x, y) = E || softmax(network(x)) - y ||_2
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dcbench.api import DatasetInfo, Method, NetworkRecipe, ScoreCoreset, Task, hookimpl, logits, option

PAPER = "Paul, Ganguli, Dziugaite, NeurIPS 2021"


class EL2N(ScoreCoreset):
    """The real images of each class with the greatest error of the softmax early in training.

    The error is a mean over several networks. Images with wrong labels have great errors, too. That matters more
    for a few images per class than in the paper, which keeps a large part of the training split.
    """

    name = "el2n"
    version = "2"  # networks are shared between methods and sizes
    citation = "Paul, Ganguli, Dziugaite, Deep Learning on a Data Diet, NeurIPS 2021"
    quick = {"epochs": 5, "networks": 2}

    epochs: int = option(20, "epochs of training each network; 0 leaves it as initialised", source=PAPER, ge=0)
    networks: int = option(10, "networks over which the error is averaged", source=PAPER, ge=1)

    def needs(self, info: DatasetInfo, seed: int) -> tuple[NetworkRecipe, int]:
        """Return the recipe of the networks, and their number."""
        return self.recipe(seed), self.networks

    def scores(self, task: Task) -> Tensor:
        """Return the mean norm of each training image's error: float64, shape (N,)."""
        truth = F.one_hot(task.train.labels, task.info.num_classes)
        total = torch.zeros(len(task.train), dtype=torch.float64, device=task.device)
        for done, trained in enumerate(task.trained_networks(*self.needs(task.info, task.seed)), start=1):
            error = logits(trained.network(), task.train).double().softmax(dim=1) - truth
            total += torch.linalg.vector_norm(error, dim=1)
            task.progress(done, self.networks)
        return total / self.networks


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [EL2N]
