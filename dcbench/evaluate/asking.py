"""What measures answer about one trained network, each on its own."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from dcbench.core.measure import Measure
from dcbench.core.split import ResidentSplit
from dcbench.engine.memory import free_what_failed, is_out_of_memory
from dcbench.utils.errors import DcbenchError
from dcbench.utils.seeds import derive_seed, new_generator


@dataclass(frozen=True)
class Answer:
    """What a measure gave: scores, the seconds that it took, or what was raised in the place of scores."""

    measure: Measure
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: Exception | None = None


def ask(measures: Sequence[Measure], network: nn.Module, test: ResidentSplit, seed: int) -> list[Answer]:
    """Ask measures in order, each about the network as it was trained.

    A measure that raises, returns what is no finite number, or changes the network has failed; the network is then
    as it was trained for the others.

    Args:
        measures: what to ask.
        network: trained; in evaluation mode when this returns.
        test: the test split.
        seed: of the trial; each measure draws from a generator of its own.
    """
    network.eval()
    trained = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    answers = []
    for measure in measures:
        started = time.monotonic()
        try:
            found = measure.scores(network, test, new_generator("measure", derive_seed(str(measure), seed)))
            scores = _checked(measure, found)
            now = network.state_dict()
            if network.training or not all(_same(tensor, now[name]) for name, tensor in trained.items()):
                raise DcbenchError(f"measure {measure.name!r} changed the network")
            answers.append(Answer(measure, scores, time.monotonic() - started))
        except Exception as error:  # whatever a measure may raise
            answers.append(Answer(measure, seconds=time.monotonic() - started, error=error))
            if is_out_of_memory(error):
                free_what_failed(error)
            network.load_state_dict(trained, strict=False)
        network.eval()
    return answers


def _same(one: Tensor, other: Tensor) -> bool:
    """Say whether two tensors are equal; those of a network that diverged are not a number in the same places."""
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _checked(measure: Measure, found: Mapping[str, float]) -> dict[str, float]:
    """Return scores as plain numbers, or raise a `DcbenchError` that names what is none."""
    scores = {str(name): float(value) for name, value in found.items()}
    wrong = [name for name, value in scores.items() if not math.isfinite(value)]
    if measure.main not in scores:
        wrong.insert(0, measure.main)
    if wrong:
        raise DcbenchError(
            f"measure {measure.name!r}: its score {wrong[0]!r} is {scores.get(wrong[0], 'missing')}"
        )
    return scores
