"""What a method returns: a condensed set of the right form."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from dcbench.checks.check import CheckFailed, raised, require_passed
from dcbench.checks.tryout import (
    LIMIT_SECONDS,
    Scenario,
    Subject,
    Tryout,
    difference,
    ipcs_of,
    method_of,
    same,
    same_history,
    try_out,
    tryout_of,
)
from dcbench.core.condensed_set import CondensedSet, check_set
from dcbench.results.set_file import load_set, save_set
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import default_data_root


def condenses(subject: Subject) -> None:
    """It condenses 28 images of 3x8x8 pixels in 3 classes to 1, 2 and 3 images per class."""
    for ipc in ipcs_of(subject):
        trial = try_out(method_of(subject), Scenario(ipc))
        if isinstance(trial.error, DcbenchError):
            raise CheckFailed(
                f"a condensed set of {ipc} images per class, where the smallest class has 7",
                f"it refuses: {trial.error}",
                "serve coloured images of 8x8 pixels, or say in the README what the method is for",
            )
        if trial.error is not None:
            expected, found, advice = raised(trial.error)
            raise CheckFailed(f"{expected} at {ipc} images per class", found, advice)
        if trial.stopped:
            raise CheckFailed(
                f"to be ready within {LIMIT_SECONDS:g} seconds",
                f"stopped after {trial.seconds:.0f}",
                'give `quick` smaller options, as in quick = {"iterations": 50}',
            )
        if not isinstance(trial.result, CondensedSet):
            raise CheckFailed(
                "a CondensedSet",
                f"{type(trial.result).__name__}: {str(trial.result)[:80]}",
                "return CondensedSet(images, labels), or CondensedSet.select(task.train, indices)",
            )


def images_are_float32_on_the_cpu(subject: Subject) -> str | None:
    """Images are float32 (N, C, H, W), finite, detached, on the CPU."""
    trial = tryout_of(subject)
    images, info = trial.condensed.images, trial.train.info
    _require_tensor(images, "images")
    shape = (info.channels, *info.size)
    if images.ndim != 4 or tuple(images.shape[1:]) != shape:
        raise CheckFailed(
            f"images of shape (N, {', '.join(map(str, shape))})",
            str(tuple(images.shape)),
            "take the shape from task.info: (N, task.info.channels, *task.info.size)",
        )
    _require(images, "images", torch.float32)
    if float(images.abs().max()) > 30:
        return (
            f"the largest value is {float(images.abs().max()):.0f}; in normalised space most are within 3: "
            "are these pixels?"
        )
    return None


def labels_belong_to_the_images(subject: Subject) -> str | None:
    """Labels are int64 (N,) from 0 to K-1, or soft, float32 (N, K), finite, detached, on the CPU."""
    trial = tryout_of(subject)
    images, labels, classes = trial.condensed.images, trial.condensed.labels, trial.train.info.num_classes
    _require_tensor(labels, "labels")
    soft = labels.ndim == 2
    expected = (len(images), classes) if soft else (len(images),)
    if tuple(labels.shape) != expected:
        raise CheckFailed(
            f"labels of shape ({len(images)},), or soft ones of shape ({len(images)}, {classes})",
            str(tuple(labels.shape)),
            "return one label for each image; task.synthetic_labels() has them class by class",
        )
    _require(labels, "labels", torch.float32 if soft else torch.int64)
    if not soft and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise CheckFailed(
            f"labels from 0 to {classes - 1}",
            f"{int(labels.min())} to {int(labels.max())}",
            "count classes from 0, as task.train.labels does",
        )
    return "soft labels: ranked in a track of their own" if soft else None


def every_class_gets_its_images(subject: Subject) -> str | None:
    """Every class gets exactly `ipc` images, unless `depends_on` leaves ipc out."""
    if "ipc" not in method_of(subject).dependencies():
        return "declared: the number of images is the method's own"
    for ipc in ipcs_of(subject):
        trial = usable(subject, Scenario(ipc))
        labels, classes = trial.condensed.labels, trial.train.info.num_classes
        counts = [len(labels)] if labels.ndim == 2 else torch.bincount(labels, minlength=classes).tolist()
        expected = [ipc * classes] if labels.ndim == 2 else [ipc] * classes
        if counts != expected:
            raise CheckFailed(
                f"{expected} images (of each class, or in all) at {ipc} images per class",
                str(counts),
                "make task.ipc images of every class; a method that decides for itself declares it by a "
                "depends_on without 'ipc'",
            )
    return None


def indices_and_history_fit(subject: Subject) -> None:
    """A coreset's images are those that its indices choose; curves are 1-D tensors on the CPU."""
    trial = usable(subject, Scenario())
    try:
        check_set(trial.condensed, trial.train, None)
    except ValueError as error:
        raise CheckFailed(
            "indices that choose the images and labels, and history of shape (steps,)",
            str(error),
            "return CondensedSet.select(task.train, indices), or leave indices out; history.cpu()",
        ) from None


