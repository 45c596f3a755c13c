"""Gradient matching: synthetic images whose gradients point where the real images' gradients do.

Zhao, Mopuri, Bilen, Dataset Condensation with Gradient Matching, ICLR 2021 (below: the paper).

Algorithm 1 of the paper. The synthetic images S start as noise. In each of K iterations a network theta is
drawn afresh, and T times over:

    for every class c:  D_c = distance( grad_theta L(T_c), grad_theta L(S_c) )     T_c: a batch of real images
    S     <-  S - lr_img * grad_S (sum_c D_c)                                       with momentum
    theta <-  theta trained on S for a few epochs                                  except after the last step
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from dcbench.api import (
    SGD,
    CondensedSet,
    DcbenchError,
    Extendable,
    Method,
    Setting,
    SiameseAugmentation,
    Start,
    Task,
    gradient_targets,
    hookimpl,
    matching_gradient,
    matching_gradient_to,
    option,
    train_network,
)

PAPER = "the paper"
CODE = "the authors' code"
EPS = 1e-6

Target = tuple[Tensor, ...]

LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""Outer and inner loops by images per class, as in the authors' code."""


class GradMatch(Extendable):
    """Synthetic images trained so that their gradients match the real images' (gradient matching).

    Version 1 runs K iterations, as the paper says. The authors' code evaluates after K, too, and then runs one
    more before it saves the images.
    """

    name = "gradmatch"
    citation = "Zhao, Mopuri, Bilen, Dataset Condensation with Gradient Matching, ICLR 2021"
    quick = {"iterations": 50}
    loops: ClassVar[Mapping[int, tuple[int, int]]] = LOOPS

    iterations: int = option(1000, "freshly drawn networks to match on", source=f"{PAPER}, K", ge=1)
    outer_loop: int | None = option(
        None, "image steps per network, by ipc (the nearest of 1, 10, 20, 30, 40, 50)", source=f"{CODE}, T", ge=1
    )
    inner_loop: int | None = option(
        None, "epochs of training the network between image steps, by ipc likewise", source=CODE, ge=0
    )
    lr_img: float | None = option(
        None, "learning rate of the images: 0.1, but 0.01 when matching on the MLP", source=PAPER, gt=0
    )
    momentum_img: float = option(0.5, "momentum of the images' SGD", source=CODE, ge=0, lt=1)
    momentum_net: float = option(
        0.0,
        "momentum of the matching network's SGD; 0.5 in the authors' code until July 2021, and in a reproduction",
        source=f"{CODE}, since then",
        ge=0,
        lt=1,
    )
    lr_net: float = option(0.01, "learning rate of the matching network's SGD", source=PAPER, gt=0)
    batch_real: int = option(256, "real images of a class per step", source=PAPER, ge=1)
    batch_train: int = option(256, "synthetic images per step of the matching network", source=PAPER, ge=1)
    bn_images: int = option(
        16, "real images per class that set the BatchNorm statistics before each image step", source=CODE, ge=1
    )
    network_pool: int = option(
        0,
        "networks drawn once, with their real images and gradients, and taken in turns, where outer_loop is 1; "
        "0 draws afresh for every iteration; memory: the network and its gradients of each class, each",
        source="dcbench: a shortcut, not the paper's",
        added_later=True,
        ge=0,
    )
    init: Start = option(
        "noise", "what the images start as: noise, real, or a set's file, whose cost is not counted", source=PAPER
    )
    distance: Literal["layerwise", "cosine", "squared"] = option(
        "layerwise",
        "between gradients: 1 - cosine summed over output rows, 1 - cosine of all, or squared error",
        source=f"{PAPER}, equation 7 and its ablation",
    )

    def resolve(self, setting: Setting) -> Self:
        """Fill in the loops for the images per class and the learning rate for the network."""
        if self.init == "real":
            setting.require_enough_images()
        outer, inner = self.loops[min(self.loops, key=lambda ipc: abs(ipc - setting.ipc))]
        network = re.split("[:@]", setting.network)[0]
        defaults = {"outer_loop": outer, "inner_loop": inner, "lr_img": 0.01 if network == "mlp" else 0.1}
        missing = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        resolved = self.model_copy(update=missing)
        if self.network_pool and resolved.outer_loop != 1:
            raise DcbenchError(
                f"gradmatch: network_pool is for outer_loop=1, not {resolved.outer_loop} (at {setting.ipc} images "
                "per class): networks that are trained in between have no gradients to keep."
            )
        return resolved

    def condense(self, task: Task) -> CondensedSet:
        """Run algorithm 1."""
        assert self.outer_loop is not None  # since resolved
        assert self.lr_img is not None
        images = task.initial_images(self.init)
        losses = torch.zeros(self.iterations, device=task.device)
        optimizer = SGD([images], lr=self.lr_img, momentum=self.momentum_img)
        size = self.network_pool if self.extend else min(self.network_pool, self.iterations)
        pool = [self._draw_network(task) for _ in range(size)]
        start = _resume(task, images, losses, optimizer)

        for iteration in range(start, self.iterations):
            network, targets = pool[iteration % len(pool)] if pool else (task.new_network(), None)
            optimizer_net = SGD(network.parameters(), lr=self.lr_net, momentum=self.momentum_net)
            for step in range(self.outer_loop):
                images.grad, loss = self._match(task, network, images, targets)
                task.check_loss(iteration + 1, loss)
                optimizer.step()
                losses[iteration] += loss / (task.info.num_classes * self.outer_loop)
                if step < self.outer_loop - 1:
                    self._train(task, network, images, optimizer_net)
                task.progress(iteration * self.outer_loop + step + 1, self.iterations * self.outer_loop)
            task.checkpoint.offer(lambda: _state(iteration + 1, images, losses, optimizer))  # noqa: B023

        return CondensedSet(images.cpu(), task.synthetic_labels().cpu(), history={"loss": losses.cpu()})

    def _set_batchnorm(self, task: Task, network: nn.Module) -> None:
        """Pass real images through BatchNorm layers, then freeze their statistics.

        A synthetic batch, down to one image, is too small for statistics of its own.
        """
        network.train()
        layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if not layers:
            return
        labels = range(task.info.num_classes)
        with torch.no_grad():
            network(torch.cat([task.train.draw(label, self.bn_images, task.generator) for label in labels]))
        for layer in layers:
            layer.eval()

    def _match(
        self, task: Task, network: nn.Module, images: Tensor, targets: list[Target] | None
    ) -> tuple[Tensor, Tensor]:
        """Match the synthetic images of every class to real ones, drawn now unless there are targets."""
        if targets is not None:
            return matching_gradient_to(network, targets, torch.split(images, task.ipc), DISTANCES[self.distance])
        self._set_batchnorm(task, network)
        return self._match_drawn(task, network, images)

    def _match_drawn(self, task: Task, network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Match the synthetic images of every class to real ones, drawn now."""
        synthetic = torch.split(images, task.ipc)
        return matching_gradient(network, self._draw_real(task), synthetic, DISTANCES[self.distance])

    def _draw_real(self, task: Task) -> Iterator[Tensor]:
        """Draw a batch of real images of every class, one after the other."""
        labels = range(task.info.num_classes)
        return (task.train.draw(label, self.batch_real, task.generator) for label in labels)

    def _draw_network(self, task: Task) -> tuple[nn.Module, list[Target]]:
        """Draw a network for the pool, and what real images do to it."""
        network = task.new_network()
        self._set_batchnorm(task, network)
        return network, gradient_targets(network, self._draw_real(task))

    def _train(self, task: Task, network: nn.Module, images: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Train the matching network on the synthetic images as they now are."""
        assert self.inner_loop is not None
        train_network(
            network,
            images,
            task.synthetic_labels(),
            optimizer,
            epochs=self.inner_loop,
            batch_size=self.batch_train,
            generator=task.generator,
            augmentation=self._augmentation(),
        )

    def _augmentation(self) -> str | SiameseAugmentation:
        """Return how that training changes its batches: not at all."""
        return ""


def layerwise_distance(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Sum 1 - cosine over layers and, within a layer, over the rows that feed one output (equation 7).

    Biases and normalisation parameters, having no rows, do not count.
    """
    return torch.stack(
        [
            _one_minus_cosine(a.flatten(1), b.flatten(1)).sum()
            for a, b in zip(real, synthetic, strict=True)
            if a.ndim > 1
        ]
    ).sum()


def cosine_distance(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Return 1 - cosine of all gradients as one vector."""
    return _one_minus_cosine(_vector(real), _vector(synthetic))


def squared_distance(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Return the squared Euclidean distance of all gradients as one vector."""
    return (_vector(real) - _vector(synthetic)).pow(2).sum()


DISTANCES = {"layerwise": layerwise_distance, "cosine": cosine_distance, "squared": squared_distance}


def _one_minus_cosine(a: Tensor, b: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(a, dim=-1) * torch.linalg.vector_norm(b, dim=-1)
    cosine: Tensor = (a * b).sum(-1) / (norms + EPS)
    return 1 - cosine


def _vector(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


def _state(done: int, images: Tensor, losses: Tensor, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    momentum = optimizer.state[images].get("momentum_buffer")
    state = {"done": torch.tensor(done), "images": images, "losses": losses}
    return state if momentum is None else {**state, "momentum": momentum}


def _resume(task: Task, images: Tensor, losses: Tensor, optimizer: torch.optim.Optimizer) -> int:
    """Put back what a checkpoint has; return the number of iterations that are done."""
    state = task.checkpoint.load()
    if state is None:
        return 0
    images.copy_(state["images"])
    losses[: len(state["losses"])] = state["losses"]
    if "momentum" in state:
        optimizer.state[images]["momentum_buffer"] = state["momentum"].to(images)
    return int(state["done"])


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [GradMatch]
