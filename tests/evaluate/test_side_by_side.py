"""Networks side by side: the numbers of one thread, in order, told in the caller's thread."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace

import pytest
import tiny_plugin
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from torch import nn

from dcbench.cli import main
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.spec import QUICK, EvaluationSpec
from dcbench.engine.engine import Engine
from dcbench.engine.training import logits
from dcbench.evaluate import side_by_side
from dcbench.evaluate.dc import DC
from dcbench.evaluate.side_by_side import evaluate_all
from dcbench.results.store import read_records
from dcbench.run.executors.processes import Processes

ALONE = Engine("fast", workers=1, micro_batch=32)
TOGETHER = replace(ALONE, workers=2, side_by_side=True)
PROTOCOL = replace(DC, epochs=20)


def spec_of(architecture, seed):
    return EvaluationSpec(
        set_sha256="0",
        dataset="tiny",
        dataset_sha256="0",
        evaluation_network=str(architecture),
        protocol="dc",
        budget="quick",
        seed=seed,
    )


@pytest.fixture
def condensed(tiny):
    return CondensedSet.select(tiny.train, torch.tensor([0, 1, 20, 21, 40, 41]))


@pytest.fixture
def judge(tiny, condensed, monkeypatch):
    """Evaluate networks of some seeds; return the trials, the weights by first epoch's seed, and what was told."""

    def go(engine, architecture, seeds=(0, 1, 2), threads=2, report=None):
        weights, told = {}, []

        def spy(network, split):
            values = torch.cat([each.detach().flatten() for each in network.parameters()])
            weights[hash(values.numpy().tobytes())] = values
            return logits(network, split)

        def take(*moment):
            told.append((threading.current_thread(), *moment))
            if report is not None:
                report(*moment)

        monkeypatch.setattr("dcbench.evaluate.accuracy.logits", spy)
        specs = [spec_of(architecture, seed) for seed in seeds]
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            arguments = (condensed, tiny.test, architecture, PROTOCOL, QUICK, take)
            with engine.active(), closing(evaluate_all(specs, *arguments)) as trials:
                return list(trials), set(weights), told
        finally:
            torch.set_num_threads(before)

    return go


@pytest.mark.parametrize("architecture", [ConvNet(depth=2), ConvNet(depth=2, norm="batch"), tiny_plugin.Linear()])
def test_the_bytes_are_those_of_one_thread(judge, architecture):
    state = torch.get_rng_state()
    expected, weights, _ = judge(ALONE, architecture, threads=1)
    trials, others, _ = judge(TOGETHER, architecture)
    assert others == weights
    scores = [each.answers[0].scores for each in expected]
    assert [(each.answers[0].scores, each.threads) for each in trials] == [(each, 1) for each in scores]
    assert torch.equal(torch.get_rng_state(), state)


def test_each_starts_in_a_lane_and_all_is_told_in_the_callers_thread(judge, monkeypatch):
    monkeypatch.setattr(side_by_side, "TINY", 0)
    _, _, told = judge(TOGETHER, tiny_plugin.Linear())
    assert {thread for thread, *_ in told} == {threading.current_thread()}
    starts = [(number, slot) for _, number, slot, _, total in told if total == 0]
    assert starts[:2] == [(0, 0), (1, 1)]
    assert [number for number, _ in starts] == [0, 1, 2]
    for number in range(3):
        assert [done for _, other, _, done, total in told if other == number and total] == list(range(1, 21))


def test_tiny_networks_take_turns(judge):
    _, _, told = judge(TOGETHER, tiny_plugin.Linear())
    assert {slot for _, _, slot, _, _ in told} == {0}
    assert [number for _, number, *_ in told] == sorted(number for _, number, *_ in told)


@pytest.mark.parametrize("reason", ["draws", "large", "told not to", "one thread"])
def test_other_networks_have_all_threads(judge, monkeypatch, reason):
    architecture = tiny_plugin.Dropout() if reason == "draws" else tiny_plugin.Linear()
    monkeypatch.setattr(side_by_side, "SMALL", 0 if reason == "large" else side_by_side.SMALL)
    engine = {"told not to": replace(TOGETHER, side_by_side=False), "one thread": replace(TOGETHER, workers=1)}
    trials, weights, _ = judge(engine.get(reason, TOGETHER), architecture)
    assert [each.threads for each in trials] == [2, 2, 2]
    assert weights == judge(replace(TOGETHER, side_by_side=False), architecture)[1]


class Fragile(tiny_plugin.Linear):
    """Fails in training, each network of it but the first two, one of which is for looking."""

    name = "fragile"

    def build(self, info):
        Fragile.built.append(network := super().build(info))
        if len(Fragile.built) > 2:
            network.register_full_backward_hook(lambda *_: 1 / 0)
        return network


def test_what_fails_is_returned_in_its_place(judge):
    Fragile.built: list[nn.Module] = []
    trials, _, _ = judge(TOGETHER, Fragile())
    assert [type(each).__name__ for each in trials] == ["Trial", "ZeroDivisionError", "ZeroDivisionError"]


def test_who_is_interrupted_leaves_no_thread_at_work(judge, monkeypatch):
    monkeypatch.setattr(side_by_side, "TINY", 0)
    monkeypatch.setattr("test_side_by_side.PROTOCOL", replace(DC, epochs=100_000_000))
    monkeypatch.setattr("test_side_by_side.QUICK", replace(QUICK, max_steps=None))

    def interrupt(number, slot, done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(TOGETHER, tiny_plugin.Linear(), report=interrupt)
    assert TOGETHER.pool()._work_queue.empty()
    assert TOGETHER.pool().submit(lambda: "free").result(timeout=60) == "free"


@pytest.mark.parametrize("executor", [None, Processes(1, 2)])
def test_records_say_how_many_threads_computed(run, tmp_path, executor):
    run(tmp_path / "r", engine=TOGETHER, executor=executor, eval_networks=("linear", "dropout"), evals=2)
    threads = 2 if executor else torch.get_num_threads()
    own = f"{threads} thread{'s' * (threads > 1)}"
    for record in read_records(tmp_path / "r" / "records.jsonl"):
        expected = "1 thread" if record.evaluation_network == "linear" else own
        assert record.device.removesuffix(" to evaluate").endswith(expected)


@pytest.mark.parametrize(("words", "expected"), [((), "1 thread"), (("--threads", "2"), "2 threads")])
def test_a_run_does_so_unless_it_is_told_how_many_threads(tmp_path, words, expected):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    command = "run -d digits -m random --ipc 1 --budget quick --evals 1 --eval-network mlp"
    with pytest.raises(SystemExit):
        main([*command.split(), *words, "--results", str(tmp_path)], standalone_mode=False)
    torch.set_num_threads(before)
    (record,) = read_records(tmp_path / "records.jsonl")
    assert record.device.removesuffix(" to evaluate").endswith(f", {expected}")
