"""Training and testing a network: one plain loop for methods and protocols alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.augment import augment
from dcbench.data import ResidentSplit

TEST_BATCH = 256


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
    """
    network.train()
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for batch in torch.split(order, batch_size):
            inputs = augment(images[batch], augmentation, generator)
            loss = F.cross_entropy(network(inputs), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if progress is not None:
            progress(epoch + 1, epochs)


@torch.inference_mode()
def accuracy(network: nn.Module, split: ResidentSplit, batch_size: int = TEST_BATCH) -> float:
    """Return the fraction of a split that the network classifies correctly, in evaluation mode."""
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.device)
    for start in range(0, len(split), batch_size):
        batch = slice(start, start + batch_size)
        predicted = network(split.normalised(batch)).argmax(dim=1)
        correct += (predicted == split.labels[batch]).sum()
    return int(correct) / len(split)
