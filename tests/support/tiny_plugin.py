"""A plugin for the tests: a data set that trains in milliseconds, and methods that misbehave."""

from __future__ import annotations

import os
import signal
import time
import warnings
from pathlib import Path

import torch
from torch import nn

from dcbench.api import (
    Architecture,
    CondensedSet,
    Dataset,
    DatasetInfo,
    Method,
    NetworkRecipe,
    Split,
    Splits,
    Task,
    hookimpl,
    option,
)


class Tiny(Dataset):
    """Three classes of 8x8 blobs; the last class has 6 training images, the others 20."""

    name = "tiny"

    def load(self, root: Path) -> Splits:
        generator = torch.Generator().manual_seed(1)

        def split(counts):
            labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
            images = torch.randint(0, 120, (len(labels), 1, 8, 8), generator=generator)
            for label in range(3):
                images[labels == label, :, 2 * label : 2 * label + 3] += 80
            return Split(images.to(torch.uint8), labels)

        return Splits(split([20, 20, 6]), split([10, 10, 10]), ("a", "b", "c"))


class Linear(Architecture):
    """One linear layer."""

    name = "linear"

    def build(self, info: DatasetInfo) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(info.channels * info.size[0] * info.size[1], info.num_classes)
        )


class Noting(Linear):
    """One linear layer, which takes its time in training, and says in a file which process has taken a step."""

    name = "noting"
    log: str = option("", "the file")

    def build(self, info: DatasetInfo) -> nn.Module:
        network = super().build(info)
        network.register_forward_pre_hook(self._note)
        return network

    def _note(self, network: nn.Module, inputs: object) -> None:
        if network.training and torch.is_grad_enabled():
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(0.05)


class Second(Linear):
    """One linear layer, and the second version of it; as wide as the images unless told."""

    name = "second"
    version = "2"
    width: int | None = option(None, "of the images, in pixels")

    def resolve(self, info: DatasetInfo) -> Second:
        return self.model_copy(update={"width": self.width or info.size[1]})


class Dropout(Architecture):
    """A network that draws random numbers in its forward pass."""

    name = "dropout"

    def build(self, info: DatasetInfo) -> nn.Module:
        inputs = info.channels * info.size[0] * info.size[1]
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.Dropout(0.5), nn.Linear(16, info.num_classes))


class ColourOnly(Architecture):
    """A network that breaks on grey images, without saying so."""

    name = "colour_only"

    def build(self, info: DatasetInfo) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(info.num_classes))


class Fails(Method):
    """Raises when it condenses."""

    name = "fails"

    def condense(self, task: Task) -> CondensedSet:
        raise RuntimeError("nothing works")


class Wanders(Method):
    """Moves noise images in steps, with checkpoints; its loss, or its state, may go wrong, or memory run out."""

    name = "wanders"
    steps: int = option(6, "how often the images are moved", ge=1)
    nan_at: int = option(0, "the step whose loss is not a number")
    huge_at: int = option(0, "the step whose loss has exploded")
    memory_at: int = option(0, "the step for which there is no memory")
    batch_real: int = option(32, "images at once")
    batch_train: int = option(16, "images at once")

    def condense(self, task: Task) -> CondensedSet:
        images, start = torch.zeros(3 * task.ipc, 1, 8, 8), 0
        state = task.checkpoint.load()
        if state is not None:
            images, start = state["images"], int(state["done"])
        for step in range(start + 1, self.steps + 1):
            if step == self.memory_at:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            task.check_loss(step, {self.nan_at: torch.nan, self.huge_at: 1e9}.get(step, 1.0))
            images = images + torch.randn(images.shape, generator=task.generator)
            task.progress(step, self.steps)
            done = torch.tensor(step)
            task.checkpoint.offer(lambda: {"images": images, "done": done})  # noqa: B023
        return CondensedSet(images, task.synthetic_labels().cpu())


