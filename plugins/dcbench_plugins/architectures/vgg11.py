"""VGG11 cut down for small images, as the dataset-condensation literature uses it.

After Simonyan, Zisserman, ICLR 2015, in the form of Zhao, Mopuri, Bilen, ICLR 2021: eight 3x3 convolutions,
each normalised, five max poolings and one linear layer on 512 features. The first convolution pads grey images
by 3 pixels, which brings MNIST's 28 to 32. Larger images than that leave a larger map, which is averaged.
On smaller ones, a pooling that would leave the convolutions after it less than 2x2 pixels is left out: instance
normalisation of a single pixel erases it.
"""

from typing import Literal

from torch import nn

from dcbench.api import Architecture, DatasetInfo, DcbenchError, hookimpl, option

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Channels of the convolutions between two poolings."""


class VGG11(Architecture):
    """Eight normalised 3x3 convolutions, five max poolings, one linear layer."""

    name = "vgg11"
    citation = "Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015"

    norm: Literal["instance", "batch"] = option(
        "instance", "normalisation after each convolution", source="the authors' code"
    )

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return the network, for images of 2x2 pixels and more."""
        if min(info.size) < 2:
            raise DcbenchError(
                f"vgg11: images of {info.size[0]}x{info.size[1]} pixels ({info.name}) are too small; "
                "it takes 2x2 and more."
            )
        layers: list[nn.Module] = []
        channels, padding = info.channels, 3 if info.channels == 1 else 1
        side = min(info.size) + 2 * padding - 2
        for stage, widths in enumerate(STAGES):
            for width in widths:
                layers += [
                    nn.Conv2d(channels, width, kernel_size=3, padding=padding),
                    self._norm(width),
                    nn.ReLU(),
                ]
                channels, padding = width, 1
            if side // 2 >= 2 or stage == len(STAGES) - 1:
                layers.append(nn.MaxPool2d(2))
                side //= 2
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, info.num_classes))

    def _norm(self, channels: int) -> nn.Module:
        return nn.GroupNorm(channels, channels) if self.norm == "instance" else nn.BatchNorm2d(channels)


@hookimpl
def dcbench_register_architectures() -> list[type[Architecture]]:
    """Provide the architecture."""
    return [VGG11]
