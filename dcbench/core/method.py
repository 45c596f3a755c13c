"""Methods: what a condensation plugin provides, and the task that a method receives."""

from __future__ import annotations

import inspect
import re
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Protocol, Self

import torch
from pydantic import AfterValidator, ValidationError
from torch import Tensor, nn

from dcbench.core.architecture import Architecture, new_network, without_classifier
from dcbench.core.component import Component, option
from dcbench.core.condensed_set import CondensedSet, SetTraits
from dcbench.core.dataset import DatasetInfo
from dcbench.core.loss_watch import LossWatch
from dcbench.core.spec import Budget
from dcbench.core.split import ResidentSplit
from dcbench.core.trained_network import NetworkRecipe, TrainedNetwork
from dcbench.core.whitening import WhitenedSplit, whiten
from dcbench.utils.errors import DcbenchError
from dcbench.utils.seeds import draw_seed


def _check_start(value: str) -> str:
    if not re.fullmatch(r"noise|real|set:[0-9a-f]{12}|[^,]+\.safetensors", value):
        raise ValueError("use noise, real, or the file of a condensed set (.safetensors)")
    return value


IS_START = AfterValidator(_check_start)
Start = Annotated[str, IS_START]
"""The type of an option for what images start as: ``noise``, ``real``, or the file of a condensed set of the data
set, which records state as ``set:`` and 12 digits of its hash. `Task.initial_images` returns the images."""


@dataclass(frozen=True)
class Setting:
    """What a method is asked for, without the images.

    Attributes:
        class_counts: training images per class, in label order.
        ipc: images per class.
        network: canonical name of the matching network, e.g. ``convnet`` or ``convnet:norm=batch``.
        architecture: the matching network's architecture; None if the method does not depend on it, or where only
            a record is at hand.
    """

    info: DatasetInfo
    class_counts: tuple[int, ...]
    ipc: int
    network: str
    architecture: Architecture | None = None

    def require_enough_images(self) -> None:
        """Raise a `DcbenchError` if a class has fewer than ``ipc`` training images to choose from."""
        fewest = min(self.class_counts)
        if self.ipc > fewest:
            label = self.info.class_names[self.class_counts.index(fewest)]
            raise DcbenchError(
                f"ipc {self.ipc} is more than {self.info.name} has to choose from: "
                f"class {label!r} has {fewest} training images."
            )

    def require_linear_classifier(self) -> None:
        """Raise a `DcbenchError` if `without_classifier` does not give the features of the matching network."""
        if self.architecture is None:
            return
        network = new_network(self.architecture, self.info, seed=0).eval()
        shape = (2, self.info.channels, *self.info.size)
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            features = self.architecture.features(network, images)
        try:
            with torch.no_grad():
                same = torch.equal(without_classifier(network)(images), features)
        except Exception:  # whatever a network may raise when a layer that is not its last is gone
            same = False
        if not same:
            raise DcbenchError(
                f"network {self.network!r} has no features before a classifier: it does not end in a linear layer."
            )


