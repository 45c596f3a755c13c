"""A multilayer perceptron: the flattened image through three linear layers with ReLU between them.

The MLP of Zhao, Mopuri, Bilen, Dataset Condensation with Gradient Matching, ICLR 2021.
"""

import math

from torch import nn

from dcbench.api import Architecture, DatasetInfo, hookimpl, option


class MLP(Architecture):
    """Three linear layers with ReLU between them."""

    name = "mlp"
    citation = "Zhao, Mopuri, Bilen, Dataset Condensation with Gradient Matching, ICLR 2021"

    width: int = option(128, "units in each of the two hidden layers", source="paper, section 4.1", ge=1)

    def build(self, info: DatasetInfo) -> nn.Module:
        """Return the network, for images of any size."""
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(info.channels * math.prod(info.size), self.width),
            nn.ReLU(),
            nn.Linear(self.width, self.width),
            nn.ReLU(),
            nn.Linear(self.width, info.num_classes),
        )


@hookimpl
def dcbench_register_architectures() -> list[type[Architecture]]:
    """Provide the architecture."""
    return [MLP]
