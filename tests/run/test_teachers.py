"""Runs under a protocol with a teacher: it is made once, from the training split, and stands in every record."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from running import carry_out
from tiny_plugin import Linear

from dcbench.core.loss_watch import Diverged
from dcbench.engine.engine import Engine
from dcbench.evaluate.protocols import PROTOCOLS, get_protocol
from dcbench.results.network_file import load_network
from dcbench.results.records import Record
from dcbench.run import cell_runner
from dcbench.run.events import Step
from dcbench.run.executors.processes import Processes
from dcbench.run.executors.serial import Serial
from dcbench.run.session import describe_failures
from dcbench.utils.errors import DcbenchError

TOGETHER = Engine("fast", workers=2, micro_batch=32, side_by_side=True)


class OfTwo(Linear):
    """Networks of two classes, whatever the data set has."""

    name = "of_two"

    def build(self, info):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "kd", dataclasses.replace(PROTOCOLS["kd"], epochs=3))


@pytest.fixture
def kd(plugins):
    return get_protocol("kd:teacher=linear", plugins.make_architecture)


def networks(folder):
    return sorted((folder / "networks").glob("*.safetensors"))


def test_the_teacher_is_made_once_and_every_record_has_it(run, plugins, kd, tmp_path):
    runner = run(tmp_path / "r", protocol=kd, sets=2, evals=2, eval_networks=("linear", "second"))
    (path,) = networks(tmp_path / "r")
    stored, records = load_network(path), runner.store.records
    assert len(records) == 8
    assert {record.protocol for record in records} == {"kd:teacher=linear"}
    assert {record.track for record in records} == {"hard-label"}
    for record in records:
        assert record.teacher == {
            "network": "linear",
            "recipe": str(stored.spec.recipe),
            "sha256": stored.sha256,
            "held_out_accuracy": stored.held_out_accuracy[30],
            "bytes": 4 * (64 * 3 + 3),
        }
        assert record.teacher["recipe"] in record.recipe
        assert Record.from_json(record.to_json()) == record
        assert record.key == record.evaluation_spec().key()
    before = path.read_bytes()
    more = run(tmp_path / "r", protocol=kd, sets=3)
    assert more.outcome.evaluated == 1  # what was there is not done again
    assert path.read_bytes() == before


def test_it_is_trained_on_the_training_split_and_told(run, kd, tmp_path, monkeypatch, tiny):
    steps, trained_on = [], []
    ask = cell_runner.teacher_of

    def note(protocol, data, made):
        trained_on.append(data.train)
        return ask(protocol, data, made)

    class Noting(Serial):
        def run(self, scheduler):
            handle = scheduler.handle
            scheduler.handle = lambda event, slot=0: (steps.append(event), handle(event, slot))
            super().run(scheduler)

    monkeypatch.setattr(cell_runner, "teacher_of", note)
    run(tmp_path / "r", protocol=kd, executor=Noting())
    assert [torch.equal(each.images, tiny.train.images) for each in trained_on] == [True]
    told = [step for step in steps if isinstance(step, Step) and step.phase == "train"]
    assert [(step.done, step.total) for step in told[:31]] == [(0, 0), *((done, 30) for done in range(1, 31))]
    assert told[0].work == "linear on tiny, 30 epochs"


@pytest.mark.parametrize("how", ["side by side", "in processes"])
def test_the_accuracies_are_the_same_side_by_side_and_in_processes(run, kd, tmp_path, how):
    words = {"protocol": kd, "evals": 3, "eval_networks": ("linear",)}
    alone = run(tmp_path / "alone", engine=Engine("fast", micro_batch=32), **words)
    changes = {"engine": TOGETHER} if how == "side by side" else {"executor": Processes(2, 1)}
    other = run(tmp_path / "other", **words, **changes)
    assert [r.accuracy for r in other.store.records] == [r.accuracy for r in alone.store.records]
    assert [r.teacher for r in other.store.records] == [r.teacher for r in alone.store.records]


def test_another_teacher_is_another_protocol(run, plugins, kd, tmp_path):
    run(tmp_path / "r", protocol=kd)
    other = get_protocol("kd:teacher=second", plugins.make_architecture)
    runner = run(tmp_path / "r", protocol=other)
    assert {record.protocol for record in runner.store.records} == {"kd:teacher=linear", "kd:teacher=second@2"}
    assert len({record.key for record in runner.store.records}) == len(networks(tmp_path / "r")) == 2


def test_a_set_with_soft_labels_fails_alone(run, kd, tmp_path):
    runner = run(tmp_path / "r", protocol=kd, methods=("taught", "random"))  # taught does not say what it makes
    (failure,) = runner.outcome.failures
    assert failure.method == "taught"
    assert failure.error.startswith("DcbenchError: protocol kd:teacher=linear takes sets with hard labels")
    assert [record.method for record in runner.store.records if record.status == "ok"] == ["random"]


def test_a_teacher_that_cannot_be_trained_is_tried_once_and_fails_the_cells(run, kd, tmp_path, monkeypatch):
    tried = []

    def diverge(*_):
        tried.append(1)
        raise Diverged("the training loss of epoch 3 is not finite")

    monkeypatch.setattr("dcbench.condense.trained_networks.train_from_recipe", diverge)
    runner = run(tmp_path / "r", protocol=kd, ipcs=(1, 2), sets=2, evals=2, eval_networks=("linear", "second"))
    for failure in runner.outcome.failures:
        assert failure.error.startswith("Diverged: network 0 of linear on tiny")
        assert failure.error.endswith("the training loss of epoch 3 is not finite")
    assert len(tried) == 1
    assert len(runner.outcome.failures) == runner.outcome.condensed == 4
    (told,) = describe_failures(runner.outcome.failures)
    assert told.startswith("random on tiny, ipc 1; random on tiny, ipc 2: Diverged: network 0 of linear")
    assert run(tmp_path / "r", protocol=kd).outcome.failures  # another run tries again
    assert len(tried) == 2


def test_a_teacher_that_does_not_fit_the_data_is_refused_before_any_work(request_for, plugins, tmp_path):
    protocol = dataclasses.replace(PROTOCOLS["kd"], teacher=OfTwo())
    with pytest.raises(DcbenchError, match=re.escape("of shape (2, 2) on tiny, not (2, 3).")):
        carry_out(request_for(protocol=protocol), plugins, tmp_path / "r")
    assert not (tmp_path / "r" / "records.jsonl").exists()
