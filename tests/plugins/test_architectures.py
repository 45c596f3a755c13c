"""The networks of the literature, and how fresh ones are made."""

from __future__ import annotations

import math

import pytest
import torch
from dcbench_plugins.architectures.alexnet import AlexNet
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.architectures.lenet import LeNet
from dcbench_plugins.architectures.mlp import MLP
from dcbench_plugins.architectures.resnet18 import Block, ResNet18
from dcbench_plugins.architectures.vgg11 import VGG11
from helpers import make_info
from torch import nn
from torch.nn import functional as F

from dcbench.core.architecture import Architecture, fit, new_network
from dcbench.utils.errors import DcbenchError

CLASSES = {cls.name: cls for cls in (MLP, LeNet, AlexNet, ConvNet, VGG11, ResNet18)}
GREY, COLOUR, DIGITS = (1, (28, 28)), (3, (32, 32)), (1, (8, 8))

# Numbers of parameters for grey images of 28x28 with 10 and 100 classes, then colour images of 32x32 likewise,
# counted in the code of Zhao, Mopuri, Bilen, ICLR 2021.
PARAMETERS = {
    "mlp": (118282, 129892, 411146, 422756),
    "lenet": (61706, 69356, 62006, 69656),
    "alexnet": (1865802, 2142372, 1872202, 2148772),
    "vgg11": (9229962, 9276132, 9231114, 9277284),
    "vgg11:norm=batch": (9229962, 9276132, 9231114, 9277284),
    "resnet18": (11172810, 11218980, 11173962, 11220132),
    "resnet18:norm=batch": (11172810, 11218980, 11173962, 11220132),
    "resnet18:downsampling=average": (11213770, 11628580, 11250762, 11988132),
    "resnet18:downsampling=average,norm=batch": (11213770, 11628580, 11250762, 11988132),
    "convnet": (317706, 502116, 320010, 504420),
    "convnet:width=32": (24138, 70308, 24714, 70884),
    "convnet:width=64": (85130, 177380, 86282, 178532),
    "convnet:width=256": (1225226, 1593956, 1229834, 1598564),
    "convnet:depth=1": (329226, 3278436, 331530, 3280740),
    "convnet:depth=2": (231306, 968676, 233610, 970980),
    "convnet:depth=4": (450186, 496356, 452490, 498660),
    "convnet:activation=sigmoid": (317706, 502116, 320010, 504420),
    "convnet:activation=leakyrelu": (317706, 502116, 320010, 504420),
    "convnet:activation=swish": (317706, 502116, 320010, 504420),
    "convnet:norm=none": (316938, 501348, 319242, 503652),
    "convnet:norm=batch": (317706, 502116, 320010, 504420),
    "convnet:norm=layer": (661002, 845412, 663306, 847716),
    "convnet:norm=group": (317706, 502116, 320010, 504420),
    "convnet:pooling=none": (1607946, 13404516, 1610250, 13406820),
    "convnet:pooling=max": (317706, 502116, 320010, 504420),
}

