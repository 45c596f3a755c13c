"""Trajectory matching: training on the synthetic images leads a network where training on real ones led experts.

Cazenavette, Wang, Torralba, Efros, Zhu, Dataset Distillation by Matching Training Trajectories, CVPR 2022 (below:
the paper).

Algorithm 1 of the paper. The parameters of an expert after t epochs on the real images are theta*_t. The synthetic
images S start as real ones. In each iteration the next expert is taken, and a start t drawn from {0, ..., T+ - 1}.
A student starts from theta_0 = theta*_t and takes N steps on batches b_n of S, augmented by A:

    theta_{n+1} = theta_n - alpha * grad_theta L(A(b_n); theta_n)
    D           = || theta_N - theta*_{t+M} ||^2 / || theta*_t - theta*_{t+M} ||^2
    S, alpha   <-  S - lr_img * grad_S D,  alpha - lr_lr * grad_alpha D              with momentum
"""

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dcbench.api import (
    CondensedSet,
    DatasetInfo,
    Diverged,
    Extendable,
    Method,
    NetworkRecipe,
    Setting,
    SetTraits,
    SiameseAugmentation,
    Start,
    Task,
    TrainedNetwork,
    hookimpl,
    option,
    suitable_strategy,
    trajectory_matching_gradient,
)

PAPER = "the paper"
CODE = "the authors' code"
TABLE = "the author's values, as DC-Bench has them"
NO_AUGMENTATION = "none"
ALL = 1_000_000_000
"""More synthetic images per step than there are."""
BATCH, STEPS = 256, 392
"""Images per step of an expert, and its steps in 2 epochs of CIFAR, in the authors' code."""
SMALL, LARGE = 16, 64
"""Sides of images, in pixels: up to, and from which on other values are taken."""
RATES = 20
"""Learned rates that are read together on a GPU, because reading a number waits for all work in progress there."""


class Values(NamedTuple):
    """What depends on the data set and the images per class; see the options of the same names."""

    syn_steps: int
    expert_epochs: int
    max_start_epoch: int
    lr_img: float
    lr_lr: float
    lr_teacher: float
    batch_syn: int
    zca: bool


VALUES = {
    "cifar10": {
        1: Values(50, 2, 2, 100, 1e-7, 0.01, ALL, True),
        10: Values(30, 2, 20, 100, 1e-5, 0.001, ALL, True),
        50: Values(30, 2, 40, 1000, 1e-5, 0.001, ALL, False),
    },
    "cifar100": {
        1: Values(20, 3, 20, 1000, 1e-5, 0.01, ALL, True),
        10: Values(20, 2, 20, 1000, 1e-5, 0.01, ALL, False),
        50: Values(80, 2, 40, 1000, 1e-5, 0.01, 125, True),
    },
    "tiny_imagenet": {
        1: Values(10, 2, 10, 1e4, 1e-4, 0.01, ALL, False),
        10: Values(20, 2, 40, 1e4, 1e-4, 0.01, 200, False),
        50: Values(20, 2, 40, 1e4, 1e-4, 0.01, 300, False),
    },
    "digits": {
        1: Values(20, 10, 10, 100, 1e-7, 0.02, ALL, False),
        10: Values(20, 10, 10, 1000, 1e-7, 0.02, ALL, False),
    },
}


