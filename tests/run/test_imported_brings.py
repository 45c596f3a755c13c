"""What a user says that a foreign set brings with it: a learned rate, a temperature, a factor."""

import pytest
import torch
from click.testing import CliRunner

import dcbench
from dcbench import DcbenchError
from dcbench.cli import main
from dcbench.results.store import Store

IMAGES = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(10)
HOW = {"dataset": "digits", "normalised": True, "networks": ["mlp"], "evals": 1, "budget": "quick"}


def test_the_rate_of_a_set_is_used_and_stands_in_its_row(tmp_path):
    pair, results = tmp_path / "pair.pt", tmp_path / "results"
    torch.save({"images": IMAGES, "labels": LABELS}, pair)
    words = ["evaluate", str(pair), "-d", "digits", "--normalised", "--eval-network", "mlp", "--evals", "1"]
    words += ["--budget", "quick", "--method", "theirs", "--results", str(results)]
    for more in ([], ["--lr", "0.5"], ["--lr", "0.01"]):
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 0, done.output
    records = Store(results).records
    assert [record.brings for record in records] == [{}, {"lr": 0.5}, {"lr": 0.01}]
    assert len({record.set_sha256 for record in records}) == 3
    assert records[0].accuracy != records[1].accuracy
    assert "learned lr" in done.output  # the rates of sets differ, so no number stands there


def test_logits_are_trained_on_at_their_temperature(tmp_path):
    logits = torch.randn(10, 10, generator=torch.Generator().manual_seed(1))
    hot, cold = (
        dcbench.evaluate(
            IMAGES, logits, temperature=each, results=tmp_path, progress=False, method="theirs", **HOW
        )
        for each in (100.0, 1.0)
    )
    probabilities = dcbench.evaluate(
        IMAGES, logits.softmax(1), results=tmp_path, progress=False, method="theirs", **HOW
    )
    assert hot.trials().accuracy[0] != cold.trials().accuracy[0]
    assert set(probabilities.trials().track) == set(cold.trials().track) == {"soft-label"}


def test_a_factor_multiplies_the_images(tmp_path):
    condensed = dcbench.evaluate(IMAGES, LABELS, factor=2, results=tmp_path, progress=False, **HOW)
    assert condensed.trials().brings[0] == {"factor": 2}
    assert condensed.trials().storage_bytes[0] == IMAGES.nbytes + LABELS.nbytes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": 0.0}, "lr must be a number above 0"),
        ({"lr": float("nan")}, "lr must be a number above 0"),
        ({"temperature": 0.0}, "temperature must be a number above 0"),
        ({"temperature": 2.0}, "a temperature is for labels that are logits"),
        ({"factor": 1.5}, "factor must be a whole number above 0"),
        ({"factor": 3}, "factor must be a whole number that divides 8 and 8"),
        ({"labels": torch.randn(10, 10)}, "--labels-are logits trains on their softmax"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, given, message):
    words = {"labels": LABELS, **given}
    with pytest.raises(DcbenchError, match=message):
        dcbench.evaluate(IMAGES, results=tmp_path, progress=False, **HOW, **words)
    assert not (tmp_path / "records.jsonl").exists()
