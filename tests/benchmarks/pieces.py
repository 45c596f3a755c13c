"""Pieces of work that the benchmarks time: those of matching and of evaluation on noise, and a cell."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.methods.dm import DistributionMatching
from dcbench_plugins.methods.dsa import siamese_gradient
from dcbench_plugins.methods.gradmatch import layerwise_distance
from draws import redrawn_view
from torch import Tensor, nn

from dcbench.api import (
    DatasetInfo,
    ResidentSplit,
    Setting,
    SiameseAugmentation,
    Task,
    accuracy,
    feature_matching_gradient,
    matching_gradient,
    new_network,
    train_network,
    trajectory_matching_gradient,
    without_classifier,
)
from dcbench.engine.engine import active_engine
from dcbench.engine.siamese import FULL

CLASSES = 10
REAL = 256
TEST_IMAGES = 10_000
STEPS, INNER = 2, 10
ITERATIONS = 2
NETWORKS, EPOCHS = 20, 10
BATCH = 256
UNROLLED = 10
"""Steps of a student in trajectory matching."""
TRAJECTORY_LR = 1e5
"""Of the images: these gradients are small, and the images are to move by more than their rounding."""


@dataclass
class Start:
    """What every implementation starts from: noise for images, and one freshly initialised ConvNet.

    Attributes:
        info: facts of the data set that the noise stands for.
        network: the papers' ConvNet.
        real: a batch for each class, (256, C, H, W).
        images: the synthetic ones, (10 * ipc, C, H, W), class by class.
        labels: theirs, (10 * ipc,).
        generator: for more draws.
    """

    info: DatasetInfo
    network: nn.Module
    real: list[Tensor]
    images: Tensor
    labels: Tensor
    generator: torch.Generator

    @property
    def ipc(self) -> int:
        """Images per class."""
        return len(self.images) // CLASSES

    @property
    def epochs(self) -> int:
        """How many epochs on the synthetic images make a piece of work that takes a second or so."""
        return max(1, 100 // self.ipc)

    def test_split(self) -> ResidentSplit:
        """Draw a test split."""
        pixels = torch.randint(256, (TEST_IMAGES, *self.images.shape[1:]), generator=self.generator)
        labels = torch.randint(CLASSES, (TEST_IMAGES,), generator=self.generator)
        device = self.images.device
        return ResidentSplit(pixels.to(device, torch.uint8), labels.to(device), self.info)


def make_start(
    shape: tuple[int, int, int], ipc: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Start:
    """Return the start for images of a shape; the same numbers for every type and device."""
    channels, height, width = shape
    half = (0.5,) * channels
    names = tuple(map(str, range(CLASSES)))
    info = DatasetInfo("noise", names, channels, (height, width), half, half, "0" * 64, {})
    generator = torch.Generator().manual_seed(0)

    def noise(n: int) -> Tensor:
        return torch.randn(n, *shape, generator=generator).to(device, dtype)

    real, images = list(noise(CLASSES * REAL).split(REAL)), noise(CLASSES * ipc)
    network = new_network(ConvNet(), info, seed=0).to(device, dtype)
    labels = torch.arange(CLASSES, device=device).repeat_interleave(ipc)
    return Start(info, network, real, images, labels, generator)


def matching_step(start: Start) -> Callable[[], object]:
    """Return one image step's gradient: all classes."""
    return lambda: matching_gradient(start.network, start.real, start.images.split(start.ipc), layerwise_distance)


def siamese_step(start: Start) -> Callable[[], object]:
    """Return one image step's gradient, all classes, on views, the same every time."""
    return lambda: siamese_match(start, start.images, step=0)


