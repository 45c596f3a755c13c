"""The four networks, and how fresh ones are made."""

from __future__ import annotations

import pytest
import torch
from dcbench_plugins.alexnet import AlexNet
from dcbench_plugins.convnet import ConvNet
from dcbench_plugins.lenet import LeNet
from dcbench_plugins.mlp import MLP
from helpers import make_info
from torch import nn

from dcbench.architectures import Architecture, fit, new_network
from dcbench.errors import DcbenchError

ARCHITECTURES = {"mlp": MLP, "lenet": LeNet, "alexnet": AlexNet, "convnet": ConvNet}
GREY, COLOUR, DIGITS = (1, (28, 28)), (3, (32, 32)), (1, (8, 8))

# 10 classes: as the code of Zhao, Mopuri, Bilen, ICLR 2021 has them.
PARAMETERS = {
    ("mlp", GREY, 10): 118282,
    ("mlp", COLOUR, 10): 411146,
    ("lenet", GREY, 10): 61706,
    ("lenet", COLOUR, 10): 62006,
    ("alexnet", GREY, 10): 1865802,
    ("alexnet", COLOUR, 10): 1872202,
    ("convnet", GREY, 10): 317706,
    ("convnet", COLOUR, 10): 320010,
    ("mlp", GREY, 100): 129892,
    ("mlp", COLOUR, 100): 422756,
    ("lenet", GREY, 100): 69356,
    ("lenet", COLOUR, 100): 69656,
    ("alexnet", GREY, 100): 2142372,
    ("alexnet", COLOUR, 100): 2148772,
    ("convnet", GREY, 100): 502116,
    ("convnet", COLOUR, 100): 504420,
}

every_architecture = pytest.mark.parametrize("architecture", [cls() for cls in ARCHITECTURES.values()], ids=str)


def info_of(images, classes=10):
    channels, size = images
    return make_info(channels, size, classes)


def logits(architecture, images, classes=10, n=2):
    network = new_network(architecture, info_of(images, classes), seed=0)
    return network(torch.zeros(n, images[0], *images[1]))


def parameter_bytes(network):
    return b"".join(parameter.detach().numpy().tobytes() for parameter in network.parameters())


def kinds(network):
    return [type(module) for module in network]


