"""The gradient of trajectory matching is that of the whole unrolled training, in memory for one step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from dcbench_plugins.architectures.convnet import ConvNet
from helpers import make_info
from torch import nn
from torch.func import functional_call

from dcbench.core.architecture import new_network
from dcbench.engine.compiled import can_compile
from dcbench.engine.engine import Engine
from dcbench.engine.siamese import FULL, SiameseAugmentation
from dcbench.engine.unrolled import trajectory_matching_gradient

LR = torch.tensor(0.05, dtype=torch.float64)
ENGINES = [
    Engine("fast", workers=2, micro_batch=8),
    pytest.param(
        Engine("compiled", workers=2, micro_batch=8, compiles=True),
        marks=pytest.mark.skipif(not can_compile(), reason="no C++ compiler"),
    ),
]
N, CLASSES = 12, 3


def network_of(norm="instance", **options):
    architecture = ConvNet(**{"width": 4, "depth": 2, "norm": norm, **options})
    return new_network(architecture, make_info(), seed=0).double()


def state_of(network, seed):
    """Parameters of another initialisation."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: each.detach() + 0.1 * torch.randn(each.shape, generator=generator, dtype=torch.float64)
        for name, each in network.named_parameters()
    }


def problem(network, count=5, batch=N, strategy="", soft=False):
    """Start, target, images, labels, learning rate and drawn steps."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(N, 1, 8, 8, generator=generator).double()
    labels = torch.arange(N) % CLASSES
    if soft:
        labels = torch.randn(N, CLASSES, generator=generator).double().softmax(1)
    steps = []
    for _ in range(count):
        indices = torch.randperm(N, generator=generator)[:batch]
        view = SiameseAugmentation(strategy).draw(generator, batch) if strategy else lambda images: images
        steps.append((indices, view))
    return state_of(network, 1), state_of(network, 2), images, labels, LR, steps


def naive(network, start, target, images, labels, lr, steps):
    """One distillation step of the authors' code: their loop, and one backward pass through all of it."""
    images, syn_lr = images.clone().requires_grad_(), lr.clone().requires_grad_()
    names, shapes = zip(*[(name, each.shape) for name, each in network.named_parameters()], strict=True)
    starting_params, target_params = (
        torch.cat([state[name].reshape(-1) for name in names]) for state in (start, target)
    )
    student_params = [starting_params.clone().requires_grad_()]
    for these_indices, augment in steps:
        x, this_y = augment(images[these_indices]), labels[these_indices]
        pieces = student_params[-1].split([shape.numel() for shape in shapes])
        parameters = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        ce_loss = F.cross_entropy(functional_call(network.train(), parameters, x), this_y)
        (grad,) = torch.autograd.grad(ce_loss, student_params[-1], create_graph=True)
        student_params.append(student_params[-1] - syn_lr * grad)
    param_loss = F.mse_loss(student_params[-1], target_params, reduction="sum")
    param_dist = F.mse_loss(starting_params, target_params, reduction="sum")
    grand_loss = param_loss / param_dist
    grand_loss.backward()
    return images.grad, syn_lr.grad, grand_loss.detach()


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13)
        assert not one.requires_grad


@pytest.mark.parametrize("norm", ["instance", "batch", "none", "layer"])
@pytest.mark.parametrize(
    "work", [{}, {"batch": 5}, {"soft": True}, {"count": 1}, {"batch": 5, "strategy": FULL, "count": 8}]
)
def test_the_gradient_is_that_of_the_unrolled_training(norm, work):
    network = network_of(norm)
    given = problem(network, **work)
    expected = naive(network, *given)
    assert expected[0].abs().max() > 1e-6
    assert expected[1].abs() > 1e-3
    assert_same(trajectory_matching_gradient(network, *given), expected)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_every_engine_gives_this_gradient(engine, monkeypatch):
    monkeypatch.setattr("dcbench.engine.engine.COMPILE_FROM", 0.0)
    monkeypatch.setattr("dcbench.engine.engine.SHARE_FROM", 0.0)
    network, threads = network_of("none", depth=1, pooling="none"), torch.get_num_threads()
    *given, steps = problem(network, count=4, batch=8, strategy=FULL)
    steps[2] = (steps[2][0][:5], lambda images: images)  # a batch that is smaller than the first
    with engine.active():
        found = [trajectory_matching_gradient(network, *given, steps) for _ in range(2)]
        assert engine.statement() == engine.name
    assert_same(found[0], naive(network, *given, steps))
    assert all(map(torch.equal, *found))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("operation", FULL.split("_"))
