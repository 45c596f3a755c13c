"""Matching trajectories: where training on synthetic images leads a network, and where an expert went."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.engine.engine import draws_or_changes
from dcbench.utils.seeds import seeded_globals

Step = tuple[Tensor, Callable[[Tensor], Tensor]]
"""The batch of a step, as indices into the images, and what is done to the batch before the network sees it."""


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
    through all steps. Here only one step's activations are in memory at a time, and each step is computed twice: a
    sweep forward keeps the parameters before each step, a sweep backward carries the adjoint a = d loss / d theta:

        d loss / d lr -= <g, a>,    d loss / d X -= lr * d<g, a> / d X,    a -= lr * d<g, a> / d theta

    So a further step takes one more vector of parameters. TESLA (Cui et al., ICML 2023) keeps one step's
    activations, too, but with a as it is after the last step: it leaves out that X also changes the later steps
    through theta.

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
    images, labels, lr = images.detach(), labels.detach(), lr.detach()
    steps, names = list(steps), [name for name, _ in network.train().requires_grad_().named_parameters()]
    theta, goal = (_flat([state[name] for name in names]).to(images) for state in (start, target))
    drawing = _repeated_draws(network, images, len(steps))
    path = []
    for number, (indices, view) in enumerate(steps):
        path.append(theta)
        with drawing(number):
            theta = theta - lr * _gradient(network, theta, view(images[indices]), labels[indices])
    distance = (path[0] - goal).square().sum()
    loss, adjoint = (theta - goal).square().sum() / distance, 2 * (theta - goal) / distance
    by_images, by_lr = torch.zeros_like(images), torch.zeros_like(loss)
    for number, (indices, view) in reversed(list(enumerate(steps))):
        batch = images[indices].requires_grad_()
        seen = view(batch)
        with drawing(number):
            slope, by_theta, by_seen = _slope(network, path.pop(), seen.detach(), labels[indices], adjoint)
        by_lr -= slope
        by_images.index_add_(0, indices, torch.autograd.grad(seen, batch, -lr * by_seen)[0])
        adjoint = adjoint - lr * by_theta
    return by_images, by_lr, loss


def _gradient(network: nn.Module, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the mean cross-entropy by the parameters, at theta."""
    parameters = _set(network, theta)
    loss = F.cross_entropy(network(images), labels)
    return _flat(torch.autograd.grad(loss, parameters, materialize_grads=True))


def _slope(
    network: nn.Module, theta: Tensor, images: Tensor, labels: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the slope of the mean cross-entropy in a direction, and its gradients by parameters and images."""
    parameters, images = _set(network, theta), images.requires_grad_()
    loss = F.cross_entropy(network(images), labels)
    gradient = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    slope = _flat(gradient) @ direction
    *by_parameters, by_images = torch.autograd.grad(slope, (*parameters, images), materialize_grads=True)
    return slope.detach(), _flat(by_parameters), by_images


@torch.no_grad()
def _set(network: nn.Module, theta: Tensor) -> tuple[nn.Parameter, ...]:
    """Give a network these parameters, and return them."""
    parameters = tuple(network.parameters())
    for parameter, values in zip(
        parameters, torch.split(theta, [each.numel() for each in parameters]), strict=True
    ):
        parameter.copy_(values.view_as(parameter))
    return parameters


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
