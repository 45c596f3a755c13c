"""Distribution matching against a deliberately naive implementation, written from the paper in float64."""

from __future__ import annotations

import pytest
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.architectures.mlp import MLP
from dcbench_plugins.methods.dm import DistributionMatching
from helpers import make_info, make_task
from test_gradmatch import MemoryCheckpoint, RestoredCheckpoint
from torch import nn

from dcbench.api import Architecture, DcbenchError, Setting, Task
from dcbench.engine.engine import Engine
from dcbench.engine.siamese import FULL, SiameseAugmentation

CONVNET = ConvNet(width=8, depth=2)


def setting(data, ipc=2, architecture=CONVNET):
    counts = tuple(len(members) for members in data.train.class_indices)
    return Setting(data.info, counts, ipc, str(architecture), architecture)


def resolved(data, ipc=2, architecture=CONVNET, **options):
    return DistributionMatching(**options).resolve(setting(data, ipc, architecture))


def naive_condense(method, task, together):
    """Algorithm 1 in float64, image by image, drawing the same random numbers in the same order."""
    classes, ipc = task.info.num_classes, task.ipc
    images = torch.cat([task.train.draw(label, ipc, task.generator) for label in range(classes)]).double()
    velocity, losses = torch.zeros_like(images), []
    for _ in range(method.iterations):
        *layers, _ = task.new_network().double().train()
        psi = nn.Sequential(*layers)
        views = [lambda batch: batch] * classes
        if method.strategy != "none":
            views = [SiameseAugmentation(method.strategy).draw(task.generator) for _ in range(classes)]
        real = [task.train.draw(label, method.batch_real, task.generator).double() for label in range(classes)]
        leaf = images.clone().requires_grad_()
        sides = []
        for batches in (real, [leaf[label * ipc : (label + 1) * ipc] for label in range(classes)]):
            seen = [
                torch.cat([view(image[None]) for image in batch])
                for view, batch in zip(views, batches, strict=True)
            ]
            if together:
                features = list(psi(torch.cat(seen)))
            else:
                features = [psi(image[None])[0] for batch in seen for image in batch]
            sides.append([sum(features.pop(0) for _ in batch) / len(batch) for batch in batches])
        distance = sum(((a.detach() - b) ** 2).sum() for a, b in zip(*sides, strict=True))
        losses.append(distance.item() / classes)
        velocity = method.momentum_img * velocity + torch.autograd.grad(distance, leaf)[0]
        images = images - method.lr_img * velocity
    return images, losses


