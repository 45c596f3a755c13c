"""Training and testing a network: one plain loop for methods and protocols alike."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.core.loss_watch import LossWatch
from dcbench.core.split import ResidentSplit
from dcbench.engine.augment import augment
from dcbench.engine.compiled import Forward
from dcbench.engine.engine import Engine, engine_for
from dcbench.engine.graphs import Outputs
from dcbench.utils.devices import send

Gradients = Callable[[Tensor, Tensor], Outputs]
Augmentation = Callable[[Tensor, torch.Generator], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
"""Returns the mean over a batch, shape (), from the network's outputs, (n, K), and the labels."""

TEST_BATCH = 256
UNEVEN = 2
"""How many times the images of its smallest class the largest of a split has where the classes are uneven."""


def train_network(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
    augmentation: str | Augmentation = "",
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    progress: Callable[[int, int], None] | None = None,
    first_epoch: int = 0,
    loss: Loss = F.cross_entropy,
    teacher: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Train on shuffled batches, in training mode, for whole epochs.

    Args:
        network: trained in place.
        images: float32, shape (N, C, H, W), in normalised space, on the network's device.
        labels: int64, shape (N,), or soft, float32, shape (N, K).
        optimizer: steps once per batch.
        epochs: passes over all images.
        batch_size: images per step; the last batch of an epoch may be smaller.
        generator: a CPU generator, for the shuffles and the augmentation.
        augmentation: a strategy of `dcbench.engine.augment`, or a function of a batch and the generator, such as
            a `SiameseAugmentation`; applied to every batch anew.
        scheduler: steps once per epoch.
        progress: called as ``progress(epochs done, epochs)``; it may test the network.
        first_epoch: how many of the epochs were done before, by a process that was interrupted.
        loss: its batches are split, so it must be a mean over images.
        teacher: maps every batch, once it is augmented, to its labels, which replace those given.

    Raises:
        Diverged: naming the first epoch, counted from 1, in which the loss is not finite.
    """
    change = augmentation if callable(augmentation) else lambda *batch: augment(batch[0], augmentation, batch[1])
    network.train()
    engine = engine_for(network, images)
    passes, at_once = 3 * epochs * len(images), 3 * min(batch_size, len(images))
    forward = engine.forward(network, images, passes=passes, passes_at_once=at_once)
    gradients = batch_gradients(network, forward, engine, loss)
    parameters = [each for each in network.parameters() if each.requires_grad]
    losses = LossWatch("the training loss", "epoch", explodes=False)
    with engine.sharing() if forward is not network else nullcontext():
        for epoch in range(first_epoch, epochs):
            order = send(torch.randperm(len(images), generator=generator), images.device)
            total = torch.zeros((), device=images.device)
            for batch in torch.split(order, batch_size):
                inputs = change(images[batch], generator)
                value, *values = gradients(inputs, labels[batch] if teacher is None else teacher(inputs))
                total += value
                for parameter, gradient in zip(parameters, values, strict=True):
                    parameter.grad = gradient
                optimizer.step()
            losses.check(epoch + 1, total)
            if scheduler is not None:
                scheduler.step()
            if progress is not None:
                progress(epoch + 1, epochs)
                network.train()
    losses.settle()
    network.zero_grad(set_to_none=True)  # the engine may write over the gradients


def batch_gradients(network: nn.Module, forward: Forward, engine: Engine, loss: Loss) -> Gradients:
    """Return the function that computes a batch's mean loss and its gradients, None where there is none.

    Args:
        network: in training mode.
        forward: what ``engine.forward`` returned for it.
        engine: what `engine_for` returned.
        loss: a mean over images.
    """
    if forward is network:
        return engine.replayed(_gradients, network, loss)

    def shared(images: Tensor, labels: Tensor) -> Outputs:
        """Sum what the workers compute, a share of the batch each.

        Where the network is not compiled, torch shares every operation on the batch, which takes as long: workers
        would wait for each other after every one.
        """
        size = engine.share(len(images))
        parts = zip(torch.split(images, size), torch.split(labels, size), strict=True)
        run = map if size == len(images) else engine.map

        def gradients(part: tuple[Tensor, Tensor]) -> Outputs:
            return _gradients(network, loss, *part, forward, len(part[0]) / len(images))

        shares = run(gradients, parts)
        return tuple(_sum(each) for each in zip(*shares, strict=True))

    return shared


def _gradients(
    network: nn.Module,
    loss: Loss,
    images: Tensor,
    labels: Tensor,
    forward: Forward | None = None,
    share: float = 1.0,
) -> Outputs:
    """Return the mean loss of a batch, then its gradient by each parameter, None where there is none."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    value = loss((forward or network)(images), labels) * share
    return value.detach(), *torch.autograd.grad(value, parameters, allow_unused=True)


def _sum(parts: Sequence[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return functools.reduce(torch.add, given) if given else None


def accuracy(network: nn.Module, split: ResidentSplit, batch_size: int = TEST_BATCH) -> float:
    """Return the fraction of a split that the network classifies correctly, in evaluation mode.

    An image for which an output is NaN has no prediction, and counts as one divided by the number of classes.
    """
    return both_accuracies(logits(network, split, batch_size), split)[0]


def both_accuracies(outputs: Tensor, split: ResidentSplit) -> tuple[float, float | None]:
    """Return the `accuracy` of `logits`, and the mean of the accuracies of the classes (balanced accuracy).

    The second is None where the classes are even: the largest has less than twice the images of the smallest. A
    class without images does not count in it.
    """
    undefined = outputs.isnan().any(dim=1)
    right = (outputs.argmax(dim=1) == split.labels) & ~undefined
    labels, right, undefined = torch.stack([split.labels, right.long(), undefined.long()]).cpu()  # one read
    counts, rights, others = (
        torch.bincount(each, minlength=split.info.num_classes).double()
        for each in (labels, labels[right == 1], labels[undefined == 1])
    )
    credit = rights + others / outputs.shape[1]
    uneven = bool(counts.max() >= UNEVEN * counts.min())
    balanced = float((credit[counts > 0] / counts[counts > 0]).mean()) if uneven else None
    return float(rights.sum() + others.sum() / outputs.shape[1]) / len(split), balanced


def logits(network: nn.Module, split: ResidentSplit, batch_size: int = TEST_BATCH) -> Tensor:
    """Return the network's outputs for a split, in evaluation mode: shape (N, K), on the device, detached.

    The network stays in evaluation mode.
    """
    network.eval()
    some = split.normalised(slice(1))
    engine = engine_for(network, some)
    size = engine.micro_batch or batch_size
    forward = engine.forward(network, some, passes=len(split), gradients=False)

    @torch.inference_mode()
    def outputs(start: int) -> Tensor:
        return forward(split.normalised(slice(start, start + size)))

    with engine.sharing():
        return torch.cat(list(engine.map(outputs, range(0, len(split), size))))
