"""Matching features: every engine gives the gradient of the definition, in float64."""

from __future__ import annotations

import pytest
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from helpers import make_info
from torch import nn

from dcbench.core.architecture import new_network, without_classifier
from dcbench.engine.compiled import can_compile
from dcbench.engine.engine import PLAIN, Engine
from dcbench.engine.features import feature_matching_gradient
from dcbench.utils.errors import DcbenchError

ENGINES = [
    PLAIN,
    Engine("fast", workers=1, micro_batch=8),
    Engine("fast", workers=3, micro_batch=7),
    pytest.param(
        Engine("compiled", workers=2, micro_batch=8, compiles=True),
        marks=pytest.mark.skipif(not can_compile(), reason="no C++ compiler"),
    ),
]


def images_of(n, dtype=torch.float64):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(n)).to(dtype)


def psi_of(norm="instance", seed=0):
    architecture = ConvNet(width=4, depth=2, norm=norm)
    return without_classifier(new_network(architecture, make_info(), seed)).double().train()


def match(psi, sizes=(30, 5, 17), ipcs=(2, 2, 2)):
    synthetic = images_of(sum(ipcs)).split(list(ipcs))
    return feature_matching_gradient(psi, map(images_of, sizes), synthetic)


@pytest.mark.parametrize("ipcs", [(1, 1, 1), (2, 2, 2), (20, 20, 20), (1, 2, 3)])
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: f"{engine.name}-{engine.workers}")
def test_every_engine_gives_the_gradient_of_the_definition(engine, ipcs, monkeypatch):
    monkeypatch.setattr("dcbench.engine.engine.COMPILE_FROM", 0.0)
    monkeypatch.setattr("dcbench.engine.engine.SHARE_FROM", 0.0)
    psi, sizes = psi_of(), (30, 5, 17)
    images = images_of(sum(ipcs)).requires_grad_()
    expected = sum(
        (psi(images_of(n)).detach().mean(0) - psi(own).mean(0)).square().sum()
        for n, own in zip(sizes, images.split(list(ipcs)), strict=True)
    )
    with engine.active():
        gradient, distance = match(psi, sizes, ipcs)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, images)[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(distance, expected.detach(), rtol=1e-10, atol=0)
    assert not gradient.requires_grad
    assert not gradient.is_inference()


def test_the_gradient_is_that_of_the_distance_by_finite_differences():
    psi, real, images = psi_of(), [images_of(5)] * 3, images_of(6)
    gradient, _ = feature_matching_gradient(psi, real, images.split(2))
    step = 1e-5 * gradient / gradient.norm()
    up, down = (feature_matching_gradient(psi, real, each.split(2))[1] for each in (images + step, images - step))
    assert ((up - down) / 2e-5).item() == pytest.approx(gradient.norm().item(), rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES[:3], ids=lambda engine: f"{engine.name}-{engine.workers}")
def test_batchnorm_sees_all_classes_together(engine):
    psi, sizes = psi_of("batch"), (30, 5, 17)
    images = images_of(6).requires_grad_()
    real = psi(torch.cat([images_of(n) for n in sizes])).detach().split(sizes)
    distances = [(a.mean(0) - b.mean(0)).square().sum() for a, b in zip(real, psi(images).split(2), strict=True)]
    expected = torch.stack(distances).sum()
    with engine.active():
        gradient, distance = match(psi, sizes)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, images)[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(distance, expected.detach())


def test_batchnorm_that_does_not_look_at_the_batch_need_not_see_it_together():
    psi = psi_of("batch").eval()
    with Engine("fast", workers=2, micro_batch=4).active():
        found = match(psi)
    for a, b in zip(found, match(psi), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_parameters_need_no_gradient():
    frozen = psi_of().requires_grad_(False)
    for a, b in zip(match(frozen), match(psi_of()), strict=True):
        assert torch.equal(a, b)


def test_the_classifier_is_taken_off_wherever_it_stands():
    network = new_network(ConvNet(width=4, depth=2), make_info(), seed=0).double()
    expected = network[:-1](images_of(3))
    assert torch.equal(without_classifier(nn.Sequential(network))(images_of(3)), expected)
    with pytest.raises(DcbenchError, match="no linear layer"):
        without_classifier(nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()))
