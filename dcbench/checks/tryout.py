"""One condensation of the check's images, watched: what the checks of methods ask about."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcbench.checks.check import CheckBlocked
from dcbench.checks.components import class_of
from dcbench.checks.watch import Observed, watching
from dcbench.condense.checkpoint import FileCheckpoint
from dcbench.core.architecture import Architecture
from dcbench.core.component import option
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.dataset import Dataset, DatasetInfo, Split, Splits
from dcbench.core.loaded_dataset import LoadedDataset, load_dataset
from dcbench.core.method import Method, Setting, Task
from dcbench.core.split import ResidentSplit
from dcbench.utils.errors import DcbenchError
from dcbench.utils.seeds import derive_seed, new_generator, seeded_globals

LIMIT_SECONDS = 60.0
"""How long one condensation may take. The images are 28 of 3x8x8 pixels, the options those of the quick budget."""
KEPT = 24


class Stopped(BaseException):
    """Raised into a method to interrupt it, as Ctrl-C does."""


@dataclass(frozen=True)
class Scenario:
    """What is asked of a method.

    Attributes:
        ipc, seed: as in a run.
        width: of the matching network.
        test_seed: of the test split, which the method is not given.
        turn: tells repetitions apart; it seeds the global generators that dcbench does not.
        device: where to compute.
    """

    ipc: int = 2
    seed: int = 0
    width: int = 6
    test_seed: int = 0
    turn: int = 0
    device: str = "cpu"


@dataclass
class Tryout:
    """What came of it.

    Attributes:
        train: the training split that was given, as it was before.
        observed: what else was done to the process.
        method: as resolved.
        result: what the method returned.
        error: what it raised instead.
        seconds: how long it took.
        progress: the calls of ``task.progress``.
        offers, loads: how often the checkpoint was offered a state, and asked for one.
        changed: what of the inputs was changed.
        stopped: whether it was interrupted.
        too_long: whether its time was over at the last offer or progress.
    """

    train: ResidentSplit
    observed: Observed = field(default_factory=Observed)
    method: Method | None = None
    result: Any = None
    error: Exception | None = None
    seconds: float = 0.0
    progress: list[tuple[Any, Any]] = field(default_factory=list)
    offers: int = 0
    loads: int = 0
    changed: list[str] = field(default_factory=list)
    stopped: bool = False
    too_long: bool = False

    @property
    def condensed(self) -> CondensedSet:
        """The result, where it is a condensed set."""
        assert isinstance(self.result, CondensedSet)
        return self.result


class WatchedCheckpoint(FileCheckpoint):
    """A checkpoint that counts, saves at one offer instead of now and then, and then interrupts."""

    def __init__(self, path: Path, generator: torch.Generator, trial: Tryout, save_at: int | None) -> None:
        """Count into ``trial``; save at that offer, counted from 1, or never."""
        super().__init__(path, generator)
        self._trial, self._save_at, self._saved = trial, save_at, False

    def load(self) -> dict[str, Tensor] | None:
        """Count, and return what was saved."""
        self._trial.loads += 1
        return super().load()

    def offer(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Count, and save or interrupt."""
        self._trial.offers += 1
        self.interrupt()
        if self._trial.offers == self._save_at:
            self._next = -float("inf")
            super().offer(state)
            self._saved = True

    def interrupt(self) -> None:
        """Stop the method if the state has been saved and work was done since, or its time is over."""
        self._trial.too_long = time.monotonic() - self._started > LIMIT_SECONDS
        if self._saved or self._trial.too_long:
            self._trial.stopped = True
            raise Stopped


_kept: dict[tuple[type, str, Scenario], Tryout] = {}


def try_out(method: Method, scenario: Scenario) -> Tryout:
    """Return the trial of a method in a scenario, done once per process; several checks ask about the same."""
    key = (type(method), repr(method), scenario)
    if key not in _kept:
        while len(_kept) >= KEPT:
            _kept.pop(next(iter(_kept)))
        with tempfile.TemporaryDirectory() as folder:
            _kept[key] = condense(method, scenario, Path(folder) / "checkpoint")
    return _kept[key]


