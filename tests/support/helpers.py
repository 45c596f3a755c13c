"""What several test files make: facts of a data set, training splits, condensed sets and records."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from dcbench.condense.trained_networks import TrainedNetworks
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.dataset import DatasetInfo, Split
from dcbench.core.method import Task
from dcbench.core.split import ResidentSplit
from dcbench.results.artefacts import Artefacts
from dcbench.results.records import Record
from dcbench.utils.seeds import new_generator

NETWORKS = TemporaryDirectory(prefix="dcbench-networks-")
"""Where the trained networks of tasks are kept unless a test says otherwise; a process shares them."""
TIMES = {"condense_seconds", "eval_seconds", "networks_seconds", "peak_memory_bytes", "started_at"}
"""Fields of records that two runs of one spec may differ in."""


def make_info(channels=1, size=(8, 8), classes=3, **changes):
    """Facts of a data set that does not exist, with a mean of 0.5 and a deviation of 0.25."""
    fields = {
        "name": "made_up",
        "class_names": tuple(f"class {label}" for label in range(classes)),
        "channels": channels,
        "size": size,
        "mean": (0.5,) * channels,
        "std": (0.25,) * channels,
        "sha256": "0" * 64,
    }
    return DatasetInfo(**(fields | changes))


def make_split(counts=(4, 4, 4), channels=1, size=(8, 8), seed=0):
    """Noise images, as many of each class as told, the classes mixed."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    images = torch.randint(256, (len(labels), channels, *size), generator=generator)
    return Split(images.to(torch.uint8), labels)


def make_train(counts=(4, 4, 4), channels=1, size=(8, 8), seed=0):
    """A training split of noise on the CPU."""
    info = make_info(channels, size, len(counts))
    return ResidentSplit.place(make_split(counts, channels, size, seed), info, torch.device("cpu"))


def make_set(ipc=1, channels=1, size=(8, 8), classes=3, seed=0, **changes):
    """A condensed set of noise, class by class."""
    generator = torch.Generator().manual_seed(seed)
    fields = {
        "images": torch.randn(ipc * classes, channels, *size, generator=generator),
        "labels": torch.arange(classes).repeat_interleave(ipc),
    }
    return CondensedSet(**(fields | changes))


def make_record(**changes):
    """A successful record of the full budget. Unless told otherwise, its keys follow from its other fields."""
    fields = {
        "status": "ok",
        "error": "",
        "dataset": "made_up",
        "dataset_sha256": "d" * 64,
        "ipc": 1,
        "method": "gradmatch",
        "method_version": "1",
        "options": {"iterations": 1000, "lr_img": 0.1},
        "changed_options": [],
        "matching_network": "convnet",
        "condense_seed": 0,
        "evaluation_network": "convnet",
        "protocol": "dc",
        "budget": "full",
        "engine": "plain",
        "track": "hard-label",
        "eval_seed": 0,
        "accuracy": 0.5,
        "n_test": 100,
        "condense_seconds": 2.0,
        "eval_seconds": 1.0,
        "peak_memory_bytes": 1000,
        "storage_bytes": 800,
        "plugin": "dcbench-suite",
        "plugin_version": "0.1.0",
        "source_sha256": "f" * 64,
        "device": "cpu: made up, 1 threads",
        "torch": "2.15.0",
        "dcbench": "0.1.0",
        "git_sha": None,
        "git_dirty": None,
        "started_at": "2025-01-01T00:00:00Z",
    } | changes
    condensation = (
        "dataset",
        "dataset_sha256",
        "ipc",
        "method",
        "method_version",
        "options",
        "matching_network",
        "condense_seed",
        "track",
    )
    evaluation = ("evaluation_network", "protocol", "budget", "eval_seed")
    fields.setdefault("condense_key", "/".join(str(fields[name]) for name in condensation))
    fields.setdefault("set_sha256", f"set of {fields['condense_key']}")
    fields.setdefault("key", "/".join(str(fields[name]) for name in ("set_sha256", *evaluation)))
    return Record(**fields)


class NoCheckpoint:
    """Keeps nothing."""

    def load(self):
        return None

    def offer(self, state):
        pass


def make_task(data, architecture, ipc=2, checkpoint=None, seed=0, progress=lambda done, total: None, folder=None):
    """A task for a method, on the training split of a loaded data set; trained networks are kept in a folder."""
    networks = TrainedNetworks(Artefacts(Path(folder or NETWORKS.name)), lambda *step: None)
    generator = new_generator("test", seed)
    return Task(
        data.train,
        ipc,
        generator,
        architecture,
        checkpoint or NoCheckpoint(),
        progress,
        networks=networks,
        seed=seed,
    )
