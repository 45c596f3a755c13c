"""The networks of timm and torchvision: how they are fitted to small images, and that nothing is downloaded."""

from __future__ import annotations

import ast
import inspect
import random
import socket
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from dcbench_plugins.architectures import timm_networks, torchvision_networks
from dcbench_plugins.architectures.timm_networks import TimmNetwork
from dcbench_plugins.architectures.torchvision_networks import TorchvisionNetwork
from helpers import make_info
from torch import nn
from torch.nn import functional as F

from dcbench.core.architecture import fit, new_network
from dcbench.utils.errors import DcbenchError

GREY, COLOUR, DIGITS = (1, (28, 28)), (3, (32, 32)), (1, (8, 8))

# Small ones of every kind. timm has the test_* for tests like these.
NETWORKS = [
    "timm:test_resnet",
    "timm:test_efficientnet",
    "timm:test_convnext",
    "timm:test_vit",
    "timm:resnet10t",
    "torchvision:mobilenet_v3_small",
    "torchvision:shufflenet_v2_x0_5",
]


@pytest.fixture(autouse=True)
def _nothing_is_downloaded(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def spelt(text):
    name, _, rest = text.partition(":")
    return {"timm": TimmNetwork, "torchvision": TorchvisionNetwork}[name].parse(rest)


def info_of(images):
    return make_info(*images, classes=10)


def fitted(text, images, seed=0):
    architecture = spelt(text).resolve(info_of(images))
    return architecture, new_network(architecture, info_of(images), seed)


def noise(images, n=2):
    return torch.randn(n, images[0], *images[1], generator=torch.Generator().manual_seed(0))


def parameter_bytes(network):
    return b"".join(parameter.detach().numpy().tobytes() for parameter in network.parameters())


@pytest.mark.parametrize("module", [timm_networks, torchvision_networks])
def test_the_libraries_are_imported_only_when_one_of_their_networks_is_asked_for(module):
    top = ast.parse(inspect.getsource(module)).body
    imported = {alias.name for each in top if isinstance(each, ast.Import) for alias in each.names}
    imported |= {each.module for each in top if isinstance(each, ast.ImportFrom)}
    assert "torch" in imported
    assert not {name.partition(".")[0] for name in imported} & {"timm", "torchvision"}


@pytest.mark.parametrize(
    ("text", "images", "resolved"),
    [
        ("timm:resnet18", GREY, "timm:resnet18,stem=3x3"),
        ("timm:resnet18", COLOUR, "timm:resnet18,stem=3x3"),
        ("timm:test_resnet", (1, (63, 16)), "timm:test_resnet,stem=3x3"),
        ("timm:test_resnet", DIGITS, "timm:test_resnet,resize=64"),
        ("timm:test_resnet", (3, (64, 64)), "timm:test_resnet"),
        ("timm:vit_tiny_patch16_224", GREY, "timm:vit_tiny_patch16_224,patch=4"),
        ("timm:test_vit", COLOUR, "timm:test_vit,patch=4"),
        ("timm:test_vit", (1, (28, 56)), "timm:test_vit,patch=4"),
        ("timm:test_vit", DIGITS, "timm:test_vit,patch=1"),
        ("timm:test_vit", (3, (64, 96)), "timm:test_vit,patch=8"),
        ("timm:test_vit", (3, (160, 160)), "timm:test_vit"),
        ("timm:test_vit", (3, (37, 37)), "timm:test_vit,patch=8,resize=64"),
        ("timm:test_vit", (3, (131, 131)), "timm:test_vit,resize=160"),
        ("timm:test_efficientnet", GREY, "timm:test_efficientnet,resize=64"),
        ("timm:test_efficientnet", (5, (8, 12)), "timm:test_efficientnet,resize=64"),
        ("timm:test_efficientnet", (3, (64, 64)), "timm:test_efficientnet"),
        ("timm:inception_v3", (3, (64, 64)), "timm:inception_v3,resize=128"),
        ("torchvision:resnet18", GREY, "torchvision:resnet18,stem=3x3"),
        ("torchvision:resnet18", DIGITS, "torchvision:resnet18,resize=64"),
        ("torchvision:mobilenet_v3_small", COLOUR, "torchvision:mobilenet_v3_small,resize=64"),
        ("torchvision:mobilenet_v3_small", (4, (8, 12)), "torchvision:mobilenet_v3_small,resize=64"),
        ("torchvision:mobilenet_v3_small", (3, (64, 96)), "torchvision:mobilenet_v3_small"),
        ("torchvision:googlenet", COLOUR, "torchvision:googlenet,resize=64"),
    ],
    ids=str,
)
def test_the_resolved_name_says_how_a_network_is_fitted_to_the_images(text, images, resolved):
    assert str(fit(spelt(text), info_of(images))) == resolved
    assert str(spelt(resolved).resolve(info_of(images))) == resolved


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("timm:test_resnet,resize=0", COLOUR),
        ("timm:test_resnet,resize=96,stem=3x3", COLOUR),
        ("timm:test_vit,resize=32", COLOUR),
        ("timm:test_vit,patch=7", GREY),
        ("torchvision:resnet18,resize=0", COLOUR),
        ("torchvision:mobilenet_v3_small,resize=32", GREY),
    ],
)
def test_an_option_of_the_users_is_not_touched(text, images):
    assert str(fit(spelt(text), info_of(images))) == text