def siamese_match(start: Start, images: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Match views of the images, as the authors' code draws them after a seed for each class and step."""
    views = [redrawn_view(seed, start.images) for seed in siamese_seeds(step)]
    return siamese_gradient(start.network, start.real, images, views, layerwise_distance)


def siamese_seeds(step: int) -> range:
    """Return a seed for each class, far enough apart: a view takes several."""
    return range(1000 * step, 1000 * step + 10 * CLASSES, 10)


def dm_iterations(start: Start) -> Callable[[], object]:
    """Return iterations of distribution matching: networks, real images and views drawn, steps taken."""
    method = DistributionMatching(iterations=ITERATIONS)
    method = method.resolve(Setting(start.info, (REAL,) * CLASSES, start.ipc, "convnet"))
    nowhere: Any = SimpleNamespace(load=lambda: None, offer=lambda state: None)
    split = start.test_split()
    return lambda: method.condense(
        Task(split, start.ipc, start.generator, ConvNet(), nowhere, lambda done, total: None)
    )


@dataclass
class Trajectory:
    """One step of trajectory matching: where a student starts, where an expert went, and what the student sees.

    Attributes:
        start: the parameters of the network.
        target: others, near by.
        lr: the student's learning rate, ().
        steps: for each step, all images in an order, and one view of them, with parameters for each.
    """

    start: dict[str, Tensor]
    target: dict[str, Tensor]
    lr: Tensor
    steps: list[tuple[Tensor, Callable[[Tensor], Tensor]]]


def make_trajectory(start: Start) -> Trajectory:
    """Draw it."""
    parameters = {name: each.detach().clone() for name, each in start.network.named_parameters()}
    target = {
        name: each + 0.01 * torch.randn(each.shape, generator=start.generator).to(each)
        for name, each in parameters.items()
    }
    augmentation, n = SiameseAugmentation(FULL, align_corners=True), len(start.images)
    steps = [
        (
            torch.randperm(n, generator=start.generator).to(start.images.device),
            augmentation.draw(start.generator, n),
        )
        for _ in range(UNROLLED)
    ]
    return Trajectory(parameters, target, torch.tensor(0.01).to(start.images), steps)


def trajectory_step(start: Start) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    """Return the gradient of trajectory matching by images and learning rate, the same every time."""
    given = make_trajectory(start)
    return lambda: trajectory_matching_gradient(
        start.network, given.start, given.target, start.images, start.labels, given.lr, given.steps
    )


def epochs(start: Start) -> Callable[[], object]:
    """Return epochs on the synthetic images."""
    optimizer = torch.optim.SGD(start.network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    options = {"epochs": start.epochs, "batch_size": BATCH, "generator": start.generator}
    return lambda: train_network(start.network, start.images, start.labels, optimizer, **options)


def evaluations(start: Start) -> Callable[[], object]:
    """Return training fresh networks, one after the other, as evaluations do."""
    options = {"epochs": EPOCHS, "batch_size": BATCH, "generator": start.generator}

    def train() -> None:
        for seed in range(NETWORKS):
            network = new_network(ConvNet(), start.info, seed, start.images.device)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
            train_network(network, start.images, start.labels, optimizer, **options)

    return train


def test_pass(start: Start) -> Callable[[], object]:
    """Return a pass over a test split of 10,000 images."""
    split = start.test_split()
    return lambda: accuracy(start.network, split)


def cell(start: Start) -> Callable[[], object]:
    """Return a whole cell on the digits: 20 iterations of gradient matching, 3 networks trained for 300 steps."""
    from dcbench.cli.options import load_plugins
    from dcbench.core.spec import QUICK
    from dcbench.evaluate.protocols import PROTOCOLS
    from dcbench.results.store import Store
    from dcbench.run.plan import Request, make_plan
    from dcbench.run.scheduler import Scheduler

    request = Request(
        datasets=("digits",),
        methods=("gradmatch",),
        ipcs=(1,),
        networks=("convnet",),
        eval_networks=("convnet", "lenet", "mlp"),
        options={"iterations": "20"},
        protocol=PROTOCOLS["dc"],
        budget=QUICK,
        sets=1,
        evals=1,
        seed=0,
        device=start.images.device,
        data_root=Path(),
    )
    plugins = load_plugins()
    plan = make_plan(request, plugins)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            Scheduler(plan, plugins, Store(Path(folder)), engine=active_engine()).run()

    return run


def images_after_steps(start: Start) -> Tensor:
    """Return the synthetic images after two image steps, with the network trained on them in between."""
    images = start.images.clone()
    optimizer = torch.optim.SGD([images], lr=0.1, momentum=0.5)
    optimizer_net = torch.optim.SGD(start.network.parameters(), lr=0.01)
    for _ in range(STEPS):
        real, synthetic = start.real, images.split(start.ipc)
        images.grad = matching_gradient(start.network, real, synthetic, layerwise_distance)[0]
        optimizer.step()
        options = {"epochs": INNER, "batch_size": BATCH, "generator": start.generator}
        train_network(start.network, images, start.labels, optimizer_net, **options)
    return images


def images_after_siamese_steps(start: Start) -> Tensor:
    """Return the synthetic images after two image steps on views; the network stays as it is."""
    images = start.images.clone()
    optimizer = torch.optim.SGD([images], lr=0.1, momentum=0.5)
    for step in range(STEPS):
        images.grad, _ = siamese_match(start, images, step)
        optimizer.step()
    return images


def images_after_trajectory(start: Start) -> Tensor:
    """Return the synthetic images after one step of trajectory matching."""
    return start.images - TRAJECTORY_LR * trajectory_step(start)()[0]


def images_after_dm(start: Start) -> Tensor:
    """Return the synthetic images after one iteration of distribution matching, on views as in `siamese_match`."""
    psi = without_classifier(start.network).requires_grad_(False)
    views = [redrawn_view(seed, start.images) for seed in siamese_seeds(0)]
    images = start.images.clone().requires_grad_()
    synthetic = [view(own) for view, own in zip(views, torch.split(images, start.ipc), strict=True)]
    real = (view(batch) for view, batch in zip(views, start.real, strict=True))
    gradient, _ = feature_matching_gradient(psi, real, synthetic)
    return (images - torch.autograd.grad(torch.cat(synthetic), images, gradient)[0]).detach()


PIECES = {
    "step": matching_step,
    "siamese": siamese_step,
    "dm": dm_iterations,
    "trajectory": trajectory_step,
    "epoch": epochs,
    "evaluations": evaluations,
    "test": test_pass,
    "cell": cell,
}
ERRORS = {
    "error": images_after_steps,
    "siamese-error": images_after_siamese_steps,
    "dm-error": images_after_dm,
    "trajectory-error": images_after_trajectory,
}
