"""The contract of measures. They are asked about two networks, one trained and one not, on made-up images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from dcbench.checks.check import CheckFailed, require_passed, unexpected
from dcbench.checks.components import COMPONENT_CHECKS, class_of, configured
from dcbench.checks.watch import Observed, watching
from dcbench.core.dataset import DatasetInfo
from dcbench.core.measure import Measure
from dcbench.core.split import ResidentSplit
from dcbench.evaluate.asking import ask

Subject = Measure | type[Measure]
PER_CLASS, CLASSES, SIZE = 8, 3, 28


def names_its_main_score(subject: Subject) -> str:
    """It names its main score, the unit, and whether less is better."""
    cls = class_of(subject)
    if not isinstance(getattr(cls, "main", None), str) or not cls.main:
        raise CheckFailed(
            f"main = {getattr(cls, 'main', None)!r}", 'name one of the scores, as in main = "accuracy"'
        )
    if not isinstance(cls.unit, str) or not isinstance(cls.lower_is_better, bool):
        found = f"unit = {cls.unit!r}, lower_is_better = {cls.lower_is_better!r}"
        raise CheckFailed(found, 'write unit = "%" for a fraction, and True or False')
    return f"{cls.main}, {'less' if cls.lower_is_better else 'more'} is better"


def gives_finite_scores(subject: Subject) -> str:
    """It gives finite scores, the main one among them, and leaves the network as it was."""
    return ", ".join(_asked(subject, trained=True)[0])


def fractions_are_fractions(subject: Subject) -> None:
    """A main score in percent lies between 0 and 1."""
    measure = configured(subject)
    value = _asked(subject, trained=True)[0][measure.main]
    if measure.unit == "%" and not 0 <= value <= 1:
        raise CheckFailed(f"{measure.main} is {value}", "return a fraction, or say another unit")


def looks_at_the_network(subject: Subject) -> None:
    """A trained network and an untrained one get different scores."""
    if _asked(subject, trained=True)[0] == _asked(subject, trained=False)[0]:
        raise CheckFailed("the same scores for both", "ask the network that scores() is given")


def gives_the_same_scores_twice(subject: Subject) -> None:
    """Asked twice with the same generator, it gives the same scores, and leaves global state alone."""
    first, observed = _asked(subject, trained=True)
    second, _ = _asked(subject, trained=True, turn=1)
    if first != second:
        raise CheckFailed(f"{first}, then {second}", "draw with generator=generator alone")
    if moved := [*observed.generators, *observed.settings]:
        raise CheckFailed(f"changed: {'; '.join(moved)}", "draw with generator=generator alone")


def _asked(subject: Subject, trained: bool, turn: int = 0) -> tuple[Mapping[str, float], Observed]:
    require_passed(names_its_main_score, subject)
    measure = configured(subject)
    channels = 3 if not measure.unsuited(_split(3).info) else 1
    test, network = _split(channels), _network(channels, trained)
    if reason := measure.unsuited(test.info):
        raise CheckFailed(f"it {reason}", "check it with options that serve images of 28x28 and 3 classes")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(turn)
        with watching(turn) as observed:
            (answer,) = ask([measure], network, test, seed=0)
    if answer.error:
        raise unexpected(answer.error, "when it is asked:")
    return answer.scores, observed


@lru_cache
def _split(channels: int) -> ResidentSplit:
    """Return test images: noise about a grey level of each class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    noise = torch.randint(-40, 41, (len(labels), channels, SIZE, SIZE), generator=generator)
    images = (60 + 60 * labels.view(-1, 1, 1, 1) + noise).to(torch.uint8)
    info = DatasetInfo(
        "made_up", ("a", "b", "c"), channels, (SIZE, SIZE), (0.5,) * channels, (0.25,) * channels, "0"
    )
    return ResidentSplit(images, labels, info)


@lru_cache
def _network(channels: int, trained: bool) -> nn.Module:
    """Return a network that tells the classes of `_split` apart, or one that is as it was initialised."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(channels * 16, CLASSES))
    split = _split(channels)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(200 if trained else 0):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(split.normalised(slice(None))), split.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


MEASURE_CHECKS: tuple[Callable[[Any], str | None], ...] = (
    *COMPONENT_CHECKS,
    names_its_main_score,
    gives_finite_scores,
    fractions_are_fractions,
    looks_at_the_network,
    gives_the_same_scores_twice,
)
