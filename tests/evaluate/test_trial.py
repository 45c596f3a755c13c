from __future__ import annotations

import pytest
import tiny_plugin
import torch
import torch.nn.functional as F
from torch import nn

from dcbench.core.architecture import new_network
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.spec import BUDGETS, EvaluationSpec
from dcbench.core.split import ResidentSplit
from dcbench.engine.training import accuracy, both_accuracies, logits, train_network
from dcbench.evaluate.dc import DC
from dcbench.evaluate.trial import evaluate
from dcbench.utils.seeds import derive_seed, new_generator

FULL = BUDGETS["full"]


@pytest.fixture
def condensed(tiny):
    return CondensedSet.select(tiny.train, torch.tensor([0, 1, 20, 21, 40, 41]))


def spec_for(condensed, seed=0, network="linear"):
    return EvaluationSpec(
        set_sha256=condensed.sha256(),
        dataset="tiny",
        dataset_sha256="0",
        evaluation_network=network,
        protocol="dc",
        budget="full",
        seed=seed,
    )


def trial(tiny, condensed, seed=0, architecture=None, progress=lambda done, total: None):
    architecture = architecture or tiny_plugin.Linear()
    spec = spec_for(condensed, seed, architecture.name)
    return evaluate(spec, condensed, tiny.test, architecture, DC, FULL, progress)


def test_training_on_two_images_a_class_beats_chance(tiny, condensed):
    assert trial(tiny, condensed).answers[0].scores["accuracy"] > 0.6


@pytest.mark.parametrize("architecture", [tiny_plugin.Linear(), tiny_plugin.Dropout()])
def test_the_same_spec_gives_the_same_weights_whatever_the_global_generator(
    tiny, condensed, architecture, monkeypatch
):
    weights = []

    def spy(network, split):
        weights.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
        return logits(network, split)

    monkeypatch.setattr("dcbench.evaluate.accuracy.logits", spy)
    for state in (1, 2):
        torch.manual_seed(state)
        trial(tiny, condensed, architecture=architecture)
    trial(tiny, condensed, seed=1, architecture=architecture)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_global_generator_is_left_alone(tiny, condensed):
    before = torch.get_rng_state()
    trial(tiny, condensed, architecture=tiny_plugin.Dropout())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_protocol_by_hand(tiny, condensed):
    """SGD written out: momentum, weight decay, a tenth of the rate in the second half, the last epoch."""
    spec = spec_for(condensed)
    seed = derive_seed("evaluate", spec.key())
    network = new_network(tiny_plugin.Linear(), tiny.info, seed)
    generator = new_generator("shuffle", seed)
    velocity = [torch.zeros_like(parameter) for parameter in network.parameters()]
    for epoch in range(300):
        order = torch.randperm(6, generator=generator)
        loss = F.cross_entropy(network(condensed.images[order]), condensed.labels[order])
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient, v in zip(network.parameters(), gradients, velocity, strict=True):
                v.mul_(0.9).add_(gradient + 5e-4 * parameter)
                parameter -= (0.01 if epoch < 150 else 0.001) * v
    assert trial(tiny, condensed).answers[0].scores["accuracy"] == accuracy(network, tiny.test)


def test_accuracy_counts_right_answers(tiny):
    class Always(nn.Module):
        def forward(self, images):
            return F.one_hot(torch.ones(len(images), dtype=torch.int64), 3).float()

    assert accuracy(Always(), tiny.test, batch_size=7) == pytest.approx(1 / 3)


def test_an_image_without_a_prediction_counts_as_chance(tiny):
    class Partly(nn.Module):
        """Says class 1, but nothing for the first half of the images."""

        def forward(self, images):
            outputs = F.one_hot(torch.ones(len(images), dtype=torch.int64), 3).float()
            outputs[:half, 0] = torch.nan
            return outputs

    half = len(tiny.test) // 2
    right = int((tiny.test.labels[half:] == 1).sum())
    assert accuracy(Partly(), tiny.test) == pytest.approx((right + half / 3) / len(tiny.test))


def test_balanced_accuracy_is_the_mean_over_classes_where_these_are_uneven(tiny):
    class Always(nn.Module):
        def forward(self, images):
            return F.one_hot(torch.ones(len(images), dtype=torch.int64), 3).float()

    assert both_accuracies(logits(Always(), tiny.test), tiny.test)[1] is None
    kept = torch.cat([tiny.test.class_indices[1], tiny.test.class_indices[0][:1]])
    uneven = ResidentSplit(tiny.test.images[kept], tiny.test.labels[kept], tiny.info)
    assert both_accuracies(logits(Always(), uneven), uneven) == (1 - 1 / len(kept), 0.5)


def test_a_network_that_diverges_is_tested_as_it_is_then(tiny, condensed):
    far = CondensedSet(condensed.images * 1e30, condensed.labels)
    found = trial(tiny, far)
    assert found.diverged.startswith("the training loss is nan in epoch")
    assert found.answers[0].scores["accuracy"] == pytest.approx(1 / 3)
    assert trial(tiny, condensed).diverged == ""


def test_progress_counts_epochs(tiny, condensed):
    seen = []
    trial(tiny, condensed, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(epoch, 300) for epoch in range(1, 301)]


def test_soft_labels_train_too(tiny, condensed):
    soft = F.one_hot(condensed.labels, 3).float()
    network = new_network(tiny_plugin.Linear(), tiny.info, seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    train_network(network, condensed.images, soft, optimizer, epochs=50, batch_size=4, generator=generator)
    assert accuracy(network, tiny.test) > 0.6


def test_batches_cover_every_image_once(tiny):
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, images):
            seen.append(images[:, 0, 0, 0].tolist())
            return self.weight.expand(len(images), 3)

    network = Spy()
    images = torch.arange(5.0).reshape(5, 1, 1, 1)
    train_network(
        network,
        images,
        torch.zeros(5, dtype=torch.int64),
        torch.optim.SGD(network.parameters(), lr=0.1),
        epochs=2,
        batch_size=2,
        generator=torch.Generator().manual_seed(0),
    )
    assert [len(batch) for batch in seen] == [2, 2, 1] * 2
    for epoch in (seen[:3], seen[3:]):
        assert sorted(value for batch in epoch for value in batch) == [0, 1, 2, 3, 4]
    assert seen[:3] != seen[3:]
