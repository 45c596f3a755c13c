"""Forgetting: the real images of each class that a network forgets most often while it is trained.

Toneva, Sordoni, Tachet des Combes, Trischler, Bengio, Gordon, An Empirical Study of Example Forgetting during Deep
Neural Network Learning, ICLR 2019; as a coreset baseline for condensation in Zhao, Mopuri, Bilen, ICLR 2021.

A network forgets an image when it classifies it correctly after one epoch and wrongly after the next. An image
that it never classifies correctly counts as forgotten in every epoch, as in the authors' code, so it comes first.
Equal counts are ordered by a draw.

The paper looks at an image when a minibatch has it, in training mode. Here the network classifies all images after
each epoch, in evaluation mode, because the trained network is kept and shared; it costs a forward pass per epoch.
"""

import torch
from torch import Tensor

from dcbench.api import DatasetInfo, Method, NetworkRecipe, ScoreCoreset, Task, hookimpl, logits, option


class Forgetting(ScoreCoreset):
    """The real images of each class that a network forgets most often while it is trained.

    Images that it never learns come first. Predictions are compared after each epoch; the paper compares them
    whenever a minibatch has the image.
    """

    name = "forgetting"
    version = "2"  # networks are shared between methods and sizes
    citation = "Toneva et al., An Empirical Study of Example Forgetting during DNN Learning, ICLR 2019"

    epochs: int = option(
        30, "epochs of training, after each of which predictions are compared", source="dcbench", ge=1
    )

    def needs(self, info: DatasetInfo, seed: int) -> tuple[NetworkRecipe, int]:
        """Return the recipe of the network, with its state after each epoch."""
        return self.recipe(seed, tuple(range(1, self.epochs + 1))), 1

    def scores(self, task: Task) -> Tensor:
        """Count how often a network forgets each training image while it is trained: int64, shape (N,)."""
        labels, after = task.train.labels, range(1, self.epochs + 1)
        (trained,) = task.trained_networks(*self.needs(task.info, task.seed))
        counts = torch.zeros_like(labels)
        known, learnt = torch.zeros_like(labels, dtype=torch.bool), torch.zeros_like(labels, dtype=torch.bool)

        for epoch in after:
            correct = logits(trained.network(epoch), task.train).argmax(dim=1) == labels
            counts += known & ~correct
            known, learnt = correct, learnt | correct
            task.progress(epoch, self.epochs)
        return torch.where(learnt, counts, self.epochs)


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [Forgetting]
