"""k-means: the real image nearest to each centroid of its class's features.

The baseline that Cui, Wang, Si, Hsieh, DC-BENCH, NeurIPS 2022, call "K-Center", with the feature space of a
network trained on the whole training split.

For each class, find ``ipc`` centroids by k-means of its features; for one centroid after the other, choose the
nearest image that has not been chosen yet.
"""

import warnings

import torch
from torch import Tensor

from dcbench.api import FeatureCoreset, Method, Setting, hookimpl, option


class KMeans(FeatureCoreset):
    """The real image nearest to each centroid of k-means of its class's features.

    DC-Bench calls it "K-Center"; greedy k-center is `kcenter` here.
    """

    name = "kmeans"
    version = "2"  # networks are shared between methods and sizes
    citation = "Cui, Wang, Si, Hsieh, DC-BENCH: Dataset Condensation Benchmark, NeurIPS 2022"

    restarts: int = option(10, "times that k-means starts anew, of which the best counts", source="dcbench", ge=1)

    def dependencies(self, setting: Setting) -> frozenset[str]:
        """Return no ``network`` for pixels, and then no ``seed`` for one centroid, which is the class mean.

        Several centroids are random in the beginning, so the seed stays.
        """
        depends = super().dependencies(setting)
        return depends if setting.ipc == 1 else depends | {"seed"}

    def choose_by_draw(self, features: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Choose the row nearest to each of ``n`` centroids.

        Args:
            features: float, shape (N, D).
            n: how many, at most N.
            generator: seeds k-means.

        Returns:
            int64 row indices, shape (n,), all different. Ties go to the lower index.
        """
        from sklearn.cluster import KMeans as Clustering  # takes a second to import, and most commands do without
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        seed = int(torch.randint(2**32, (), generator=generator))
        clustering = Clustering(n, n_init=self.restarts, random_state=seed)
        # One thread, because sums by several threads are not the same every time.
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # for fewer different images than centroids
            clustering.fit(features.cpu().numpy())
        chosen: list[Tensor] = []
        for centroid in torch.from_numpy(clustering.cluster_centers_).to(features):
            distance = torch.linalg.vector_norm(features - centroid, dim=1)
            if chosen:
                distance[torch.stack(chosen)] = torch.inf
            chosen.append(distance.argmin())
        return torch.stack(chosen)


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [KMeans]
