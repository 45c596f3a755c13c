"""Matching features: the mean features of a class's images, compared between synthetic and real ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from dcbench.engine.engine import engine_for, mixes_images
from dcbench.engine.matching import copies, sum_up

BATCHES = 1000
"""Batches of real images that a condensation passes, at least: one compilation serves them all."""


def feature_matching_gradient(
    network: nn.Module, real: Iterable[Tensor], synthetic: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the summed distance of mean features with respect to the synthetic images.

    The squared distance between the mean features of the real and of the synthetic images of a class, summed over
    the classes (Zhao, Bilen, Dataset Condensation with Distribution Matching, WACV 2023, Algorithm 1). Real images
    only pass forward. Where BatchNorm normalises each batch by itself, there are two passes, as in the authors'
    code: one of all real images, and one of all synthetic images. Elsewhere each class passes alone.

    Args:
        network: maps images to features, (n, D): what `without_classifier` returns, for one.
        real: for each class in label order, a batch of real images, (n, C, H, W); drawn one after the other.
        synthetic: for each class, the synthetic images, (ipc, C, H, W). If they are views of other images, give
            the gradient to `torch.autograd.grad`, which returns the gradient with respect to those.

    Returns:
        The gradient, (K * ipc, C, H, W), and the summed distance, ().
    """
    if mixes_images(network):
        real = list(real)
        with torch.no_grad():
            targets = _class_means(network, real)
        return _match(network, targets, synthetic)
    real = iter(real)
    first = next(real)
    engine, real = engine_for(network, first), chain((first,), real)
    if engine.replays:
        return copies(engine.replayed(_match_each, network)(*real, *map(torch.clone, synthetic)))
    forward = engine.forward(network, first, passes=BATCHES * len(first), gradients=False)

    def match(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, own = pair
        with torch.inference_mode():
            sums = [forward(part).sum(dim=0) for part in torch.split(images, engine.micro_batch or len(images))]
            target = torch.stack(sums).sum(dim=0, keepdim=True) / len(images)
        return _match(network, target.clone(), [own])

    with engine.sharing():
        return sum_up(engine.map(match, zip(real, synthetic, strict=True)))


def _match_each(network: nn.Module, *images: Tensor) -> tuple[Tensor, Tensor]:
    """Match all classes, each alone: first their real images, then the synthetic ones."""
    classes = len(images) // 2
    with torch.no_grad():
        targets = [_class_means(network, [real]) for real in images[:classes]]
    pairs = zip(targets, images[classes:], strict=True)
    return sum_up(_match(network, target, [own]) for target, own in pairs)


def _match(network: nn.Module, targets: Tensor, synthetic: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the gradient with respect to the synthetic images of some classes, and the distance to their targets.

    The classes pass in one batch. Targets are mean features of real images, (classes, D).
    """
    own = [each.detach().requires_grad_() for each in synthetic]
    distance = (targets - _class_means(network, own)).square().sum()
    return torch.cat(torch.autograd.grad(distance, own)), distance.detach()


def _class_means(network: nn.Module, images: Sequence[Tensor]) -> Tensor:
    """Return the mean features of each class, (classes, D); all pass in one batch."""
    features = network(torch.cat(tuple(images)))
    return torch.stack([each.mean(dim=0) for each in features.split([len(each) for each in images])])