def survives_saving(subject: Subject) -> None:
    """Saved and loaded, the set is the same."""
    trial = usable(subject, Scenario())
    condensed = trial.condensed
    header = {"set_sha256": condensed.sha256(), "train_size": len(trial.train), "normalisation": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.safetensors"
        try:
            save_set(path, condensed, {**header, "normalisation": {"zca": condensed.zca}})
            again, _ = load_set(path, trial.train)
        except Exception as error:
            raise CheckFailed(
                "a set that can be saved and loaded",
                f"{type(error).__name__}: {error}",
                "return plain tensors, history as a dict from names to tensors",
            ) from None
    if not same(again, condensed) or not same_history(again, condensed):
        raise CheckFailed("the same set after saving", "another", "return contiguous tensors of standard dtypes")


def usable(subject: Subject, scenario: Scenario) -> Tryout:
    """Return a trial whose images and labels are tensors that can be compared.

    Raises:
        CheckBlocked: when they are not.
    """
    trial = tryout_of(subject, scenario)
    for check in (images_are_float32_on_the_cpu, labels_belong_to_the_images):
        require_passed(check, subject)
    return trial


def _require_tensor(value: object, what: str) -> None:
    if not isinstance(value, Tensor):
        raise CheckFailed(f"{what} that are a torch.Tensor", type(value).__name__, f"return {what} as a tensor")
    if not len(value):
        raise CheckFailed(f"at least one of the {what}", "none", "return task.ipc images of every class")


def _require(tensor: Tensor, what: str, dtype: torch.dtype) -> None:
    """Check dtype, device, being detached and finite."""
    if tensor.dtype != dtype:
        cast = {torch.float32: "float", torch.int64: "long"}[dtype]
        raise CheckFailed(f"{what} of {dtype}", str(tensor.dtype), f"return {what}.{cast}()")
    if tensor.requires_grad:
        raise CheckFailed(f"detached {what}", "they require grad", f"return {what}.detach()")
    if tensor.device.type != "cpu":
        raise CheckFailed(f"{what} on the CPU", str(tensor.device), f"return {what}.cpu()")
    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise CheckFailed(
            f"finite {what}",
            f"{bad} of {tensor.numel()} values are NaN or infinite",
            "look for a division by zero, a logarithm of zero, or too large a learning rate",
        )


def leaves_its_inputs_alone(subject: Subject) -> None:
    """The training split and the method's options are not changed."""
    changed = tryout_of(subject).changed
    if changed:
        raise CheckFailed(
            "inputs that are afterwards as they were",
            f"changed: {', '.join(changed)}",
            "work on a copy: task.train.images.clone(); normalised() and draw() already return new tensors",
        )


def draws_from_its_generator_alone(subject: Subject) -> None:
    """No global generator is drawn from or seeded."""
    generators = tryout_of(subject).observed.generators
    if generators:
        raise CheckFailed(
            "global generators that are afterwards as they were",
            f"{' and '.join(generators)} moved",
            "pass generator=task.generator to torch.rand, randn, randint and randperm; make networks with "
            "task.new_network(); wrap what takes no generator in torch.random.fork_rng() and seed it from a draw",
        )


def leaves_settings_alone(subject: Subject) -> None:
    """Grad mode, default dtype, number of threads and working directory are afterwards as they were."""
    settings = tryout_of(subject).observed.settings
    if settings:
        found = "; ".join(f"{name} is {after} (was {before})" for name, (before, after) in settings.items())
        raise CheckFailed(
            "settings of the process that are afterwards as they were",
            found,
            "use torch.no_grad() as a decorator or in a with statement, and leave the other settings alone",
        )


def never_sees_the_test_split(subject: Subject) -> str | None:
    """It loads no data set, reads nothing from the data folder, and another test split changes nothing.

    Files that are read by compiled code, or before the method is called, are not seen.
    """
    trial, other = (usable(subject, Scenario(test_seed=seed)) for seed in (0, 1))
    observed, root = trial.observed, default_data_root()
    read = sorted(set(observed.files))
    from_root = [path for path in read if Path(path).is_relative_to(root.absolute())]
    if observed.datasets or from_root:
        what = [f"the data set {name!r} was loaded" for name in sorted(set(observed.datasets))]
        what += [f"{path} was read" for path in from_root[:3]]
        raise CheckFailed(
            "a method that uses the images it is given",
            "; ".join(what),
            "use task.train; a data set has a test split, which a method is not to see",
        )
    if not same(trial.condensed, other.condensed):
        raise CheckFailed(
            "the same set from the same training split, whatever the test split",
            "another set: task.info.sha256, which covers the test split too, or something read elsewhere, counts",
            "use nothing of task.info but the classes, channels, size, mean and std",
        )
    remarks = [f"it reads {', '.join(read[:3])}: no check can tell what that is"] if read else []
    remarks += [f"it connects to {', '.join(sorted(set(observed.hosts))[:3])}"] if observed.hosts else []
    return "; ".join(remarks) or None


def same_seed_gives_the_same_bytes(subject: Subject) -> None:
    """The same task gives the same images and labels, byte for byte."""
    one, other = (usable(subject, Scenario(turn=turn)) for turn in (0, 1))
    if not same(one.condensed, other.condensed):
        raise CheckFailed(
            "the same bytes from two runs of the same task",
            difference(one.condensed, other.condensed),
            "draw every random number from task.generator; no NumPy or Python generator, no clock, no hash(), "
            "no state kept in the class or the module",
        )


def depends_on_the_seed_as_it_says(subject: Subject) -> None:
    """Another seed gives another set if and only if `depends_on` names the seed."""
    first = usable(subject, Scenario())
    others = [usable(subject, Scenario(seed=seed)) for seed in (1, 2)]
    differs = [not same(first.condensed, each.condensed) for each in others]
    if "seed" not in method_of(subject).dependencies() and any(differs):
        raise CheckFailed(
            "the same set from every seed, since depends_on leaves 'seed' out",
            "another set from another seed",
            "add 'seed' to depends_on, so that a run makes several sets; or draw nothing at random",
        )
    if "seed" in method_of(subject).dependencies() and not any(differs):
        raise CheckFailed(
            "another set from another seed, since depends_on names 'seed'",
            "the same set from the seeds 0, 1 and 2",
            "draw from task.generator; or leave 'seed' out of depends_on, so that the same set is not made again",
        )


def depends_on_the_network_as_it_says(subject: Subject) -> str | None:
    """Another matching network changes nothing where `depends_on` leaves the network out."""
    one, other = (usable(subject, Scenario(width=width)) for width in (6, 4))
    unchanged = same(one.condensed, other.condensed)
    declared = "network" in method_of(subject).dependencies()
    if not declared and not unchanged:
        raise CheckFailed(
            "the same set whatever the matching network, since depends_on leaves 'network' out",
            "another set with another network",
            "add 'network' to depends_on, so that results say which network it was",
        )
    if declared and unchanged:
        return "two networks gave the same set: if it never depends on it, leave 'network' out of depends_on"
    return None
