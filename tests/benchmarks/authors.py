"""The same pieces of work by the code of gradient matching's authors, which whoever wants to compare brings.

Its matching step and loops stand in its main function, so they are copied here, line by line; networks, distance,
epochs and the test pass are called where they are. See https://github.com/VICO-UoE/DatasetCondensation.
"""

from __future__ import annotations

import copy
import importlib
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pieces import BATCH, CLASSES, INNER, STEPS, Start, siamese_seeds
from torch import Tensor, nn

from dcbench.engine.siamese import FULL

ARGS = Namespace(device="cpu", dis_metric="ours", dsa=False, dc_aug_param=None)


class Authors:
    """The authors' code, as modules."""

    def __init__(self, folder: Path) -> None:
        """Import it from a checkout."""
        sys.path.insert(0, str(folder))
        self.utils: Any = importlib.import_module("utils")

    def network(self, start: Start) -> nn.Module:
        """Return their ConvNet with the weights of ours."""
        info = start.info
        network: nn.Module = self.utils.get_network("ConvNet", info.channels, CLASSES, info.size)
        for theirs, ours in zip(network.parameters(), start.network.parameters(), strict=True):
            theirs.data.copy_(ours.data)
        return network.train()

    def loss(self, start: Start, network: nn.Module, image_syn: Tensor, seeds: Sequence[int] = ()) -> Tensor:
        """Return the matching loss of all classes, as their main function does; with seeds, on views."""
        parameters, criterion = list(network.parameters()), nn.CrossEntropyLoss()
        loss = torch.tensor(0.0)
        for c, img_real in enumerate(start.real):
            lab_real = torch.ones((img_real.shape[0],), dtype=torch.long) * c
            img_syn = image_syn[c * start.ipc : (c + 1) * start.ipc]
            lab_syn = torch.ones((start.ipc,), dtype=torch.long) * c

            if seeds:
                augmentation = {"seed": seeds[c], "param": self.utils.ParamDiffAug()}
                img_real = self.utils.DiffAugment(img_real, FULL, **augmentation)
                if start.ipc == 1:  # twice, because with the torch of today their cutout fails on a single image
                    img_syn = img_syn.repeat(2, 1, 1, 1)
                img_syn = self.utils.DiffAugment(img_syn, FULL, **augmentation)[: start.ipc]

            output_real = network(img_real)
            loss_real = criterion(output_real, lab_real)
            gw_real = torch.autograd.grad(loss_real, parameters)
            gw_real = [_.detach().clone() for _ in gw_real]

            output_syn = network(img_syn)
            loss_syn = criterion(output_syn, lab_syn)
            gw_syn = torch.autograd.grad(loss_syn, parameters, create_graph=True)

            loss += self.utils.match_loss(gw_syn, gw_real, ARGS)
        return loss

    def train(
        self, network: nn.Module, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, n: int
    ) -> None:
        """Train for epochs, by a data loader of their kind."""
        data = self.utils.TensorDataset(copy.deepcopy(images.detach()), copy.deepcopy(labels))
        loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=0)
        for _ in range(n):
            self.utils.epoch("train", loader, network, optimizer, nn.CrossEntropyLoss(), ARGS, aug=False)

    def prepare(self, work: str, start: Start) -> Callable[[], object]:
        """Return a piece of work: step, siamese, epoch or test."""
        network = self.network(start)
        if work in ("step", "siamese"):
            images, seeds = start.images.clone().requires_grad_(), siamese_seeds(0) if work == "siamese" else ()
            return lambda: self.loss(start, network, images, seeds).backward()  # type: ignore[no-untyped-call]
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        if work == "epoch":
            return lambda: self.train(network, start.images, start.labels, optimizer, start.epochs)
        split = start.test_split()
        data = torch.utils.data.TensorDataset(split.normalised(slice(None)), split.labels)
        loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=False, num_workers=0)
        return lambda: self.utils.epoch("test", loader, network, optimizer, nn.CrossEntropyLoss(), ARGS, aug=False)

    def images_after_steps(self, work: str, start: Start) -> Tensor:
        """Return what the work of this name in `pieces.ERRORS` does."""
        network, images = self.network(start), start.images.clone().requires_grad_()
        optimizer = torch.optim.SGD([images], lr=0.1, momentum=0.5)
        optimizer_net = torch.optim.SGD(network.parameters(), lr=0.01)
        siamese = work == "siamese-error"
        for step in range(STEPS):
            loss = self.loss(start, network, images, siamese_seeds(step) if siamese else ())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if not siamese:
                self.train(network, images, start.labels, optimizer_net, INNER)
        return images.detach()
