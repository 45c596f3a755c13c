"""Training and testing a network: one plain loop for methods and protocols alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.augment import augment
from dcbench.compiled import Forward
from dcbench.data import ResidentSplit
from dcbench.divergence import LossWatch
from dcbench.engine import Engine, active_engine, engine_for

TEST_BATCH = 256
FEW = 4
"""Images of a batch from which on it is shared out between the workers, where the network is compiled.

Otherwise torch shares every operation on the batch, which takes as long: workers would wait for each other after
every one."""


def train_network(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
    augmentation: str = "",
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train with cross-entropy on shuffled batches, in training mode, for whole epochs.

    Args:
        network: trained in place.
        images: float32, shape (N, C, H, W), in normalised space, on the network's device.
        labels: int64, shape (N,), or soft, float32, shape (N, K).
        optimizer: steps once per batch.
        epochs: passes over all images.
        batch_size: images per step; the last batch of an epoch may be smaller.
        generator: a CPU generator, for the shuffles and the augmentation.
        augmentation: a strategy of `dcbench.augment`, applied to every batch anew.
        scheduler: steps once per epoch.
        progress: called as ``progress(epochs done, epochs)``.

    Raises:
        Diverged: naming the first epoch, counted from 1, in which the loss is not finite.
    """
    network.train()
    engine = engine_for(network, images)
    passes, at_once = 3 * epochs * len(images), 3 * min(batch_size, len(images))
    forward = engine.forward(network, images, passes=passes, passes_at_once=at_once)
    losses = LossWatch("the training loss", "epoch", explodes=False)
    with engine.sharing() if forward is not network else nullcontext():
        for epoch in range(epochs):
            order = torch.randperm(len(images), generator=generator).to(images.device)
            total = torch.zeros((), device=images.device)
            for batch in torch.split(order, batch_size):
                inputs = augment(images[batch], augmentation, generator)
                total += _differentiate(network, forward, inputs, labels[batch], engine)
                optimizer.step()
            losses.check(epoch + 1, total)
            if scheduler is not None:
                scheduler.step()
            if progress is not None:
                progress(epoch + 1, epochs)
    losses.settle()


def _differentiate(network: nn.Module, forward: Forward, images: Tensor, labels: Tensor, engine: Engine) -> Tensor:
    """Set the parameters' gradients to those of the mean cross-entropy of a batch, and return that."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    size = len(images)
    if forward is not network and size >= FEW:
        rounds = math.ceil(size / (engine.workers * (engine.micro_batch or size)))
        size = math.ceil(size / (rounds * engine.workers))  # equal shares

    def gradients(part: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        loss = F.cross_entropy(forward(part[0]), part[1]) * (len(part[0]) / len(images))
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    network.zero_grad(set_to_none=True)
    run, total = map if size == len(images) else engine.map, torch.zeros((), device=images.device)
    for loss, found in run(gradients, zip(torch.split(images, size), torch.split(labels, size), strict=True)):
        total += loss
        for parameter, gradient in zip(parameters, found, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient
            elif gradient is not None:
                parameter.grad = parameter.grad + gradient
    return total


def accuracy(network: nn.Module, split: ResidentSplit, batch_size: int = TEST_BATCH) -> float:
    """Return the fraction of a split that the network classifies correctly, in evaluation mode."""
    network.eval()
    engine = active_engine()
    size = engine.micro_batch or batch_size
    forward = engine.forward(network, split.normalised(slice(1)), passes=len(split), gradients=False)

    @torch.inference_mode()
    def correct(start: int) -> Tensor:
        chunk = slice(start, start + size)
        right: Tensor = forward(split.normalised(chunk)).argmax(dim=1) == split.labels[chunk]
        return right.sum()

    # Summed on the device: reading a number off a GPU waits for all that is under way there.
    with engine.sharing():
        counts = list(engine.map(correct, range(0, len(split), size)))
    return int(torch.stack(counts).sum()) / len(split)
