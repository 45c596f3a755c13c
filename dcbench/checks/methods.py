"""The contract of methods."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from dcbench.checks.check import CheckBlocked, CheckFailed, raised, require_passed
from dcbench.checks.components import COMPONENT_CHECKS, class_of
from dcbench.checks.trial import LIMIT_SECONDS, Scenario, Trial, condense, try_out
from dcbench.condensed import CondensedSet, check_set, load_set, save_set
from dcbench.errors import DcbenchError
from dcbench.files import default_data_root
from dcbench.methods import Method

Subject = Method | type[Method]

MAY_DEPEND_ON = frozenset({"ipc", "network", "seed"})
SOON = 5.0
"""Seconds from which on users want to know how long it will take."""


# --- Declarations ------------------------------------------------------------------------------------


def depends_on_is_a_set_of_known_words(subject: Subject) -> None:
    """`depends_on` names nothing but ipc, network and seed."""
    depends_on = class_of(subject).depends_on  # type: ignore[attr-defined]
    if not isinstance(depends_on, frozenset | set) or not depends_on <= MAY_DEPEND_ON:
        raise CheckFailed(
            "a frozenset of 'ipc', 'network' and 'seed', or of some of them",
            repr(depends_on),
            'write depends_on = frozenset({"ipc", "seed"}), say',
        )


def quick_options_are_valid(subject: Subject) -> str | None:
    """`quick` holds options of the method with values that fit."""
    cls = _class(subject)
    try:
        cls.configure(dict(cls.quick))
    except DcbenchError as error:
        raise CheckFailed("options and values that the method takes", str(error), "correct `quick`") from None
    if cls.model_fields and not cls.quick:
        return "no `quick`: the quick budget, a first look, takes as long as the paper's recipe"
    return None


def given_options_are_kept(subject: Subject) -> None:
    """`resolve` fills in what is missing, and changes no option that was given."""
    method, trial = _method(subject), _trial(subject)
    given = method.model_dump(exclude_unset=True)
    resolved = trial.method
    assert resolved is not None
    for name, value in given.items():
        found = resolved.model_dump()[name]
        if value is not None and found != value:
            raise CheckFailed(
                f"{name}={value!r}, as given, after resolve()",
                f"{name}={found!r}",
                f"fill in options only where they are None; refuse {name}={value!r} with a DcbenchError",
            )


# --- What it returns ---------------------------------------------------------------------------------


def condenses(subject: Subject) -> None:
    """It condenses 28 images of 3x8x8 pixels in 3 classes to 1, 2 and 3 images per class."""
    for ipc in _ipcs(subject):
        trial = try_out(_method(subject), Scenario(ipc))
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
    trial = _trial(subject)
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
    trial = _trial(subject)
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
    if "ipc" not in _class(subject).depends_on:
        return "declared: the number of images is the method's own"
    for ipc in _ipcs(subject):
        trial = _usable(subject, Scenario(ipc))
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
    trial = _usable(subject, Scenario())
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
    trial = _usable(subject, Scenario())
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
    if not _same(again, condensed) or not _same_history(again, condensed):
        raise CheckFailed("the same set after saving", "another", "return contiguous tensors of standard dtypes")


# --- What it depends on ------------------------------------------------------------------------------


def same_seed_gives_the_same_bytes(subject: Subject) -> None:
    """The same task gives the same images and labels, byte for byte."""
    one, other = (_usable(subject, Scenario(turn=turn)) for turn in (0, 1))
    if not _same(one.condensed, other.condensed):
        raise CheckFailed(
            "the same bytes from two runs of the same task",
            _difference(one.condensed, other.condensed),
            "draw every random number from task.generator; no NumPy or Python generator, no clock, no hash(), "
            "no state kept in the class or the module",
        )


def depends_on_the_seed_as_it_says(subject: Subject) -> None:
    """Another seed gives another set if and only if `depends_on` names the seed."""
    first = _usable(subject, Scenario())
    others = [_usable(subject, Scenario(seed=seed)) for seed in (1, 2)]
    differs = [not _same(first.condensed, each.condensed) for each in others]
    if "seed" not in _class(subject).depends_on and any(differs):
        raise CheckFailed(
            "the same set from every seed, since depends_on leaves 'seed' out",
            "another set from another seed",
            "add 'seed' to depends_on, so that a run makes several sets; or draw nothing at random",
        )
    if "seed" in _class(subject).depends_on and not any(differs):
        raise CheckFailed(
            "another set from another seed, since depends_on names 'seed'",
            "the same set from the seeds 0, 1 and 2",
            "draw from task.generator; or leave 'seed' out of depends_on, so that the same set is not made again",
        )


def depends_on_the_network_as_it_says(subject: Subject) -> str | None:
    """Another matching network changes nothing where `depends_on` leaves the network out."""
    one, other = (_usable(subject, Scenario(width=width)) for width in (6, 4))
    same = _same(one.condensed, other.condensed)
    declared = "network" in _class(subject).depends_on
    if not declared and not same:
        raise CheckFailed(
            "the same set whatever the matching network, since depends_on leaves 'network' out",
            "another set with another network",
            "add 'network' to depends_on, so that results say which network it was",
        )
    if declared and same:
        return "two networks gave the same set: if it never depends on it, leave 'network' out of depends_on"
    return None


# --- What it must leave alone ------------------------------------------------------------------------


def leaves_its_inputs_alone(subject: Subject) -> None:
    """The training split and the method's options are not changed."""
    changed = _trial(subject).changed
    if changed:
        raise CheckFailed(
            "inputs that are afterwards as they were",
            f"changed: {', '.join(changed)}",
            "work on a copy: task.train.images.clone(); normalised() and draw() already return new tensors",
        )


