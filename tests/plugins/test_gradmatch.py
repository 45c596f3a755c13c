"""Gradient matching against the naive implementation."""

from __future__ import annotations

import math

import pytest
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.methods.dsa import DSA
from dcbench_plugins.methods.gradmatch import DISTANCES, GradMatch
from helpers import NoCheckpoint, make_task
from naive_matching import naive_condense, naive_cosine, naive_loss
from torch import nn

from dcbench.core.architecture import new_network
from dcbench.core.method import Setting, Task
from dcbench.engine.matching import matching_gradient
from dcbench.utils.errors import DcbenchError


class MemoryCheckpoint:
    """Keeps the first state it is offered, and stops the method then."""

    def __init__(self, generator):
        self.generator, self.state = generator, None

    def load(self):
        return None

    def offer(self, state):
        self.state = {name: tensor.clone() for name, tensor in state().items()}
        self.random = self.generator.get_state()
        raise KeyboardInterrupt


class RestoredCheckpoint(NoCheckpoint):
    def __init__(self, saved, generator):
        self.saved, self.generator = saved, generator

    def load(self):
        self.generator.set_state(self.saved.random)
        return self.saved.state


def resolved(data, ipc=2, network="convnet", method=GradMatch, **options):
    counts = tuple(len(members) for members in data.train.class_indices)
    return method(**options).resolve(Setting(data.info, counts, ipc, network))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_one_step_agrees_with_the_naive_implementation_to_rounding(tiny, distance, norm):
    architecture = ConvNet(width=8, depth=2, norm=norm)
    network = new_network(architecture, tiny.info, seed=1).double().train()
    if norm == "batch":
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    generator = torch.Generator().manual_seed(2)
    real = [tiny.train.draw(label, 5, generator).double() for label in range(3)]
    synthetic = torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64, requires_grad=True)

    expected_loss = naive_loss(network, real, synthetic.split(2), distance)
    (expected,) = torch.autograd.grad(expected_loss, synthetic)
    gradient, loss = matching_gradient(network, iter(real), synthetic.detach().split(2), DISTANCES[distance])

    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(loss.double(), expected_loss.detach(), rtol=1e-6, atol=1e-6)


def test_the_gradient_is_that_of_the_loss_by_finite_differences(tiny):
    network = new_network(ConvNet(width=4, depth=1), tiny.info, seed=1).double()
    generator = torch.Generator().manual_seed(2)
    real = [tiny.train.draw(label, 5, generator).double() for label in range(3)]
    images = torch.randn(3, 1, 8, 8, generator=generator, dtype=torch.float64)
    distance = DISTANCES["layerwise"]
    gradient, _ = matching_gradient(network, iter(real), images.split(1), distance)
    step = 1e-5 * gradient / gradient.norm()
    up = naive_loss(network, real, (images + step).split(1), "layerwise").item()
    down = naive_loss(network, real, (images - step).split(1), "layerwise").item()
    assert (up - down) / 2e-5 == pytest.approx(gradient.norm().item(), rel=1e-5)


@pytest.mark.parametrize("momentum_net", [0.0, 0.5])
def test_the_whole_algorithm_agrees_with_the_naive_implementation(tiny, momentum_net):
    architecture = ConvNet(width=8, depth=2)
    method = resolved(tiny, iterations=2, outer_loop=3, inner_loop=2, batch_real=8, momentum_net=momentum_net)
    condensed = method.condense(make_task(tiny, architecture))
    task = make_task(tiny, architecture)
    start = torch.randn(6, 1, 8, 8, generator=task.generator)
    expected = naive_condense(method, task, start.double())
    # float32 against float64 over six steps and eight network updates
    assert (condensed.images.double() - expected).norm() / expected.norm() < 1e-3
    assert (condensed.images - start).norm() / start.norm() > 0.05


def test_a_pool_takes_networks_and_their_gradients_in_turns(tiny):
    architecture, draws = ConvNet(width=4, depth=2), 3
    task = make_task(tiny, architecture)
    method = resolved(tiny, iterations=5, outer_loop=1, network_pool=draws, batch_real=8)
    condensed = method.condense(task)

    expected = make_task(tiny, architecture)
    images = torch.randn(6, 1, 8, 8, generator=expected.generator)
    pool = []
    for _ in range(draws):
        network = expected.new_network()
        pool.append((network, [tiny.train.draw(c, 8, expected.generator) for c in range(3)]))
    velocity = torch.zeros_like(images)
    for iteration in range(5):
        network, real = pool[iteration % draws]
        leaf = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(naive_loss(network, real, leaf.split(2), "layerwise"), leaf)
        velocity = 0.5 * velocity + gradient
        images = images - method.lr_img * velocity
    assert (condensed.images - images).norm() / images.norm() < 1e-3
    assert torch.equal(task.generator.get_state(), expected.generator.get_state())  # nothing else is drawn


def test_a_pool_is_for_networks_that_are_not_trained(tiny):
    with pytest.raises(DcbenchError, match=r"network_pool is for outer_loop=1, not 10 \(at 10 images"):
        resolved(tiny, ipc=10, network_pool=5)
    assert resolved(tiny, ipc=10, network_pool=5, outer_loop=1).network_pool == 5


