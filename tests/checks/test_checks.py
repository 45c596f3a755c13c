"""The plugin contract: what keeps it passes, and each way of breaking it is found by the check that is for it."""

from __future__ import annotations

import gc
import random
import re
import time
import types

import numpy as np
import pytest
import torch
from helpers import make_task
from torch import nn

from dcbench.api import (
    Architecture,
    CondensedSet,
    Dataset,
    DcbenchError,
    Measure,
    Method,
    Split,
    Splits,
    hookimpl,
    option,
)
from dcbench.checks import (
    ARCHITECTURE_CHECKS,
    DATASET_CHECKS,
    MEASURE_CHECKS,
    METHOD_CHECKS,
    CheckFailed,
    run_checks,
)
from dcbench.checks import method_results as results
from dcbench.checks.tryout import CheckImages, CheckNetwork, try_out
from dcbench.cli.check_subject import find_subject
from dcbench.plugins import PluginInfo, Plugins


def failures(checks, component):
    """Run checks; return those that failed by name. Those that others block are not among them."""
    return {each.check: each for each in run_checks(checks, component) if each.status == "failed"}


# --- First-party plugins keep the contract -----------------------------------------------------------

OPTIONS = {
    "gradmatch": {"iterations": "3"},
    "dsa": {"iterations": "3"},
    "herding": {"epochs": "2"},
    "el2n": {"epochs": "1"},
    "mtt": {"iterations": "3", "experts": "2", "syn_steps": "3", "batch_expert": "8"},
    "rded": {"teacher_epochs": "2"},
    "random_soft": {"epochs": "2", "student_epochs": "3"},
}


@pytest.fixture(scope="module")
def installed():
    return Plugins.load()


def own(kind):
    return sorted(Plugins.load(own_only=True).registries()[kind])


@pytest.mark.parametrize("name", own("methods"))
def test_our_methods_keep_the_contract(name, installed):
    assert not failures(METHOD_CHECKS, find_subject(installed, name, None, OPTIONS.get(name, {})).component)


def test_gradient_matching_keeps_it_with_inner_loops_and_with_a_pool(installed):
    for options in ({"outer_loop": "2", "inner_loop": "1"}, {"network_pool": "2", "outer_loop": "1"}):
        subject = find_subject(installed, "gradmatch", None, {"iterations": "3", **options})
        assert not failures(METHOD_CHECKS, subject.component)


SMALL = {"convnet": "convnet:width=8", "timm": "timm:resnet10t", "torchvision": "torchvision:shufflenet_v2_x0_5"}


@pytest.mark.parametrize("name", own("architectures"))
def test_our_architectures_keep_the_contract(name, installed):
    subject = find_subject(installed, SMALL.get(name, name), "architecture", {})
    assert not failures(ARCHITECTURE_CHECKS, subject.component)


@pytest.mark.parametrize("name", own("measures"))
def test_our_measures_keep_the_contract(name, installed):
    subject = find_subject(installed, name, "measure", {})
    assert not failures(MEASURE_CHECKS, subject.component)


def asking(check, how):
    """A measure that breaks one check, and the check."""

    def scores(self, network, test, generator):
        return {"main": how(network, test, generator)}

    facts = {"__doc__": "A measure.", "__annotations__": {}, "name": "mine", "main": "main", "scores": scores}
    return pytest.param(type("Mine", (Measure,), facts), check, id=check)


def sure(network, test, generator):
    return float(network(test.normalised(slice(None))).softmax(1).amax(1).mean())


@pytest.mark.parametrize(
    ("measure", "check"),
    [
        asking("gives_finite_scores", lambda *_: float("nan")),
        asking("gives_finite_scores", lambda network, *_: float(network.train().training)),
        asking("fractions_are_fractions", lambda *given: 100 * sure(*given)),
        asking("looks_at_the_network", lambda *_: 0.5),
        asking("gives_the_same_scores_twice", lambda *given: sure(*given) * random.random()),
        asking("gives_the_same_scores_twice", lambda *given: sure(*given) + 0 * float(torch.rand(()))),
    ],
)
def test_a_measure_that_breaks_the_contract_fails_the_check_of_it(measure, check):
    found = failures(MEASURE_CHECKS, measure)
    assert check in found