@pytest.mark.parametrize("strategy", [FULL, "scale", "none"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize(
    "engine", [Engine("plain"), Engine("fast", workers=2, micro_batch=4)], ids=lambda e: e.name
)
def test_the_algorithm_agrees_with_the_naive_implementation(tiny, strategy, norm, engine):
    architecture = ConvNet(width=8, depth=2, norm=norm)
    method = resolved(tiny, architecture=architecture, iterations=3, strategy=strategy, batch_real=8)
    expected, losses = naive_condense(method, make_task(tiny, architecture), together=norm == "batch")
    with engine.active():
        condensed = method.condense(make_task(tiny, architecture))
    begin, _ = naive_condense(method.model_copy(update={"iterations": 0}), make_task(tiny, architecture), False)
    moved = (expected - begin).norm()
    assert moved / begin.norm() > 0.05
    assert (condensed.images - expected).norm() / moved < 1e-5  # float32 against float64
    assert condensed.history["loss"].tolist() == pytest.approx(losses, rel=1e-5)


def test_images_start_as_real_ones_and_classes_come_in_label_order(tiny):
    condensed = resolved(tiny, iterations=1, lr_img=1e-12).condense(make_task(tiny, CONVNET))
    assert condensed.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for label, image in zip(condensed.labels.tolist(), condensed.images, strict=True):
        members = tiny.train.normalised(tiny.train.class_indices[label])
        assert (members - image).abs().amax(dim=(1, 2, 3)).min() < 1e-6


def test_images_may_start_as_noise(tiny):
    condensed = resolved(tiny, ipc=7, init="noise", iterations=1, lr_img=1e-12).condense(
        make_task(tiny, CONVNET, 7)
    )
    noise = torch.randn(21, 1, 8, 8, generator=make_task(tiny, CONVNET).generator)
    assert torch.allclose(condensed.images, noise)


def test_matching_brings_the_loss_down(tiny):
    losses = resolved(tiny, iterations=40, strategy="none").condense(make_task(tiny, CONVNET)).history["loss"]
    assert losses[-5:].mean() < 0.8 * losses[:5].mean()


def test_the_same_task_gives_the_same_bytes_also_when_it_is_resumed(tiny):
    method = resolved(tiny, iterations=4)
    whole, again = (method.condense(make_task(tiny, CONVNET)) for _ in range(2))
    assert whole.sha256() == again.sha256()

    task = make_task(tiny, CONVNET)
    saved = MemoryCheckpoint(task.generator)
    with pytest.raises(KeyboardInterrupt):
        method.condense(Task(task.train, 2, task.generator, CONVNET, saved, task.progress))
    assert int(saved.state["done"]) == 1

    task = make_task(tiny, CONVNET, seed=99)  # the restored state must win over the seed
    restored = RestoredCheckpoint(saved, task.generator)
    resumed = method.condense(Task(task.train, 2, task.generator, CONVNET, restored, task.progress))
    assert resumed.sha256() == whole.sha256()
    assert torch.equal(resumed.history["loss"], whole.history["loss"])


@pytest.mark.parametrize(("ipc", "lr"), [(1, 1.0), (50, 1.0), (99, 1.0), (100, 10.0)])
def test_the_images_learn_faster_when_there_are_many(tiny, ipc, lr):
    assert resolved(tiny, ipc=ipc, init="noise").lr_img == lr
    assert resolved(tiny, ipc=ipc, init="noise", lr_img=0.5).lr_img == 0.5


def test_the_strategy_leaves_out_what_does_not_suit_the_data_set(tiny):
    digits = make_info(unsuitable=frozenset({"flip"}))
    at = Setting(digits, (9, 9, 9), 1, "convnet")
    assert DistributionMatching().resolve(at).strategy == "color_crop_cutout_scale_rotate"
    assert DistributionMatching(strategy="flip_crop").resolve(at).strategy == "crop"
    assert DistributionMatching(strategy="none").resolve(at).strategy == "none"


class Convolutional(Architecture):
    """It has a linear layer, but its logits are those of a convolution."""

    name = "convolutional"

    def build(self, info):
        squeeze = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))
        return nn.Sequential(squeeze, nn.Conv2d(1, info.num_classes, 8), nn.Flatten())


class Normalised(Architecture):
    """Log-probabilities, not logits."""

    name = "normalised"

    def build(self, info):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, info.num_classes), nn.LogSoftmax(dim=1))


class Squashed(Architecture):
    """What follows the linear layer leaves zeros as they are."""

    name = "squashed"

    def build(self, info):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, info.num_classes), nn.Tanh())


@pytest.mark.parametrize(
    ("options", "ipc", "architecture", "message"),
    [
        ({"strategy": "colour"}, 1, CONVNET, "unknown augmentation 'colour'. Did you mean 'color'"),
        ({"strategy": ""}, 1, CONVNET, "unknown augmentation ''"),
        ({}, 7, CONVNET, "class 'c' has 6 training images"),
        ({}, 1, Convolutional(), "network 'convolutional' has no features before a classifier"),
        ({}, 1, Normalised(), "network 'normalised' has no features before a classifier"),
        ({}, 1, Squashed(), "network 'squashed' has no features before a classifier"),
    ],
)
def test_what_cannot_be_served_is_said_when_it_is_planned(tiny, options, ipc, architecture, message):
    with pytest.raises(DcbenchError, match=message):
        resolved(tiny, ipc, architecture, **options)


def test_images_too_small_for_an_operation_are_refused():
    at = Setting(make_info(size=(3, 9)), (9, 9, 9), 1, "mlp")
    for options in ({}, {"strategy": "crop"}):
        with pytest.raises(DcbenchError, match="'crop' needs images of at least 4x4 pixels"):
            DistributionMatching(**options).resolve(at)
    assert DistributionMatching(strategy="color_flip").resolve(at).strategy == "color_flip"


def test_any_network_that_ends_in_a_linear_layer_is_served(tiny):
    condensed = resolved(tiny, architecture=MLP(), iterations=2).condense(make_task(tiny, MLP()))
    assert condensed.images.isfinite().all()
