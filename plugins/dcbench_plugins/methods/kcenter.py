"""k-center: real images such that no image of their class is far from all of them, chosen greedily.

Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR 2018, algorithm 1;
as a coreset baseline for condensation in Zhao, Mopuri, Bilen, ICLR 2021, with the feature space of a network
trained on the whole training split.

For each class, begin with the image nearest to the mean feature, then pick one after the other:

    x_k = argmax over the images of min_{j<k} || f(x) - f(x_j) ||
"""

import torch
from torch import Tensor

from dcbench.api import FeatureCoreset, Method, hookimpl


class KCenter(FeatureCoreset):
    """Real images chosen greedily so that no image of their class is far from all of them.

    DC-Bench's "K-Center" is another method: the image nearest to each centroid, which is `kmeans` here.
    """

    name = "kcenter"
    version = "2"  # networks are shared between methods and sizes
    citation = "Sener and Savarese, Active Learning for CNNs: A Core-Set Approach, ICLR 2018"

    def choose(self, features: Tensor, n: int) -> Tensor:
        """Choose ``n`` rows greedily, each as far as can be from those before it; first the nearest to the mean.

        Args:
            features: float, shape (N, D).
            n: how many, at most N.

        Returns:
            int64 row indices, shape (n,), in order of choice. Ties go to the lower index.
        """
        chosen = [torch.linalg.vector_norm(features - features.mean(dim=0), dim=1).argmin()]
        distance = torch.full_like(features[:, 0], torch.inf)  # of each row to the nearest that is chosen
        while len(chosen) < n:
            newest = features[chosen[-1]]
            distance = torch.minimum(distance, torch.linalg.vector_norm(features - newest, dim=1))
            distance[chosen[-1]] = -1.0  # not again, though all others be equal to it
            chosen.append(distance.argmax())
        return torch.stack(chosen)


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [KCenter]
