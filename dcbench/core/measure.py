"""Measures: what is asked of a trained network, such as its test accuracy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from dcbench.core.component import Component
from dcbench.core.dataset import DatasetInfo
from dcbench.core.split import ResidentSplit


class Measure(Component):
    """A measure plugin: asks a trained network something about the test images, and returns scores.

    A network is trained once for all measures of a run. Each measure has a record of its own, so one that raises
    takes nothing from the others.

    Class attributes:
        main: the name of the score that tables show and rank by.
        unit: of the main score: ``%`` for a fraction, which tables show in percent; else what they write behind
            the number, or nothing.
        lower_is_better: whether a row with a lower main score ranks above one with a higher.
    """

    kind: ClassVar[str] = "measure"
    main: ClassVar[str]
    unit: ClassVar[str] = "%"
    lower_is_better: ClassVar[bool] = False

    def unsuited(self, info: DatasetInfo) -> str:
        """Say why a data set cannot be measured, as in ``needs colour images``; empty if it can be.

        A run asks this before any work.
        """
        return ""

    @abstractmethod
    def scores(self, network: nn.Module, test: ResidentSplit, generator: torch.Generator) -> Mapping[str, float]:
        """Return scores by name, the main one among them, each a finite number.

        Args:
            network: trained, in evaluation mode, on the device of the split. Its parameters, buffers and mode must
                be as before when this returns.
            test: the test images; `ResidentSplit.raw` returns pixels, `ResidentSplit.normalise` brings pixels into
                the space in which the network takes them, and lets gradients through.
            generator: a CPU generator for every random draw, seeded by the trial and the measure.
        """
