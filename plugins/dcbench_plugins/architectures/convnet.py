"""The ConvNet of the dataset-condensation literature, with its ablations as options.

Blocks of a 3x3 convolution, normalisation, activation and 2x2 pooling, then a linear classifier; introduced
for few-shot learning (Gidaris, Komodakis, CVPR 2018) and used as in Zhao, Mopuri, Bilen, ICLR 2021.
"""

from typing import Literal

from torch import nn

from dcbench.api import Architecture, DatasetInfo, DcbenchError, hookimpl, option

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "swish": nn.SiLU,
}


class ConvNet(Architecture):
    """Blocks of convolution, normalisation, activation and pooling, then one linear layer.

    As in the authors' code, the first convolution pads grey images by 3 pixels, which brings MNIST's 28 to 32.
    """

    name = "convnet"
    citation = "Zhao, Mopuri, Bilen, Dataset Condensation with Gradient Matching, ICLR 2021"

    width: int = option(128, "channels of every convolution", source="paper, section 4.1", ge=1)
    depth: int = option(3, "number of blocks", source="paper, section 4.1", ge=1)
    activation: Literal["relu", "leakyrelu", "sigmoid", "swish"] = option(
        "relu", "activation function", source="paper, section 4.1"
    )
    norm: Literal["none", "batch", "layer", "instance", "group"] = option(
        "instance", "normalisation; group means four groups", source="paper, section 4.1"
    )
    pooling: Literal["none", "max", "average"] = option(
        "average", "2x2 pooling after each activation", source="paper, section 4.1"
    )

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return the network."""
        if self.norm == "group" and self.width % 4:
            raise DcbenchError(f"convnet: norm=group needs a width that 4 divides, not {self.width}.")
        layers: list[nn.Module] = []
        channels, size = info.channels, info.size
        for block in range(self.depth):
            padding = 3 if block == 0 and info.channels == 1 else 1
            size = (size[0] + 2 * padding - 2, size[1] + 2 * padding - 2)
            layers.append(nn.Conv2d(channels, self.width, kernel_size=3, padding=padding))
            layers += self._norm(size)
            layers.append(ACTIVATIONS[self.activation]())
            if self.pooling != "none":
                layers.append(nn.AvgPool2d(2) if self.pooling == "average" else nn.MaxPool2d(2))
                size = (size[0] // 2, size[1] // 2)
            channels = self.width
            if min(size) < 1:
                hint = f"; choose a smaller depth, as in convnet:depth={block}" if block else ""
                raise DcbenchError(
                    f"convnet: {block + 1} poolings leave nothing of images of {info.size[0]}x{info.size[1]} "
                    f"pixels ({info.name}){hint}."
                )
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size[0] * size[1], info.num_classes))

    def _norm(self, size: tuple[int, int]) -> list[nn.Module]:
        match self.norm:
            case "batch":
                return [nn.BatchNorm2d(self.width)]
            case "layer":
                return [nn.LayerNorm([self.width, *size])]
            case "instance":
                return [nn.GroupNorm(self.width, self.width)]
            case "group":
                return [nn.GroupNorm(4, self.width)]
            case _:
                return []


@hookimpl
def dcbench_register_architectures() -> list[type[Architecture]]:
    """Provide the architecture."""
    return [ConvNet]
