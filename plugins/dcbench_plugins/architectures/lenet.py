"""LeNet-5 with ReLU and max pooling, for images of any size from 4 pixels."""

from torch import nn

from dcbench.api import Architecture, DatasetInfo, DcbenchError, hookimpl


class LeNet(Architecture):
    """Two 5x5 convolutions with max pooling, then three linear layers.

    In the form of Zhao, Mopuri, Bilen, ICLR 2021: the first convolution pads grey images by 2 pixels, which brings
    MNIST's 28 to 32, and nothing else is padded. Images below 28 pixels, of which little or nothing would be left,
    keep their size through both convolutions instead.
    """

    name = "lenet"
    citation = "LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition, 1998"

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return the network."""
        small = min(info.size) < 28
        first = 2 if small or info.channels == 1 else 0
        second = 2 if small else 0
        height, width = ((((side + 2 * first - 4) // 2) + 2 * second - 4) // 2 for side in info.size)
        if min(height, width) < 1:
            raise DcbenchError(
                f"lenet: images of {info.size[0]}x{info.size[1]} pixels ({info.name}) are too small; "
                "it takes 4x4 and more."
            )
        return nn.Sequential(
            nn.Conv2d(info.channels, 6, kernel_size=5, padding=first),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5, padding=second),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * height * width, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, info.num_classes),
        )


@hookimpl
def dcbench_register_architectures() -> list[type[Architecture]]:
    """Provide the architecture."""
    return [LeNet]
