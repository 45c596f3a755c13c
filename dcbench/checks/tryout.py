"""One condensation of the check's images, watched: what the checks of methods ask about."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from dcbench.checks.check import CheckBlocked
from dcbench.checks.watch import Observed, watching
from dcbench.condense.checkpoint import FileCheckpoint
from dcbench.condense.trained_networks import TrainedNetworks
from dcbench.core.architecture import Architecture
from dcbench.core.component import option
from dcbench.core.condensed_set import CondensedSet, check_set
from dcbench.core.dataset import Dataset, DatasetInfo, Split, Splits
from dcbench.core.loaded_dataset import load_dataset
from dcbench.core.method import Method, Setting, Task, dependencies_in
from dcbench.core.split import ResidentSplit
from dcbench.core.trained_network import NetworkRecipe, TrainedNetwork
from dcbench.results.artefacts import Artefacts
from dcbench.utils.errors import DcbenchError
from dcbench.utils.seeds import derive_seed, new_generator, seeded_globals

Subject = Method | type[Method]

LIMIT_SECONDS = 60.0
"""How long one condensation may take. The images are 28 of 3x8x8 pixels, the options those of the quick budget."""


class Stopped(BaseException):
    """Raised into a method to interrupt it, as Ctrl-C does."""


@dataclass(frozen=True)
class Scenario:
    """What a method is asked for.

    Attributes:
        ipc, seed, device: as in a run.
        width: of the matching network.
        test_seed: of the test split, which the method is not given.
        turn: the number of the repetition, which seeds the global generators that dcbench does not.
    """

    ipc: int = 2
    seed: int = 0
    width: int = 6
    test_seed: int = 0
    turn: int = 0
    device: str = "cpu"


@dataclass
class Tryout:
    """What the method did.

    Attributes:
        train: a copy of the training split that was given, as it was before.
        method: as resolved; before that, as configured.
        result, error: what the method returned, or raised.
        progress: the calls of ``task.progress``.
        offers, loads: how often the checkpoint was offered a state, and asked for one.
        changed: what of the training split was changed.
        stopped: whether it was interrupted.
    """

    train: ResidentSplit
    method: Method
    observed: Observed = field(default_factory=Observed)
    result: Any = None
    error: Exception | None = None
    seconds: float = 0.0
    progress: list[tuple[Any, Any]] = field(default_factory=list)
    offers: int = 0
    loads: int = 0
    changed: list[str] = field(default_factory=list)
    stopped: bool = False

    @property
    def condensed(self) -> CondensedSet:
        """The result, where it is a condensed set."""
        assert isinstance(self.result, CondensedSet)
        return self.result

    def problem(self, ipc: int | None = None) -> str:
        """Return why a run cannot use the result, with that many images per class if told; empty if it can."""
        if not isinstance(self.result, CondensedSet):
            return f"no CondensedSet, but {type(self.error or self.result).__name__}"
        try:
            check_set(self.result, self.train, ipc)
        except Exception as error:
            return str(error)
        return ""


class WatchedCheckpoint(FileCheckpoint):
    """A checkpoint that counts, saves at one offer instead of now and then, and then interrupts."""

    def __init__(self, path: Path, generator: torch.Generator, tryout: Tryout, save_at: int | None) -> None:
        """Count into ``tryout``; save at that offer, counted from 1, or never."""
        super().__init__(path, generator)
        self._tryout, self._save_at = tryout, save_at

    def load(self) -> dict[str, Tensor] | None:
        """Count, and return what was saved."""
        self._tryout.loads += 1
        return super().load()

    def offer(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Count, and save or interrupt."""
        self._tryout.offers += 1
        self.interrupt()
        if self._tryout.offers == self._save_at:
            self._next = -float("inf")
            super().offer(state)

    def interrupt(self) -> None:
        """Stop the method if the state has been saved and work was done since, or its time is over."""
        if (self._save_at and self.written) or time.monotonic() - self._started > LIMIT_SECONDS:
            self._tryout.stopped = True
            raise Stopped


@lru_cache(32)
def try_out(method: Method, scenario: Scenario) -> Tryout:
    """Return the tryout of a method in a scenario, done once per process; several checks ask about the same."""
    with TemporaryDirectory() as folder:
        return condense(method, scenario, Path(folder) / "checkpoint")