def draws_from_its_generator_alone(subject: Subject) -> None:
    """No global generator is drawn from or seeded."""
    generators = _trial(subject).observed.generators
    if generators:
        raise CheckFailed(
            "global generators that are afterwards as they were",
            f"{' and '.join(generators)} moved",
            "pass generator=task.generator to torch.rand, randn, randint and randperm; make networks with "
            "task.new_network(); wrap what takes no generator in torch.random.fork_rng() and seed it from a draw",
        )


def leaves_settings_alone(subject: Subject) -> None:
    """Grad mode, default dtype, number of threads and working directory are afterwards as they were."""
    settings = _trial(subject).observed.settings
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
    trial, other = (_usable(subject, Scenario(test_seed=seed)) for seed in (0, 1))
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
    if not _same(trial.condensed, other.condensed):
        raise CheckFailed(
            "the same set from the same training split, whatever the test split",
            "another set: task.info.sha256, which covers the test split too, or something read elsewhere, counts",
            "use nothing of task.info but the classes, channels, size, mean and std",
        )
    remarks = [f"it reads {', '.join(read[:3])}: not a test image, it is hoped"] if read else []
    remarks += [f"it connects to {', '.join(sorted(set(observed.hosts))[:3])}"] if observed.hosts else []
    return "; ".join(remarks) or None


# --- Long work ---------------------------------------------------------------------------------------


def goes_on_from_a_checkpoint(subject: Subject) -> str | None:
    """Interrupted and gone on with, it gives the set of an uninterrupted run."""
    whole = _usable(subject, Scenario())
    if not whole.offers:
        return "it offers no checkpoint: after an interruption it starts anew"
    later = random.Random(0).randint(1, max(1, whole.offers - 1))
    remarks = [_interrupt_and_go_on(_method(subject), whole, save_at) for save_at in sorted({1, later})]
    return next(filter(None, remarks), None)


