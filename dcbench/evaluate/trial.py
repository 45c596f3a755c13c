"""From a condensed set to scores: train a fresh network under a protocol, ask measures about it once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from dcbench.core.architecture import Architecture, new_network
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.loss_watch import Diverged
from dcbench.core.measure import Measure
from dcbench.core.spec import Budget, EvaluationSpec
from dcbench.core.split import ResidentSplit
from dcbench.evaluate.accuracy import ACCURACY
from dcbench.evaluate.asking import Answer, ask
from dcbench.evaluate.protocol import EvaluationProtocol
from dcbench.results.provenance import packages_behind
from dcbench.utils.seeds import derive_seed, new_generator, seeded_globals


@dataclass(frozen=True)
class Trial:
    """What one network gave: an answer for each measure, the seconds of training, and what computed it.

    ``packages`` has the versions of what the network is made of, ``threads`` is the number of threads of the CPU.
    ``diverged`` says in which epoch the training loss was no longer finite; it is empty for most networks.
    """

    answers: tuple[Answer, ...]
    seconds: float
    packages: Mapping[str, str]
    threads: int
    diverged: str = ""


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
    measures: Sequence[Measure] = (ACCURACY,),
) -> Trial:
    """Train one fresh network on a condensed set, and ask measures about it after the last epoch.

    Every draw depends on the spec alone, so two networks of different sets or seeds are independent.

    A network whose training diverges is a result of the set, because it would flatter the set to leave it out. It
    is not trained further, and is tested as it is then; see `dcbench.engine.training.accuracy` for outputs of NaN.

    Args:
        spec: gives the seeds, which are the same for all measures.
        condensed, test: what to train on, which the protocol takes, and the test split, on the device.
        architecture: of the fresh network.
        protocol, budget: how it is trained, and how many steps at most.
        progress: called with the epochs done and their number.
        draws: whether the network may draw from torch's global generators, which no other thread may use then.
        teacher: that of the protocol, if it has one.
        measures: what is asked of the network.
    """
    started = time.monotonic()
    seed = derive_seed("evaluate", spec.asked(ACCURACY).key())
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
    seconds = time.monotonic() - started
    answers = tuple(ask(measures, network, test, seed))
    packages = packages_behind(type(architecture), network)
    return Trial(answers, seconds, packages, torch.get_num_threads(), diverged)
