"""Training by a recipe is plain SGD on the training split, keeps what it is told, and goes on where it was."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from dcbench_plugins.architectures.convnet import ConvNet
from helpers import NoCheckpoint, make_train
from tiny_plugin import Dropout, Linear

from dcbench.core.architecture import new_network
from dcbench.core.loss_watch import Diverged
from dcbench.core.trained_network import NetworkRecipe, NetworkSpec
from dcbench.core.whitening import whiten
from dcbench.engine.engine import PLAIN, Engine
from dcbench.engine.siamese import FULL, SiameseAugmentation
from dcbench.engine.trained_networks import generator_of, hold_out, train_from_recipe
from dcbench.utils.seeds import derive_seed, new_generator

COUNTS = (20, 13, 7)


@pytest.fixture
def train():
    return make_train(COUNTS)


def spec_of(number=0, architecture="linear", **changes):
    fields = {"epochs": 3, "lr": 0.05, "batch_size": 8}
    return NetworkSpec(
        dataset="made_up",
        dataset_sha256="0" * 64,
        network=architecture,
        source_sha256="1" * 64,
        recipe=NetworkRecipe(**(fields | changes)),
        number=number,
    )


def trained(spec, train, architecture=None, checkpoint=None, progress=lambda done, total: None):
    how = (generator_of(spec), checkpoint or NoCheckpoint(), progress)
    return train_from_recipe(spec, architecture or Linear(), train, *how)


def assert_same(one, other):
    assert one.states.keys() == other.states.keys()
    for epoch, state in one.states.items():
        assert all(torch.equal(tensor, other.states[epoch][name]) for name, tensor in state.items())
    assert (one.accuracy, one.held_out_accuracy) == (other.accuracy, other.held_out_accuracy)
    assert torch.equal(one.held_out, other.held_out)


def naive(spec, train, architecture):
    """Train as a reader of the recipe would write it; return the states after each epoch."""
    recipe, generator = spec.recipe, generator_of(spec)
    held_out = set(hold_out(train, recipe)[0].tolist())
    kept = torch.tensor([index for index in range(len(train)) if index not in held_out])
    images, labels = train.normalised(kept), train.labels[kept]
    network = new_network(architecture, train.info, derive_seed("network", spec.trajectory), torch.device("cpu"))
    optimizer = torch.optim.SGD(network.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, recipe.decay_at, recipe.decay)
    view = SiameseAugmentation(recipe.augmentation) if recipe.augmentation else lambda images, generator: images
    states = [{name: each.clone() for name, each in network.state_dict().items()}]
    for _ in range(recipe.epochs):
        network.train()
        for batch in torch.randperm(len(images), generator=generator).split(recipe.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(network(view(images[batch], generator)), labels[batch]).backward()
            optimizer.step()
        schedule.step()
        states.append({name: each.clone() for name, each in network.state_dict().items()})
    return states


@pytest.mark.parametrize("engine", [PLAIN, Engine("fast")], ids=lambda engine: engine.name)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.9, "weight_decay": 0.01},
        {"momentum": 0.5, "decay": 0.1, "decay_at": (1, 2)},
        {"decay": 0.5, "decay_at": (2,), "held_out": 0.3},
        {"momentum": 0.9, "augmentation": FULL},
        {"zca": True},
    ],
    ids=str,
)
def test_training_is_that_of_a_plain_loop(train, engine, changes):
    architecture = ConvNet(width=4, depth=1)
    spec = spec_of(architecture=str(architecture), snapshots=(0, 1, 2), **changes)
    split = whiten(train) if spec.recipe.zca else train
    with engine.active():
        states = trained(spec, split, architecture).states
    expected = naive(spec, split, architecture)
    assert sorted(states) == [0, 1, 2, 3]
    for epoch, state in states.items():
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, expected[epoch][name], rtol=1e-4, atol=1e-6)


def test_the_same_spec_gives_the_same_bytes_and_another_number_other_ones(train):
    first, again, other = (trained(spec_of(number), train) for number in (0, 0, 1))
    assert_same(first, again)
    assert not torch.equal(first.states[3]["1.weight"], other.states[3]["1.weight"])


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients_gets_the_same(train, without):
    with without():
        found = trained(spec_of(momentum=0.9), train)
    assert_same(found, trained(spec_of(momentum=0.9), train))


def test_a_shorter_training_is_the_beginning_of_a_longer_one(train):
    shorter, longer = trained(spec_of(epochs=1), train), trained(spec_of(epochs=3, snapshots=(1,)), train)
    assert torch.equal(shorter.states[1]["1.weight"], longer.states[1]["1.weight"])


def test_states_are_kept_after_the_epochs_that_the_recipe_names_and_after_the_last(train):
    training = trained(spec_of(snapshots=(2, 0), momentum=0.9), train)
    assert sorted(training.states) == [0, 2, 3]
    shorter = trained(spec_of(epochs=2, momentum=0.9), train)
    assert sorted(shorter.states) == [2]
    assert sorted(trained(spec_of(epochs=0), train).states) == [0]


def test_states_are_those_of_their_moments(train):
    states = trained(spec_of(snapshots=(0, 1, 2)), train).states
    weights = [states[epoch]["1.weight"] for epoch in range(4)]
    assert not any(torch.equal(a, b) for a, b in pairwise(weights))


class Saved(Exception):
    """The process has ended here."""


class EndsAfter:
    """A checkpoint that saves after one epoch, where the process ends; or one that goes on from there."""

    def __init__(self, generator, epoch=None, saved=None):
        self.generator, self.epoch, self.saved, self.offered = generator, epoch, saved, 0

    def load(self):
        if self.saved is None:
            return None
        self.generator.set_state(self.saved["generator"])
        torch.set_rng_state(self.saved["cpu"])
        return {name: tensor for name, tensor in self.saved.items() if name not in ("generator", "cpu")}

    def offer(self, state):
        self.offered += 1
        if self.offered == self.epoch:
            self.saved = {name: tensor.clone() for name, tensor in state().items()}
            self.saved |= {"generator": self.generator.get_state(), "cpu": torch.get_rng_state()}
            raise Saved


@pytest.mark.parametrize("architecture", [Linear(), Dropout(), ConvNet(width=4, depth=1, norm="batch")], ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_training_that_was_interrupted_after_any_epoch_gives_the_same_bytes(train, architecture, momentum):
    words = {"epochs": 4, "snapshots": (0, 1, 3), "decay": 0.1, "decay_at": (2,), "held_out": 0.2}
    spec = spec_of(architecture=str(architecture), momentum=momentum, augmentation="crop_flip", **words)
    whole = trained(spec, train, architecture)
    for epoch in range(1, 5):
        generator = generator_of(spec)
        checkpoint = EndsAfter(generator, epoch)
        with pytest.raises(Saved):
            train_from_recipe(spec, architecture, train, generator, checkpoint, lambda done, total: None)
        generator = new_generator("whatever")
        checkpoint = EndsAfter(generator, saved=checkpoint.saved)
        steps = []
        progress = lambda *step, steps=steps: steps.append(step)  # noqa: E731
        assert_same(whole, train_from_recipe(spec, architecture, train, generator, checkpoint, progress))
        assert steps == [(done, 4) for done in range(epoch + 1, 5)]


def test_what_is_held_out_is_a_part_of_each_class_and_the_same_for_all_networks(train):
    recipe = spec_of(held_out=0.25).recipe
    held_out, kept = hold_out(train, recipe)
    assert torch.bincount(train.labels[held_out]).tolist() == [5, 3, 2]
    assert sorted([*held_out.tolist(), *kept.tolist()]) == list(range(40))
    first, second = (trained(spec_of(number, held_out=0.25), train).held_out for number in (0, 1))
    assert torch.equal(first, held_out)
    assert torch.equal(second, held_out)
    assert not torch.equal(held_out, hold_out(train, spec_of(held_out=0.25, seed=1).recipe)[0])


@pytest.mark.parametrize(("fraction", "counts"), [(0.01, [1, 1, 0]), (0.99, [3, 1, 0])])
def test_a_class_is_never_held_out_whole(fraction, counts):
    train = make_train((4, 2, 1))
    held_out, kept = hold_out(train, spec_of(held_out=fraction).recipe)
    assert torch.bincount(train.labels[held_out], minlength=3).tolist() == counts
    assert len(kept) == 7 - len(held_out)


def test_nothing_is_held_out_unless_told(train):
    held_out, kept = hold_out(train, spec_of().recipe)
    assert (len(held_out), kept.tolist()) == (0, list(range(40)))
    assert trained(spec_of(), train).held_out_accuracy == {}


def test_the_network_is_never_trained_on_what_is_held_out(train):
    spec = spec_of(held_out=0.3, momentum=0.9)
    expected = trained(spec, train)
    train.images[expected.held_out] = 255 - train.images[expected.held_out]
    changed = trained(spec, train)
    assert torch.equal(expected.states[3]["1.weight"], changed.states[3]["1.weight"])
    assert expected.accuracy == changed.accuracy
    assert expected.held_out_accuracy != changed.held_out_accuracy


def test_accuracies_are_those_of_the_kept_states_on_either_part(train):
    training = trained(spec_of(held_out=0.3, snapshots=(0, 1), epochs=20, lr=0.1), train)
    held_out, kept = hold_out(train, spec_of(held_out=0.3).recipe)
    network = Linear().build(train.info)

    def measured(epoch, indices):
        network.load_state_dict(training.states[epoch])
        right = network(train.normalised(indices)).argmax(1) == train.labels[indices]
        return right.double().mean().item()

    assert training.accuracy == measured(20, kept)
    assert training.held_out_accuracy == {epoch: measured(epoch, held_out) for epoch in (0, 1, 20)}
    assert training.accuracy > training.held_out_accuracy[20]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"batch_size": 100, "lr": 1e38}, "the network is not finite after epoch 1$"),
        ({"batch_size": 4, "lr": 1e38}, "the training loss is nan in epoch 1$"),
        ({"batch_size": 100, "decay": 1e39, "decay_at": (1,)}, "the network is not finite after epoch 2$"),
    ],
    ids=["in the last step", "before it", "later"],
)
def test_training_that_diverges_names_the_epoch_and_keeps_no_state_of_it(train, changes, problem):
    class Finite(NoCheckpoint):
        def offer(self, state):
            assert all(each.isfinite().all() for each in state().values())

    with pytest.raises(Diverged, match=problem):
        trained(spec_of(weight_decay=1e3, **changes), train, checkpoint=Finite())


def test_progress_is_told_after_each_epoch(train):
    seen = []
    trained(spec_of(), train, progress=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_recipe_is_said_in_words():
    recipe = NetworkRecipe(
        epochs=50, lr=0.01, decay=0.1, decay_at=(26,), augmentation="color_crop", zca=True, held_out=0.1
    )
    assert str(recipe) == (
        "50 epochs, batch 256, SGD 0.01, x0.1 after 26, momentum 0, weight decay 0, siamese color_crop, ZCA, "
        "10% held out, seed 0"
    )


REFUSED = [{"snapshots": (4,)}, {"held_out": 1.0}, {"epochs": -1}, {"lr": 0.0}, {"unknown": 1}]


@pytest.mark.parametrize("changes", REFUSED, ids=str)
def test_a_recipe_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        spec_of(**changes)
