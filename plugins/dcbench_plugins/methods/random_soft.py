"""Random images with soft labels: what labels are worth without any condensation.

Qin, Deng, Alvarez-Melis, A Label is Worth a Thousand Images in Dataset Distillation, NeurIPS 2024.

A teacher is trained on the training split and stopped early. The label of an image is the teacher's softmax at
temperature 1, also where the teacher takes the image for one of another class.

The fewer the images, the earlier the teacher must stop. The authors chose the epoch on the test split. Here a
tenth of the training split is held out. For each of some numbers of epochs, a network is trained on the images
with the labels that the teacher gives them then; the labels of the network that is best on the held-out part are
returned. The teacher is not trained on that part, and no image is drawn from it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dcbench.api import (
    SGD,
    CondensedSet,
    DatasetInfo,
    DcbenchError,
    Method,
    NetworkRecipe,
    Setting,
    SetTraits,
    SiameseAugmentation,
    Task,
    TrainedNetwork,
    accuracy,
    hookimpl,
    logits,
    new_network,
    option,
    suitable_strategy,
    train_network,
)

CODE = "the authors' code"
HELD_OUT = 0.1
"""Fraction of the training images of each class that the teacher is not trained on, and none of which is drawn."""

LEAST_STEPS = 500
"""Steps of the teacher, at least, in the most epochs."""


class RandomSoft(Method):
    """Real images of each class, drawn uniformly, with the soft labels of a teacher that was stopped early.

    The number of the teacher's epochs is chosen on a held-out tenth of the training split: that whose labels train
    the best network. The authors choose it on the test split, and whiten CIFAR-10. All sets share one teacher.
    """

    name = "random_soft"
    citation = "Qin, Deng, Alvarez-Melis, A Label is Worth a Thousand Images in Dataset Distillation, NeurIPS 2024"
    quick = {"epochs": 32, "student_epochs": 100}

    epochs: int | None = option(
        None,
        "the most epochs of the teacher, which stops after 1, 2, 4, … of them: 32 or, where these take less than "
        "500 steps, the first power of 2 that takes as many",
        source="dcbench; on CIFAR-10 the authors stop after 20 to 164 epochs, at a twentieth of this rate",
        ge=1,
    )
    lr: float = option(0.01, "learning rate of the teacher's SGD", source=f"{CODE}, for CIFAR-100", gt=0)
    momentum: float = option(0.0, "momentum of the teacher's SGD", source=CODE, ge=0, lt=1)
    weight_decay: float = option(0.0, "weight decay of the teacher's SGD", source=CODE, ge=0)
    batch_size: int = option(256, "images per step of the teacher's SGD", source=CODE, ge=1)
    strategy: str | None = option(
        None, "siamese augmentation of teacher and students: all operations that suit the data set", source=CODE
    )
    student_epochs: int = option(
        300,
        "epochs of the networks that choose, trained as by the protocol soft",
        source="dcbench",
        ge=1,
    )

    def resolve(self, setting: Setting) -> "RandomSoft":
        """Fill in what depends on the data; refuse more images per class than there are besides those held out."""
        recipe = NetworkRecipe(epochs=0, held_out=HELD_OUT)
        counts = [count - recipe.held_out_of(count) for count in setting.class_counts]
        if setting.ipc > min(counts):
            label = setting.info.class_names[counts.index(min(counts))]
            raise DcbenchError(
                f"ipc {setting.ipc} is more than {self.name} has to choose from on {setting.info.name}: of class "
                f"{label!r}, {min(counts)} training images are not held out."
            )
        epochs, steps = 32, math.ceil(sum(counts) / self.batch_size)
        while epochs * steps < LEAST_STEPS:
            epochs *= 2
        strategy = suitable_strategy(setting.info, *([self.strategy] if self.strategy else []))
        return self.model_copy(update={"epochs": self.epochs or epochs, "strategy": strategy})

    @property
    def grid(self) -> list[int]:
        """The numbers of epochs to choose among."""
        assert self.epochs is not None  # since resolved
        return sorted({*(2**power for power in range(self.epochs.bit_length())), self.epochs})

    def set_traits(self) -> SetTraits:
        """Say that the labels are soft."""
        return SetTraits(track="soft-label")

    def needs(self, info: DatasetInfo, seed: int) -> tuple[NetworkRecipe, int]:
        """Return the recipe of the teacher, with a state for each number of epochs to choose among."""
        recipe = NetworkRecipe(
            epochs=self.grid[-1],
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            augmentation=str(self.strategy),
            snapshots=tuple(self.grid),
            held_out=HELD_OUT,
        )
        return recipe, 1

    def condense(self, task: Task) -> CondensedSet:
        """Draw images, label them by the teacher after each number of epochs, return the best labels."""
        (teacher,) = task.trained_networks(*self.needs(task.info, task.seed))
        state = task.checkpoint.load() or self._start(task, teacher.held_out)
        chosen, seed, accuracies = state["chosen"], int(state["seed"]), state["accuracies"]
        labels = [_labels(task, teacher, epochs, chosen) for epochs in self.grid]
        for number in range(int(state["done"]), len(labels)):
            accuracies[number] = self._try(task, teacher.held_out, chosen, labels[number], seed, number)
            task.checkpoint.offer(lambda: _state(chosen, seed, accuracies, number + 1))  # noqa: B023
        best = int(accuracies.argmax())  # the first of equals, and so the earliest
        history = {"teacher_epochs": torch.tensor(self.grid).float(), "held_out_accuracy": accuracies}
        return CondensedSet(task.train.normalised(chosen).cpu(), labels[best].cpu(), history=history)

    def _start(self, task: Task, held_out: Tensor) -> dict[str, Tensor]:
        """Draw the images, class by class, and the seed of the networks that choose."""
        apart, chosen = set(held_out.tolist()), []
        for members in task.train.class_indices:
            free = torch.tensor([index for index in members.tolist() if index not in apart])
            chosen.append(free[torch.randperm(len(free), generator=task.generator)[: task.ipc]])
        seed = int(torch.randint(2**31, (1,), generator=task.generator))
        return _state(torch.cat(chosen), seed, torch.zeros(len(self.grid)), 0)

    def _try(self, task: Task, held_out: Tensor, chosen: Tensor, labels: Tensor, seed: int, number: int) -> float:
        """Train a network on the images with some labels; return its accuracy on the held-out images.

        All labels are tried with the same initialisation and draws, so that the labels make the difference.
        """
        network = new_network(task.architecture, task.info, seed, task.device)
        optimizer = SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        before, total = number * self.student_epochs, len(self.grid) * self.student_epochs
        train_network(
            network,
            task.train.normalised(chosen),
            labels,
            optimizer,
            epochs=self.student_epochs,
            batch_size=256,
            generator=torch.Generator().manual_seed(seed),
            augmentation=SiameseAugmentation(str(self.strategy)),
            scheduler=torch.optim.lr_scheduler.MultiStepLR(optimizer, [(self.student_epochs + 1) // 2], 0.1),
            progress=lambda done, _: task.progress(before + done, total),
        )
        return accuracy(network, task.train.part(held_out))


def _labels(task: Task, teacher: TrainedNetwork, epochs: int, chosen: Tensor) -> Tensor:
    """Return the probabilities that the teacher gives images after so many epochs: float32, (n, K)."""
    return F.softmax(logits(teacher.network(epochs), task.train.part(chosen)), dim=1)


def _state(chosen: Tensor, seed: int, accuracies: Tensor, done: int) -> dict[str, Tensor]:
    return {"chosen": chosen, "seed": torch.tensor(seed), "accuracies": accuracies, "done": torch.tensor(done)}


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [RandomSoft]