def test_the_gradient_passes_through_every_augmentation(operation):
    network = network_of()
    given = problem(network, batch=7, strategy=operation)
    assert_same(trajectory_matching_gradient(network, *given), naive(network, *given))


def test_the_gradient_is_that_of_the_loss_by_finite_differences():
    network = network_of()
    start, target, images, labels, lr, steps = problem(network, batch=5, strategy=FULL)
    by_images, by_lr, _ = trajectory_matching_gradient(network, start, target, images, labels, lr, steps)
    size = by_images.norm()

    def loss(step_images, step_lr):
        moved = images + step_images * by_images / size, labels, lr + step_lr
        return trajectory_matching_gradient(network, start, target, *moved, steps)[2]

    assert ((loss(1e-6, 0) - loss(-1e-6, 0)) / 2e-6).item() == pytest.approx(size.item(), rel=1e-5)
    assert ((loss(0, 1e-6) - loss(0, -1e-6)) / 2e-6).item() == pytest.approx(by_lr.item(), rel=1e-5)


def peak_of_saved(work):
    """The most bytes that autograd keeps for backward passes at a time."""
    kept, peak = 0, 0

    class Kept:
        def __init__(self, tensor):
            nonlocal kept, peak
            self.tensor = tensor
            kept += tensor.nbytes
            peak = max(peak, kept)

        def __del__(self):
            nonlocal kept
            kept -= self.tensor.nbytes

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        work()
    return peak


def test_memory_does_not_grow_with_the_steps():
    network = network_of()
    few, many = (problem(network, count=count, batch=5, strategy="crop") for count in (3, 12))
    ours = [
        peak_of_saved(lambda given=given: trajectory_matching_gradient(network, *given)) for given in (few, many)
    ]
    theirs = [peak_of_saved(lambda given=given: naive(network, *given)) for given in (few, many)]
    assert ours[0] == ours[1] > 0
    assert theirs[1] > 3.9 * theirs[0] > 3.9 * ours[0]


class Noisy(nn.Module):
    """Draws, and notes what."""

    def __init__(self, drawn):
        super().__init__()
        self.inner, self.drawn = network_of(), drawn

    def forward(self, images):
        noise = torch.rand(1)
        self.drawn.append(noise.item())
        return self.inner(images * noise)


def test_a_network_that_draws_draws_the_same_in_both_sweeps():
    drawn = []
    network = Noisy(drawn)
    given = problem(network)
    torch.manual_seed(5)
    trajectory_matching_gradient(network, *given)
    assert drawn[-5:] == drawn[-10:-5][::-1]
    assert len(set(drawn[-5:])) == 5
    after = torch.rand(1)
    torch.manual_seed(5)
    trajectory_matching_gradient(network, *given)
    assert drawn[-5:] == drawn[-16:-11]
    assert torch.equal(torch.rand(1), after)


def test_nothing_that_is_given_is_changed():
    network = network_of()
    given = problem(network)
    before = [each.clone() for each in (*given[0].values(), *given[1].values(), given[2])]
    given[2].requires_grad_()
    first = trajectory_matching_gradient(network, *given)
    assert all(map(torch.equal, before, (*given[0].values(), *given[1].values(), given[2])))
    assert_same(trajectory_matching_gradient(network, *given), first)
    assert given[2].grad is None


def test_a_target_that_is_the_start_gives_no_finite_loss():
    network = network_of()
    start, _, *rest = problem(network)
    assert not trajectory_matching_gradient(network, start, start, *rest)[2].isfinite()
