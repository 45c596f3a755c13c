"""Distribution matching: synthetic images whose features are on average those of real images.

Zhao, Bilen, Dataset Condensation with Distribution Matching, WACV 2023 (below: the paper).

Algorithm 1 of the paper. The synthetic images S start as real images. In each of K iterations a network is drawn
afresh; psi(.) are its features before the classifier. For every class c a view omega is drawn, an augmentation A
with its parameters, which real and synthetic images share:

    D_c = || mean psi(A(T_c, omega)) - mean psi(A(S_c, omega)) ||^2        T_c: a batch of real images
    S   <-  S - lr_img * grad_S (sum_c D_c)                                with momentum
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dcbench.api import (
    CondensedSet,
    Extendable,
    Method,
    Setting,
    SiameseAugmentation,
    Start,
    Task,
    feature_matching_gradient,
    hookimpl,
    option,
    suitable_strategy,
    without_classifier,
)

PAPER = "the paper"
CODE = "the authors' code"
NO_AUGMENTATION = "none"


class DistributionMatching(Extendable):
    """Synthetic images trained so that their mean features match the real images' (distribution matching).

    Version 1 runs K iterations. The authors' code runs one more. The networks are never trained, and stay in
    training mode: with BatchNorm, all classes pass in one batch.
    """

    name = "dm"
    citation = "Zhao, Bilen, Dataset Condensation with Distribution Matching, WACV 2023"
    quick = {"iterations": 100}

    iterations: int = option(20_000, "freshly drawn networks to match on", source=f"{PAPER}, K", ge=1)
    lr_img: float | None = option(
        None,
        "learning rate of the images: 1, but 10 from 100 images per class on (for CIFAR-100, the authors keep 1)",
        source=CODE,
        gt=0,
    )
    momentum_img: float = option(0.5, "momentum of the images' SGD", source=CODE, ge=0, lt=1)
    batch_real: int = option(256, "real images of a class per iteration", source=PAPER, ge=1)
    strategy: str = option(
        "color_crop_cutout_flip_scale_rotate",
        "operations, of which each class and step gets one; those that do not suit the data set are left out; "
        "none for no augmentation",
        source=CODE,
    )
    init: Start = option(
        "real", "what the images start as: noise, real, or a set's file, whose cost is not counted", source=PAPER
    )

    def resolve(self, setting: Setting) -> "DistributionMatching":
        """Fill in the learning rate, leave out what does not suit; check that the network has features."""
        setting.require_linear_classifier()
        if self.init == "real":
            setting.require_enough_images()
        changes: dict[str, object] = {}
        if self.lr_img is None:
            changes["lr_img"] = 10.0 if setting.ipc >= 100 else 1.0
        if self.strategy != NO_AUGMENTATION:
            changes["strategy"] = suitable_strategy(setting.info, self.strategy)
        return self.model_copy(update=changes)

    def condense(self, task: Task) -> CondensedSet:
        """Run algorithm 1."""
        assert self.lr_img is not None  # since resolved
        state = task.checkpoint.load() or self._start(task)
        images, velocity, before = (state[name].to(task.device) for name in ("images", "velocity", "losses"))
        losses = torch.cat([before, before.new_zeros(self.iterations - len(before))])

        for iteration in range(int(state["done"]), self.iterations):
            gradient, loss = self._match(task, images)
            task.check_loss(iteration + 1, loss)
            velocity = self.momentum_img * velocity + gradient
            images = images - self.lr_img * velocity
            losses[iteration] = loss / task.info.num_classes
            task.progress(iteration + 1, self.iterations)
            task.checkpoint.offer(lambda: _state(iteration + 1, images, velocity, losses))  # noqa: B023

        return CondensedSet(images.cpu(), task.synthetic_labels().cpu(), history={"loss": losses.cpu()})

    def _start(self, task: Task) -> dict[str, Tensor]:
        """Return the state before the first iteration; images are float32, (K * ipc, C, H, W), class by class."""
        images = task.initial_images(self.init)
        return _state(0, images, torch.zeros_like(images), torch.zeros(self.iterations))

    def _match(self, task: Task, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of the sum of all D_c with respect to the images, and the sum, for a new network."""
        psi = without_classifier(task.new_network()).train().requires_grad_(False)
        views = [self._draw_view(task) for _ in range(task.info.num_classes)]
        batches = (task.train.draw(label, self.batch_real, task.generator) for label in range(len(views)))
        real = (view(batch) for view, batch in zip(views, batches, strict=True))
        images = images.detach().requires_grad_()
        synthetic = [view(own) for view, own in zip(views, torch.split(images, task.ipc), strict=True)]
        gradient, loss = feature_matching_gradient(psi, real, synthetic)
        return torch.autograd.grad(torch.cat(synthetic), images, gradient)[0], loss

    def _draw_view(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Draw what is done to the real and to the synthetic images of a class."""
        if self.strategy == NO_AUGMENTATION:
            return lambda images: images
        return SiameseAugmentation(self.strategy).draw(task.generator)


def _state(done: int, images: Tensor, velocity: Tensor, losses: Tensor) -> dict[str, Tensor]:
    return {"done": torch.tensor(done), "images": images, "velocity": velocity, "losses": losses}


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [DistributionMatching]
