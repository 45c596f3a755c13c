"""From a condensed set to an accuracy: train a fresh network under a protocol, test it once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from dcbench.core.architecture import Architecture, new_network
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.loss_watch import Diverged
from dcbench.core.spec import Budget, EvaluationSpec
from dcbench.core.split import ResidentSplit
from dcbench.engine.training import both_accuracies
from dcbench.evaluate.protocol import EvaluationProtocol
from dcbench.results.provenance import packages_behind
from dcbench.utils.seeds import derive_seed, new_generator, seeded_globals


@dataclass(frozen=True)
class Trial:
    """The accuracy on the test split, as a fraction, the wall time, and what computed it.

    ``packages`` has the versions of what the network is made of, ``threads`` is the number of threads of the CPU.
    ``diverged`` says in which epoch the training loss was no longer finite; it is empty for most networks.
    ``balanced_accuracy`` is None where the test classes are even, see `dcbench.engine.training.both_accuracies`.
    """

    accuracy: float
    seconds: float
    packages: Mapping[str, str]
    threads: int
    diverged: str = ""
    balanced_accuracy: float | None = None


def evaluate(
    spec: EvaluationSpec,
    condensed: CondensedSet,
    test: ResidentSplit,
    architecture: Architecture,
    protocol: EvaluationProtocol,
    budget: Budget,
    progress: Callable[[int, int], None],
    draws: bool = True,
    teacher: nn.Module | None = None,
) -> Trial:
    """Train one fresh network on a condensed set and return its accuracy after the last epoch.

    Every draw depends on the spec alone, so two networks of different sets or seeds are independent.

    A network whose training diverges is a result of the set, because it would flatter the set to leave it out. It
    is not trained further, and is tested as it is then; see `dcbench.engine.training.accuracy` for outputs of NaN.

    Args:
        spec: gives the seeds.
        condensed, test: what to train on, which the protocol takes, and the test split, on the device.
        architecture: of the fresh network.
        protocol, budget: how it is trained, and how many steps at most.
        progress: called with the epochs done and their number.
        draws: whether the network may draw from torch's global generators, which no other thread may use then.
        teacher: that of the protocol, if it has one.
    """
    started = time.monotonic()
    seed = derive_seed("evaluate", spec.key())
    network = new_network(architecture, test.info, seed, test.device)
    epochs = protocol.epochs_for(test.info, len(condensed.images) * condensed.factor**2, budget)
    diverged = ""
    with seeded_globals(derive_seed("dropout", seed), test.device) if draws else nullcontext():
        try:
            protocol.train(
                network,
                condensed,
                test.info,
                new_generator("shuffle", seed),
                epochs=epochs,
                progress=progress,
                teacher=teacher,
            )
        except Diverged as error:
            diverged = str(error)
    fraction, balanced = both_accuracies(network, test)
    packages = packages_behind(type(architecture), network)
    return Trial(fraction, time.monotonic() - started, packages, torch.get_num_threads(), diverged, balanced)
