"""Siamese augmentation in gradient matching, against the naive implementation."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.methods.dsa import DSA
from helpers import make_info, make_task, make_train
from naive_matching import naive_condense, naive_loss

from dcbench.core.architecture import new_network
from dcbench.core.method import Setting
from dcbench.utils.errors import DcbenchError

FULL = "color_crop_cutout_flip_scale_rotate"


def resolved(data, ipc=2, **options):
    counts = tuple(len(members) for members in data.train.class_indices)
    return DSA(**options).resolve(Setting(data.info, counts, ipc, "convnet"))


@pytest.fixture
def colours():
    train = make_train((9, 7, 8), channels=3)
    return SimpleNamespace(train=train, info=train.info)


def affine(image, matrix):
    grid = F.affine_grid(torch.tensor([matrix], dtype=image.dtype), image[None].shape, align_corners=False)
    return F.grid_sample(image[None], grid, align_corners=False)[0]


def change(image, operation, u):
    """One image of 8x8 after one operation, as the paper's appendix and the authors' parameters have it."""
    if operation == "color":
        image = image + (u[0] - 0.5)
        grey = image.mean(dim=0)
        image = (image - grey) * (2 * u[1]) + grey
        return (image - image.mean()) * (u[2] + 0.5) + image.mean()
    if operation == "crop":
        row, column = int(3 * u[0]), int(3 * u[1])
        return F.pad(image, (1, 1, 1, 1))[:, row : row + 8, column : column + 8]
    if operation == "cutout":
        row, column = int(9 * u[0]), int(9 * u[1])
        mask = torch.ones_like(image)
        mask[:, max(0, row - 2) : row + 2, max(0, column - 2) : column + 2] = 0
        return image * mask
    if operation == "flip":
        return image.flip(2) if u[0] < 0.5 else image
    if operation == "scale":
        width, height = (1 / 1.2 + each * (1.2 - 1 / 1.2) for each in u[:2])
        return affine(image, [[width, 0, 0], [0, height, 0]])
    angle = (u[0] - 0.5) * 2 * 15 / 180 * math.pi
    return affine(image, [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]])


def naive_draw(strategy):
    """Draw one operation, and its parameters: for all images, or for each."""
    operations = strategy.split("_")

    def draw(generator, n):
        operation = operations[int(torch.randint(len(operations), (1,), generator=generator))]
        u = torch.rand(3, n, dtype=torch.float64, generator=generator).T.tolist() * (1 if n > 1 else 1000)
        return lambda images: torch.stack([change(image, operation, u[i]) for i, image in enumerate(images)])

    return draw


class InDouble:
    """A training split whose images are float64."""

    def __init__(self, train):
        self.train, self.info, self.device = train, train.info, train.device

    def draw(self, *args):
        return self.train.draw(*args).double()


@pytest.mark.parametrize("strategy", [*FULL.split("_"), FULL])
@pytest.mark.parametrize("ipc", [1, 3])
def test_one_step_agrees_with_the_naive_implementation_to_rounding(colours, strategy, ipc):
    network = new_network(ConvNet(width=8, depth=2), colours.info, seed=1).double().train()
    method = resolved(colours, ipc, strategy=strategy, batch_real=5)
    task = make_task(SimpleNamespace(train=InDouble(colours.train)), ConvNet(), ipc)
    synthetic = torch.randn(3 * ipc, 3, 8, 8, dtype=torch.float64, generator=task.generator)
    before = task.generator.get_state()
    gradient, loss = method._match_drawn(task, network, synthetic)

    task.generator.set_state(before)
    views = [naive_draw(strategy)(task.generator, 1) for _ in range(3)]
    real = [view(task.train.draw(label, 5, task.generator)) for label, view in enumerate(views)]
    synthetic.requires_grad_()
    seen = [view(own) for view, own in zip(views, synthetic.split(ipc), strict=True)]
    expected_loss = naive_loss(network, real, seen, "layerwise")
    (expected,) = torch.autograd.grad(expected_loss, synthetic)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-6, atol=1e-6)


def test_the_whole_algorithm_agrees_with_the_naive_implementation(colours):
    method = resolved(colours, iterations=3, outer_loop=3, inner_loop=2, batch_real=6)
    architecture = ConvNet(width=8, depth=2)
    condensed = method.condense(make_task(colours, architecture))
    task = make_task(colours, architecture)
    start = torch.cat([task.train.draw(label, 2, task.generator) for label in range(3)])
    expected = naive_condense(method, task, start.double(), naive_draw(FULL))
    moved = (expected - start).norm()
    assert moved / start.norm() > 0.01
    assert (condensed.images - expected).norm() / moved < 1e-3


def test_operations_that_do_not_suit_a_data_set_are_left_out(colours):
    assert resolved(colours).strategy == FULL
    digits = replace(colours.info, unsuitable=frozenset({"flip"}))
    setting = Setting(digits, (9, 7, 8), 2, "convnet")
    assert DSA().resolve(setting).strategy == "color_crop_cutout_scale_rotate"
    assert DSA().resolve(setting).changed_from_defaults(setting) == {}
    assert DSA(strategy="flip_crop").resolve(setting).strategy == "crop"


def test_images_that_are_too_small_for_an_operation_are_refused():
    setting = Setting(make_info(size=(3, 8)), (5, 5, 5), 1, "convnet")
    with pytest.raises(DcbenchError, match="augmentation 'crop' needs images of at least 4x4 pixels"):
        DSA().resolve(setting)
    assert DSA(strategy="color_flip").resolve(setting).strategy == "color_flip"


def test_a_class_needs_as_many_images_as_it_starts_from(colours):
    with pytest.raises(DcbenchError, match=r"ipc 8 .* has 7 training images"):
        resolved(colours, ipc=8)
    assert resolved(colours, ipc=8, init="noise").init == "noise"


@pytest.mark.parametrize(("ipc", "loops"), [(1, (1, 1)), (50, (50, 10)), (74, (50, 10)), (100, (100, 2))])
def test_the_loops_are_the_authors(ipc, loops):
    method = DSA(init="noise").resolve(Setting(make_info(), (9, 9, 9), ipc, "convnet"))
    assert (method.outer_loop, method.inner_loop) == loops
