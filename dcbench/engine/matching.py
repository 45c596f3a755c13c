"""Matching gradients: what the images of a class do to a network, compared between synthetic and real ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.engine.compiled import Forward
from dcbench.engine.engine import Engine, engine_for

MATCHES = 100
"""Times that a condensation matches a class, at least: one compilation serves them all."""
PASSES = 7
"""Passes of a synthetic image that is matched: forward, back, and back through both."""
PAYS_FROM = 1 / 6
"""Synthetic images for each real one from which on a step takes a tenth less time where matching is compiled."""

Target = tuple[Tensor, ...]
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
        distance: between two lists of parameter gradients, the real images' first; a tensor of shape (). It
            depends on these alone: it may be recorded, and replayed, or compiled if it is a function of a module.

    Returns:
        The gradient, (K * ipc, C, H, W), and the summed distance, ().
    """
    engine, target_of, real, size = _prepare(network, real)
    if engine.replays:
        # Cloned, because how a tensor lies in memory may change how it is computed with.
        return copies(engine.replayed(_match_real, network, distance)(*real, *map(torch.clone, synthetic)))

    match_own = _matcher(engine, network, distance, synthetic[0], beside=size)

    def match(work: tuple[int, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        label, (images, own) = work
        return match_own(own, _labels(own, label), *target_of((label, images)))

    with engine.sharing():
        return sum_up(engine.map(match, enumerate(zip(real, synthetic, strict=True))))


def gradient_targets(network: nn.Module, real: Iterable[Tensor]) -> list[Target]:
    """Return what real images do to a network: for each class, the gradient of the loss, by parameter.

    Args:
        network: the matching network.
        real: as in `matching_gradient`.
    """
    engine, target_of, real, _ = _prepare(network, real)
    with engine.sharing():
        return list(engine.map(target_of, enumerate(real)))


def matching_gradient_to(
    network: nn.Module, targets: Sequence[Target], synthetic: Sequence[Tensor], distance: Distance
) -> tuple[Tensor, Tensor]:
    """Return what `matching_gradient` does, for targets that `gradient_targets` returned for the network."""
    engine = engine_for(network, synthetic[0])
    if engine.replays:
        match_all = engine.replayed(_match_targets, network, distance, len(synthetic))
        return copies(match_all(*map(torch.clone, synthetic), *chain.from_iterable(targets)))

    match_own = _matcher(engine, network, distance, synthetic[0])

    def match(work: tuple[int, tuple[Target, Tensor]]) -> tuple[Tensor, Tensor]:
        label, (target, own) = work
        return match_own(own, _labels(own, label), *target)

    with engine.sharing():
        return sum_up(engine.map(match, enumerate(zip(targets, synthetic, strict=True))))


def loss_gradient(
    network: nn.Module, images: Tensor, label: int, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Return the gradient of the mean cross-entropy of one class's images, by parameter."""
    return _gradient(network, network, images, _labels(images, label), create_graph)


def _prepare(
    network: nn.Module, real: Iterable[Tensor]
) -> tuple[Engine, Callable[[tuple[int, Tensor]], Target], Iterable[Tensor], int]:
    """Return the engine, the function that computes a class's target, all the real images, and how many of one."""
    real = iter(real)
    first = next(real)
    engine = engine_for(network, first)
    forward = engine.forward(network, first, passes=3 * len(first) * MATCHES)

    def target_of(work: tuple[int, Tensor]) -> Target:
        label, images = work
        return _gradient_in_parts(network, forward, images, label, engine.micro_batch)

    return engine, target_of, chain((first,), real), len(first)


def _matcher(
    engine: Engine, network: nn.Module, distance: Distance, own: Tensor, beside: int = 0
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return `_match`, given a network and a distance, as the engine does it.

    It is compiled where it takes a good part of the time that the real images take, too: ``own`` are synthetic
    images of a class, and ``beside`` says how many real ones pass with them. A distance that is made anew for
    every call would be compiled anew.
    """
    known = getattr(sys.modules.get(distance.__module__), getattr(distance, "__name__", ""), None) is distance
    pays = known and PAYS_FROM * beside <= len(own)
    if pays and engine.compiles_for(network, own, PASSES * len(own) * MATCHES):
        tensors = own, _labels(own, 0), *network.parameters()
        return engine.compile_work(_match, network, distance, tensors=[each.detach() for each in tensors])
    return partial(_match, network, distance)


def _match_real(network: nn.Module, distance: Distance, *images: Tensor) -> tuple[Tensor, Tensor]:
    """Match all classes: first their real images, then the synthetic ones."""
    pairs = zip(images[: len(images) // 2], images[len(images) // 2 :], strict=True)
    return sum_up(
        _match(network, distance, own, _labels(own, label), *loss_gradient(network, real, label))
        for label, (real, own) in enumerate(pairs)
    )


def _match_targets(
    network: nn.Module, distance: Distance, classes: int, *tensors: Tensor
) -> tuple[Tensor, Tensor]:
    """Match all classes: first their synthetic images, then the targets, parameter by parameter."""
    size = (len(tensors) - classes) // classes
    return sum_up(
        _match(network, distance, own := tensors[label], _labels(own, label), *tensors[start : start + size])
        for label, start in enumerate(range(classes, len(tensors), size))
    )


def copies(result: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return a gradient and a distance that the next step does not overwrite."""
    gradient, distance = result
    return gradient.clone(), distance.clone()


def _match(
    network: nn.Module, distance: Distance, own: Tensor, labels: Tensor, *target: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradient with respect to one class's synthetic images, and the distance."""
    own = own.detach().requires_grad_()
    matched = distance(target, _gradient(network, network, own, labels, create_graph=True))
    return torch.autograd.grad(matched, own)[0], matched.detach()


def sum_up(classes: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the classes' gradients one after the other, and the sum of their distances."""
    gradients, distances = zip(*classes, strict=True)
    return torch.cat(gradients), torch.stack(distances).sum()


def _labels(images: Tensor, label: int) -> Tensor:
    return torch.full((len(images),), label, device=images.device)


def _gradient(
    network: nn.Module, forward: Forward, images: Tensor, labels: Tensor, create_graph: bool = False
) -> tuple[Tensor, ...]:
    loss = F.cross_entropy(forward(images), labels)
    return torch.autograd.grad(loss, tuple(network.parameters()), create_graph=create_graph)


def _gradient_in_parts(
    network: nn.Module, forward: Forward, images: Tensor, label: int, part: int | None
) -> tuple[Tensor, ...]:
    """Return what `loss_gradient` does, from parts of the images at a time."""
    total: list[Tensor] = []
    for images_part in torch.split(images, part or len(images)):
        gradients = _gradient(network, forward, images_part, _labels(images_part, label))
        weighted = torch._foreach_mul(gradients, len(images_part) / len(images))
        if total:
            torch._foreach_add_(total, weighted)
        else:
            total = list(weighted)
    return tuple(total)