class Taught(Method):
    """Noise images with the logits of networks that were trained on the training split; it brings all it can."""

    name = "taught"
    networks: int = option(2, "how many teach")
    epochs: int = option(2, "of their training")
    lr: float = option(0.05, "of their training")

    def condense(self, task: Task) -> CondensedSet:
        recipe = NetworkRecipe(
            epochs=self.epochs, lr=self.lr, batch_size=16, momentum=0.9, snapshots=(0,), held_out=0.2
        )
        state = task.checkpoint.load()
        if state is None:
            classes, shape = task.info.num_classes, (task.info.channels, *task.info.size)
            images = torch.randn(classes * task.ipc, *shape, generator=task.generator)
            state = {"images": images, "logits": torch.zeros(len(images), classes), "done": torch.tensor(0)}
        for each in task.trained_networks(recipe, self.networks)[int(state["done"]) :]:
            with torch.no_grad():
                state["logits"] = state["logits"] + each.network()(state["images"])
            state["done"] = state["done"] + 1
            task.progress(int(state["done"]), self.networks)
            task.checkpoint.offer(lambda: state)
        return CondensedSet(state["images"], state["logits"], lr=0.02, temperature=4.0, factor=2)


class Shorts(Method):
    """Returns an image too few, or a NaN."""

    name = "shorts"
    nan: bool = option(False, "return a NaN instead")

    def condense(self, task: Task) -> CondensedSet:
        labels = task.synthetic_labels().cpu()
        images = torch.zeros(len(labels), 1, 8, 8)
        if self.nan:
            images[0, 0, 0, 0] = torch.nan
            return CondensedSet(images, labels)
        return CondensedSet(images[1:], labels[1:])


class Nothing(Method):
    """Returns no images at all."""

    name = "nothing"
    depends_on = frozenset()

    def condense(self, task: Task) -> CondensedSet:
        return CondensedSet(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))


class Means(Method):
    """The mean image of each class: depends on nothing but the data."""

    name = "means"
    depends_on = frozenset({"ipc"})
    quick = {"scale": 0.5}
    scale: float = option(1.0, "factor on the images", source="nowhere", gt=0)

    def condense(self, task: Task) -> CondensedSet:
        means = [task.train.normalised(members).mean(0, keepdim=True) for members in task.train.class_indices]
        images = torch.cat(means).repeat_interleave(task.ipc, dim=0)
        return CondensedSet(self.scale * images.cpu(), task.synthetic_labels().cpu())


class Dies(Method):
    """Kills its process when it condenses, as often as it is told."""

    name = "dies"
    depends_on = frozenset({"ipc", "seed"})
    marks: str = option("", "folder in which it leaves a mark before it dies")
    times: int = option(1, "how often it dies", ge=0)

    def condense(self, task: Task) -> CondensedSet:
        deaths = len(list(Path(self.marks).iterdir()))
        if deaths < self.times:
            (Path(self.marks) / str(deaths)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        warnings.warn("survived", stacklevel=2)
        labels = task.synthetic_labels().cpu()
        return CondensedSet(torch.randn(len(labels), 1, 8, 8, generator=task.generator), labels)


class Waits(Method):
    """Says who it is in a file, and waits until another file is there."""

    name = "waits"
    depends_on = frozenset({"ipc", "seed"})
    marks: str = option("", "folder of both files")

    def condense(self, task: Task) -> CondensedSet:
        (Path(self.marks) / f"{os.getpid()}.started").touch()
        while not (Path(self.marks) / "go").exists():
            time.sleep(0.02)
        labels = task.synthetic_labels().cpu()
        return CondensedSet(torch.randn(len(labels), 1, 8, 8, generator=task.generator), labels)


class Paces(Method):
    """Draws numbers step by step, at leisure, and says in a file which process has taken which step."""

    name = "paces"
    depends_on = frozenset({"ipc", "seed"})
    log: str = option("", "the file")
    steps: int = option(30, "how many", ge=1)

    def condense(self, task: Task) -> CondensedSet:
        labels = task.synthetic_labels().cpu()
        state = task.checkpoint.load() or {"images": torch.zeros(len(labels), 1, 8, 8), "steps": torch.tensor(0)}
        images = state["images"]
        for step in range(int(state["steps"]), self.steps):
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()} {step}\n")
            time.sleep(0.1)
            images = images + torch.randn(images.shape, generator=task.generator)
            done = {"images": images, "steps": torch.tensor(step + 1)}
            task.checkpoint.offer(lambda done=done: done)
            task.progress(step + 1, self.steps)
        return CondensedSet(images, labels)


@hookimpl
def dcbench_register_datasets():
    return [Tiny]


@hookimpl
def dcbench_register_architectures():
    return [Linear, Noting, Second, Dropout, ColourOnly]


@hookimpl
def dcbench_register_methods():
    return [Fails, Taught, Shorts, Wanders, Nothing, Means, Dies, Waits, Paces]
