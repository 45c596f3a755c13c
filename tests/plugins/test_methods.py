"""The baselines: random images, coresets by features and by scores, whole."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.methods.el2n import EL2N
from dcbench_plugins.methods.forgetting import Forgetting
from dcbench_plugins.methods.herding import Herding
from dcbench_plugins.methods.kcenter import KCenter
from dcbench_plugins.methods.kmeans import KMeans
from dcbench_plugins.methods.random import Random
from dcbench_plugins.methods.whole import Whole
from helpers import make_task, make_train
from torch import nn

from dcbench.core.condensed_set import check_set
from dcbench.core.method import Setting
from dcbench.engine.trained_networks import generator_of
from dcbench.utils.errors import DcbenchError


@pytest.fixture
def task(tiny):
    return make_task(tiny, ConvNet(width=4, depth=1), ipc=3)


def setting(data, ipc):
    counts = tuple(len(members) for members in data.train.class_indices)
    return Setting(data.info, counts, ipc, "convnet")


def test_random_draws_different_images_of_each_class(task, tiny):
    condensed = Random().condense(task)
    check_set(condensed, tiny.train, ipc=3)
    assert len(set(condensed.indices.tolist())) == 9
    assert torch.equal(condensed.images, tiny.train.normalised(condensed.indices))


def test_random_depends_on_the_seed(tiny):
    draws = [Random().condense(make_task(tiny, ConvNet(), seed=seed)).sha256() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("method", [Random(), Herding(), KCenter(), KMeans(), Forgetting(), EL2N()])
def test_selection_needs_as_many_images_as_it_is_to_select(method, tiny):
    method.resolve(setting(tiny, ipc=6))
    with pytest.raises(DcbenchError, match=r"ipc 7 .* class 'c' has 6 training images"):
        method.resolve(setting(tiny, ipc=7))


def naive_herd(rows, n):
    """The definition, without shortcuts: all candidate means, smallest distance first."""
    chosen = []
    for _ in range(n):
        free = [i for i in range(len(rows)) if i not in chosen]
        distances = [torch.dist(rows.mean(0), rows[[*chosen, i]].mean(0)).item() for i in free]
        chosen.append(free[distances.index(min(distances))])
    return chosen


def test_herding_agrees_with_its_definition():
    rows = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert Herding().choose(rows, 12).tolist() == naive_herd(rows, 12)


@pytest.mark.parametrize("chosen", [[0, 0], [0], [0, 0, 1], [-1, 5], [0, 6]])
def test_a_coreset_that_is_none_is_refused(tiny, chosen):
    class Chooses(KCenter):
        def choose(self, features, n):
            return torch.tensor(chosen)

    with pytest.raises(ValueError, match=r"kcenter chose \[.*\], not 2 of (6|20) images"):
        Chooses(space="pixels").condense(make_task(tiny, ConvNet(), ipc=2))


def naive_centers(rows, n):
    """The definition, without shortcuts: all distances to all that are chosen, the greatest of the least first."""
    from_mean = [torch.dist(row, rows.mean(0)).item() for row in rows]
    chosen = [from_mean.index(min(from_mean))]
    while len(chosen) < n:
        least = {
            i: min(torch.dist(rows[i], rows[j]).item() for j in chosen)
            for i in range(len(rows))
            if i not in chosen
        }
        chosen.append(max(least, key=least.get))
    return chosen


def test_k_center_agrees_with_its_definition():
    rows = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert KCenter().choose(rows, 12).tolist() == naive_centers(rows, 12)


def test_k_center_takes_no_image_twice_though_all_are_equal():
    assert sorted(KCenter().choose(torch.ones(5, 3, dtype=torch.float64), 5).tolist()) == [0, 1, 2, 3, 4]


def test_k_center_leaves_no_image_further_from_it_than_twice_the_best_could():
    """The bound of Gonzalez, Clustering to Minimize the Maximum Intercluster Distance, 1985."""
    rows = torch.randn(9, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def radius(chosen):
        return torch.cdist(rows, rows[list(chosen)]).min(dim=1).values.max().item()

    for n in (2, 3, 4):
        best = min(radius(some) for some in itertools.combinations(range(9), n))
        assert best <= radius(KCenter().choose(rows, n).tolist()) <= 2 * best


@pytest.mark.parametrize("method", [Herding, KCenter])
def test_the_first_chosen_image_is_the_nearest_to_the_class_mean(tiny, method):
    task = make_task(tiny, ConvNet(width=4, depth=1), ipc=1)
    condensed = method(space="pixels").condense(task)
    for label, members in enumerate(tiny.train.class_indices):
        pixels = tiny.train.normalised(members).flatten(1).double()
        nearest = (pixels - pixels.mean(0)).norm(dim=1).argmin()
        assert condensed.indices[label] == members[nearest]


@pytest.mark.parametrize("method", [Herding, KCenter, KMeans])
def test_choosing_in_feature_space_trains_the_network(task, tiny, method):
    trained = method(epochs=30, lr=0.1).condense(task)
    check_set(trained, tiny.train, ipc=3)
    untrained = method(epochs=0).condense(make_task(tiny, ConvNet(width=4, depth=1), ipc=3))
    assert trained.sha256() != untrained.sha256()


@pytest.mark.parametrize("method", [Herding, KCenter])
def test_choosing_by_pixels_needs_no_network_and_no_luck(tiny, method):
    sets = [method(space="pixels").condense(make_task(tiny, ConvNet(), ipc=3, seed=seed)) for seed in (0, 1)]
    assert sets[0].sha256() == sets[1].sha256()
    assert method(space="pixels").dependencies(setting(tiny, ipc=3)) == {"ipc"}
    assert method().dependencies(setting(tiny, ipc=3)) == {"ipc", "network", "seed"}


def generator():
    return torch.Generator().manual_seed(0)


def test_k_means_chooses_the_row_nearest_to_the_mean_of_each_cluster():
    corners = torch.tensor([[0.0, 0], [50, 0], [0, 50]], dtype=torch.float64)
    noise = torch.randn(21, 2, generator=generator(), dtype=torch.float64)
    rows = corners.repeat(7, 1) + noise
    nearest = set()
    for corner in range(3):
        members = list(range(corner, 21, 3))
        distances = [torch.dist(rows[i], rows[members].mean(0)).item() for i in members]
        nearest.add(members[distances.index(min(distances))])
    assert set(KMeans().choose_by_draw(rows, 3, generator()).tolist()) == nearest


def test_k_means_takes_no_image_twice_though_all_are_equal(recwarn):
    rows = torch.ones(5, 3, dtype=torch.float64)
    assert sorted(KMeans().choose_by_draw(rows, 5, generator()).tolist()) == [0, 1, 2, 3, 4]
    assert not recwarn.list


def test_k_means_by_pixels_depends_on_the_seed_and_not_on_the_network(tiny):
    assert KMeans(space="pixels").dependencies(setting(tiny, ipc=3)) == {"ipc", "seed"}
    assert KMeans(space="pixels").dependencies(setting(tiny, ipc=1)) == {
        "ipc"
    }  # the nearest to the mean of the class
    assert KMeans().dependencies(setting(tiny, ipc=1)) == {"ipc", "network", "seed"}
    method = KMeans(space="pixels", restarts=1)
    ones = [method.condense(make_task(tiny, ConvNet(), ipc=1, seed=seed)).sha256() for seed in range(3)]
    assert len(set(ones)) == 1
    sets = [method.condense(make_task(tiny, ConvNet(), ipc=3, seed=seed)).sha256() for seed in range(6)]
    assert len(set(sets)) > 1


def outputs_by_epoch(method, task, epochs, number=0):
    """The outputs for the training split after each epoch of a network of a method, by torch alone."""
    trained = method.trained_networks(task, number + 1, snapshots=(0,))[number]
    network, train, generator = trained.network(0), task.train, generator_of(trained.spec)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=method.lr, momentum=method.momentum, weight_decay=method.weight_decay
    )
    images, outputs = train.normalised(slice(None)), []
    for _ in range(epochs):
        network.train()
        for batch in torch.randperm(len(train), generator=generator).split(method.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), train.labels[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            outputs.append(network.eval()(images))
    return outputs


NETWORK = ConvNet(width=4, depth=1, norm="batch")  # its outputs in training are others than in evaluation


@pytest.fixture
def noise():
    """A data set of noise, which a network learns and forgets."""
    return SimpleNamespace(train=make_train((10, 10, 10)))


def test_forgetting_counts_as_its_definition_says(noise):
    method = Forgetting(epochs=12, lr=0.3, batch_size=4)
    outputs = outputs_by_epoch(method, make_task(noise, NETWORK), 12)
    expected = []
    for i, label in enumerate(noise.train.labels.tolist()):
        history = [int(each[i].argmax()) == label for each in outputs]
        forgotten = sum(before and not after for before, after in itertools.pairwise(history))
        expected.append(forgotten if any(history) else 12)
    assert len({*expected}) > 2
    assert method.scores(make_task(noise, NETWORK)).tolist() == expected


def test_an_image_that_is_never_learnt_is_forgotten_most(tiny, monkeypatch):
    never = tiny.train.class_indices[0][2]
    right = nn.functional.one_hot(tiny.train.labels, 3).float()
    right[never] = right[never].roll(1)
    monkeypatch.setattr("dcbench_plugins.methods.forgetting.logits", lambda network, split: right)
    condensed = Forgetting(epochs=2).condense(make_task(tiny, NETWORK, ipc=1))
    assert condensed.indices[0] == never


def test_equal_scores_are_ordered_by_the_seed_and_greater_ones_come_first(tiny, monkeypatch):
    method, scores = Forgetting(), torch.zeros(len(tiny.train))
    best = [int(members[-1]) for members in tiny.train.class_indices]
    scores[best] = 1.0
    monkeypatch.setattr(Forgetting, "scores", lambda self, task: scores)
    sets = [method.condense(make_task(tiny, ConvNet(), ipc=2, seed=seed)).indices for seed in (0, 0, 1)]
    assert torch.equal(sets[0], sets[1])
    assert not torch.equal(sets[0], sets[2])
    assert all(each[::2].tolist() == best for each in sets)


def test_el2n_is_the_mean_norm_of_the_error(noise):
    method, task = EL2N(epochs=2, networks=3, lr=0.3, batch_size=4), make_task(noise, NETWORK)
    runs = [outputs_by_epoch(method, task, 2, number)[-1] for number in range(3)]
    truth = nn.functional.one_hot(noise.train.labels, 3)
    norms = [(each.double().softmax(1) - truth).square().sum(1).sqrt() for each in runs]
    scores = method.scores(make_task(noise, NETWORK))
    torch.testing.assert_close(scores, sum(norms) / 3, rtol=1e-5, atol=0)
    assert scores.dtype == torch.float64
    assert (norms[0] - norms[1]).abs().max() > 0.01


@pytest.mark.parametrize("method", [KMeans(epochs=2), Forgetting(epochs=2), EL2N(epochs=1, networks=2)])
def test_coresets_are_the_same_for_the_same_seed_and_take_a_whole_class(tiny, method):
    sets = [method.condense(make_task(tiny, NETWORK, ipc=6)) for _ in range(2)]
    check_set(sets[0], tiny.train, ipc=6)
    assert sets[0].sha256() == sets[1].sha256()
    smallest = min(tiny.train.class_indices, key=len)
    assert {*smallest.tolist()} <= {*sets[0].indices.tolist()}


def test_whole_is_everything(task, tiny):
    condensed = Whole().condense(task)
    assert torch.equal(condensed.images, tiny.train.normalised(slice(None)))
    assert torch.equal(condensed.labels, tiny.train.labels)


@pytest.mark.parametrize(
    "method",
    [
        Random(),
        Herding(epochs=1),
        KCenter(epochs=1),
        KMeans(epochs=1),
        Forgetting(epochs=1),
        EL2N(epochs=1),
        Whole(),
    ],
)
def test_nothing_that_is_given_is_changed(method, task, tiny):
    images, labels = tiny.train.images.clone(), tiny.train.labels.clone()
    random_state = torch.get_rng_state()
    method.condense(task)
    assert torch.equal(tiny.train.images, images)
    assert torch.equal(tiny.train.labels, labels)
    assert torch.equal(torch.get_rng_state(), random_state)
