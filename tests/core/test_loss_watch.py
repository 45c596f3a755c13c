"""Losses that go wrong in a run: the cell stops, the failure is recorded, the others go on."""

from __future__ import annotations

import pytest
import torch
from helpers import make_info
from tiny_plugin import Linear, Wanders

from dcbench.condense.checkpoint import FileCheckpoint, checkpointing_every
from dcbench.core.architecture import new_network
from dcbench.core.loss_watch import PENDING, Diverged, LossWatch
from dcbench.engine.training import train_network
from dcbench.leaderboard.scores import rows
from dcbench.utils.seeds import new_generator

METHODS = ("wanders", "random")


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"nan_at": "4"}, "the loss is nan in iteration 4"), ({"huge_at": "5"}, "the loss is 1e+09 in iteration 5")],
)
def test_a_method_whose_loss_goes_wrong_is_a_recorded_failure(run, tmp_path, options, problem):
    with checkpointing_every(0):
        runner = run(tmp_path / "r", methods=METHODS, options=options)
    (failure,) = runner.outcome.failures
    assert failure.error.startswith(f"Diverged: {problem}")
    assert (failure.method, failure.status, runner.outcome.evaluated) == ("wanders", "failed", 1)


def test_the_last_good_checkpoint_of_what_diverged_is_kept(run, tmp_path):
    with checkpointing_every(0):
        runner = run(tmp_path / "r", methods=METHODS, options={"nan_at": "2"})
    (path,) = (tmp_path / "r" / "checkpoints").iterdir()
    origin = runner.plan.cells[0].source.origin
    state = FileCheckpoint(path, new_generator("test"), origin.code).load()
    assert int(state["done"]) == 1
    assert bool(state["images"].isfinite().all())


def test_gradient_matching_at_an_absurd_rate_diverges(run, tmp_path):
    runner = run(
        tmp_path / "r",
        methods=("gradmatch", "random"),
        networks=("mlp",),
        options={"lr_img": "1e30", "iterations": "5"},
    )
    (failure,) = runner.outcome.failures
    assert failure.method == "gradmatch"
    assert failure.error.startswith("Diverged: the loss is nan in iteration 2")
    assert runner.outcome.evaluated == 1


def train(images):
    network = new_network(Linear(), make_info(), seed=0)
    labels = torch.arange(3).repeat_interleave(len(images) // 3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    train_network(network, images, labels, optimizer, epochs=3, batch_size=6, generator=new_generator("shuffle"))


@pytest.mark.parametrize(("image", "epoch"), [(torch.nan, 1), (1e38, 2)])
def test_the_epoch_in_which_training_diverges_is_named(image, epoch):
    with pytest.raises(Diverged, match=f"the training loss is nan in epoch {epoch}$") as raised:
        train(torch.full((6, 1, 8, 8), image))
    assert raised.value.iteration is None  # of a method, which may train many networks


def test_a_network_that_diverges_in_evaluation_counts_as_chance(run, tmp_path):
    wanted = {"methods": ("means",), "options": {"scale": "1e30"}, "eval_networks": ("linear", "mlp")}
    runner = run(tmp_path / "r", **wanted)
    assert not runner.outcome.failures
    for record in runner.store.records:
        assert record.status == "ok"
        assert record.diverged.startswith("the training loss is nan in epoch")
        assert record.accuracy == pytest.approx(1 / 3)
    (row,) = rows(runner.store.records)
    assert row.diverged == "diverged: 1 of 1 on linear, 1 of 1 on mlp"
    assert run(tmp_path / "r", **wanted).outcome.evaluated == 0


def test_what_a_method_trains_diverges_after_an_iteration(run, tmp_path, monkeypatch):
    def condense(self, task):
        task.check_loss(7, 1.0)
        train(torch.full((6, 1, 8, 8), 1e38))

    monkeypatch.setattr(Wanders, "condense", condense)
    (failure,) = run(tmp_path / "r", methods=("wanders",)).outcome.failures
    assert failure.error.endswith("in epoch 2, after iteration 7")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_right_iteration_is_named_and_none_is_waited_for():
    watch, losses = LossWatch(), torch.ones(PENDING, device="cuda")
    losses[6:] = torch.nan
    torch.cuda.set_sync_debug_mode("error")
    try:
        for iteration in range(1, PENDING):
            watch.check(iteration, losses[iteration - 1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with pytest.raises(Diverged, match="iteration 7"):
        watch.check(PENDING, losses[PENDING - 1])
