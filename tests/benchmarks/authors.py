"""The same pieces of work by the code of the matching methods' authors, which whoever wants to compare brings.

Its matching steps and loops stand in its main functions, so they are copied here, line by line; networks,
distance, augmentation, epochs and the test pass are called where they are. See https://github.com/VICO-UoE/DatasetCondensation
and, for trajectory matching, https://github.com/GeorgeCazenavette/mtt-distillation.
"""

from __future__ import annotations

import copy
import importlib
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pieces import (
    BATCH,
    CLASSES,
    INNER,
    ITERATIONS,
    REAL,
    STEPS,
    TRAJECTORY_LR,
    Start,
    make_trajectory,
    siamese_seeds,
)
from torch import Tensor, nn

from dcbench.engine.siamese import FULL

ARGS = Namespace(device="cpu", dis_metric="ours", dsa=False, dc_aug_param=None)


def open_authors(folder: Path) -> Authors | TrajectoryAuthors:
    """Import whose code a checkout is."""
    sys.path.insert(0, str(folder))
    return TrajectoryAuthors() if (folder / "reparam_module.py").exists() else Authors()


class TrajectoryAuthors:
    """The code of trajectory matching's authors, as modules; their step stands in their main function, too."""

    def __init__(self) -> None:
        """Import it."""
        self.networks: Any = importlib.import_module("networks")
        self.reparam_module: Any = importlib.import_module("reparam_module")

    def gradients(self, start: Start) -> Callable[[], tuple[Tensor, Tensor]]:
        """Return the work of `pieces.trajectory_step`; their augmentation is replaced by the same views."""
        given, syn_images, syn_lr = (
            make_trajectory(start),
            start.images.clone(),
            torch.tensor(0.01).to(start.images),
        )
        syn_images.requires_grad_()
        syn_lr.requires_grad_()
        channel, im_size = start.info.channels, start.info.size
        student_net = self.networks.ConvNet(
            channel, CLASSES, 128, 3, "relu", "instancenorm", "avgpooling", im_size
        )
        student_net = self.reparam_module.ReparamModule(student_net.to(start.images)).train()
        criterion, y_hat = nn.CrossEntropyLoss(), start.labels
        starting_params, target_params = (
            torch.cat([p.reshape(-1) for p in state.values()], 0) for state in (given.start, given.target)
        )
        num_params = len(starting_params)

        def step() -> tuple[Tensor, Tensor]:
            student_params = [starting_params.clone().requires_grad_(True)]
            for these_indices, augment in given.steps:
                x = augment(syn_images[these_indices])
                this_y = y_hat[these_indices]
                x = student_net(x, flat_param=student_params[-1])
                ce_loss = criterion(x, this_y)
                grad = torch.autograd.grad(ce_loss, student_params[-1], create_graph=True)[0]
                student_params.append(student_params[-1] - syn_lr * grad)
            param_loss = nn.functional.mse_loss(student_params[-1], target_params, reduction="sum")
            param_dist = nn.functional.mse_loss(starting_params, target_params, reduction="sum")
            param_loss = param_loss / num_params
            param_dist = param_dist / num_params
            grand_loss = param_loss / param_dist
            syn_images.grad = syn_lr.grad = None
            grand_loss.backward()  # type: ignore[no-untyped-call]
            assert syn_images.grad is not None
            assert syn_lr.grad is not None
            return syn_images.grad, syn_lr.grad

        return step

    def prepare(self, work: str, start: Start) -> Callable[[], object]:
        """Return a piece of work: trajectory."""
        assert work == "trajectory", f"{work} needs a checkout of the other authors"
        return self.gradients(start)

    def images_after_steps(self, work: str, start: Start) -> Tensor:
        """Return what the work of this name in `pieces.ERRORS` does: trajectory-error."""
        assert work == "trajectory-error", f"{work} needs a checkout of the other authors"
        return start.images - TRAJECTORY_LR * self.gradients(start)()[0]


class Authors:
    """The authors' code, as modules."""

    def __init__(self) -> None:
        """Import it."""
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

    def dm_loss(
        self, start: Start, net: nn.Module, real: Iterable[Tensor], image_syn: Tensor, seeds: Iterable[int]
    ) -> Tensor:
        """Return the distribution matching loss of all classes, as their main function does."""
        param, embed = self.utils.ParamDiffAug(), net.embed
        loss = torch.tensor(0.0)
        for c, (img_real, seed) in enumerate(zip(real, seeds, strict=False)):
            img_syn = image_syn[c * start.ipc : (c + 1) * start.ipc]
            img_real = self.utils.DiffAugment(img_real, FULL, seed=seed, param=param)
            img_syn = torch.cat([img_syn, img_syn[:1]])  # torch has come to refuse their draws for a single image
            img_syn = self.utils.DiffAugment(img_syn, FULL, seed=seed, param=param)[:-1]
            # Of one channel, torch may take images for channels-last, whose features they cannot flatten.
            img_real, img_syn = (each.clone(memory_format=torch.contiguous_format) for each in (img_real, img_syn))
            output_real = embed(img_real).detach()
            output_syn = embed(img_syn)
            loss += torch.sum((torch.mean(output_real, dim=0) - torch.mean(output_syn, dim=0)) ** 2)
        return loss

    def dm_iterations(self, start: Start) -> Callable[[], object]:
        """Return iterations of distribution matching, as their main function does."""
        split = start.test_split()
        images_all, indices_class = split.normalised(slice(None)), [each.numpy() for each in split.class_indices]
        image_syn = start.images.clone().requires_grad_()
        optimizer = torch.optim.SGD([image_syn], lr=1.0, momentum=0.5)

        def get_images(c: int) -> Tensor:
            return images_all[np.random.permutation(indices_class[c])[:REAL]]  # noqa: NPY002

        def iterate() -> None:
            for _ in range(ITERATIONS):
                net = self.utils.get_network("ConvNet", start.info.channels, CLASSES, start.info.size).train()
                for param in net.parameters():
                    param.requires_grad = False
                seeds = iter(lambda: int(time.time() * 1000) % 100000, -1)
                loss = self.dm_loss(start, net, map(get_images, range(CLASSES)), image_syn, seeds)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        return iterate

    def train(
        self, network: nn.Module, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, n: int
    ) -> None:
        """Train for epochs, by a data loader of their kind."""
        data = self.utils.TensorDataset(copy.deepcopy(images.detach()), copy.deepcopy(labels))
        loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=0)
        for _ in range(n):
            self.utils.epoch("train", loader, network, optimizer, nn.CrossEntropyLoss(), ARGS, aug=False)

    def prepare(self, work: str, start: Start) -> Callable[[], object]:
        """Return a piece of work: step, siamese, dm, epoch or test."""
        if work == "dm":
            return self.dm_iterations(start)
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
        if work == "dm-error":
            return self.images_after_dm(start)
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

    def images_after_dm(self, start: Start) -> Tensor:
        """Return what `pieces.images_after_dm` does."""
        network, images = self.network(start), start.images.clone().requires_grad_()
        optimizer = torch.optim.SGD([images], lr=1.0, momentum=0.5)
        self.dm_loss(start, network, start.real, images, siamese_seeds(0)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return images.detach()