def _interrupt_and_go_on(method: Method, whole: Trial, save_at: int) -> str | None:
    """Compare a run that was interrupted after an offer with one that was not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        first = condense(method, Scenario(), path, save_at)
        if first.error is not None:
            expected, found, _ = raised(first.error)
            raise CheckFailed(
                f"{expected} when a checkpoint is saved", found, "offer a dict of tensors under names of your own"
            )
        if not first.stopped and whole.offers > save_at:
            raise CheckFailed(
                "an interruption to end the method", "it went on", "do not catch BaseException in condense"
            )
        second = condense(method, Scenario(), path)
    if second.error is not None:
        expected, found, advice = raised(second.error)
        raise CheckFailed(f"{expected} when going on from a checkpoint", found, advice)
    if not second.loads:
        raise CheckFailed(
            "a method that goes on from what it saved",
            "it offers checkpoints, and never calls task.checkpoint.load()",
            "begin with state = task.checkpoint.load(); where it is not None, put it back",
        )
    if second.offers >= whole.offers > 1:
        raise CheckFailed(
            f"{whole.offers - save_at} steps after an interruption at offer {save_at} of {whole.offers}",
            f"{second.offers} offers: it began at the beginning",
            "keep the number of steps done in the state, and start the loop there",
        )
    if not isinstance(second.result, CondensedSet) or not _same(second.result, whole.condensed):
        difference = _difference(second.result, whole.condensed)
        raise CheckFailed(
            f"the set of an uninterrupted run, after an interruption at offer {save_at} of {whole.offers}",
            difference,
            "keep all that the next step needs: images, optimiser state (momentum), running means, steps done; "
            "draw nothing between offer() and the next step, nor between load() and it. The generator's state "
            "is kept for you",
        )
    if not _same_history(second.result, whole.condensed):
        return "after an interruption the history is another one: keep it in the state"
    return None


def tells_its_progress(subject: Subject) -> str | None:
    """`task.progress(done, total)` counts up to a total that stays."""
    trial = _usable(subject, Scenario())
    calls = trial.progress
    if not calls:
        if trial.seconds > SOON:
            raise CheckFailed(
                f"progress from a method that takes {trial.seconds:.0f} s here",
                "task.progress is never called",
                "call task.progress(done, total) after each step",
            )
        return "it tells no progress, and is done at once"
    done, totals = [call[0] for call in calls], {call[1] for call in calls}
    if len(totals) > 1 or done != sorted(done) or done[-1] != calls[-1][1] or done[0] < 0:
        raise CheckFailed(
            "steps done that never fall, up to a total that stays the same",
            f"{_few(calls)}",
            "call task.progress(done, total) with done from 1 to total, in steps of equal work",
        )
    return None


def quick_is_quick(subject: Subject) -> str:
    """With the options of the quick budget, it is ready within a minute."""
    trials = [_usable(subject, Scenario(ipc)) for ipc in _ipcs(subject)]
    slowest = max(trial.seconds for trial in trials)
    if slowest > LIMIT_SECONDS:
        raise CheckFailed(
            f"at most {LIMIT_SECONDS:g} seconds for 28 images of 3x8x8 pixels",
            f"{slowest:.0f} seconds",
            'give `quick` smaller options, as in quick = {"iterations": 50}',
        )
    steps = max((trial.progress[-1][1] for trial in trials if trial.progress), default=None)
    return f"{slowest:.2g} s" + (f" for {steps} steps" if steps else "")


def returns_to_the_cpu(subject: Subject) -> str | None:
    """With the images on a GPU, the condensed set is on the CPU all the same."""
    if not torch.cuda.is_available():
        return "there is no CUDA device here: not tried"
    _usable(subject, Scenario())
    trial = try_out(_method(subject), Scenario(device="cuda"))
    if trial.error is not None:
        expected, found, advice = raised(trial.error)
        raise CheckFailed(f"{expected} on CUDA", found, f"put tensors on task.device; {advice}")
    devices = {str(each.device) for each in (trial.condensed.images, trial.condensed.labels)}
    if devices != {"cpu"}:
        raise CheckFailed("images and labels on the CPU", ", ".join(sorted(devices)), "return images.cpu()")
    return None


METHOD_CHECKS = (
    *COMPONENT_CHECKS,
    depends_on_is_a_set_of_known_words,
    quick_options_are_valid,
    condenses,
    given_options_are_kept,
    images_are_float32_on_the_cpu,
    labels_belong_to_the_images,
    every_class_gets_its_images,
    indices_and_history_fit,
    survives_saving,
    same_seed_gives_the_same_bytes,
    depends_on_the_seed_as_it_says,
    depends_on_the_network_as_it_says,
    leaves_its_inputs_alone,
    draws_from_its_generator_alone,
    leaves_settings_alone,
    never_sees_the_test_split,
    goes_on_from_a_checkpoint,
    tells_its_progress,
    quick_is_quick,
    returns_to_the_cpu,
)


# --- Helpers -----------------------------------------------------------------------------------------


def _class(subject: Subject) -> type[Method]:
    return class_of(subject)  # type: ignore[return-value]


def _method(subject: Subject) -> Method:
    """Return the method to try: an instance as it is, of a class that with the quick budget's options."""
    if isinstance(subject, Method):
        return subject
    try:
        return subject.configure(dict(subject.quick))
    except DcbenchError as error:
        raise CheckBlocked("a method that can be made", str(error), "see quick_options_are_valid") from None


def _ipcs(subject: Subject) -> tuple[int, ...]:
    return (1, 2, 3) if "ipc" in _class(subject).depends_on else (2,)


def _trial(subject: Subject, scenario: Scenario | None = None) -> Trial:
    """Return a trial that ended with a condensed set.

    Raises:
        CheckBlocked: when it did not, which the check `condenses` is about.
    """
    trial = try_out(_method(subject), scenario or Scenario())
    if not isinstance(trial.result, CondensedSet):
        found = f"{type(trial.error).__name__}: {trial.error}" if trial.error else "none"
        raise CheckBlocked("a condensed set", found, "see the check condenses")
    return trial


def _usable(subject: Subject, scenario: Scenario) -> Trial:
    """Return a trial whose images and labels are tensors that can be compared.

    Raises:
        CheckBlocked: when they are not.
    """
    trial = _trial(subject, scenario)
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


def _same(one: CondensedSet, other: CondensedSet) -> bool:
    return one.sha256() == other.sha256()


def _same_history(one: CondensedSet, other: CondensedSet) -> bool:
    return one.history.keys() == other.history.keys() and all(
        torch.equal(one.history[name].nan_to_num(), other.history[name].nan_to_num()) for name in one.history
    )


def _difference(one: object, other: CondensedSet) -> str:
    """Say how two sets differ."""
    if not isinstance(one, CondensedSet) or one.images.shape != other.images.shape:
        return "another number of images, or none"
    images = (one.images != other.images).flatten(1).any(1)
    largest = float((one.images - other.images).abs().max())
    return f"{int(images.sum())} of {len(images)} images differ, by at most {largest:.3g}"


def _few(calls: list[tuple[object, object]]) -> str:
    shown = [f"progress({done}, {total})" for done, total in calls]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "…", *shown[-3:]])
