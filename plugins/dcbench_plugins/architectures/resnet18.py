"""ResNet-18 for small images, as the dataset-condensation literature uses it.

After He, Zhang, Ren, Sun, CVPR 2016, in the form of Zhao, Mopuri, Bilen, ICLR 2021: a 3x3 convolution instead of
the 7x7 stem, no max pooling, four stages of two blocks, each stage but the first halving the map. The authors'
second variant, AP, halves by a 2x2 average pooling after a convolution of stride 1, and its classifier
receives the flattened last map instead of the mean over it. A stage that would leave less than 2x2 pixels of
small images does not halve: instance normalisation of a single pixel erases it.
"""

from typing import Literal

from torch import Tensor, nn

from dcbench.api import Architecture, DatasetInfo, DcbenchError, hookimpl, option

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages."""


class ResNet18(Architecture):
    """A 3x3 stem, eight residual blocks in four stages, one linear layer."""

    name = "resnet18"
    citation = "He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016"

    norm: Literal["instance", "batch"] = option(
        "instance", "normalisation after each convolution", source="the authors' code"
    )
    downsampling: Literal["stride", "average"] = option(
        "stride",
        "how a stage halves the map: by convolutions of stride 2, or by average pooling, and then the classifier "
        "receives the flattened last map (AP)",
        source="the authors' code",
    )

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return the network, for images of 2x2 pixels and more."""
        if min(info.size) < 2:
            raise DcbenchError(
                f"resnet18: images of {info.size[0]}x{info.size[1]} pixels ({info.name}) are too small; "
                "it takes 2x2 and more."
            )
        height, width = info.size
        layers = [*_convolution(info.channels, WIDTHS[0], self.norm), nn.ReLU()]
        channels = WIDTHS[0]
        # A convolution of stride 2 rounds the halves up, a pooling down.
        spare = 1 if self.downsampling == "stride" else 0
        for stage, channels_out in enumerate(WIDTHS):
            halved = (height + spare) // 2, (width + spare) // 2
            halving = self.downsampling if stage > 0 and min(halved) >= 2 else "none"
            if halving != "none":
                height, width = halved
            layers += [
                Block(channels, channels_out, self.norm, halving),
                Block(channels_out, channels_out, self.norm),
            ]
            channels = channels_out
        if self.downsampling == "stride":
            layers.append(nn.AdaptiveAvgPool2d(1))
            height = width = 1
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, info.num_classes))


class Block(nn.Module):
    """Two 3x3 convolutions and, around them, the identity or a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, channels_out: int, norm: str, halving: str = "none") -> None:
        """Take the widths before and after, and how the first convolution halves the map, if it does."""
        super().__init__()
        stride = 2 if halving == "stride" else 1
        pooling = [nn.AvgPool2d(2)] if halving == "average" else []
        self.residual = nn.Sequential(
            *_convolution(channels, channels_out, norm, stride=stride),
            nn.ReLU(),
            *pooling,
            *_convolution(channels_out, channels_out, norm),
        )
        self.shortcut: nn.Module = nn.Identity()
        if channels != channels_out:
            convolution, normalisation = _convolution(channels, channels_out, norm, kernel=1, stride=stride)
            self.shortcut = nn.Sequential(convolution, *pooling, normalisation)
        self.activation = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, channels_out, H', W')."""
        result: Tensor = self.activation(self.residual(images) + self.shortcut(images))
        return result


def _convolution(channels: int, channels_out: int, norm: str, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Return a convolution that keeps the size but for its stride, and its normalisation."""
    return [
        nn.Conv2d(channels, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.GroupNorm(channels_out, channels_out) if norm == "instance" else nn.BatchNorm2d(channels_out),
    ]


@hookimpl
def dcbench_register_architectures() -> list[type[Architecture]]:
    """Provide the architecture."""
    return [ResNet18]
