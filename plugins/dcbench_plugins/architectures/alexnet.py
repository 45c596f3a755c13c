"""AlexNet cut down for small images, as the dataset-condensation literature uses it."""

from torch import nn

from dcbench.api import Architecture, DatasetInfo, DcbenchError, hookimpl


class AlexNet(Architecture):
    """Five convolutions, three max poolings, one linear layer.

    In the form of Zhao, Mopuri, Bilen, ICLR 2021, without dropout. The first convolution pads grey images by 4
    pixels, which brings MNIST's 28 to 32, and others by 2.
    """

    name = "alexnet"
    citation = "Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep CNNs, NeurIPS 2012"

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return the network."""
        padding = 4 if info.channels == 1 else 2
        height, width = ((side + 2 * padding - 4) // 8 for side in info.size)
        if min(height, width) < 1:
            raise DcbenchError(
                f"alexnet: images of {info.size[0]}x{info.size[1]} pixels ({info.name}) are too small; "
                "it takes 8x8 and more in colour, 4x4 in grey."
            )
        return nn.Sequential(
            nn.Conv2d(info.channels, 128, kernel_size=5, padding=padding),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(128, 192, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 192, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(192, 192, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(192 * height * width, info.num_classes),
        )


@hookimpl
def dcbench_register_architectures() -> list[type[Architecture]]:
    """Provide the architecture."""
    return [AlexNet]