@pytest.mark.parametrize("text", ["timm:test_resnet", "timm:resnet10t", "torchvision:resnet18"])
def test_the_small_stem_keeps_the_size_of_the_images(text):
    _, (resizing, model) = fitted(text, GREY)
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    assert isinstance(resizing, nn.Identity)
    assert (first.in_channels, first.kernel_size, first.stride) == (1, (3, 3), (1, 1))
    stem = nn.Sequential(model.conv1, model.bn1, model.maxpool)
    assert stem(noise(GREY)).shape[2:] == (28, 28)


@pytest.mark.parametrize("text", ["timm:resnet18", "torchvision:resnet18"])
def test_the_small_stem_is_initialised_as_the_other_convolutions(text):
    _, (_, model) = fitted(text, COLOUR)
    expected = (2 / (64 * 9)) ** 0.5  # Kaiming normal, fan out
    assert model.conv1.weight.std().item() == pytest.approx(expected, rel=0.1)
    assert model.layer1[0].conv1.weight.std().item() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("text", ["timm:test_efficientnet", "torchvision:mobilenet_v3_small"])
def test_resizing_is_bilinear(text):
    _, network = fitted(text, (1, (8, 12)))
    resizing, model = network.eval()
    inputs = noise((1, (8, 12)))
    expected = F.interpolate(inputs, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resizing(inputs), expected)
    torch.testing.assert_close(network(inputs), model(expected))


def test_a_vision_transformer_sees_every_patch():
    _, (_, model) = fitted("timm:test_vit", (1, (28, 56)))
    assert model.patch_embed.grid_size == (7, 14)


@pytest.mark.parametrize("channels", [1, 4])
def test_the_first_convolution_of_torchvision_gets_the_channels_with_the_deviation_of_its_own(channels):
    def first(channels):
        _, network = fitted("torchvision:densenet121", (channels, (32, 32)))
        return next(module for module in network.modules() if isinstance(module, nn.Conv2d))

    own, ours = first(3), first(channels)
    assert ours.in_channels == channels
    assert ours.weight.shape == (64, channels, 7, 7)
    assert ours.weight.std().item() == pytest.approx(own.weight.std().item(), rel=0.1)


@pytest.mark.parametrize("text", NETWORKS)
@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_initialisation_depends_on_the_seed_alone(text, images):
    def build(state, seed):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002
        random.seed(state)
        return parameter_bytes(fitted(text, images, seed)[1])

    first = build(state=1, seed=5)
    assert build(state=2, seed=5) == first
    assert build(state=1, seed=6) != first