# Logits of that code in float64, for the images and weights of `authors_logits`: the first two classes of the
# second image, grey and colour. They were computed by it, not by dcbench.
LOGITS = {
    "mlp": ((1.32940252, 0.10438450), (1.15663798, 0.25166818)),
    "lenet": ((1.24404663, 0.22818311), (1.27956417, 0.18267768)),
    "alexnet": ((0.50245588, 0.58879638), (0.50246318, 0.58878573)),
    "vgg11": ((4.23150779, -3.12112641), (4.31682982, -3.20844275)),
    "vgg11:norm=batch": ((5.04289113, -3.92237838), (4.77705817, -3.66240947)),
    "resnet18": ((5.57034466, -4.46115296), (5.56755035, -4.45920344)),
    "resnet18:norm=batch": ((5.77107909, -4.66694676), (5.46693788, -4.35595164)),
    "resnet18:downsampling=average": ((0.44712752, 0.55324454), (1.01236652, 1.24726753)),
    "resnet18:downsampling=average,norm=batch": ((0.39971039, 0.53504042), (1.05102590, 1.34169716)),
    "convnet": ((0.52459702, 0.60568843), (0.56091668, 0.62690176)),
    "convnet:width=32": ((0.54053311, 0.54832039), (0.50031069, 0.58203942)),
    "convnet:width=64": ((0.47603358, 0.56002023), (0.50038044, 0.59008195)),
    "convnet:width=256": ((0.48265819, 0.58195964), (0.49622999, 0.62121973)),
    "convnet:depth=1": ((0.53792108, 0.59023202), (0.54281697, 0.60436830)),
    "convnet:depth=2": ((0.63220165, 0.69347697), (0.63268892, 0.56310157)),
    "convnet:depth=4": ((0.61462425, 0.46687319), (0.56811263, 0.50954942)),
    "convnet:activation=sigmoid": ((0.52072984, 0.60153151), (0.52654388, 0.60572762)),
    "convnet:activation=leakyrelu": ((0.52508489, 0.60603100), (0.56140456, 0.62740666)),
    "convnet:activation=swish": ((0.51431564, 0.59343593), (0.53830934, 0.60924361)),
    "convnet:norm=none": ((0.49496237, 0.58221369), (0.49823680, 0.58484331)),
    "convnet:norm=batch": ((0.52379770, 0.60415157), (0.56733231, 0.63439959)),
    "convnet:norm=layer": ((0.48996477, 0.57753992), (0.48960458, 0.57689864)),
    "convnet:norm=group": ((0.45329372, 0.55056788), (0.46532179, 0.55870218)),
    "convnet:pooling=none": ((0.45961117, 0.57710743), (0.48434807, 0.48553684)),
    "convnet:pooling=max": ((0.56366610, 0.63301624), (0.50629871, 0.58697758)),
}


def spelt(text):
    name, _, options = text.partition(":")
    return CLASSES[name].parse(options)


RESNETS = [text for text in PARAMETERS if text.startswith("resnet18")]
every_architecture = pytest.mark.parametrize("architecture", [cls() for cls in CLASSES.values()], ids=str)
every_network = pytest.mark.parametrize("architecture", [spelt(text) for text in PARAMETERS], ids=str)


def info_of(images, classes=10):
    channels, size = images
    return make_info(channels, size, classes)


def logits(architecture, images, classes=10, n=2):
    network = new_network(architecture, info_of(images, classes), seed=0)
    return network(torch.zeros(n, images[0], *images[1]))


def parameter_bytes(network):
    return b"".join(parameter.detach().numpy().tobytes() for parameter in network.parameters())


def sides(network, images, *kinds):
    """Height and width of what every module of these kinds gives."""
    seen = []
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[2:])))
    with torch.no_grad():
        network(torch.zeros(2, images[0], *images[1]))
    return seen


def kinds(network):
    return [type(module) for module in network]


def authors_logits(architecture, images):
    """Logits of two images, in training mode, where images and weights are waves instead of random."""
    network = new_network(architecture, info_of(images), seed=0).double().train()
    with torch.no_grad():
        for weights in network.parameters():
            wave = torch.sin(torch.arange(weights.numel(), dtype=torch.float64)).view(weights.shape)
            weights.copy_(0.5 + 0.1 * wave if weights.ndim == 1 else wave * (2 / weights[0].numel()) ** 0.5)
        shape = (2, images[0], *images[1])
        phase = torch.arange(math.prod(shape), dtype=torch.float64) ** 1.5
        return network(torch.cos(phase).view(shape))


@every_network
@pytest.mark.parametrize(
    ("images", "classes", "place"), [(GREY, 10, 0), (GREY, 100, 1), (COLOUR, 10, 2), (COLOUR, 100, 3)], ids=str
)
def test_the_number_of_parameters_is_that_of_the_authors(architecture, images, classes, place):
    with torch.device("meta"):
        network = architecture.build(info_of(images, classes))
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[str(architecture)][place]


@every_network
@pytest.mark.parametrize(("images", "place"), [(GREY, 0), (COLOUR, 1)], ids=["grey", "colour"])
def test_outputs_are_those_of_the_authors_network(architecture, images, place):
    ours = authors_logits(architecture, images)[1, :2]
    assert ours.tolist() == pytest.approx(LOGITS[str(architecture)][place], rel=0, abs=1e-7)


@every_architecture
@pytest.mark.parametrize("images", [GREY, COLOUR, DIGITS, (3, (8, 12)), (1, (40, 28))], ids=str)
def test_logits_are_one_per_class(architecture, images):
    assert logits(architecture, images, classes=7).shape == (2, 7)


