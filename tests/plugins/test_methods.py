"""The baselines: random, herding, k-center, whole."""

from __future__ import annotations

import itertools

import pytest
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.methods.herding import Herding
from dcbench_plugins.methods.kcenter import KCenter
from dcbench_plugins.methods.random import Random
from dcbench_plugins.methods.whole import Whole
from helpers import make_task

from dcbench.core.condensed_set import check_set
from dcbench.core.method import Setting
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


@pytest.mark.parametrize("method", [Random(), Herding(), KCenter()])
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


@pytest.mark.parametrize("method", [Herding, KCenter])
def test_choosing_in_feature_space_trains_the_network(task, tiny, method):
    trained = method(epochs=30, lr=0.1).condense(task)
    check_set(trained, tiny.train, ipc=3)
    untrained = method(epochs=0).condense(make_task(tiny, ConvNet(width=4, depth=1), ipc=3))
    assert trained.sha256() != untrained.sha256()


@pytest.mark.parametrize("method", [Herding, KCenter])
def test_choosing_by_pixels_needs_no_network_and_no_luck(tiny, method):
    sets = [method(space="pixels").condense(make_task(tiny, ConvNet(), ipc=3, seed=seed)) for seed in (0, 1)]
    assert sets[0].sha256() == sets[1].sha256()
    assert method(space="pixels").dependencies() == {"ipc"}
    assert method().dependencies() == {"ipc", "network", "seed"}


def test_whole_is_everything(task, tiny):
    condensed = Whole().condense(task)
    assert torch.equal(condensed.images, tiny.train.normalised(slice(None)))
    assert torch.equal(condensed.labels, tiny.train.labels)


@pytest.mark.parametrize("method", [Random(), Herding(epochs=1), KCenter(epochs=1), Whole()])
def test_nothing_that_is_given_is_changed(method, task, tiny):
    images, labels = tiny.train.images.clone(), tiny.train.labels.clone()
    random_state = torch.get_rng_state()
    method.condense(task)
    assert torch.equal(tiny.train.images, images)
    assert torch.equal(tiny.train.labels, labels)
    assert torch.equal(torch.get_rng_state(), random_state)
