"""Signals: the state of a step is kept, and what is said is what is there."""

from __future__ import annotations

import os
import signal
from typing import ClassVar

import pytest
import torch
from tiny_plugin import Means

from dcbench.api import CondensedSet
from dcbench.utils.interruption import stopped_by_signals


class Stepping(Means):
    """Five steps of noise; a signal comes in the middle of the third, the first time."""

    name = "stepping"
    depends_on = frozenset({"ipc", "seed"})
    begun: ClassVar[list[int]] = []
    signals: ClassVar = (signal.SIGTERM,)

    def condense(self, task):
        labels = task.synthetic_labels()
        state = task.checkpoint.load() or {"images": torch.zeros(len(labels), 1, 8, 8), "done": torch.tensor(0)}
        images = state["images"]
        for step in range(int(state["done"]), 5):
            self.begun.append(step)
            if self.begun == [0, 1, 2]:
                for number in self.signals:
                    os.kill(os.getpid(), number)
            images = images + torch.randn(images.shape, generator=task.generator)
            done = torch.tensor(step + 1)
            task.checkpoint.offer(lambda: {"images": images, "done": done})  # noqa: B023
        return CondensedSet(images, labels)


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    monkeypatch.setattr(Stepping, "begun", [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_the_state_of_the_step(run, tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(Stepping, "signals", (number,))
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():
        run(tmp_path / "r", methods=(Stepping(),))
    assert "end of this step" in capsys.readouterr().err
    assert signal.getsignal(number) == before
    assert Stepping.begun == [0, 1, 2]
    resumed = run(tmp_path / "r", methods=(Stepping(),)).store.records
    assert Stepping.begun == [0, 1, 2, 3, 4]
    whole = run(tmp_path / "other", methods=(Stepping(),)).store.records
    assert [record.set_sha256 for record in resumed] == [record.set_sha256 for record in whole]


def test_a_second_signal_does_not_wait(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Stepping, "signals", (signal.SIGTERM, signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():
        run(tmp_path / "r", methods=(Stepping(),))
    assert not [*(tmp_path / "r").glob("checkpoints/*")]
