"""Training a network on the training split by a recipe, keeping its state after some epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcbench.core.architecture import Architecture, new_network
from dcbench.core.dataset import DatasetInfo
from dcbench.core.loss_watch import Diverged
from dcbench.core.method import Checkpoint
from dcbench.core.split import ResidentSplit
from dcbench.core.trained_network import NetworkRecipe, NetworkSpec, State
from dcbench.engine.optimizer import SGD
from dcbench.engine.siamese import SiameseAugmentation, suitable_strategy
from dcbench.engine.training import accuracy, train_network
from dcbench.utils.seeds import derive_seed, new_generator, seeded_globals

MOMENTUM = "momentum_buffer"
"""The name of what torch's SGD keeps of a parameter."""


@dataclass(frozen=True)
class Training:
    """What comes of training.

    Attributes:
        states: parameters and buffers, on the CPU, by the number of epochs after which they were so.
        accuracy, held_out_accuracy, held_out: see `dcbench.core.trained_network.TrainedNetwork`.
    """

    states: Mapping[int, State]
    accuracy: float
    held_out_accuracy: Mapping[int, float]
    held_out: Tensor


def teacher_recipe(info: DatasetInfo, epochs: int = 30) -> NetworkRecipe:
    """Return how a network is trained that is to label or to judge images: the same for all that need one.

    A tenth of the images is held out, to say how good it is.

    Args:
        info: the data set's facts; the augmentation has what suits it.
        epochs: passes over the images; the learning rate falls to a tenth after two thirds of them.

    Raises:
        DcbenchError: for images that are too small to be augmented.
    """
    return NetworkRecipe(
        epochs=epochs,
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        decay=0.1,
        decay_at=(max(1, 2 * epochs // 3),),
        batch_size=64,
        augmentation=suitable_strategy(info),
        held_out=0.1,
    )


def hold_out(train: ResidentSplit, recipe: NetworkRecipe) -> tuple[Tensor, Tensor]:
    """Return what a recipe holds out and what it trains on: positions in the training split, int64, on the CPU.

    They are the same for all networks of a recipe, and for recipes that differ in neither ``held_out`` nor
    ``seed``.
    """
    generator, held_out, kept = new_generator("held out", train.info.sha256, recipe.seed), [], []
    for members in train.class_indices:
        count = recipe.held_out_of(len(members))
        shuffled = members[torch.randperm(len(members), generator=generator)]
        held_out.append(shuffled[:count])
        kept.append(shuffled[count:])
    return torch.cat(held_out).sort().values, torch.cat(kept).sort().values


def generator_of(spec: NetworkSpec) -> torch.Generator:
    """Return the generator of the shuffles and the augmentation of a network."""
    return new_generator("train", spec.trajectory)


@torch.inference_mode(mode=False)  # with gradients, wherever it is called
def train_from_recipe(
    spec: NetworkSpec,
    architecture: Architecture,
    train: ResidentSplit,
    generator: torch.Generator,
    checkpoint: Checkpoint,
    progress: Callable[[int, int], None],
) -> Training:
    """Train a network, from the beginning or from its checkpoint.

    Args:
        spec: what to train.
        architecture: that of the spec, resolved.
        train: the training split, whitened if the recipe says so.
        generator: of `generator_of`, which the checkpoint sets back.
        checkpoint: offered the state after each epoch.
        progress: called with the epochs done and their number.

    Raises:
        Diverged: if the training loss or the network is not finite, naming the epoch.
    """
    recipe, seed = spec.recipe, derive_seed("network", spec.trajectory)
    held_out, kept = hold_out(train, recipe)
    trained_on = train.part(kept)
    network = new_network(architecture, train.info, seed, train.device)
    optimizer = SGD(network.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    with seeded_globals(derive_seed("dropout", seed), train.device):
        run = _Run(recipe, network, optimizer, train.part(held_out))
        run.resume(checkpoint.load())

        def after(epoch: int, epochs: int) -> None:
            run.after(epoch)
            progress(epoch, epochs)
            checkpoint.offer(run.state)

        train_network(
            network,
            trained_on.normalised(slice(None)),
            trained_on.labels,
            optimizer,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            generator=generator,
            augmentation=SiameseAugmentation(recipe.augmentation, recipe.align_corners)
            if recipe.augmentation
            else "",
            progress=after,
            first_epoch=run.done,
        )
    return Training(run.states, accuracy(network, trained_on), run.held_out_accuracy, held_out)


class _Run:
    """The training of a network: what is kept of it so far."""

    def __init__(
        self, recipe: NetworkRecipe, network: nn.Module, optimizer: torch.optim.Optimizer, held_out: ResidentSplit
    ) -> None:
        self.done = 0
        self.states: dict[int, State] = {}
        self.held_out_accuracy: dict[int, float] = {}
        self._recipe, self._network, self._optimizer, self._held_out = recipe, network, optimizer, held_out

    def after(self, epoch: int) -> None:
        """Take note that so many epochs are done. Raises `Diverged` if a parameter or a buffer is not finite."""
        self.done = epoch
        if not all(bool(each.isfinite().all()) for each in self._network.state_dict().values()):
            raise Diverged(f"the network is not finite after epoch {epoch}")
        if epoch in self._recipe.kept:
            state = self._network.state_dict()
            self.states[epoch] = {name: each.detach().cpu().clone() for name, each in state.items()}
            if len(self._held_out):
                self.held_out_accuracy[epoch] = accuracy(self._network, self._held_out)
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.lr_in(epoch + 1)

    def state(self) -> dict[str, Tensor]:
        """Return all of it, as tensors."""
        tensors = {f"network/{name}": each for name, each in self._network.state_dict().items()}
        for number, parameter in enumerate(self._network.parameters()):
            if (momentum := self._optimizer.state[parameter].get(MOMENTUM)) is not None:
                tensors[f"momentum/{number}"] = momentum
        for epoch, state in self.states.items():
            tensors |= {f"{epoch}/{name}": each for name, each in state.items()}
        tensors |= {
            f"held out/{epoch}": torch.tensor(each, dtype=torch.float64)
            for epoch, each in self.held_out_accuracy.items()
        }
        return tensors | {"done": torch.tensor(self.done)}

    def resume(self, saved: Mapping[str, Tensor] | None) -> None:
        """Go on from what `state` returned; without it, begin."""
        if saved is None:
            return self.after(0)
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in saved.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = tensor
        self._network.load_state_dict(parts.pop("network"))
        parameters = list(self._network.parameters())
        for number, momentum in parts.pop("momentum", {}).items():
            parameter = parameters[int(number)]
            self._optimizer.state[parameter] = {MOMENTUM: momentum.to(parameter.device)}
        self.held_out_accuracy = {int(epoch): float(each) for epoch, each in parts.pop("held out", {}).items()}
        self.done = int(parts.pop("done")[""])
        self.states = {int(epoch): state for epoch, state in parts.items()}
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.lr_in(self.done + 1)