@every_network
@pytest.mark.parametrize(("images", "classes", "batch"), [(GREY, 10, 1), (COLOUR, 100, 2)], ids=str)
def test_a_step_of_training_lowers_the_loss(architecture, images, classes, batch):
    assert_learns(architecture, images, classes, batch)


@pytest.mark.parametrize("text", ["convnet:norm=batch", "vgg11", "vgg11:norm=batch", *RESNETS])
def test_a_single_small_image_can_be_learnt(text):
    assert_learns(spelt(text), DIGITS, classes=10, batch=1)


def assert_learns(architecture, images, classes, batch):
    """Two steps of gradient descent on noise; the loss must fall."""
    network = new_network(architecture, info_of(images, classes), seed=0).train()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, images[0], *images[1], generator=generator)
    losses = []
    for _ in range(2):
        logits = network(inputs)
        assert logits.shape == (batch, classes)
        loss = F.cross_entropy(logits, torch.arange(batch))
        parameters = list(network.parameters())
        with torch.no_grad():
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter -= 0.01 * gradient
        losses.append(loss.item())
    assert losses[1] < losses[0]
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


# Instance normalisation of a map of one pixel gives a constant whatever the image: no network may come to that.
# Instance normalisation of a map of one pixel gives a constant whatever the image: no network may come to that.
@pytest.mark.parametrize("text", ["convnet", "vgg11", "vgg11:norm=batch", *RESNETS])
@pytest.mark.parametrize("images", [GREY, DIGITS, (3, (8, 8)), (1, (4, 5))], ids=str)
def test_logits_depend_on_the_image(text, images):
    network = new_network(spelt(text), info_of(images), seed=0).eval()
    with torch.no_grad():
        first, second = network(torch.randn(2, images[0], *images[1], generator=torch.Generator().manual_seed(0)))
    assert (first - second).abs().max() > 1e-5


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
        (VGG11(), 1, 2),
        (VGG11(), 3, 2),
        (ResNet18(), 1, 2),
        (ResNet18(downsampling="average"), 3, 2),
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


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY, [32, 16, 8, 8, 4, 4, 2, 2]),
        (COLOUR, [32, 16, 8, 8, 4, 4, 2, 2]),
        ((3, (64, 64)), [64, 32, 16, 16, 8, 8, 4, 4]),
        (DIGITS, [12, 6, 3, 3, 3, 3, 3, 3]),
        ((3, (8, 8)), [8, 4, 2, 2, 2, 2, 2, 2]),
    ],
    ids=str,
)
def test_vgg11_pools_as_long_as_its_convolutions_get_two_pixels(images, expected):
    network = VGG11().build(info_of(images))
    assert sides(network, images, nn.Conv2d) == [(side, side) for side in expected]
    assert network[-1].in_features == 512


@pytest.mark.parametrize(
    ("downsampling", "images", "expected"),
    [
        ("stride", GREY, [28, 14, 7, 4]),
        ("stride", COLOUR, [32, 16, 8, 4]),
        ("stride", DIGITS, [8, 4, 2, 2]),
        ("average", GREY, [28, 14, 7, 3]),
        ("average", COLOUR, [32, 16, 8, 4]),
        ("average", (3, (7, 7)), [7, 3, 3, 3]),
    ],
    ids=str,
)
def test_stages_of_resnet18_halve_the_map_as_long_as_two_pixels_are_left(downsampling, images, expected):
    network = ResNet18(downsampling=downsampling).build(info_of(images))
    found = sides(network, images, Block)
    assert found == [(side, side) for side in expected for _ in range(2)]
    assert network[-1].in_features == 512 * (expected[-1] ** 2 if downsampling == "average" else 1)


@pytest.mark.parametrize("cls", [VGG11, ResNet18])
@pytest.mark.parametrize(("norm", "kind"), [("instance", nn.GroupNorm), ("batch", nn.BatchNorm2d)])
def test_every_convolution_of_vgg11_and_resnet18_is_normalised(cls, norm, kind):
    modules = list(cls(norm=norm).build(info_of(COLOUR)).modules())
    norms = [module for module in modules if isinstance(module, (nn.GroupNorm, nn.BatchNorm2d))]
    assert {type(module) for module in norms} == {kind}
    assert len(norms) == sum(isinstance(module, nn.Conv2d) for module in modules)


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
