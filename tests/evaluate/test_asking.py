from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dcbench.core.measure import Measure
from dcbench.evaluate.accuracy import ACCURACY, Accuracy, calibration_error
from dcbench.evaluate.asking import ask


class Drawn(Measure):
    """Draws a number."""

    name = "drawn"
    main = "number"

    def scores(self, network, test, generator):
        return {"number": float(torch.rand((), generator=generator))}


class Bad(Drawn):
    """Does what a measure must not."""

    name = "bad"
    how: str = ""

    def scores(self, network, test, generator):
        if self.how == "raises":
            raise ValueError("no reason")
        if self.how == "trains":
            loss = F.cross_entropy(network(test.normalised(slice(4))), test.labels[:4])
            loss.backward()
            torch.optim.SGD(network.parameters(), 1.0).step()
        if self.how == "leaves it in training mode":
            network.train()
        if self.how == "changes a buffer":
            network[1].running_mean += 1
        return (
            {"another": 1.0}
            if self.how == "forgets"
            else {"number": float(self.how or "nan")}
            if self.how in ("", "inf")
            else {"number": 1.0}
        )


@pytest.fixture
def network(tiny):
    torch.manual_seed(0)
    size = tiny.test.images[0].numel()
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(size), nn.Linear(size, 3)).eval()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "no reason"),
        ("trains", "changed the network"),
        ("leaves it in training mode", "changed the network"),
        ("changes a buffer", "changed the network"),
        ("forgets", "its score 'number' is missing"),
        ("", "its score 'number' is nan"),
        ("inf", "its score 'number' is inf"),
    ],
)
def test_a_measure_that_fails_is_named_and_takes_nothing_from_the_others(tiny, network, how, message):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first, bad, last = ask([ACCURACY, Bad(how=how), ACCURACY], network, tiny.test, seed=0)
    assert message in str(bad.error)
    assert bad.scores == {}
    assert first.scores == last.scores
    assert not network.training
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())


def test_every_measure_draws_from_a_generator_of_its_own(tiny, network):
    def drawn(measures, seed):
        return [each.scores.get("number") for each in ask(measures, network, tiny.test, seed)]

    (alone,) = drawn([Drawn()], 0)
    assert drawn([Accuracy(), Drawn()], 0)[1] == alone
    assert drawn([Drawn()], 1) != [alone]


def test_likelihood_and_calibration_are_those_of_their_formulae(tiny, network):
    (answer,) = ask([ACCURACY], network, tiny.test, 0)
    with torch.inference_mode():
        outputs = network(tiny.test.normalised(slice(None))).double()
    chances = outputs.softmax(1)
    likelihood = -chances[torch.arange(len(outputs)), tiny.test.labels].log().mean()
    assert answer.scores["negative_log_likelihood"] == pytest.approx(float(likelihood))
    confidence, predicted = chances.max(1)
    right = predicted == tiny.test.labels
    error = 0.0
    for low in torch.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            error += abs(float(right[inside].double().mean() - confidence[inside].mean())) * int(inside.sum())
    assert answer.scores["calibration_error"] == pytest.approx(error / len(outputs))
    assert answer.scores["accuracy"] == pytest.approx(float(right.double().mean()))


def test_a_network_that_is_right_as_often_as_it_says_is_calibrated():
    outputs = torch.tensor([0.75, 0.25]).log().expand(4, 2)
    assert calibration_error(outputs, torch.tensor([0, 0, 0, 1])) == pytest.approx(0, abs=1e-7)
    assert calibration_error(outputs, torch.tensor([1, 1, 1, 1])) == pytest.approx(0.75)
