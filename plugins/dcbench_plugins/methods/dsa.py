"""Differentiable siamese augmentation: gradient matching on one view of the real and the synthetic images.

Zhao, Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021 (below: the paper).

Algorithm 1 of the paper: that of gradient matching (see `gradmatch`), but the synthetic images S start as real
ones, and whatever the network sees is augmented by A with parameters omega, drawn anew for every class and step:

    D_c = distance( grad_theta L(A(T_c, omega_c)), grad_theta L(A(S_c, omega_c)) )    omega_c: one for all images
    theta <- theta trained on A(S, omega)                                             omega: one for each image

A is differentiable, so that grad_S passes through it. Its operations are those of `SiameseAugmentation`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from dcbench.api import (
    Method,
    Setting,
    SiameseAugmentation,
    Start,
    Task,
    hookimpl,
    matching_gradient,
    option,
    suitable_strategy,
)
from dcbench_plugins.methods.gradmatch import DISTANCES, GradMatch

PAPER = "Zhao, Bilen, ICML 2021"

View = Callable[[Tensor], Tensor]
Distance = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


class DSA(GradMatch):
    """Gradient matching on real and synthetic images that are augmented alike (siamese augmentation).

    Its options and its departures from the authors' code are those of gradmatch; "the paper" is gradmatch's, too.
    From 75 images per class on, the loops are those that the authors advise for 100: 100 and 2.
    """

    name = "dsa"
    citation = "Zhao, Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021"

    loops = {**GradMatch.loops, 100: (100, 2)}

    init: Start = option("real", "what the images start as: noise, real, or a set's file", source=PAPER)
    strategy: str = option(
        "color_crop_cutout_flip_scale_rotate",
        "operations, of which each class and step gets one; those that do not suit the data set are left out",
        source=PAPER,
    )
    network_pool: ClassVar[int] = 0  # type: ignore[misc]  # no option: a pool keeps gradients, not views

    def resolve(self, setting: Setting) -> Self:
        """Fill in what gradient matching does, and leave out the operations that do not suit the data set."""
        strategy = suitable_strategy(setting.info, self.strategy)
        return super().resolve(setting).model_copy(update={"strategy": strategy})

    def _match_drawn(self, task: Task, network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Match one view of the synthetic images of every class to the same view of real ones, both drawn now."""
        views = [self._augmentation().draw(task.generator) for _ in range(task.info.num_classes)]
        return siamese_gradient(network, self._draw_real(task), images, views, DISTANCES[self.distance])

    def _augmentation(self) -> SiameseAugmentation:
        """Return how the network's training changes its batches, and matching its classes."""
        return SiameseAugmentation(self.strategy)


def siamese_gradient(
    network: nn.Module, real: Iterable[Tensor], images: Tensor, views: Sequence[View], distance: Distance
) -> tuple[Tensor, Tensor]:
    """Return what `matching_gradient` does for views of the images, with the gradient by the images themselves.

    Args:
        network: the matching network.
        real: for each class in label order, a batch of real images, (n, C, H, W); drawn one after the other.
        images: the synthetic ones, (K * ipc, C, H, W), class by class.
        views: for each class, what real and synthetic images are seen through; differentiable.
        distance: between two lists of parameter gradients.
    """
    images = images.detach().requires_grad_()
    own = torch.split(images, len(images) // len(views))
    seen = [view(each) for view, each in zip(views, own, strict=True)]
    real = (view(each) for view, each in zip(views, real, strict=True))
    by_seen, loss = matching_gradient(network, real, [each.detach() for each in seen], distance)
    (gradient,) = torch.autograd.grad(seen, images, torch.split(by_seen, len(own[0])))
    return gradient, loss


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [DSA]