def test_our_data_sets_keep_the_contract(installed, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    labels = np.arange(9) % 3
    arrays = {"train_images": images[:6], "train_labels": labels[:6]}
    np.savez(tmp_path / "mine.npz", **arrays, test_images=images[6:], test_labels=labels[6:])
    for text in ("digits", f"npz:{tmp_path}/mine.npz"):
        assert not failures(DATASET_CHECKS, find_subject(installed, text, None, {}).component)


def test_the_fixtures_keep_the_contract_themselves():
    assert not failures(DATASET_CHECKS, CheckImages)
    assert not failures(ARCHITECTURE_CHECKS, CheckNetwork)


# --- Methods that break it ---------------------------------------------------------------------------


class Good(Method):
    """Noise that is pulled to the mean image of its class, with momentum."""

    name = "good"
    quick = {"steps": 6}
    steps: int = option(50, "how often it is pulled", ge=1)

    def condense(self, task):
        labels = task.synthetic_labels()
        shape = (len(labels), task.info.channels, *task.info.size)
        images, speed, start = self.noise(task, shape), torch.zeros(shape), 0
        state = task.checkpoint.load()
        if state is not None:
            images, speed, start = state["images"], state["speed"], int(state["done"])
        means = torch.stack([task.train.normalised(members).mean(0) for members in task.train.class_indices])
        for step in range(start, self.steps):
            network = task.new_network()
            with torch.no_grad():
                shift = task.features(network, images).mean()
            speed = 0.5 * speed + 0.1 * (means[labels] - images) + 0.01 * shift + 0.01 * self.noise(task, shape)
            images = images + speed
            self.tell(task, step + 1)
            done = step + 1
            task.checkpoint.offer(lambda: self.state(images, speed, done))  # noqa: B023
        return self.give(task, images, labels)

    def noise(self, task, shape):
        return torch.randn(shape, generator=task.generator)

    def tell(self, task, done):
        task.progress(done, self.steps)

    def state(self, images, speed, done):
        return {"images": images, "speed": speed, "done": torch.tensor(done)}

    def give(self, task, images, labels):
        return CondensedSet(images, labels)


class BadName(Good):
    """It has a capital."""

    name = "Good"


class Undocumented(Good):
    """One of its options has no meaning."""

    twice: bool = False


class NotJson(Good):
    """One of its options cannot be recorded."""

    weights: object = option(nn.Identity(), "a network")


class WrongWord(Good):
    """It depends on something that there is not."""

    depends_on = frozenset({"seeds", "network", "ipc"})


class WrongQuick(Good):
    """Its quick option is mistyped."""

    quick = {"step": 6}


class Overrides(Good):
    """It ignores the option it is given."""

    def resolve(self, setting):
        return self.model_copy(update={"steps": 2})


class Raises(Good):
    """It raises."""

    def tell(self, task, done):
        raise ZeroDivisionError("nothing works")


class Refuses(Good):
    """It does not take coloured images."""

    def resolve(self, setting):
        raise DcbenchError("grey images alone")


class ReturnsImages(Good):
    """It returns the images alone."""

    def give(self, task, images, labels):
        return images


class Doubles(Good):
    """It returns float64."""

    def give(self, task, images, labels):
        return CondensedSet(images.double(), labels)


class Attached(Good):
    """It returns images that require grad."""

    def give(self, task, images, labels):
        return CondensedSet(images.requires_grad_(), labels)


class Flat(Good):
    """It returns flattened images."""

    def give(self, task, images, labels):
        return CondensedSet(images.flatten(1), labels)


class NotANumber(Good):
    """It divides by zero."""

    def give(self, task, images, labels):
        return CondensedSet(images / 0, labels)


class FromOne(Good):
    """It counts classes from 1."""

    def give(self, task, images, labels):
        return CondensedSet(images, labels + 1)


class OneTooFew(Good):
    """It forgets an image."""

    def give(self, task, images, labels):
        return CondensedSet(images[1:], labels[1:])


class WrongIndices(Good):
    """It says that noise is a coreset."""

    def give(self, task, images, labels):
        return CondensedSet(images, labels, indices=torch.arange(len(labels)))


class GlobalTorch(Good):
    """It draws from torch's global generator."""

    def noise(self, task, shape):
        return torch.randn(shape)


class GlobalNumPy(Good):
    """It draws from NumPy's global generator."""

    def noise(self, task, shape):
        return torch.from_numpy(np.random.standard_normal(shape)).float()  # noqa: NPY002


class Clock(Good):
    """It draws from a generator seeded by nobody."""

    def noise(self, task, shape):
        generator = torch.Generator()
        generator.seed()
        return torch.randn(shape, generator=generator)


class SeedNotSaid(Good):
    """It depends on the seed, and does not say so."""

    depends_on = frozenset({"ipc", "network"})


class NetworkNotSaid(Good):
    """It depends on the network, and does not say so."""

    depends_on = frozenset({"ipc", "seed"})


class AlwaysTheSame(Good):
    """It says that it depends on the seed, and does not."""

    def noise(self, task, shape):
        return torch.zeros(shape)

    def give(self, task, images, labels):
        return CondensedSet(torch.ones_like(images), labels)


class Mutates(Good):
    """It changes the training images."""

    def give(self, task, images, labels):
        task.train.images.zero_()
        return CondensedSet(images, labels)


class MutatesLabels(Good):
    """It changes the training labels."""

    def give(self, task, images, labels):
        task.train.labels[0] = 0
        task.train.labels[1] = 1
        task.train.labels[2] = 2
        return CondensedSet(images, labels)


class MutatesIndices(Good):
    """It sorts the indices of a class the other way."""

    def give(self, task, images, labels):
        task.train.class_indices[0].copy_(task.train.class_indices[0].flip(0))
        return CondensedSet(images, labels)


class NoGrad(Good):
    """It leaves gradients disabled."""

    def give(self, task, images, labels):
        torch.set_grad_enabled(False)
        return CondensedSet(images, labels)


class LoadsData(Good):
    """It loads a data set for itself."""

    def give(self, task, images, labels):
        CheckImages().load(None)
        return CondensedSet(images, labels)


class ReadsTheHash(Good):
    """It depends on the hash of both splits."""

    def give(self, task, images, labels):
        return CondensedSet(images + int(task.info.sha256[:4], 16) / 65536, labels)


class ForgetsMomentum(Good):
    """It does not save its momentum."""

    def state(self, images, speed, done):
        return {"images": images, "speed": torch.zeros_like(speed), "done": torch.tensor(done)}


class ForgetsStep(Good):
    """It does not save how far it was."""

    def state(self, images, speed, done):
        return {"images": images, "speed": speed, "done": torch.tensor(0)}


class SavesNumbers(Good):
    """It saves something that is not a tensor."""

    def state(self, images, speed, done):
        return {"images": images, "speed": speed, "done": done}


class DependsOnMore(Good):
    """Its options make it depend on something else."""

    def dependencies(self, setting):
        return self.depends_on | {"colour"}


class OneSeedAtOne(Good):
    """At 1 image per class it is the mean, whatever the seed."""

    def give(self, task, images, labels):
        means = torch.stack([task.train.normalised(members).mean(0) for members in task.train.class_indices])
        return CondensedSet(means if task.ipc == 1 else images, labels)


class SaysSo(OneSeedAtOne):
    """It says so."""

    def dependencies(self, setting):
        return self.depends_on - ({"seed"} if setting.ipc == 1 else set())


def test_the_seed_is_tried_at_each_number_of_images_per_class(monkeypatch):
    said = results.depends_on_the_seed_as_it_says(OneSeedAtOne)
    assert said.startswith("the same set from the seeds 0, 1 and 2 at ipc 1: if it is so on all data")
    assert results.depends_on_the_seed_as_it_says(SaysSo) is None
    monkeypatch.setattr(SaysSo, "give", Good.give)
    try_out.cache_clear()
    with pytest.raises(CheckFailed, match="another set from the seeds 0, 1 and 2 at ipc 1"):
        results.depends_on_the_seed_as_it_says(SaysSo)


class NeverLoads(Good):
    """It saves, and never asks for what it saved."""

    def condense(self, task):
        images = self.noise(task, (len(task.synthetic_labels()), task.info.channels, *task.info.size))
        for _ in range(3):
            images += self.noise(task, images.shape) * task.new_network()[0].weight.mean().detach()
            task.checkpoint.offer(lambda: {"images": images})  # noqa: B023
        return CondensedSet(images, task.synthetic_labels())


class CountsDown(Good):
    """It tells the steps that are left."""

    def tell(self, task, done):
        task.progress(self.steps - done, self.steps)


class StopsShort(Good):
    """It never says that it is done."""

    def tell(self, task, done):
        task.progress(done, self.steps + 1)


BROKEN = [
    (BadName, "has_a_name_a_version_and_a_summary", "'Good'"),
    (Undocumented, "options_are_documented", "no description of option 'twice'"),
    (NotJson, "options_survive_json", "Error"),
    (WrongWord, "depends_on_is_a_set_of_known_words", "seeds"),
    (DependsOnMore, "depends_on_is_a_set_of_known_words", "colour"),
    (WrongQuick, "quick_options_are_valid", "Did you mean 'steps'"),
    (Overrides, "given_options_are_kept", "steps=2"),
    (Raises, "condenses", "ZeroDivisionError: nothing works"),
    (Refuses, "condenses", "grey images alone"),
    (ReturnsImages, "condenses", "Tensor"),
    (Doubles, "returns_a_usable_set", "torch.float64"),
    (Attached, "returns_a_usable_set", "must be detached"),
    (Flat, "returns_a_usable_set", r"\(6, 192\)"),
    (NotANumber, "returns_a_usable_set", "NaN or infinity"),
    (FromOne, "returns_a_usable_set", "must lie in 0..2"),
    (OneTooFew, "every_class_gets_its_images", r"\[0, 1, 1\]"),
    (WrongIndices, "returns_a_usable_set", "indices choose"),
    (GlobalTorch, "draws_from_its_generator_alone", "torch's global generator moved"),
    (GlobalNumPy, "draws_from_its_generator_alone", "NumPy's global generator moved"),
    (Clock, "same_seed_gives_the_same_bytes", "6 of 6 images differ"),
    (SeedNotSaid, "depends_on_the_seed_as_it_says", "another set"),
    (NetworkNotSaid, "depends_on_the_network_as_it_says", "another set"),
    (AlwaysTheSame, "depends_on_the_seed_as_it_says", "the same set from the seeds"),
    (Mutates, "leaves_its_inputs_alone", "task.train.images"),
    (MutatesLabels, "leaves_its_inputs_alone", "task.train.labels"),
    (MutatesIndices, "leaves_its_inputs_alone", "class_indices"),
    (NoGrad, "leaves_settings_alone", r"grad mode is False \(was True\)"),
    (LoadsData, "never_sees_the_test_split", "'check_images' was loaded"),
    (ReadsTheHash, "never_sees_the_test_split", "sha256"),
    (ForgetsMomentum, "goes_on_from_a_checkpoint", "images differ"),
    (ForgetsStep, "goes_on_from_a_checkpoint", "it began at the beginning"),
    (SavesNumbers, "goes_on_from_a_checkpoint", "AttributeError"),
    (NeverLoads, "goes_on_from_a_checkpoint", "never calls"),
    (CountsDown, "tells_its_progress", r"progress\(5, 6\)"),
    (StopsShort, "tells_its_progress", r"progress\(6, 7\)"),
]
FOLLOWS = {
    WrongWord: {"depends_on_the_seed_as_it_says"},
    GlobalNumPy: {
        "same_seed_gives_the_same_bytes",
        "depends_on_the_seed_as_it_says",
        "goes_on_from_a_checkpoint",
    },
    Clock: {
        "depends_on_the_network_as_it_says",
        "never_sees_the_test_split",
        "goes_on_from_a_checkpoint",
    },
}
"""What else is broken by what breaks one check."""


def test_a_good_method_passes_with_its_quick_options_and_with_others():
    assert not failures(METHOD_CHECKS, Good)
    assert not failures(METHOD_CHECKS, Good(steps=3))
    assert all(check(Good) is None or isinstance(check(Good), str) for check in METHOD_CHECKS)


@pytest.mark.parametrize(("method", "check", "found"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_a_method_that_breaks_the_contract_is_named(method, check, found):
    failed = failures(METHOD_CHECKS, method)
    assert check in failed
    assert re.search(found, failed[check].found)
    assert failed[check].advice
    assert set(failed) - {check} <= FOLLOWS.get(method, set())


class Slow(Good):
    """It takes longer than it may, and says nothing."""

    quick = {}

    def condense(self, task):
        images = self.noise(task, (len(task.synthetic_labels()), task.info.channels, *task.info.size))
        time.sleep(0.1)
        return CondensedSet(images, task.synthetic_labels())


class SlowSteps(Good):
    """It takes longer than it may, and tells its progress."""

    def tell(self, task, done):
        time.sleep(0.1)
        task.progress(done, self.steps)


def test_a_method_that_is_too_slow_is_named_and_where_it_tells_its_progress_stopped(monkeypatch):
    monkeypatch.setattr("dcbench.checks.tryout.LIMIT_SECONDS", 0.05)
    monkeypatch.setattr("dcbench.checks.method_conduct.SOON", 0.05)
    failed = failures(METHOD_CHECKS, Slow)
    assert set(failed) == {"condenses", "tells_its_progress"}
    assert "never called" in failed["tells_its_progress"].found
    assert set(failures(METHOD_CHECKS, SlowSteps)) == {"condenses"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_method_that_leaves_its_set_on_the_gpu_is_named():
    class Stays(Method):
        """It returns what it is given, where it is."""

        name = "stays"
        depends_on = frozenset()

        def condense(self, task):
            return CondensedSet(task.train.normalised(slice(None)), task.train.labels)

    assert set(failures(METHOD_CHECKS, Stays)) == {"returns_to_the_cpu"}


def test_each_check_of_methods_can_fail():
    elsewhere = {"returns_to_the_cpu"}
    assert {check.__name__ for check in METHOD_CHECKS} == {each[1] for each in BROKEN} | elsewhere


def test_a_check_raises_in_an_author_s_own_test_and_says_what_to_do():
    (check,) = [each for each in METHOD_CHECKS if each.__name__ == "leaves_its_inputs_alone"]
    with pytest.raises(CheckFailed, match=r"(?s)found: changed.*to do: work on a copy"):
        check(Mutates)


def test_checks_leave_the_process_as_it_was():
    torch.manual_seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    for broken in (GlobalTorch, GlobalNumPy, NoGrad, LoadsData):
        run_checks(METHOD_CHECKS, broken)
    assert torch.is_grad_enabled()
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    assert CheckImages.load.__module__ == "dcbench.checks.tryout"
    assert not hasattr(CheckImages.load, "__wrapped__")


def test_a_file_in_the_data_folder_is_not_to_be_read_and_others_are_mentioned(tmp_path, monkeypatch):
    class Reads(Good):
        """It reads a file."""

        path: str = option("", "which")

        def give(self, task, images, labels):
            with open(self.path, "rb") as file:
                file.read()
            return CondensedSet(images, labels)

    monkeypatch.setenv("DCBENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "data" / "test.bin", tmp_path / "prior.bin"):
        path.write_bytes(b"")
    (check,) = [each for each in METHOD_CHECKS if each.__name__ == "never_sees_the_test_split"]
    assert "prior.bin" in check(Reads(steps=2, path=str(tmp_path / "prior.bin")))
    with pytest.raises(CheckFailed, match=r"data/test\.bin was read"):
        check(Reads(steps=2, path=str(tmp_path / "data" / "test.bin")))


def test_no_tensor_of_the_test_split_is_reachable_from_a_task(tiny):
    """Whatever a method follows from its task: no attribute, closure or container leads to the test split."""
    reached, left, found = set(), [make_task(tiny, CheckNetwork())], []
    while left:
        thing = left.pop()
        if id(thing) in reached or isinstance(thing, type | types.ModuleType):
            continue
        reached.add(id(thing))
        found += [thing] if isinstance(thing, torch.Tensor) else []
        # A function's globals are its module's, which is not part of what is given.
        left += [each for each in gc.get_referents(thing) if each is not getattr(thing, "__globals__", None)]
    shown = {each.data_ptr() for each in found}
    assert tiny.train.images.data_ptr() in shown
    assert not {split.data_ptr() for split in (tiny.test.images, tiny.test.labels)} & shown


# --- Data sets that break it -------------------------------------------------------------------------


class Images(Dataset):
    """Noise in two classes."""

    name = "images"

    def load(self, root):
        train, test = self.split(torch.Generator().manual_seed(0)), self.split(torch.Generator().manual_seed(1))
        return self.give(train, test)

    def split(self, generator):
        images = torch.randint(0, 256, (6, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return Split(images, torch.tensor([0, 1, 0, 1, 0, 1]))

    def give(self, train, test):
        return Splits(train, test, ("a", "b"))


def giving(check, **functions):
    """Return a case: a class with some functions replaced, and the check that is to fail."""
    return pytest.param(type("Broken", (Images,), {"__doc__": "It breaks the contract.", **functions}), check)


def unseeded(self, generator):
    return Split(torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8), torch.tensor([0, 1, 0, 1, 0, 1]))


@pytest.mark.parametrize(
    ("dataset", "check"),
    [
        giving("loads", give=lambda self, train, test: (train, test)),
        giving("loads", give=lambda self, train, test: Splits((train.images, train.labels), test, ("a", "b"))),
        giving("loads", split=lambda self, g: Split(torch.rand(6, 3, 8, 8, generator=g), LABELS)),
        giving(
            "loads",
            give=lambda self, train, test: Splits(train, Split(test.images[:, :1], test.labels), ("a", "b")),
        ),
        giving(
            "loads",
            give=lambda self, train, test: Splits(Split(train.images, train.labels.int()), test, ("a", "b")),
        ),
        giving(
            "loads",
            give=lambda self, train, test: Splits(Split(train.images, train.labels + 1), test, ("a", "b")),
        ),
        giving("every_class_is_trained", give=lambda self, train, test: Splits(train, test, ("a", "b", "c"))),
        giving("every_class_is_trained", give=lambda self, train, test: Splits(train, test, ("a", "a"))),
        giving("loads_the_same_twice", split=unseeded),
        giving("loaded_it_is_here", is_here=lambda self, root: False),
        giving("loading_leaves_settings_alone", split=unseeded),
        giving("splits_do_not_share_images", give=lambda self, train, test: Splits(train, train, ("a", "b"))),
        giving(
            "normalisation_fits",
            give=lambda self, train, test: Splits(train, test, ("a", "b"), (127.0,) * 3, (64.0,) * 3),
        ),
        giving("unsuitable_is_known", unsuitable=frozenset({"spin"})),
        giving("has_a_name_a_version_and_a_summary", name="two words"),
    ],
)
def test_a_data_set_that_breaks_the_contract_is_named(dataset, check):
    failed = failures(DATASET_CHECKS, dataset)
    assert check in failed
    assert failed[check].advice
    assert set(failed) <= {check, "loads_the_same_twice", "loading_leaves_settings_alone"}


LABELS = torch.tensor([0, 1, 0, 1, 0, 1])


def test_arrays_that_are_no_tensors_are_named():
    class Arrays(Images):
        """It forgets torch.from_numpy."""

        def split(self, generator):
            return Split(np.zeros((6, 3, 8, 8), np.uint8), np.array([0, 1, 0, 1, 0, 1]))

    class Given(Good):
        """It returns arrays of NumPy."""

        def give(self, task, images, labels):
            return CondensedSet(images.numpy(), labels)

    assert "numpy.ndarray" in failures(DATASET_CHECKS, Arrays)["loads"].found
    assert "numpy.ndarray" in failures(METHOD_CHECKS, Given)["returns_a_usable_set"].found


def test_a_good_data_set_passes_and_few_shared_images_are_mentioned():
    class Shares(Images):
        """A test image is a training image."""

        def give(self, train, test):
            test.images[0] = train.images[0]
            return Splits(train, test, ("a", "b"))

    assert not failures(DATASET_CHECKS, Images)
    remarks = {each.check: each.remark for each in run_checks(DATASET_CHECKS, Shares)}
    assert remarks["splits_do_not_share_images"].startswith("1 of 6 test images")


def test_data_that_are_not_there_are_no_fault_of_the_plugin():
    class Absent(Images):
        """It has to be downloaded."""

        def load(self, root):
            raise DcbenchError("no network")

    with pytest.raises(DcbenchError, match="no network"):
        run_checks(DATASET_CHECKS, Absent)


# --- Architectures that break it ---------------------------------------------------------------------


class Flatten(Architecture):
    """Two linear layers."""

    name = "flatten"

    def build(self, info):
        self.prepare()
        inputs = info.channels * info.size[0] * info.size[1]
        return nn.Sequential(*self.layers(inputs, info.num_classes))

    def prepare(self):
        pass

    def layers(self, inputs, classes):
        return [nn.Flatten(), nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, classes)]


class BatchMean(nn.Module):
    def forward(self, images):
        return images - images.mean(0, keepdim=True)


class AlwaysDropout(nn.Module):
    def forward(self, images):
        return nn.functional.dropout(images, 0.5, training=True)


class Detach(nn.Module):
    def forward(self, images):
        return images.detach()


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, images):
        return images


def building(check, **functions):
    return pytest.param(type("Broken", (Flatten,), {"__doc__": "It breaks the contract.", **functions}), check)


def with_layer(check, layer):
    return building(check, layers=lambda self, i, k: [nn.Flatten(), nn.Linear(i, 4), layer(), nn.Linear(4, k)])


def convolution(self, inputs, classes):
    return [nn.Conv2d(3, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]


@pytest.mark.parametrize(
    ("architecture", "check"),
    [
        building("builds_for_images_of_some_size", layers=convolution),
        building("gives_logits", layers=lambda self, i, k: [nn.Flatten(), nn.Linear(i, k + 1)]),
        building("seed_gives_the_parameters", prepare=lambda self: random.random()),
        building("seed_gives_the_parameters", prepare=lambda self: torch.manual_seed(0)),
        building("features_are_rows", features=lambda self, network, images: images),
        building("features_are_rows", features=lambda self, network, images: images.detach().flatten(1)),
        with_layer("gradients_reach_every_parameter", Detach),
        with_layer("gradients_reach_every_parameter", Unused),
        with_layer("images_pass_independently", BatchMean),
        with_layer("images_pass_independently", AlwaysDropout),
        building("options_are_documented", __annotations__={"depth": int}, depth=3),
    ],
)
def test_an_architecture_that_breaks_the_contract_is_named(architecture, check):
    failed = failures(ARCHITECTURE_CHECKS, architecture)
    assert check in failed
    assert failed[check].advice
    assert set(failed) <= {check, "features_are_rows"}


def test_a_good_architecture_passes_and_one_without_second_gradients_is_told():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, images):
            return images.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient

    class Layer(nn.Module):
        def forward(self, images):
            return Once.apply(images)

    broken = with_layer("", Layer).values[0]
    remarks = {each.check: each.remark for each in run_checks(ARCHITECTURE_CHECKS, broken)}
    assert "no method that matches gradients can use it" in remarks["gradients_can_be_matched"]
    assert not failures(ARCHITECTURE_CHECKS, Flatten)
    assert not {each.check: each.remark for each in run_checks(ARCHITECTURE_CHECKS, Flatten)}[
        "gradients_can_be_matched"
    ]


def test_a_network_that_is_spelt_otherwise_than_it_is_built_is_named():
    class Drifts(Flatten):
        """Each time it is resolved it is wider."""

        width: int = option(4, "units")

        def resolve(self, info):
            return self.model_copy(update={"width": self.width + 1})

    assert "resolved_spelling_gives_the_same_network" in failures(ARCHITECTURE_CHECKS, Drifts)


def test_a_resolved_spelling_is_read_as_a_user_s_is_version_and_all():
    class Second(Flatten):
        """It has got a second version."""

        version = "2"

    class Misread(Second):
        """Its name cannot be read."""

        @classmethod
        def from_spelling(cls, text):
            raise DcbenchError(f"unknown network {text!r}")

    assert not failures(ARCHITECTURE_CHECKS, Second)
    failed = failures(ARCHITECTURE_CHECKS, Misread)
    assert failed["resolved_spelling_gives_the_same_network"].found == "unknown network 'flatten@2'"


# --- Finding what to check ---------------------------------------------------------------------------


def test_a_name_of_two_kinds_is_asked_about(installed):
    plugins = Plugins.load()
    double = type("Double", (Good,), {"__doc__": "It has a network's name.", "name": "mlp"})
    plugins.add(types.SimpleNamespace(dcbench_register_methods=hookimpl(lambda: [double])), PluginInfo(*"abcd"))
    with pytest.raises(DcbenchError, match="of a method and an architecture"):
        find_subject(plugins, "mlp", None, {})
    assert find_subject(plugins, "mlp", "architecture", {}).component.kind == "network"
    assert find_subject(plugins, "mlp", "method", {"steps": "3"}).component.steps == 3


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("gradmach", {}, "unknown component 'gradmach'. Did you mean 'gradmatch'"),
        ("gradmatch", {"iteration": "1"}, "Did you mean 'iterations'"),
        ("gradmatch:iterations=1", {}, "written -o name=value"),
        ("convnet@7", {}, "is of version 7, and version 1 is installed"),
        ("convnet", {"width": "8"}, "written convnet:option=value"),
        ("npz", {}, "needs a path"),
        ("torchvision_datasets", {}, "is a plugin. Check what it provides, one by one: dataset mnist"),
    ],
)
def test_what_cannot_be_checked_is_a_message(text, options, message, installed):
    with pytest.raises(DcbenchError, match=re.escape(message).replace("'gradmatch'", "'gradmatch'")):
        find_subject(installed, text, None, options)


def test_a_prefix_of_the_method_s_own_is_taken_as_in_a_run(installed):
    assert find_subject(installed, "gradmatch", None, {"gradmatch.iterations": "7"}).component.iterations == 7


def test_where_to_start_is_in_the_author_s_code_not_in_torch():
    class Fails(Good):
        """torch raises."""

        def tell(self, task, done):
            torch.zeros(2) @ torch.zeros(3)

    failed = failures(METHOD_CHECKS, Fails)["condenses"]
    assert re.search(r"start at .*test_checks.py:\d+, in tell$", failed.advice)