def condense(method: Method, scenario: Scenario, path: Path, save_at: int | None = None) -> Tryout:
    """Condense the check's images as a run would, and watch.

    Args:
        method: configured, not resolved.
        scenario: what is asked.
        path: of the checkpoint, gone on with if it exists.
        save_at: the offer, counted from 1, at which to save and after which to interrupt.
    """
    data, device = load_fixture(scenario.test_seed), torch.device(scenario.device)
    train = ResidentSplit.place(data.host_train, data.info, device)
    counts = tuple(len(members) for members in train.class_indices)
    trial = Tryout(ResidentSplit(train.images.clone(), train.labels.clone(), data.info))
    network = CheckNetwork(width=scenario.width)
    ipc = scenario.ipc if "ipc" in method.dependencies() else 0
    generator = new_generator("check", scenario.seed)
    checkpoint = WatchedCheckpoint(path, generator, trial, save_at)

    def progress(done: int, total: int) -> None:
        trial.progress.append((done, total))
        checkpoint.interrupt()

    task = Task(train, ipc, generator, network, checkpoint, progress)
    with (
        _one_thread(),
        seeded_globals(derive_seed("check globals", scenario.seed), device),
        watching(scenario.turn) as trial.observed,
    ):
        started = time.monotonic()
        try:
            trial.method = method.resolve(Setting(data.info, counts, scenario.ipc, str(network)))
            options = trial.method.model_dump()
            trial.result = trial.method.condense(task)
            task.losses.settle()
            trial.changed = _changes(train, trial.train, counts)
            trial.changed += ["its own options"] if trial.method.model_dump() != options else []
        except Stopped:
            trial.stopped = True
        except Exception as error:
            trial.error = error
        trial.seconds = time.monotonic() - started
    trial.observed.files = [each for each in trial.observed.files if Path(each) != path]  # which the task opens
    return trial


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: several take longer for images this small, the more so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _changes(train: ResidentSplit, before: ResidentSplit, counts: tuple[int, ...]) -> list[str]:
    """Name what of the training split is not as it was."""
    pairs = {
        "task.train.images": (train.images, before.images),
        "task.train.labels": (train.labels, before.labels),
        "task.train.class_indices": (torch.cat(train.class_indices), torch.cat(before.class_indices)),
    }
    changed = [name for name, (now, then) in pairs.items() if not torch.equal(now, then)]
    shapes_kept = tuple(len(members) for members in train.class_indices) == counts
    if shapes_kept and not torch.equal(train.normalised(slice(0, 1)), before.normalised(slice(0, 1))):
        changed += [] if changed else ["the statistics that task.train normalises with"]
    return changed


Subject = Method | type[Method]


def method_class(subject: Subject) -> type[Method]:
    """Return the class."""
    return class_of(subject)  # type: ignore[return-value]


def method_of(subject: Subject) -> Method:
    """Return the method to try: an instance as it is, of a class that with the quick budget's options."""
    if isinstance(subject, Method):
        return subject
    try:
        return subject.configure(dict(subject.quick))
    except DcbenchError as error:
        raise CheckBlocked("a method that can be made", str(error), "see quick_options_are_valid") from None


def ipcs_of(subject: Subject) -> tuple[int, ...]:
    """Return the images per class to try: several, unless the method does not depend on them."""
    return (1, 2, 3) if "ipc" in method_of(subject).dependencies() else (2,)


def tryout_of(subject: Subject, scenario: Scenario | None = None) -> Tryout:
    """Return a trial that ended with a condensed set.

    Raises:
        CheckBlocked: when it did not, which the check `condenses` is about.
    """
    trial = try_out(method_of(subject), scenario or Scenario())
    if not isinstance(trial.result, CondensedSet):
        found = f"{type(trial.error).__name__}: {trial.error}" if trial.error else "none"
        raise CheckBlocked("a condensed set", found, "see the check condenses")
    return trial


def same(one: CondensedSet, other: CondensedSet) -> bool:
    """Say whether two sets have the same images and labels, byte for byte."""
    return one.sha256() == other.sha256()


def same_history(one: CondensedSet, other: CondensedSet) -> bool:
    """Say whether two sets have the same curves."""
    return one.history.keys() == other.history.keys() and all(
        torch.equal(one.history[name].nan_to_num(), other.history[name].nan_to_num()) for name in one.history
    )


def difference(one: object, other: CondensedSet) -> str:
    """Say how two sets differ."""
    if not isinstance(one, CondensedSet) or one.images.shape != other.images.shape:
        return "another number of images, or none"
    images = (one.images != other.images).flatten(1).any(1)
    largest = float((one.images - other.images).abs().max())
    return f"{int(images.sum())} of {len(images)} images differ, by at most {largest:.3g}"


CLASS_COUNTS = (12, 9, 7)
"""Training images per class: not as many of each, so that nobody relies on that."""

SIZE = (8, 8)

CHANNELS = 3


class CheckImages(Dataset):
    """Three classes of coloured noise, each with a bright block in a place of its own, in no order."""

    name = "check_images"

    test_seed: int = option(0, "another seed gives another test split, and the same training split")

    def load(self, root: Path) -> Splits:
        """Draw both splits; ``root`` is not used."""
        train = _draw(CLASS_COUNTS, torch.Generator().manual_seed(20210504))
        test = _draw((4, 4, 4), torch.Generator().manual_seed(self.test_seed))
        return Splits(train, test, ("left", "middle", "right"))


def load_fixture(test_seed: int = 0) -> LoadedDataset:
    """Return the data set that methods are checked on: 28 images of 3x8x8 in 3 classes to train on."""
    return load_dataset(CheckImages(test_seed=test_seed), Path())


def _draw(counts: tuple[int, ...], generator: torch.Generator) -> Split:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    images = torch.randint(0, 160, (len(labels), CHANNELS, *SIZE), generator=generator)
    for label in range(len(counts)):
        images[labels == label, :, 2:6, 2 * label + 1 : 2 * label + 3] += 90
    return Split(images.to(torch.uint8), labels)


class CheckNetwork(Architecture):
    """A small convolution, normalisation, ReLU, pooling and a linear classifier: what ConvNets are made of."""

    name = "check_network"

    width: int = option(6, "channels of the convolution", ge=1)

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return the network."""
        features = self.width * (info.size[0] // 2) * (info.size[1] // 2)
        return nn.Sequential(
            nn.Conv2d(info.channels, self.width, 3, padding=1),
            nn.GroupNorm(self.width, self.width),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(features, info.num_classes),
        )
