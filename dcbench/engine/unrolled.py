"""Matching trajectories: where training on synthetic images leads a network, and where an expert went."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.engine.engine import draws_or_changes, engine_for
from dcbench.engine.training import batch_gradients
from dcbench.utils.seeds import seeded_globals

Step = tuple[Tensor, Callable[[Tensor], Tensor]]
"""The batch of a step, as indices into the images, and what is done to the batch before the network sees it."""

ITERATIONS = 100
"""Gradients that a condensation takes, at least: one compilation serves them all."""
PASSES = 11
"""Passes of an image in a step: forward and back in the first sweep, and back through both in the second."""


def trajectory_matching_gradient(
    network: nn.Module,
    start: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
    lr: Tensor,
    steps: Iterable[Step],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of the trajectory matching loss by the synthetic images and by the learning rate.

    A student starts from the state ``start`` and takes T steps of plain SGD on the synthetic images X:

        theta[i+1] = theta[i] - lr * g(theta[i], X)        g: the gradient of the batch's mean cross-entropy
        loss = |theta[T] - target|^2 / |start - target|^2  (Cazenavette et al., CVPR 2022, equation 2)

    The gradient is that of the whole unrolled training, as the authors' code computes it by one backward pass
    through all steps. Here only one step's activations are in memory at a time, and they are computed twice: a
    sweep forward keeps theta and g before each step, a sweep backward carries the adjoint a = d loss / d theta:

        d loss / d lr -= <g, a>,    d loss / d X -= lr * d<g, a> / d X,    a -= lr * d<g, a> / d theta

    So a further step takes two more vectors of parameters. TESLA (Cui et al., ICML 2023) keeps one step's
    activations, too, but a as it is after the last step: it leaves out that X also changes the later steps through
    theta.

    Args:
        network: the student's; put in training mode, and its parameters are overwritten.
        start: the parameters that the student starts from, by name, as in a state dict; on any device.
        target: those that it should reach, likewise. The loss is not finite if they are those of ``start``.
        images: float, (N, C, H, W), on the network's device.
        labels: int64, (N,), or soft, float, (N, K), on the network's device.
        lr: the student's learning rate, float, ().
        steps: for each step its batch, int64 indices into the images, (n,), on their device, and a differentiable
            function that augments the batch, (n, C, H, W). It is called in both sweeps and must do the same in
            both, as what `SiameseAugmentation.draw` returns.

    Returns:
        The gradient by the images, (N, C, H, W), that by the learning rate, (), and the loss, (), all detached.
        They are not finite if the student diverges, so watch the loss.
    """
    network.train().requires_grad_()
    images, labels, lr, steps = images.detach(), labels.detach(), lr.detach(), list(steps)
    theta, goal = (_flat([state[name] for name, _ in network.named_parameters()]) for state in (start, target))
    theta, goal = theta.to(images), goal.to(images)
    student, path = _Student(network, images, labels, steps), []
    drawing = _repeated_draws(network, images, len(steps))
    with student.sharing():
        for number, (indices, view) in enumerate(steps):
            with drawing(number):
                gradient = student.gradient(theta, view(images[indices]), labels[indices])
            path.append((theta, gradient))
            theta = theta - lr * gradient
        distance = (path[0][0] - goal).square().sum()
        loss, adjoint = (theta - goal).square().sum() / distance, 2 * (theta - goal) / distance
        by_images, by_lr = torch.zeros_like(images), torch.zeros_like(loss)
        for number, (indices, view) in reversed(list(enumerate(steps))):
            theta, gradient = path.pop()
            batch = images[indices].requires_grad_()
            seen = view(batch)
            with drawing(number):
                by_seen, by_theta = student.slope_gradients(theta, seen.detach(), labels[indices], adjoint)
            by_lr -= gradient @ adjoint
            by_images.index_add_(0, indices, torch.autograd.grad(seen, batch, -lr * by_seen)[0])
            adjoint = adjoint - lr * by_theta
    return by_images, by_lr, loss


class _Student:
    """What the active engine computes of a network's steps: in shares of the batch, one on each worker."""

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor, steps: Sequence[Step]) -> None:
        self._network, self._engine = network, engine_for(network, images)
        passes = ITERATIONS * sum(PASSES * len(indices) for indices, _ in steps)
        forward = self._engine.forward(network, images, passes=passes)
        self._compiled = forward is not network
        self._gradients = batch_gradients(network, forward, self._engine, F.cross_entropy)
        self._slope_gradients = self._engine.replayed(_slope_gradients, network)
        if self._compiled:
            most = max((indices for indices, _ in steps), key=len)
            some = most[: self._share(len(most))]
            tensors = images[some], labels[some], _flat(tuple(network.parameters())).detach()
            self._slope_gradients = self._engine.compile_work(_slope_gradients, network, tensors=tensors)

    def sharing(self) -> AbstractContextManager[None]:
        """Leave the cores to the workers."""
        return self._engine.sharing() if self._compiled else nullcontext()

    def gradient(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return the gradient of the mean cross-entropy at theta."""
        self._set(theta)
        _, *gradient = self._gradients(images, labels)
        pairs = zip(self._network.parameters(), gradient, strict=True)
        return _flat([torch.zeros_like(parameter) if each is None else each for parameter, each in pairs])

    def slope_gradients(
        self, theta: Tensor, images: Tensor, labels: Tensor, direction: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients, by images and by theta, of the mean cross-entropy's slope in a direction."""
        self._set(theta)
        size = self._share(len(images))
        parts = list(zip(torch.split(images, size), torch.split(labels, size), strict=True))
        run = self._engine.map if len(parts) > 1 else map

        def compute(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            by_images, by_theta = self._slope_gradients(*part, direction)
            share = len(part[0]) / len(images)
            return by_images * share, by_theta * share

        by_images, by_theta = zip(*run(compute, parts), strict=True)
        return torch.cat(by_images), torch.stack(by_theta).sum(dim=0)

    def _share(self, n: int) -> int:
        return self._engine.share(n) if self._compiled else n

    @torch.no_grad()
    def _set(self, theta: Tensor) -> None:
        """Give the network these parameters."""
        parameters = tuple(self._network.parameters())
        parts = torch.split(theta, [each.numel() for each in parameters])
        for parameter, values in zip(parameters, parts, strict=True):
            parameter.copy_(values.view_as(parameter))


def _slope_gradients(
    network: nn.Module, images: Tensor, labels: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor]:
    parameters, images = tuple(network.parameters()), images.detach().requires_grad_()
    loss = F.cross_entropy(network(images), labels)
    gradient = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    slope = _flat(gradient) @ direction
    by_images, *by_parameters = torch.autograd.grad(slope, (images, *parameters), materialize_grads=True)
    return by_images, _flat(by_parameters)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.flatten() for each in tensors])


def _repeated_draws(
    network: nn.Module, images: Tensor, steps: int
) -> Callable[[int], AbstractContextManager[None]]:
    """Return the context to compute a step in: a network that draws, as dropout does, draws the same each time."""
    if not draws_or_changes(network, images[:2])[0]:  # BatchNorm takes no single one
        return lambda number: nullcontext()
    seeds = torch.randint(2**62, (steps,)).tolist()
    return lambda number: seeded_globals(seeds[number], images.device)