def test_images_of_each_class_come_in_label_order(tiny):
    condensed = resolved(tiny, iterations=1).condense(make_task(tiny, ConvNet(width=4, depth=1)))
    assert condensed.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert condensed.images.shape == (6, 1, 8, 8)
    assert not condensed.images.requires_grad


def test_matching_brings_the_loss_down(tiny):
    method = resolved(tiny, iterations=40)
    history = method.condense(make_task(tiny, ConvNet(width=8, depth=2))).history["loss"]
    assert history.shape == (40,)
    assert history[-5:].mean() < 0.8 * history[:5].mean()


@pytest.mark.parametrize(
    ("ipc", "loops"), [(1, (1, 1)), (10, (10, 50)), (20, (20, 25)), (30, (30, 20)), (40, (40, 15)), (50, (50, 10))]
)
def test_loops_follow_the_images_per_class(tiny, ipc, loops):
    method = resolved(tiny, ipc=ipc)
    assert (method.outer_loop, method.inner_loop) == loops


def test_given_options_win_over_those_of_the_setting(tiny):
    method = resolved(tiny, ipc=10, network="mlp", outer_loop=3, lr_img=0.5)
    assert (method.outer_loop, method.inner_loop, method.lr_img) == (3, 50, 0.5)


@pytest.mark.parametrize(("network", "lr"), [("convnet", 0.1), ("mlp", 0.01), ("mlp:width=64", 0.01)])
def test_the_images_learn_slower_on_the_mlp(tiny, network, lr):
    assert resolved(tiny, network=network).lr_img == lr


def test_real_initialisation_starts_from_training_images(tiny):
    method = resolved(tiny, iterations=1, init="real", lr_img=1e-12)
    images = method.condense(make_task(tiny, ConvNet(width=4, depth=1))).images
    for label in range(3):
        members = tiny.train.normalised(tiny.train.class_indices[label])
        for image in images[2 * label : 2 * label + 2]:
            assert (members - image).abs().amax(dim=(1, 2, 3)).min() < 1e-6


def test_real_initialisation_needs_enough_images(tiny):
    with pytest.raises(DcbenchError, match="class 'c' has 6"):
        resolved(tiny, ipc=7, init="real")


def test_batchnorm_statistics_come_from_real_images_and_are_frozen(tiny):
    network = new_network(ConvNet(width=4, depth=1, norm="batch"), tiny.info, seed=0)
    layer = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    method = resolved(tiny, bn_images=4)
    method._set_batchnorm(make_task(tiny, ConvNet(norm="batch")), network)
    assert network.training
    assert not layer.training
    assert not torch.equal(layer.running_mean, torch.zeros(4))
    before = layer.running_mean.clone()
    matching_gradient(network, iter([torch.randn(2, 1, 8, 8)] * 3), torch.randn(3, 1, 8, 8).split(1), naive_cosine)
    assert torch.equal(layer.running_mean, before)


def test_batchnorm_draws_nothing_where_there_is_none(tiny):
    task = make_task(tiny, ConvNet(width=4, depth=1))
    before = task.generator.get_state()
    resolved(tiny)._set_batchnorm(task, new_network(task.architecture, tiny.info, seed=0))
    assert torch.equal(task.generator.get_state(), before)


@pytest.mark.parametrize(
    ("options", "seed"),
    [
        ({"outer_loop": 2, "inner_loop": 1}, 99),  # the restored state must win over the seed
        ({"outer_loop": 2, "inner_loop": 1, "method": DSA}, 99),
        ({"outer_loop": 1, "network_pool": 3}, 0),  # the pool is drawn again
    ],
)
def test_resuming_from_a_checkpoint_gives_the_same_bytes(tiny, options, seed):
    architecture = ConvNet(width=4, depth=1)
    method = resolved(tiny, iterations=4, **options)
    whole = method.condense(make_task(tiny, architecture))

    task = make_task(tiny, architecture)
    saved = MemoryCheckpoint(task.generator)
    with pytest.raises(KeyboardInterrupt):
        method.condense(Task(task.train, 2, task.generator, architecture, saved, task.progress))
    assert int(saved.state["done"]) == 1

    task = make_task(tiny, architecture, seed=seed)
    restored = RestoredCheckpoint(saved, task.generator)
    resumed = method.condense(Task(task.train, 2, task.generator, architecture, restored, task.progress))
    assert resumed.sha256() == whole.sha256()
    assert torch.equal(resumed.history["loss"], whole.history["loss"])


def test_progress_counts_every_image_step(tiny):
    seen = []
    task = make_task(tiny, ConvNet(width=4, depth=1), progress=lambda done, total: seen.append((done, total)))
    resolved(tiny, iterations=2, outer_loop=3, inner_loop=0).condense(task)
    assert seen == [(step, 6) for step in range(1, 7)]


def test_no_distance_between_equal_gradients():
    gradients = [torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.randn(4)]
    assert DISTANCES["layerwise"](gradients, gradients).item() == pytest.approx(0, abs=1e-5)
    assert DISTANCES["cosine"](gradients, gradients).item() == pytest.approx(0, abs=1e-5)
    assert DISTANCES["squared"](gradients, gradients).item() == 0
    assert math.isclose(DISTANCES["layerwise"](gradients, [-g for g in gradients]).item(), 8, rel_tol=1e-4)