class TrajectoryMatching(Extendable):
    """Synthetic images, and a learning rate, that lead networks along experts' training (trajectory matching).

    The set brings the learned rate, and networks are trained on it at that rate. The experts are trained networks
    that all sets share. They are trained for max_start_epoch - 1 + expert_epochs epochs, since nothing later is
    used; in the authors' code for 50, at the same constant rate. Values "by setting" are those of the data set and
    of the nearest of 1, 10 and 50 images per class. Other data sets get CIFAR-10's or, from 64 pixels on, Tiny
    ImageNet's; grey images are not whitened. Up to 16 pixels they get those of digits, found on a held-out part of
    its training split. Version 1 runs the iterations that it is asked for and returns the
    last images. The authors' code runs one more and keeps the images that were best on the test split.
    """

    name = "mtt"
    citation = "Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022"
    quick = {"experts": 5, "iterations": 20, "max_start_epoch": 2}

    iterations: int = option(5000, "students whose training is matched", source=CODE, ge=1)
    experts: int = option(100, "expert networks, taken in turn, in passes of random order", source=CODE, ge=1)
    expert_epochs: int | None = option(
        None, "epochs of the expert that the student is to make up for", source=f"{TABLE}; {PAPER}, M", ge=1
    )
    max_start_epoch: int | None = option(
        None, "the student starts after fewer epochs than this", source=f"{TABLE}; {PAPER}, T+", ge=1
    )
    syn_steps: int | None = option(None, "steps of the student", source=f"{TABLE}; {PAPER}, N", ge=1)
    batch_syn: int | None = option(
        None,
        "synthetic images per step, in passes of random order; all, but 125 for CIFAR-100 at 50 images per class, "
        "200 and 300 for Tiny ImageNet at 10 and 50; at most all",
        source=TABLE,
        ge=1,
    )
    lr_img: float | None = option(
        None,
        "learning rate of the images; for CIFAR-10 at 10 images per class 100, because the method diverges at the "
        "value in the author's table, which he calls a typo (issue 31 of the authors' repository)",
        source=TABLE,
        gt=0,
    )
    lr_lr: float | None = option(
        None, "learning rate of the student's learning rate; 0 leaves it as it is", source=TABLE, ge=0
    )
    lr_teacher: float | None = option(
        None, "the student's learning rate before the first iteration", source=f"{TABLE}; {PAPER}, alpha_0", gt=0
    )
    momentum: float = option(0.5, "momentum of both SGDs, of images and of rate", source=CODE, ge=0, lt=1)
    zca: bool | None = option(None, "whether all images are whitened (ZCA), in evaluation, too", source=TABLE)
    strategy: str = option(
        "color_crop_cutout_flip_scale_rotate",
        "operations, of which each batch of students and experts gets one, with parameters for each image; those "
        "that do not suit the data set are left out; none for no augmentation",
        source=CODE,
    )
    init: Start = option(
        "real", "what the images start as: noise, real, or a set's file, whose cost is not counted", source=CODE
    )
    lr_expert: float = option(0.01, "learning rate of the experts' SGD", source=CODE, gt=0)
    momentum_expert: float = option(0.0, "momentum of the experts' SGD", source=CODE, ge=0, lt=1)
    batch_expert: int | None = option(
        None,
        "real images per step of an expert: 256, but fewer where expert_epochs would be less than 392 steps, as "
        "many as 2 epochs of CIFAR",
        source=f"{CODE}; for small data sets, dcbench",
        ge=1,
    )

    def resolve(self, setting: Setting) -> "TrajectoryMatching":
        """Fill in the values of the data set and the images per class; leave out what does not suit."""
        if self.init == "real":
            setting.require_enough_images()
        values = values_for(setting.info, setting.ipc)._asdict()
        changes = {name: value for name, value in values.items() if getattr(self, name) is None}
        changes["batch_syn"] = min(self.batch_syn or values["batch_syn"], setting.info.num_classes * setting.ipc)
        if self.batch_expert is None:
            epochs = self.expert_epochs or values["expert_epochs"]
            changes["batch_expert"] = min(BATCH, ceil(epochs * sum(setting.class_counts) / STEPS))
        if self.strategy != NO_AUGMENTATION:
            changes["strategy"] = suitable_strategy(setting.info, self.strategy)
        return self.model_copy(update=changes)

    def set_traits(self) -> SetTraits:
        """Say whether the images are whitened, and that a learning rate comes with them."""
        return SetTraits(zca=self._values.zca, lr=True)

    def condense(self, task: Task) -> CondensedSet:
        """Run algorithm 1."""
        experts = task.trained_networks(*self.needs(task.info, task.seed))
        student = experts[0].network()
        state = task.checkpoint.load() or self._start(task)
        state = {name: each.to(task.device) if each.is_floating_point() else each for name, each in state.items()}
        for name in ("losses", "lrs"):  # of fewer iterations, where a set is extended
            state[name] = torch.cat([state[name], state[name].new_zeros(self.iterations - len(state[name]))])

        for iteration in range(int(state["done"]), self.iterations):
            turn = iteration % self.experts
            if turn == 0:
                state["order"] = torch.randperm(self.experts, generator=task.generator)
            expert = experts[int(state["order"][turn])]
            by_images, by_lr, loss = self._match(task, student, expert, state["images"], state["lr"])
            task.check_loss(iteration + 1, loss)
            self._step(state, by_images, by_lr)
            state["losses"][iteration], state["lrs"][iteration] = loss, state["lr"]
            state["done"] = torch.tensor(iteration + 1)
            _check_rates(state["lrs"], iteration + 1)
            task.progress(iteration + 1, self.iterations)
            task.checkpoint.offer(lambda: state)

        images, losses, lrs = (state[name].cpu() for name in ("images", "losses", "lrs"))
        history = {"loss": losses, "lr": lrs}
        labels, zca = task.synthetic_labels().cpu(), self._values.zca
        return CondensedSet(images, labels, history=history, zca=zca, lr=float(lrs[-1]))

    @property
    def _values(self) -> Values:
        """The values that `resolve` has filled in."""
        return Values(*(getattr(self, name) for name in Values._fields))

    def holds(self) -> tuple[int, int]:
        """Return the images of a step, and the parameters and their gradient before each step of the student."""
        return self._values.batch_syn, 2 * self._values.syn_steps

    def needs(self, info: DatasetInfo, seed: int) -> tuple[NetworkRecipe, int]:
        """Return how the experts are trained, as far as a student can be asked to follow, and their number."""
        assert self.batch_expert is not None  # since resolved
        starts = range(self._values.max_start_epoch)
        ends = [start + self._values.expert_epochs for start in starts]
        augments = self.strategy != NO_AUGMENTATION
        recipe = NetworkRecipe(
            epochs=ends[-1],
            lr=self.lr_expert,
            momentum=self.momentum_expert,
            batch_size=self.batch_expert,
            augmentation=self.strategy if augments else "",
            align_corners=augments,
            zca=self._values.zca,
            snapshots=tuple(sorted({*starts, *ends})),
        )
        return recipe, self.experts

    def _start(self, task: Task) -> dict[str, Tensor]:
        """Return the state before the first iteration; images are float32, (K * ipc, C, H, W), class by class."""
        images = task.initial_images(self.init, task.whitened if self._values.zca else task.train)
        return {
            "images": images,
            "images_velocity": torch.zeros_like(images),
            "lr": torch.tensor(self._values.lr_teacher, dtype=torch.float32),
            "lr_velocity": torch.tensor(0.0),
            "order": torch.arange(self.experts),
            "losses": torch.zeros(self.iterations),
            "lrs": torch.zeros(self.iterations),
            "done": torch.tensor(0),
        }

    def _match(
        self, task: Task, student: nn.Module, expert: TrainedNetwork, images: Tensor, lr: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of D by images and rate, and D, for a start and for steps that are drawn now."""
        start = int(torch.randint(self._values.max_start_epoch, (1,), generator=task.generator))
        begin, end = (expert.state(epoch) for epoch in (start, start + self._values.expert_epochs))
        steps = self._draw_steps(task, len(images))
        return trajectory_matching_gradient(student, begin, end, images, task.synthetic_labels(), lr, steps)

    def _draw_steps(self, task: Task, size: int) -> list[tuple[Tensor, Callable[[Tensor], Tensor]]]:
        """Draw the batches of a student, and what is done to each before the student sees it."""
        steps: list[tuple[Tensor, Callable[[Tensor], Tensor]]] = []
        batches: list[Tensor] = []
        for _ in range(self._values.syn_steps):
            if not batches:
                order = torch.randperm(size, generator=task.generator)
                batches = list(torch.split(order, self._values.batch_syn))
            indices = batches.pop()
            steps.append((indices.to(task.device), self._draw_view(task, len(indices))))
        return steps

    def _draw_view(self, task: Task, n: int) -> Callable[[Tensor], Tensor]:
        """Draw what is done to a batch of n images."""
        if self.strategy == NO_AUGMENTATION:
            return lambda images: images
        return SiameseAugmentation(self.strategy, align_corners=True).draw(task.generator, n)

    def _step(self, state: dict[str, Tensor], by_images: Tensor, by_lr: Tensor) -> None:
        """Move images and rate against their gradients, with momentum."""
        values = self._values
        for name, gradient, lr in (("images", by_images, values.lr_img), ("lr", by_lr, values.lr_lr)):
            state[f"{name}_velocity"] = self.momentum * state[f"{name}_velocity"] + gradient
            state[name] = state[name] - lr * state[f"{name}_velocity"]


def _check_rates(lrs: Tensor, done: int) -> None:
    """Raise `Diverged` for the first of the learned rates so far that is not positive."""
    if lrs.device.type != "cpu" and done % RATES and done < len(lrs):
        return
    if wrong := (~(lrs[:done] > 0)).nonzero().flatten().tolist():
        iteration = wrong[0] + 1
        raise Diverged(
            f"the learned learning rate is {float(lrs[wrong[0]]):.3g} after iteration {iteration}", iteration
        )


def values_for(info: DatasetInfo, ipc: int) -> Values:
    """Return the values of a data set and of the nearest of the images per class that there are values for."""
    side = min(info.size)
    alike = "tiny_imagenet" if side >= LARGE else "digits" if side <= SMALL else "cifar10"
    name = info.name if info.name in VALUES else alike
    values = VALUES[name][min(VALUES[name], key=lambda each: abs(each - ipc))]
    return values._replace(zca=values.zca and info.channels > 1)


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [TrajectoryMatching]
