"""Test accuracy, the measure that leaderboards rank by, and how far a network's confidence can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.core import spec
from dcbench.core.measure import Measure
from dcbench.core.split import ResidentSplit
from dcbench.engine.training import both_accuracies, logits

BINS = 15


class Accuracy(Measure):
    """Test accuracy: the share of the test images that are classified correctly.

    Beside it: balanced accuracy where the test classes are uneven, negative log-likelihood (mean over images, in
    nats), and expected calibration error with 15 bins of equal width (Guo et al., On Calibration of Modern Neural
    Networks, ICML 2017), a fraction. An image for which an output is not a number counts as one divided by the
    number of classes; the last two are then left out.
    """

    name: ClassVar[str] = spec.ACCURACY
    main: ClassVar[str] = "accuracy"

    def scores(self, network: nn.Module, test: ResidentSplit, generator: torch.Generator) -> Mapping[str, float]:
        """Return ``accuracy``, ``balanced_accuracy``, ``negative_log_likelihood``, ``calibration_error``."""
        outputs = logits(network, test)
        accuracy, balanced = both_accuracies(outputs, test)
        scores = {"accuracy": accuracy}
        if balanced is not None:
            scores["balanced_accuracy"] = balanced
        if bool(outputs.isfinite().all()):
            scores["negative_log_likelihood"] = float(F.cross_entropy(outputs.double(), test.labels))
            scores["calibration_error"] = calibration_error(outputs, test.labels)
        return scores


def calibration_error(outputs: Tensor, labels: Tensor) -> float:
    """Return the expected calibration error: the mean over images of |accuracy - confidence| of their bin.

    Args:
        outputs: logits, shape (N, K).
        labels: int64, shape (N,).
    """
    confidence, predicted = outputs.double().softmax(dim=1).max(dim=1)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    excess = (predicted == labels).double() - confidence
    return float(excess.new_zeros(BINS).index_add_(0, bins, excess).abs().sum()) / len(labels)


ACCURACY = Accuracy()