@pytest.mark.parametrize("text", NETWORKS)
def test_making_a_network_leaves_the_global_generator_alone(text):
    before = torch.get_rng_state()
    fitted(text, GREY)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("text", [*NETWORKS, "timm:test_coatnet", "timm:mobilenetv3_small_050"])
def test_features_are_what_the_classifier_receives(text):
    architecture, network = fitted(text, COLOUR)
    network.eval()
    classifier = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    features = architecture.features(network, noise(COLOUR, 3))
    assert features.shape == (3, classifier.in_features)
    torch.testing.assert_close(classifier(features), network(noise(COLOUR, 3)))


@pytest.mark.parametrize("text", NETWORKS)
@pytest.mark.parametrize(
    ("images", "batch"), [(DIGITS, 1), (GREY, 10), (COLOUR, 1)], ids=["digits", "grey", "colour"]
)
def test_two_steps_of_training(text, images, batch):
    _, network = fitted(text, images)
    network.train()
    torch.manual_seed(0)  # some have dropout
    for _ in range(2):
        logits = network(noise(images, batch))
        assert logits.shape == (batch, 10)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(F.cross_entropy(logits, torch.arange(batch)), parameters)
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.01 * gradient


def test_batch_normalisation_of_one_image_at_one_pixel_is_an_error():
    _, network = fitted("timm:test_resnet,resize=32", DIGITS)
    network.train()(noise(DIGITS, 2))
    with pytest.raises(ValueError, match="more than 1 value per channel when training"):
        network.train()(noise(DIGITS, 1))


@pytest.mark.parametrize("text", ["timm:test_vit", "timm:test_resnet", "timm:test_efficientnet"])
def test_gradients_can_be_matched(text):
    _, network = fitted(text, COLOUR)
    inputs = noise(COLOUR).requires_grad_()
    loss = F.cross_entropy(network(inputs), torch.arange(2))
    gradients = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    (second,) = torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), inputs)
    assert second.isfinite().all()
    assert second.any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timm:resnet188", r"unknown model of timm 'resnet188'\. Did you mean 'resnet18' or .*list_models\(\)"),
        ("timm:resnet18.a1_in1k", r"unknown model of timm 'resnet18.a1_in1k'\. Did you mean 'resnet18'"),
        ("timm:hf-hub:timm/resnet18", "unknown model of timm"),
        ("torchvision:mobilenet_v3_smal", r"unknown model .* Did you mean 'mobilenet_v3_small'.*list_models"),
        ("torchvision:fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn is not an image classifier"),
        ("torchvision:r3d_18", "r3d_18 is not an image classifier"),
        ("torchvision:quantized_resnet18", "quantized_resnet18 is not an image classifier"),
        ("timm:test_vit,stem=3x3", "option 'stem' is for the ResNet family alone; try resize=64"),
        ("timm:test_resnet,patch=4", "option 'patch' is not for this model"),
        ("timm:test_vit,patch=5", r"patches of 5 do not divide 28x28 pixels"),
        ("torchvision:mobilenet_v3_small,stem=3x3", "option 'stem' is for the ResNet family alone; try resize=64"),
        ("timm:inception_v3,resize=32", "does not take images of 1x28x28"),
    ],
)
def test_what_cannot_be_is_said(text, message):
    with pytest.raises(DcbenchError, match=message) as caught:
        fit(spelt(text), info_of(GREY))
    assert len(str(caught.value)) < 300  # not a list of a thousand names


def test_a_model_of_timm_that_does_not_classify_is_refused(monkeypatch):
    class Encoder(nn.Flatten):
        default_cfg = {"input_size": (3, 96, 96)}

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: Encoder())
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _: SimpleNamespace(fixed_input_size=False))
    with pytest.raises(
        DcbenchError, match=r"cannot classify images of 1x28x28 .*outputs of shape \(2, 16384\), not \(2, 10\)"
    ):
        spelt("timm:resnet18").resolve(info_of(GREY))
