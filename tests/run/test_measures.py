"""Several measures of one run: one training for all, a record each, and tables of their own."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
import torch

import dcbench
from dcbench.core.measure import Measure
from dcbench.evaluate import side_by_side
from dcbench.evaluate.accuracy import ACCURACY
from dcbench.leaderboard.rules import Rules
from dcbench.leaderboard.scores import rows
from dcbench.leaderboard.standings import standings
from dcbench.results.provenance import source_sha256
from dcbench.results.store import RECORDS, read_records
from dcbench.utils.errors import DcbenchError


class Confidence(Measure):
    """Mean confidence, and its excess over one half in bits, of which less is better."""

    name = "confidence"
    main = "excess"
    unit = "bits"
    lower_is_better = True
    above: float = 0.5

    def unsuited(self, info):
        return "needs three classes" if info.num_classes != 3 else ""

    def scores(self, network, test, generator):
        with torch.inference_mode():
            sure = float(network(test.normalised(slice(None))).softmax(1).max(1).values.mean())
        return {"confidence": sure, "excess": 8 * (sure - self.above)}


class Fails(Confidence):
    """Raises."""

    name = "fails"

    def scores(self, network, test, generator):
        raise ValueError("no reason")


@pytest.fixture
def trained(monkeypatch):
    """Count the networks that are trained."""
    seen, original = [], side_by_side.evaluate

    def evaluate(spec, *rest):
        seen.append(spec)
        return original(spec, *rest)

    monkeypatch.setattr("dcbench.evaluate.side_by_side.evaluate", evaluate)
    return seen


def test_a_network_is_trained_once_for_all_measures_and_again_for_one_that_is_added(run, tmp_path, trained):
    run(tmp_path / "r", evals=2, measures=(ACCURACY, Confidence()))
    assert len(trained) == 2
    records = read_records(tmp_path / "r" / RECORDS)
    assert Counter(record.measure for record in records) == {"accuracy": 2, "confidence": 2}
    assert len({record.key for record in records}) == 4
    first = next(record for record in records if record.measure == "confidence")
    assert (first.main, first.unit, first.lower_is_better, first.accuracy) == ("excess", "bits", True, None)
    assert first.value == pytest.approx(8 * (first.scores["confidence"] - 0.5))
    run(tmp_path / "r", evals=2, measures=(Confidence(),))
    assert len(trained) == 2
    run(tmp_path / "r", evals=2, measures=(ACCURACY, Confidence(), Confidence(above=0.25)))
    assert len(trained) == 4
    again = [record for record in read_records(tmp_path / "r" / RECORDS) if record.measure.endswith("above=0.25")]
    assert [record.value for record in again] == pytest.approx(
        [record.value + 2 for record in records if record.measure == "confidence"]
    )


def test_accuracy_is_the_same_whatever_else_is_asked(run, tmp_path):
    for folder, measures in (("a", (ACCURACY,)), ("b", (Confidence(), ACCURACY))):
        run(tmp_path / folder, measures=measures)
    (alone,) = read_records(tmp_path / "a" / RECORDS)
    _, beside = read_records(tmp_path / "b" / RECORDS)
    assert (alone.key, alone.accuracy, alone.scores) == (beside.key, beside.accuracy, beside.scores)


def test_a_measure_that_fails_is_a_failed_record_of_its_own_and_is_asked_again(run, tmp_path, trained):
    outcome = run(tmp_path / "r", measures=(ACCURACY, Fails())).outcome
    ok, failed = read_records(tmp_path / "r" / RECORDS)
    assert (ok.status, ok.measure, failed.status, failed.measure) == ("ok", "accuracy", "failed", "fails")
    assert failed.error == "ValueError: no reason"
    assert (outcome.evaluated, outcome.failures) == (1, [failed])
    run(tmp_path / "r", measures=(ACCURACY, Fails()))
    assert len(trained) == 2


def test_a_measure_that_cannot_be_asked_is_refused_before_any_work(run, tmp_path):
    with pytest.raises(DcbenchError, match="measure confidence cannot be asked on digits: it needs three classes"):
        run(tmp_path / "r", datasets=("digits",), measures=(Confidence(),))
    assert not (tmp_path / "r" / RECORDS).exists()


def test_rows_of_a_measure_stand_in_a_table_of_their_own_the_lowest_first(run, tmp_path):
    run(tmp_path / "r", methods=("random", "means"), sets=2, evals=2, measures=(ACCURACY, Confidence()))
    records = read_records(tmp_path / "r" / RECORDS)
    accuracy, confidence = standings(rows(records), Rules(floor="random"))
    assert (accuracy.measure, confidence.measure) == ("accuracy", "confidence")
    means = [entry.mean for entry in confidence.entries]
    assert means == sorted(means)
    assert all(
        entry.interval[0] < entry.mean < entry.interval[1] for entry in confidence.entries if entry.interval
    )
    means = [entry.mean for entry in accuracy.entries]
    assert means == sorted(means, reverse=True)


def test_python_takes_measures_and_tables_are_of_accuracy_unless_told(tmp_path, monkeypatch, plugins):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dcbench.plugins.Plugins.load", lambda **_: plugins)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = dcbench.run(
            "random",
            "tiny",
            networks="linear",
            measures=["accuracy", Confidence()],
            budget="quick",
            progress=False,
        )
    assert results.table()["mean"].item() <= 1
    table = results.table(measure="confidence")
    values = results.trials().query("measure == 'confidence'").scores.map(lambda scores: scores["excess"])
    assert table["mean"].item() == pytest.approx(values.mean())


def test_a_record_knows_the_code_of_its_measure_and_a_run_says_when_it_has_changed(run, tmp_path, monkeypatch):
    run(tmp_path / "r", measures=(ACCURACY, Confidence()))
    accuracy, confidence = read_records(tmp_path / "r" / RECORDS)
    assert "measure" not in accuracy.sources
    assert confidence.sources["measure"] == source_sha256(Confidence)
    monkeypatch.setattr(
        "dcbench.results.provenance.source_sha256",
        lambda cls: "another" if cls is Confidence else source_sha256(cls),
    )
    with pytest.warns(UserWarning, match="the code of confidence has changed"):
        run(tmp_path / "r", measures=(ACCURACY, Confidence()))
