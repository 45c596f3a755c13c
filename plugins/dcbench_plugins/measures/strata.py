"""Which test images a measure looks at, where all would take long."""

import torch

from dcbench.api import ResidentSplit


def stratified(test: ResidentSplit, count: int) -> ResidentSplit:
    """Return ``count`` test images, the same ones always, each class with its share; all of them for 0.

    They are at even distances in the order of the classes, and within a class in that of the data set.
    """
    if not 0 < count < len(test):
        return test
    by_class = test.labels.argsort(stable=True)
    return test.part(by_class[torch.arange(count, device=test.device) * len(test) // count])
