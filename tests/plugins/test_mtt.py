"""Trajectory matching against a deliberately naive implementation, written from the paper in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.methods.mtt import VALUES, TrajectoryMatching
from helpers import make_info, make_task
from test_gradmatch import MemoryCheckpoint, RestoredCheckpoint
from torch.func import functional_call

from dcbench.api import DcbenchError, Diverged, Setting
from dcbench.core.architecture import new_network
from dcbench.engine.siamese import FULL, SiameseAugmentation

CONVNET = ConvNet(width=8, depth=2)
SMALL = {
    "experts": 2,
    "iterations": 5,
    "syn_steps": 4,
    "expert_epochs": 2,
    "max_start_epoch": 3,
    "batch_syn": 4,
    "batch_expert": 8,
    "lr_img": 20.0,
    "lr_lr": 2e-5,
    "lr_teacher": 0.05,
    "zca": False,
}


def resolved(data, ipc=2, architecture=CONVNET, **options):
    counts = tuple(len(members) for members in data.train.class_indices)
    setting = Setting(data.info, counts, ipc, str(architecture), architecture)
    return TrajectoryMatching(**options).resolve(setting)


def of_made_up(ipc, counts=(500,) * 3, **facts):
    """The method resolved for a data set that has these facts."""
    return TrajectoryMatching().resolve(Setting(make_info(**facts), counts, ipc, "convnet"))


def naive_distance(network, begin, end, images, labels, lr, steps):
    """Train a student from ``begin`` in one graph, and say how far from ``end`` it stays."""
    theta = {name: begin[name].double().requires_grad_() for name, _ in network.named_parameters()}
    for batch, view in steps:
        loss = F.cross_entropy(functional_call(network, theta, view(images[batch])), labels[batch])
        gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        theta = {
            name: value - lr * gradient for (name, value), gradient in zip(theta.items(), gradients, strict=True)
        }
    missed = sum(((value - end[name].double()) ** 2).sum() for name, value in theta.items())
    moved = sum(((begin[name].double() - end[name].double()) ** 2).sum() for name in theta)
    return missed / moved


def naive_condense(method, task, recipe):
    """Algorithm 1 in float64, drawing the same random numbers in the same order."""
    generator, ipc, classes = task.generator, task.ipc, task.info.num_classes
    experts = task.trained_networks(recipe, method.experts)
    network = new_network(task.architecture, task.info, seed=5).double().train()
    train = task.whitened if method.zca else task.train
    images = start = torch.cat([train.draw(label, ipc, generator) for label in range(classes)]).double()
    labels = torch.arange(classes).repeat_interleave(ipc)
    lr = torch.tensor(method.lr_teacher, dtype=torch.float64)
    speed, lr_speed, losses, lrs, waiting = torch.zeros_like(images), 0.0, [], [], []
    for _ in range(method.iterations):
        waiting = waiting or torch.randperm(method.experts, generator=generator).tolist()
        expert = experts[waiting.pop(0)]
        t = int(torch.randint(method.max_start_epoch, (1,), generator=generator))
        steps, left = [], []
        for _ in range(method.syn_steps):
            left = left or list(torch.randperm(len(images), generator=generator).split(method.batch_syn))
            batch = left.pop()
            view = SiameseAugmentation(method.strategy, align_corners=True).draw(generator, len(batch))
            steps.append((batch, view))
        images, lr = images.detach().requires_grad_(), lr.detach().requires_grad_()
        begin, end = expert.state(t), expert.state(t + method.expert_epochs)
        loss = naive_distance(network, begin, end, images, labels, lr, steps)
        by_images, by_lr = torch.autograd.grad(loss, (images, lr))
        speed, lr_speed = method.momentum * speed + by_images, method.momentum * lr_speed + by_lr
        images, lr = images - method.lr_img * speed, lr - method.lr_lr * lr_speed
        losses.append(loss.item())
        lrs.append(lr.item())
    return start, images.detach(), lr.item(), losses, lrs


@pytest.mark.parametrize("zca", [False, True])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_algorithm_agrees_with_the_naive_implementation(tiny, tmp_path, norm, zca):
    architecture = ConvNet(width=8, depth=2, norm=norm)
    method = resolved(tiny, architecture=architecture, **SMALL | {"zca": zca})
    task = make_task(tiny, architecture, folder=tmp_path)
    start, expected, lr, losses, lrs = naive_condense(method, task, method.needs(task.info, 0)[0])
    condensed = method.condense(make_task(tiny, architecture, folder=tmp_path))
    moved = (expected - start).norm()
    assert moved / start.norm() > 0.01
    assert (condensed.images - expected).norm() / moved < 1e-3  # float32 against float64
    assert condensed.lr == pytest.approx(lr, rel=1e-5)
    assert abs(lr - method.lr_teacher) > 1e-3 * method.lr_teacher
    assert condensed.history["loss"].tolist() == pytest.approx(losses, rel=1e-5)
    assert condensed.history["lr"].tolist() == pytest.approx(lrs, rel=1e-5)
    assert condensed.zca == zca
    assert condensed.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_same_task_gives_the_same_bytes_also_when_it_is_resumed(tiny, tmp_path):
    method = resolved(tiny, **SMALL)
    whole, again = (method.condense(make_task(tiny, CONVNET, folder=tmp_path / each)) for each in "ab")
    assert whole.sha256() == again.sha256()

    task = make_task(tiny, CONVNET, folder=tmp_path / "a")
    saved = MemoryCheckpoint(task.generator)
    with pytest.raises(KeyboardInterrupt):
        method.condense(replace(task, checkpoint=saved))
    assert int(saved.state["done"]) == 1  # within a pass over the experts

    task = make_task(tiny, CONVNET, seed=99, folder=tmp_path / "a")  # the restored state must win over the seed
    resumed = method.condense(replace(task, checkpoint=RestoredCheckpoint(saved, task.generator)))
    assert resumed.sha256() == whole.sha256()
    assert all(torch.equal(resumed.history[curve], whole.history[curve]) for curve in ("loss", "lr"))


def test_another_seed_gives_other_images_by_the_same_experts(tiny, tmp_path):
    method = resolved(tiny, **SMALL)
    sets = [method.condense(make_task(tiny, CONVNET, seed=seed, folder=tmp_path)) for seed in (0, 1)]
    assert sets[0].sha256() != sets[1].sha256()
    assert len(list(tmp_path.glob("networks/*.safetensors"))) == method.experts


def test_matching_brings_the_loss_down(tiny, tmp_path):
    options = SMALL | {"iterations": 40, "experts": 1, "max_start_epoch": 1, "strategy": "none"}
    losses = resolved(tiny, **options).condense(make_task(tiny, CONVNET, folder=tmp_path)).history["loss"]
    assert losses[-5:].mean() < 0.9 * losses[:5].mean()


def test_a_learned_rate_that_is_not_positive_is_divergence(tiny, tmp_path):
    # The steps are far too long, so they get shorter.
    method = resolved(tiny, **SMALL | {"lr_teacher": 1.0, "lr_lr": 10.0})
    with pytest.raises(Diverged, match=r"the learned learning rate is -.* after iteration 1") as caught:
        method.condense(make_task(tiny, CONVNET, folder=tmp_path))
    assert caught.value.iteration == 1


def test_the_rate_may_stay_as_it_is(tiny, tmp_path):
    condensed = resolved(tiny, **SMALL | {"lr_lr": 0.0}).condense(make_task(tiny, CONVNET, folder=tmp_path))
    assert condensed.lr == pytest.approx(SMALL["lr_teacher"], rel=1e-7)


def test_images_may_start_as_noise(tiny, tmp_path):
    method = resolved(tiny, ipc=7, **SMALL | {"init": "noise", "iterations": 1, "lr_img": 1e-12, "lr_lr": 0})
    condensed = method.condense(make_task(tiny, CONVNET, 7, folder=tmp_path))
    noise = torch.randn(21, 1, 8, 8, generator=make_task(tiny, CONVNET).generator)
    assert torch.allclose(condensed.images, noise)


@pytest.mark.parametrize(("batch", "sizes"), [(4, [2, 4]), (6, [6]), (100, [6])])
def test_a_student_sees_all_images_in_each_pass(tiny, batch, sizes):
    method = resolved(tiny, **SMALL | {"batch_syn": batch, "syn_steps": 3 * len(sizes)})
    batches = [indices for indices, _ in method._draw_steps(make_task(tiny, CONVNET), 6)]
    assert [len(each) for each in batches] == sizes * 3
    passes = torch.cat(batches).view(3, 6)
    assert torch.equal(passes.sort().values, torch.arange(6).expand(3, 6))
    assert len(set(map(tuple, passes.tolist()))) == 3


@pytest.mark.parametrize(
    ("dataset", "ipc", "expected", "epochs"),
    [
        ("cifar10", 1, (50, 2, 2, 100, 1e-7, 0.01, 10, True), 3),
        ("cifar10", 10, (30, 2, 20, 100, 1e-5, 0.001, 100, True), 21),
        ("cifar10", 50, (30, 2, 40, 1000, 1e-5, 0.001, 500, False), 41),
        ("cifar100", 1, (20, 3, 20, 1000, 1e-5, 0.01, 100, True), 22),
        ("cifar100", 10, (20, 2, 20, 1000, 1e-5, 0.01, 1000, False), 21),
        ("cifar100", 50, (80, 2, 40, 1000, 1e-5, 0.01, 125, True), 41),
    ],
)
def test_the_defaults_are_the_authors_and_experts_are_trained_as_far_as_they_are_used(
    dataset, ipc, expected, epochs
):
    classes = int(dataset.removeprefix("cifar"))
    counts, facts = (50_000 // classes,) * classes, {"channels": 3, "size": (32, 32), "classes": classes}
    method = of_made_up(ipc, counts, name=dataset, **facts)
    assert tuple(method._values) == expected
    recipe = method.needs(make_info(**facts), 0)[0]
    assert (recipe.epochs, recipe.kept) == (epochs, tuple(range(epochs + 1)))
    assert (recipe.lr, recipe.momentum, recipe.weight_decay, recipe.decay_at) == (0.01, 0, 0, ())
    assert (recipe.batch_size, recipe.augmentation, recipe.align_corners) == (256, FULL, True)
    assert (recipe.zca, recipe.held_out) == (method.zca, 0)


@pytest.mark.parametrize(
    ("ipc", "facts", "like"),
    [
        (1, {"channels": 3, "size": (32, 32)}, ("cifar10", 1)),
        (5, {"channels": 3, "size": (32, 32)}, ("cifar10", 1)),
        (6, {"channels": 3, "size": (32, 32)}, ("cifar10", 10)),
        (100, {"channels": 3, "size": (32, 32)}, ("cifar10", 50)),
        (10, {"channels": 3, "size": (64, 64)}, ("tiny_imagenet", 10)),
        (10, {"channels": 1, "size": (28, 28)}, ("cifar10", 10)),
        (1, {"channels": 1, "size": (8, 8)}, ("digits", 1)),
        (10, {"channels": 1, "size": (8, 8)}, ("digits", 10)),
    ],
)
def test_other_data_sets_get_the_values_of_one_like_them(ipc, facts, like):
    expected = VALUES[like[0]][like[1]]._replace(batch_syn=3 * ipc)
    if facts["channels"] == 1:
        expected = expected._replace(zca=False)
    assert of_made_up(ipc, **facts)._values == expected


@pytest.mark.parametrize(
    ("images", "size", "batch"), [(1442, 8, 37), (1442, 28, 8), (50_000, 32, 256), (73_257, 32, 256), (3, 32, 1)]
)
def test_an_expert_takes_at_least_as_many_steps_as_on_cifar(images, size, batch):
    assert of_made_up(1, (images - 2, 1, 1), size=(size, size)).batch_expert == batch


def test_only_states_that_are_matched_are_kept(tiny):
    recipe = resolved(tiny, **SMALL | {"max_start_epoch": 2, "expert_epochs": 5}).needs(tiny.info, 0)[0]
    assert recipe.kept == (0, 1, 5, 6)


def test_the_strategy_is_that_of_students_and_experts():
    digits = Setting(make_info(unsuitable=frozenset({"flip"})), (9, 9, 9), 1, "convnet")
    assert (
        TrajectoryMatching().resolve(digits).needs(digits.info, 0)[0].augmentation
        == "color_crop_cutout_scale_rotate"
    )
    plain = TrajectoryMatching(strategy="none").resolve(digits).needs(digits.info, 0)[0]
    assert (plain.augmentation, plain.align_corners) == ("", False)


@pytest.mark.parametrize(
    "name", ["experts", "iterations", "syn_steps", "expert_epochs", "max_start_epoch", "batch_syn"]
)
def test_nothing_to_do_is_refused(name):
    with pytest.raises(
        DcbenchError, match=f"option '{name}' of method 'mtt': .* greater than or equal to 1, got 0"
    ):
        TrajectoryMatching.configure({name: 0})


def test_what_cannot_be_served_is_said_when_it_is_planned(tiny):
    with pytest.raises(DcbenchError, match="class 'c' has 6 training images"):
        resolved(tiny, ipc=7)
    with pytest.raises(DcbenchError, match=r"unknown augmentation 'colour'. Did you mean 'color'"):
        resolved(tiny, strategy="colour")
