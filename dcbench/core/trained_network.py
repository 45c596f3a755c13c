"""Networks that were trained on the training split: the recipe, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from dcbench.core.architecture import Architecture, new_network
from dcbench.core.dataset import DatasetInfo
from dcbench.core.spec import Spec
from dcbench.utils.devices import send
from dcbench.utils.wording import counted

State = Mapping[str, Tensor]
"""Parameters and buffers of a network by name, as `torch.nn.Module.state_dict` has them."""


class NetworkRecipe(BaseModel):
    """How a network is trained on the training split: SGD on the cross-entropy, for whole epochs.

    Attributes:
        epochs: passes over the images; 0 leaves the network as it is initialised.
        lr, momentum, weight_decay: of SGD.
        decay, decay_at: the learning rate is multiplied by ``decay`` after each of these numbers of epochs.
        batch_size: images per step.
        augmentation: a strategy of `dcbench.engine.siamese`: one operation for each batch, each image with
            parameters of its own. Empty for none.
        align_corners: of the operations ``scale`` and ``rotate``.
        zca: train on whitened images, see `dcbench.core.whitening`.
        snapshots: numbers of epochs after which the state is kept, beside the last; 0 is the initialisation.
        held_out: fraction of the images of each class that the network is not trained on, so that its accuracy on
            them may choose something. It is at least one image of a class, but never all of them.
        seed: of the initialisation, the shuffles, the augmentation and the choice of what is held out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(ge=0)
    lr: float = Field(0.01, gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    decay: float = Field(1.0, gt=0)
    decay_at: tuple[int, ...] = ()
    batch_size: int = Field(256, ge=1)
    augmentation: str = ""
    align_corners: bool = False
    zca: bool = False
    snapshots: tuple[int, ...] = ()
    held_out: float = Field(0.0, ge=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _snapshots_in_reach(self) -> NetworkRecipe:
        if any(not 0 <= epoch <= self.epochs for epoch in self.snapshots):
            raise ValueError(f"snapshots must lie in 0..{self.epochs}")
        return self

    @property
    def kept(self) -> tuple[int, ...]:
        """The numbers of epochs after which the state is kept, in order."""
        return tuple(sorted({*self.snapshots, self.epochs}))

    def held_out_of(self, count: int) -> int:
        """Return how many of so many images of a class are held out."""
        return max(0, min(max(1, round(self.held_out * count)), count - 1)) if self.held_out else 0

    def lr_in(self, epoch: int) -> float:
        """Return the learning rate in an epoch, counted from 1."""
        return self.lr * self.decay ** sum(after < epoch for after in self.decay_at)

    def __str__(self) -> str:
        """Say it in words."""
        decay = "".join(f", x{self.decay:g} after {after}" for after in self.decay_at)
        parts = [
            f"{counted(self.epochs, 'epoch')}, batch {self.batch_size}, SGD {self.lr:g}{decay}",
            f"momentum {self.momentum:g}, weight decay {self.weight_decay:g}",
            *[f"siamese {self.augmentation}" + ", align_corners" * self.align_corners] * bool(self.augmentation),
            *["ZCA"] * self.zca,
            *[f"{self.held_out:.0%} held out"] * bool(self.held_out),
            f"seed {self.seed}",
        ]
        return ", ".join(parts)


class NetworkSpec(Spec):
    """All that one trained network depends on.

    Attributes:
        dataset_sha256: hash of the data, as `DatasetInfo.sha256`.
        network: canonical name of the architecture.
        source_sha256: hash of the code of the architecture.
        number: of the network among those of the recipe, from 0: each has draws of its own.
    """

    dataset: str
    dataset_sha256: str
    network: str
    source_sha256: str
    recipe: NetworkRecipe
    number: int

    @property
    def trajectory(self) -> str:
        """What its draws depend on: all but how long it is trained, and which of its states are kept."""
        recipe = self.recipe.model_copy(update={"epochs": 0, "snapshots": ()})
        return self.model_copy(update={"recipe": recipe}).key()


@dataclass(frozen=True)
class StoredNetwork:
    """What is kept of a network that was trained by a recipe.

    Attributes:
        spec: what it is.
        accuracy: fraction of the images that it was trained on which it classifies correctly after the last epoch.
        held_out_accuracy: fraction of the held-out images that it classifies correctly, by the numbers of epochs
            of `NetworkRecipe.kept`; empty if nothing is held out.
        held_out: positions of the held-out images in the training split: int64, shape (n,), on the CPU.
        sha256: hash of what is kept of it.
        path: the file that has it.
        read: returns the state after an epoch, from the file.
    """

    spec: NetworkSpec
    accuracy: float
    held_out_accuracy: Mapping[int, float]
    held_out: Tensor
    sha256: str
    path: Path
    read: Callable[[int], State] = field(repr=False)


@dataclass(frozen=True)
class TrainedNetwork(StoredNetwork):
    """A network that was trained by a recipe, as methods and protocols get it.

    Attributes:
        architecture, info, device: what `network` builds, and where.
        seconds: what it took to train, whoever did.
    """

    architecture: Architecture
    info: DatasetInfo
    device: torch.device
    seconds: float

    @property
    def epochs(self) -> tuple[int, ...]:
        """The numbers of epochs after which the state was kept, in order; 0 is the initialisation."""
        return self.spec.recipe.kept

    def state(self, epoch: int | None = None) -> State:
        """Return parameters and buffers after so many epochs, on the CPU; by default after the last.

        Raises:
            ValueError: if the state after that epoch was not kept.
        """
        epoch = self.epochs[-1] if epoch is None else epoch
        if epoch not in self.epochs:
            raise ValueError(f"the states after epochs {self.epochs} were kept, not that after {epoch}")
        return self.read(epoch)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What a record states of it as a teacher, see `dcbench.results.records.Record`."""
        return {
            "network": self.spec.network,
            "recipe": str(self.spec.recipe),
            "sha256": self.sha256,
            "held_out_accuracy": self.held_out_accuracy.get(self.epochs[-1]),
            "bytes": self.bytes,
        }

    @cached_property
    def bytes(self) -> int:
        """Bytes of its parameters and buffers."""
        return sum(each.nbytes for each in self.state().values())

    def network(self, epoch: int | None = None) -> nn.Module:
        """Return the network after so many epochs, by default the last: on the device, in evaluation mode."""
        network = new_network(self.architecture, self.info, 0, self.device)
        network.load_state_dict({name: send(each, self.device) for name, each in self.state(epoch).items()})
        return network.eval()
