"""Matching gradients: what the images of a class do to a network, compared between synthetic and real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.compiled import Forward
from dcbench.engine import engine_for

STEPS = 10
"""Matching steps that a condensation takes at the least: what a network compiled for one serves."""

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
    real = iter(real)
    first = next(real)
    passes = 3 * len(first) * len(synthetic)
    forward = engine.forward(network, first, passes=passes * STEPS)

    def match(work: tuple[int, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        label, (real_images, own) = work
        target = _gradient_in_parts(network, forward, real_images, label, engine.micro_batch)
        own = own.detach().requires_grad_()
        matched = distance(target, loss_gradient(network, own, label, create_graph=True))
        return torch.autograd.grad(matched, own)[0], matched.detach()

    pairs = zip(chain((first,), real), synthetic, strict=True)
    with engine.sharing():
        gradients, distances = zip(*engine.map(match, enumerate(pairs)), strict=True)
    return torch.cat(gradients), torch.stack(distances).sum()


def loss_gradient(
    network: nn.Module, images: Tensor, label: int, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Return the gradient of the mean cross-entropy of one class's images, by parameter."""
    return _gradient(network, network, images, label, create_graph)


def _gradient(
    network: nn.Module, forward: Forward, images: Tensor, label: int, create_graph: bool = False
) -> tuple[Tensor, ...]:
    labels = torch.full((len(images),), label, device=images.device)
    loss = F.cross_entropy(forward(images), labels)
    return torch.autograd.grad(loss, tuple(network.parameters()), create_graph=create_graph)


def _gradient_in_parts(
    network: nn.Module, forward: Forward, images: Tensor, label: int, part: int | None
) -> tuple[Tensor, ...]:
    """Return what `loss_gradient` does, from parts of the images at a time."""
    total: list[Tensor] = []
    for images_part in torch.split(images, part or len(images)):
        gradients = _gradient(network, forward, images_part, label)
        weighted = torch._foreach_mul(gradients, len(images_part) / len(images))
        if total:
            torch._foreach_add_(total, weighted)
        else:
            total = list(weighted)
    return tuple(total)
