"""Methods: what a condensation plugin provides, and the task it is given."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from dcbench.core.architecture import Architecture, new_network
from dcbench.core.component import Component
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.dataset import DatasetInfo
from dcbench.core.loss_watch import LossWatch
from dcbench.core.spec import Budget
from dcbench.core.split import ResidentSplit
from dcbench.utils.errors import DcbenchError
from dcbench.utils.seeds import draw_seed


@dataclass(frozen=True)
class Setting:
    """What a method is asked for, before any image is looked at.

    Attributes:
        info: facts of the data set.
        class_counts: training images per class, in label order.
        ipc: images per class.
        network: canonical name of the matching network, e.g. ``convnet`` or ``convnet:norm=batch``.
    """

    info: DatasetInfo
    class_counts: tuple[int, ...]
    ipc: int
    network: str

    def require_enough_images(self) -> None:
        """Raise a `DcbenchError` where some class has fewer than ``ipc`` images to choose from."""
        fewest = min(self.class_counts)
        if self.ipc > fewest:
            label = self.info.class_names[self.class_counts.index(fewest)]
            raise DcbenchError(
                f"ipc {self.ipc} is more than {self.info.name} has to choose from: "
                f"class {label!r} has {fewest} training images."
            )


class Checkpoint(Protocol):
    """Where a method keeps its state, so that an interrupted condensation goes on where it was."""

    def load(self) -> dict[str, Tensor] | None:
        """Return the last state saved by the same spec, on the CPU, or None.

        The task's generator has then been set back to where it was at that moment.
        """

    def offer(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Save ``state()`` if a while has passed since the last time; cheap to call at every step.

        Raises:
            Diverged: when a tensor of the state is not finite: the last good state is kept.
        """


@dataclass(frozen=True)
class Task:
    """All that a method is given. The test split is not reachable from here.

    Attributes:
        train: the training split, on the device.
        ipc: images per class.
        generator: the CPU generator, seeded by the spec, from which every random draw must come.
        architecture: the matching network's architecture.
        checkpoint: keeps the state of long work.
        progress: call it as ``progress(done, total)``, in steps of equal work.
        losses: what `check_loss` has seen.
    """

    train: ResidentSplit
    ipc: int
    generator: torch.Generator
    architecture: Architecture
    checkpoint: Checkpoint
    progress: Callable[[int, int], None]
    losses: LossWatch = field(default_factory=LossWatch)

    @property
    def info(self) -> DatasetInfo:
        """Facts of the data set."""
        return self.train.info

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return self.train.device

    def new_network(self) -> nn.Module:
        """Return a fresh matching network on the device, initialised from the task's generator."""
        return new_network(self.architecture, self.info, draw_seed(self.generator), self.device)

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return penultimate features of a network made by `new_network`: shape (N, D)."""
        return self.architecture.features(network, images)

    def check_loss(self, iteration: int, loss: Tensor | float) -> None:
        """Stop the condensation when a loss is not finite or has exploded; cheap to call at every step.

        It has exploded when it is more than a million times the first one (or than 1, if the first is less).
        On a GPU several are looked at together, so that none is waited for.

        Args:
            iteration: counted from 1.
            loss: of shape ().

        Raises:
            Diverged: naming the iteration. Let it pass: the run records it and goes on with what else there is.
        """
        self.losses.check(iteration, loss)

    def synthetic_labels(self) -> Tensor:
        """Return the labels of ``ipc`` images per class, class by class: int64, on the device."""
        classes = torch.arange(self.info.num_classes, device=self.device)
        return classes.repeat_interleave(self.ipc)


class Method(Component):
    """A condensation plugin: its fields are its hyper-parameters, `condense` is the method.

    Class attributes:
        depends_on: which of ``ipc``, ``network`` and ``seed`` the result depends on. What it does not
            depend on is not repeated in a run: the whole training set, say, is evaluated once.
        quick: options for the quick budget, where they differ from the paper's.
    """

    kind: ClassVar[str] = "method"
    depends_on: ClassVar[frozenset[str]] = frozenset({"ipc", "network", "seed"})
    quick: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def for_budget(cls, budget: Budget, options: Mapping[str, Any]) -> Self:
        """Return the method with options and, beneath them, those of `quick` where the budget is no official one.

        Raises:
            DcbenchError: for an option that it does not have, or a value that it refuses.
        """
        return cls.configure({**({} if budget.official else cls.quick), **options})

    def dependencies(self) -> frozenset[str]:
        """Return what the result depends on with these options: `depends_on`, unless they leave some of it out."""
        return self.depends_on

    def resolve(self, setting: Setting) -> Self:
        """Return a copy with every option that depends on the setting filled in.

        Called before anything is run; the resolved options are what is hashed and recorded.

        Raises:
            DcbenchError: where the method cannot serve the setting, such as more images per class than
                there are to choose from.
        """
        return self

    def changed_from_defaults(self, setting: Setting) -> dict[str, Any]:
        """Return the options, of a method that is resolved for a setting, that are not its defaults there.

        Defaults that cannot serve the setting are compared as they are stated.
        """
        try:
            default = type(self)().resolve(setting)
        except (DcbenchError, ValidationError):
            default = type(self).model_construct()
        return self.changed_options(default)

    @abstractmethod
    def condense(self, task: Task) -> CondensedSet:
        """Turn the training split into a condensed set. ``self`` is resolved.

        The same task must give the same bytes. Inputs are not to be changed.
        """
