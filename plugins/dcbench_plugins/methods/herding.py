"""Herding: real images whose mean feature is nearest to their class's, chosen greedily.

Welling, Herding Dynamical Weights to Learn, ICML 2009; as a coreset baseline for condensation in Zhao,
Mopuri, Bilen, ICLR 2021, with the feature space of a network trained on the whole training split.

For each class, with mean feature mu, pick one image after the other:

    x_k = argmin over the images not yet chosen of || mu - (f(x) + sum_{j<k} f(x_j)) / k ||
"""

import torch
from torch import Tensor

from dcbench.api import FeatureCoreset, Method, hookimpl


class Herding(FeatureCoreset):
    """Real images chosen greedily so that their mean feature follows the class's."""

    name = "herding"
    version = "2"  # networks are shared between methods and sizes
    citation = "Welling, Herding Dynamical Weights to Learn, ICML 2009"

    def choose(self, features: Tensor, n: int) -> Tensor:
        """Choose ``n`` rows greedily so that their running mean stays near the mean of all rows.

        Args:
            features: float, shape (N, D).
            n: how many, at most N.

        Returns:
            int64 row indices, shape (n,), in order of choice. Ties go to the lower index.
        """
        mean = features.mean(dim=0)
        total = torch.zeros_like(mean)
        free = torch.ones(len(features), dtype=torch.bool, device=features.device)
        chosen = []
        for k in range(1, n + 1):
            distance = torch.linalg.vector_norm(mean - (features + total) / k, dim=1)
            best = torch.where(free, distance, torch.inf).argmin()
            free[best] = False
            total += features[best]
            chosen.append(best)
        return torch.stack(chosen)


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [Herding]
