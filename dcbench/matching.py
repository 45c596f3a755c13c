"""Matching gradients: what the images of a class do to a network, compared between synthetic and real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.engine import engine_for

Distance = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def matching_gradient(
    network: nn.Module, real: Iterable[Tensor], synthetic: Sequence[Tensor], distance: Distance
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the summed matching distance with respect to the synthetic images.

    The distance between the gradients of the loss on real and on synthetic images of a class, summed over the
    classes (Zhao, Mopuri, Bilen, ICLR 2021, equation 5). The classes' distances do not share images, so each is
    differentiated on its own, and its graph freed.

    Args:
        network: the matching network.
        real: for each class in label order, a batch of real images, (n, C, H, W); drawn one after the other.
        synthetic: for each class, the synthetic images, (ipc, C, H, W).
        distance: between two lists of parameter gradients, the real images' first; a tensor of shape ().

    Returns:
        The gradient, (K * ipc, C, H, W), and the summed distance, ().
    """
    engine = engine_for(network, synthetic[0])

    def match(work: tuple[int, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        label, (real_images, own) = work
        target = _loss_gradient_in_parts(network, real_images, label, engine.micro_batch)
        own = own.detach().requires_grad_()
        matched = distance(target, loss_gradient(network, own, label, create_graph=True))
        return torch.autograd.grad(matched, own)[0], matched.detach()

    gradients, distances = zip(*engine.map(match, enumerate(zip(real, synthetic, strict=True))), strict=True)
    return torch.cat(gradients), torch.stack(distances).sum()


def loss_gradient(
    network: nn.Module, images: Tensor, label: int, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Return the gradient of the mean cross-entropy of one class's images, by parameter."""
    labels = torch.full((len(images),), label, device=images.device)
    loss = F.cross_entropy(network(images), labels)
    return torch.autograd.grad(loss, tuple(network.parameters()), create_graph=create_graph)


def _loss_gradient_in_parts(
    network: nn.Module, images: Tensor, label: int, part: int | None
) -> tuple[Tensor, ...]:
    """Return what `loss_gradient` does, from parts of the images at a time."""
    if part is None or len(images) <= part:
        return loss_gradient(network, images, label)
    total: list[Tensor] = []
    for images_part in torch.split(images, part):
        weight = len(images_part) / len(images)
        gradients = torch._foreach_mul(loss_gradient(network, images_part, label), weight)
        if total:
            torch._foreach_add_(total, gradients)
        else:
            total = list(gradients)
    return tuple(total)