def condense(method: Method, scenario: Scenario, path: Path, save_at: int | None = None) -> Tryout:
    """Condense the check's images as a run would, and watch.

    Args:
        method: configured, not resolved.
        scenario: what is asked for.
        path: of the checkpoint; a method goes on from the state in it.
        save_at: the offer, counted from 1, at which to save; the method is interrupted at the next.
    """
    data, device = load_dataset(CheckImages(test_seed=scenario.test_seed), Path()), torch.device(scenario.device)
    train = ResidentSplit.place(data.host_train, data.info, device)
    tryout = Tryout(ResidentSplit(train.images.clone(), train.labels.clone(), data.info), method)
    network = CheckNetwork(width=scenario.width)
    setting = _setting(scenario, data.info)
    ipc = scenario.ipc if "ipc" in dependencies_in(method, setting) else 0
    generator = new_generator("check", scenario.seed)
    checkpoint = WatchedCheckpoint(path, generator, tryout, save_at)

    def progress(done: int, total: int) -> None:
        tryout.progress.append((done, total))
        checkpoint.interrupt()

    trained = TrainedNetworks(Artefacts(path.parent / "results"), lambda *step: None)

    def networks(
        architecture: Architecture, recipe: NetworkRecipe, count: int, split: ResidentSplit
    ) -> tuple[TrainedNetwork, ...]:
        # In a run, their seeds depend on the hash of the data, which covers the test split.
        alike = replace(split, info=replace(data.info, name="check", sha256=""))
        return trained(architecture, recipe, count, alike)

    task = Task(train, ipc, generator, network, checkpoint, progress, networks=networks, seed=scenario.seed)
    with ExitStack() as stack:
        # Several threads take longer for images this small, the more so on a busy machine.
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        stack.enter_context(seeded_globals(derive_seed("check globals", scenario.seed), device))
        tryout.observed = stack.enter_context(watching(scenario.turn))
        started = time.monotonic()
        try:
            tryout.method = method.resolve(replace(setting, architecture=network))
            tryout.result = tryout.method.condense(task)
            task.losses.settle()
        except Stopped:
            pass
        except Exception as error:
            tryout.error = error
        tryout.seconds = time.monotonic() - started
    before, after = _state(tryout.train), _state(train)
    tryout.changed = [name for name in before if not torch.equal(before[name], after[name])]
    # What the task opens is not the method's doing.
    tryout.observed.read = [each for each in tryout.observed.read if path.parent not in Path(each).parents]
    return tryout


def _state(train: ResidentSplit) -> dict[str, Tensor]:
    """Return what a method could change of the training split; images normalised, for the statistics too."""
    return {
        "task.train.images": train.normalised(slice(None)),
        "task.train.labels": train.labels,
        "task.train.class_indices": torch.cat(train.class_indices),
    }


def method_of(subject: Subject) -> Method:
    """Return the method to try: an instance as it is, of a class that with the quick budget's options."""
    if isinstance(subject, Method):
        return subject
    try:
        return subject.configure(dict(subject.quick))
    except DcbenchError as error:
        raise CheckBlocked(str(error), "see the check quick_options_are_valid") from None


def ipcs_of(subject: Subject) -> tuple[int, ...]:
    """Return the images per class to try: several, unless the method does not depend on them."""
    return (1, 2, 3) if "ipc" in depends(subject) else (2,)


def depends(subject: Subject, ipc: int = 2) -> frozenset[str]:
    """Return what the method says it depends on."""
    info = load_dataset(CheckImages(), Path()).info
    return dependencies_in(method_of(subject), _setting(Scenario(ipc), info))


def _setting(scenario: Scenario, info: DatasetInfo) -> Setting:
    return Setting(info, CLASS_COUNTS, scenario.ipc, str(CheckNetwork(width=scenario.width)))


def usable(subject: Subject, scenario: Scenario | None = None) -> Tryout:
    """Return a tryout that ended with a set that a run can use; raise `CheckBlocked` when there is none."""
    tryout = try_out(method_of(subject), scenario or Scenario())
    if problem := tryout.problem():
        raise CheckBlocked(problem, "see the checks condenses and returns_a_usable_set")
    return tryout


def difference(one: CondensedSet, other: CondensedSet) -> str:
    """Say how two sets differ; empty if they have the same images and labels, byte for byte."""
    if one.sha256() == other.sha256():
        return ""
    if one.images.shape != other.images.shape:
        return f"{len(one.images)} and {len(other.images)} images"
    differ = int((one.images != other.images).flatten(1).any(1).sum())
    return f"{differ} of {len(one.images)} images differ" if differ else "other labels"


CLASS_COUNTS = (12, 9, 7)
"""Training images per class: not as many of each, so that no method can rely on that."""


class CheckImages(Dataset):
    """Three classes of coloured noise, each with a bright block in a place of its own, in no order."""

    name = "check_images"

    test_seed: int = option(0, "another seed gives another test split, and the same training split")

    def load(self, root: Path) -> Splits:
        """Draw both splits: 28 training and 12 test images of 3x8x8 pixels; ``root`` is not used."""
        return Splits(_draw(CLASS_COUNTS, 20210504), _draw((4, 4, 4), self.test_seed), ("left", "middle", "right"))


def _draw(counts: tuple[int, ...], seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    images = torch.randint(0, 160, (len(labels), 3, 8, 8), generator=generator)
    for label in range(len(counts)):
        images[labels == label, :, 2:6, 2 * label + 1 : 2 * label + 3] += 90
    return Split(images.to(torch.uint8), labels)


class CheckNetwork(Architecture):
    """A small convolution, normalisation, ReLU, pooling and a linear classifier: what ConvNets are made of."""

    name = "check_network"

    width: int = option(6, "channels of the convolution", ge=1)

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return the network."""
        convolution = nn.Conv2d(info.channels, self.width, 3, padding=1)
        head = nn.Linear(self.width * (info.size[0] // 2) * (info.size[1] // 2), info.num_classes)
        layers = (nn.GroupNorm(self.width, self.width), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten())
        return nn.Sequential(convolution, *layers, head)