class Checkpoint(Protocol):
    """Keeps the state of a method, so that an interrupted condensation can continue."""

    def load(self) -> dict[str, Tensor] | None:
        """Return the last state that the same spec saved, on the CPU, or None.

        It also sets the task's generator back to its state at that moment.
        """

    def offer(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Save ``state()`` if enough time has passed since the last save. Call it at every step: it is cheap.

        A state that is not finite raises `Diverged`, and the last good one is kept.
        """


NetworkSource = Callable[[Architecture, NetworkRecipe, int, ResidentSplit], tuple[TrainedNetwork, ...]]
"""Returns trained networks: of an architecture, by a recipe, so many, on this training split."""


@dataclass(frozen=True)
class Task:
    """All that a method receives. The test split cannot be reached from here.

    Attributes:
        train: the training split, on the device.
        ipc: images per class; 0 for a method that does not depend on it.
        generator: the CPU generator, seeded by the spec. Every random draw must come from it.
        architecture: the matching network's architecture.
        checkpoint: keeps the state of long work.
        progress: call it as ``progress(done, total)``, in steps of equal work.
        losses: the losses that `check_loss` has checked.
        networks: returns trained networks of an architecture, see `trained_networks`.
        seed: of the set. What sets of several methods share may depend on it; draws come from the generator.
        start: images of the set that a `Start` option names, (K * ipc, C, H, W), class by class; else None.
    """

    train: ResidentSplit
    ipc: int
    generator: torch.Generator
    architecture: Architecture
    checkpoint: Checkpoint
    progress: Callable[[int, int], None]
    losses: LossWatch = field(default_factory=LossWatch)
    networks: NetworkSource | None = None
    seed: int = 0
    start: Tensor | None = None

    @property
    def info(self) -> DatasetInfo:
        """Facts about the data set."""
        return self.train.info

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return self.train.device

    def new_network(self) -> nn.Module:
        """Return a fresh matching network on the device, initialised from the task's generator."""
        return new_network(self.architecture, self.info, draw_seed(self.generator), self.device)

    @cached_property
    def whitened(self) -> WhitenedSplit:
        """The training split in whitened space, see `dcbench.core.whitening`."""
        return whiten(self.train)

    def trained_networks(self, recipe: NetworkRecipe, count: int = 1) -> tuple[TrainedNetwork, ...]:
        """Return networks of the matching network's architecture, trained on the training split by a recipe.

        A network is made once, and kept in the results: cells, runs and processes share it. What it took is
        charged to every set that uses it, in full. The networks differ by their draws, which depend on the recipe
        and their number alone: they are the same for every set of every method.

        Args:
            recipe: how they are trained.
            count: how many.

        Raises:
            Diverged: if the training loss of one is not finite.
            ValueError: if ``count`` is below 1.
        """
        if count < 1:
            raise ValueError(f"there must be at least one network, not {count}")
        if self.networks is None:
            raise RuntimeError("this task has no source of trained networks")
        split = self.whitened if recipe.zca else self.train
        return self.networks(self.architecture, recipe, count, split)

    def initial_images(self, init: str, split: ResidentSplit | None = None) -> Tensor:
        """Return the images to start from, class by class: float32, (K * ipc, C, H, W), on the device.

        Args:
            init: the value of a `Start` option: ``noise`` is normal, ``real`` draws images of each class.
            split: where real images are drawn from, if not from ``train``.
        """
        classes = range(self.info.num_classes)
        if init == "noise":
            shape = (len(classes) * self.ipc, self.info.channels, *self.info.size)
            return torch.randn(shape, generator=self.generator).to(self.device)
        if init == "real":
            drawn = self.train if split is None else split
            return torch.cat([drawn.draw(label, self.ipc, self.generator) for label in classes])
        if self.start is None:
            raise DcbenchError(f"the set to start from, {init}, is not here.")
        return self.start.to(self.device, copy=True)

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return penultimate features of a network made by `new_network`: shape (N, D)."""
        return self.architecture.features(network, images)

    def check_loss(self, iteration: int, loss: Tensor | float) -> None:
        """Stop the condensation if a loss is not finite or has exploded. Call it at every step: it is cheap.

        A loss has exploded if it is more than a million times the first one (or a million, if the first is below
        1). On a GPU, several losses are checked together, so that the GPU need not wait. Do not catch `Diverged`,
        which names the iteration: the run records it and continues with other work.

        Args:
            iteration: counted from 1.
            loss: of shape ().
        """
        self.losses.check(iteration, loss)

    def synthetic_labels(self) -> Tensor:
        """Return the labels of ``ipc`` images per class, class by class: int64, on the device."""
        classes = torch.arange(self.info.num_classes, device=self.device)
        return classes.repeat_interleave(self.ipc)


def dependencies_in(method: Method, setting: Setting) -> frozenset[str]:
    """Return what a method depends on in a setting; of an old method, ``dependencies`` takes no setting."""
    if inspect.signature(method.dependencies).parameters:
        return method.dependencies(setting)
    warnings.warn(f"method {method.name}: dependencies() takes a setting now.", DeprecationWarning, stacklevel=2)
    return method.dependencies()  # type: ignore[call-arg]


class Method(Component):
    """A condensation plugin: its fields are its options (hyper-parameters), `condense` is the method.

    Class attributes:
        depends_on: which of ``ipc``, ``network`` and ``seed`` the result depends on. A run does not repeat the
            method for the others: it makes the whole training set once, for example. See `dependencies`.
        quick: options for the quick budget that differ from the paper's.
    """

    kind: ClassVar[str] = "method"
    depends_on: ClassVar[frozenset[str]] = frozenset({"ipc", "network", "seed"})
    quick: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def for_budget(cls, budget: Budget, options: Mapping[str, Any]) -> Self:
        """Return the method with these options; if the budget is not official, `quick` sets the others."""
        return cls.configure({**({} if budget.official else cls.quick), **options})

    def dependencies(self, setting: Setting) -> frozenset[str]:
        """Return what the result depends on with these options in a setting: `depends_on`, or a part of it.

        A method that gives the class means where ``setting.ipc`` is 1 leaves out ``seed`` there, for example.
        ``setting`` has no architecture yet.
        """
        return self.depends_on

    def resolve(self, setting: Setting) -> Self:
        """Return a copy with every option filled in that depends on the setting.

        dcbench calls it before it runs anything, and hashes and records the resolved options. Raise a
        `DcbenchError` for a setting that cannot be served: a class has fewer images than a coreset needs, say.
        """
        return self

    def set_traits(self) -> SetTraits:
        """Return what its sets will be, so that a run is refused before it condenses for a protocol that cannot
        take them. ``self`` is resolved. By default, hard labels and nothing else.
        """
        return SetTraits()

    def needs(self, info: DatasetInfo, seed: int) -> tuple[NetworkRecipe, int] | None:
        """Return by which recipe it will ask for trained networks, and how many; None for none.

        A dry run names them. ``self`` is resolved; ``seed`` is that of the set.
        """
        return None

    def extends(self) -> str | None:
        """Return the option, a number of steps, by which the work may go on later; None by default.

        Draws then do not depend on it, the state at the end is kept, and a task that asks for more steps loads it.
        The state after some steps must be what it is after as many of more.
        """
        return None

    def holds(self) -> tuple[int, int] | None:
        """Return what fills its memory, so that a run can say before it starts that this is too much.

        ``self`` is resolved. Returns how many images pass through the matching network at once, with all that the
        backward pass needs, and how often the parameters are held; None if that is not known.
        """
        return None

    def changed_from_defaults(self, setting: Setting) -> dict[str, Any]:
        """Return the options that differ from the defaults in a setting. ``self`` is resolved for it.

        If the defaults cannot serve the setting, they are compared unresolved.
        """
        try:
            default = type(self)().resolve(setting)
        except (DcbenchError, ValidationError):
            default = type(self).model_construct()
        return self.changed_options(default)

    @abstractmethod
    def condense(self, task: Task) -> CondensedSet:
        """Return a condensed set of the training split. ``self`` is resolved.

        The same task must give the same bytes. Do not change the inputs.
        """


class Extendable(Method):
    """A method of ``iterations`` whose work may go on from that of fewer, where ``--extend`` asks for it."""

    extend: bool = option(
        False,
        "draws do not depend on iterations and the last state is kept: more iterations then go on from it",
        source="dcbench",
        added_later=True,
    )

    def extends(self) -> str | None:
        """Return the option ``iterations``, if the user asks for this."""
        return "iterations" if self.extend else None