@pytest.mark.parametrize(
    ("name", "images", "classes", "count"),
    [(*key, count) for key, count in PARAMETERS.items()],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_number_of_parameters_is_pinned(name, images, classes, count):
    network = ARCHITECTURES[name]().build(info_of(images, classes))
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@every_architecture
@pytest.mark.parametrize("images", [GREY, COLOUR, DIGITS, (3, (8, 12)), (1, (40, 28))], ids=str)
def test_logits_are_one_per_class(architecture, images):
    assert logits(architecture, images, classes=7).shape == (2, 7)


@every_architecture
@pytest.mark.parametrize("images", [GREY, COLOUR, DIGITS], ids=str)
def test_features_are_what_the_last_linear_layer_receives(architecture, images):
    info = info_of(images)
    network = new_network(architecture, info, seed=0).eval()
    inputs = torch.randn(3, info.channels, *info.size, generator=torch.Generator().manual_seed(0))
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    features = architecture.features(network, inputs)
    assert features.shape == (3, last.in_features)
    torch.testing.assert_close(last(features), network(inputs))


@every_architecture
def test_asking_for_features_leaves_no_hook_behind(architecture):
    network = new_network(architecture, info_of(DIGITS), seed=0)
    architecture.features(network, torch.zeros(2, 1, 8, 8))
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_features_of_a_network_without_linear_layers_are_refused():
    class Convolutional(Architecture):
        name = "convolutional"

        def build(self, info):
            return nn.Sequential(nn.Conv2d(info.channels, info.num_classes, info.size), nn.Flatten())

    network = new_network(Convolutional(), info_of(DIGITS), seed=0)
    with pytest.raises(DcbenchError, match=r"'convolutional' has no linear layer: it must override features"):
        Convolutional().features(network, torch.zeros(2, 1, 8, 8))


@every_architecture
def test_the_same_seed_gives_the_same_bytes_whatever_the_global_state(architecture):
    torch.manual_seed(1)
    first = parameter_bytes(new_network(architecture, info_of(DIGITS), seed=5))
    torch.manual_seed(2)
    assert parameter_bytes(new_network(architecture, info_of(DIGITS), seed=5)) == first


@every_architecture
def test_another_seed_gives_another_network(architecture):
    first, second = (parameter_bytes(new_network(architecture, info_of(DIGITS), seed)) for seed in (5, 6))
    assert first != second


@every_architecture
def test_making_a_network_leaves_the_global_generator_alone(architecture):
    before = torch.get_rng_state()
    new_network(architecture, info_of(DIGITS), seed=5)
    assert torch.equal(torch.get_rng_state(), before)


# The smallest images each takes, with those a pixel smaller. An MLP takes any.
@pytest.mark.parametrize(
    ("architecture", "channels", "smallest"),
    [
        (LeNet(), 1, 4),
        (LeNet(), 3, 4),
        (AlexNet(), 1, 4),
        (AlexNet(), 3, 8),
        (ConvNet(), 1, 4),
        (ConvNet(), 3, 8),
    ],
    ids=str,
)
def test_images_that_are_too_small_are_refused_by_their_size(architecture, channels, smallest):
    assert logits(architecture, (channels, (smallest, smallest))).shape == (2, 10)
    for size in [(smallest - 1, smallest), (smallest, smallest - 1)]:
        with pytest.raises(DcbenchError, match=f"^{architecture.name}: .*{size[0]}x{size[1]} pixels"):
            architecture.build(make_info(channels, size))


def test_a_convnet_too_deep_for_the_images_suggests_a_depth_that_fits():
    info = info_of(DIGITS)
    with pytest.raises(DcbenchError, match="choose a smaller depth, as in convnet:depth=3"):
        ConvNet(depth=9).build(info)
    fit(ConvNet(depth=3), info)


def test_width_and_depth_are_those_of_the_convolutions():
    convolutions = [m for m in ConvNet(width=12, depth=2).build(info_of(COLOUR)) if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(3, 12), (12, 12)]


def test_width_of_the_mlp_is_that_of_its_hidden_layers():
    linear = [m for m in MLP(width=12).build(info_of(DIGITS)) if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(64, 12), (12, 12), (12, 10)]


@pytest.mark.parametrize(
    ("activation", "layer"),
    [("relu", nn.ReLU), ("leakyrelu", nn.LeakyReLU), ("sigmoid", nn.Sigmoid), ("swish", nn.SiLU)],
)
def test_activation_of_the_convnet(activation, layer):
    network = ConvNet(width=4, activation=activation).build(info_of(DIGITS))
    assert [kind for kind in kinds(network) if kind in (nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.SiLU)] == [layer] * 3


@pytest.mark.parametrize(("pooling", "layer"), [("max", nn.MaxPool2d), ("average", nn.AvgPool2d)])
def test_pooling_of_the_convnet_halves_the_size(pooling, layer):
    network = ConvNet(width=4, pooling=pooling).build(info_of(COLOUR))
    assert kinds(network).count(layer) == 3
    assert network[-1].in_features == 4 * 4 * 4


def test_without_pooling_the_convnet_keeps_the_size():
    network = ConvNet(width=4, pooling="none").build(info_of(COLOUR))
    assert not {nn.MaxPool2d, nn.AvgPool2d} & set(kinds(network))
    assert network[-1].in_features == 4 * 32 * 32


@pytest.mark.parametrize(
    ("norm", "over"), [("batch", (0, 2, 3)), ("layer", (1, 2, 3)), ("instance", (2, 3)), ("none", None)]
)
def test_norm_of_the_convnet_is_over_the_right_dimensions(norm, over):
    network = ConvNet(width=8, depth=1, norm=norm).build(info_of(DIGITS)).train()
    inputs = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    convolved = expected = network[0](inputs)
    if over:
        variance, mean = torch.var_mean(convolved, dim=over, correction=0, keepdim=True)
        expected = (convolved - mean) / (variance + 1e-5).sqrt()
    before_activation = network[: kinds(network).index(nn.ReLU)](inputs)
    torch.testing.assert_close(before_activation, expected, rtol=1e-4, atol=1e-5)


def test_group_norm_of_the_convnet_has_four_groups():
    layers = [m for m in ConvNet(width=8, norm="group").build(info_of(DIGITS)) if isinstance(m, nn.GroupNorm)]
    assert [layer.num_groups for layer in layers] == [4, 4, 4]


def test_group_norm_needs_a_width_that_four_divides():
    with pytest.raises(DcbenchError, match="norm=group needs a width that 4 divides, not 6"):
        ConvNet(width=6, norm="group").build(info_of(DIGITS))


def test_a_network_with_the_wrong_number_of_outputs_is_refused():
    class OneOutput(Architecture):
        name = "one_output"

        def build(self, info):
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))

    with pytest.raises(
        DcbenchError, match=r"'one_output' gives outputs of shape \(2, 1\) on made_up, not \(2, 10\)"
    ):
        fit(OneOutput(), info_of(DIGITS))


def test_a_network_that_fails_on_the_images_is_refused_by_their_shape():
    class Colour(Architecture):
        name = "colour"

        def build(self, info):
            return nn.Sequential(nn.Conv2d(3, info.num_classes, info.size), nn.Flatten())

    fit(Colour(), info_of(COLOUR))
    with pytest.raises(DcbenchError, match=r"'colour' does not take images of 1x8x8 \(made_up\): RuntimeError"):
        fit(Colour(), info_of(DIGITS))


@every_architecture
def test_every_network_fits_the_digits(architecture):
    fit(architecture, info_of(DIGITS))
