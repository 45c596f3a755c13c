from __future__ import annotations

import torch

from dcbench.condense import FileCheckpoint
from dcbench.seeds import new_generator, seeded_globals


def test_a_checkpoint_brings_back_the_state_and_the_generator(tmp_path, monkeypatch):
    monkeypatch.setattr("dcbench.condense.CHECKPOINT_SECONDS", 0.0)
    path, generator = tmp_path / "c.safetensors", new_generator("test")
    torch.rand(3, generator=generator)
    FileCheckpoint(path, generator).offer(lambda: {"images": torch.ones(2, 3), "done": torch.tensor(5)})
    expected = torch.rand(4, generator=generator)

    other = new_generator("other")
    state = FileCheckpoint(path, other).load()
    assert sorted(state) == ["done", "images"]
    assert int(state["done"]) == 5
    assert torch.equal(state["images"], torch.ones(2, 3))
    assert torch.equal(torch.rand(4, generator=other), expected)


def test_seconds_before_an_interruption_count(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("dcbench.condense.time.monotonic", lambda: clock[0])
    first = FileCheckpoint(tmp_path / "c", new_generator("test"))
    clock[0] = 140.0
    first.offer(lambda: {})
    clock[0] = 1000.0
    second = FileCheckpoint(tmp_path / "c", new_generator("test"))
    second.load()
    clock[0] = 1003.0
    assert second.seconds() == 43.0


def test_a_checkpoint_is_written_every_half_minute_at_most(tmp_path, monkeypatch):
    clock, states = [0.0], []
    monkeypatch.setattr("dcbench.condense.time.monotonic", lambda: clock[0])
    checkpoint = FileCheckpoint(tmp_path / "c", new_generator("test"))
    for seconds in (0, 10, 29, 31, 40, 60, 62):
        clock[0] = float(seconds)
        checkpoint.offer(lambda seconds=seconds: states.append(seconds) or {})
    assert states == [31, 62]


def test_global_generators_go_on_where_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr("dcbench.condense.CHECKPOINT_SECONDS", 0.0)
    with seeded_globals(5, torch.device("cpu")):
        FileCheckpoint(tmp_path / "c", new_generator("test")).offer(lambda: {})
        expected = torch.rand(3)
    with seeded_globals(6, torch.device("cpu")):
        FileCheckpoint(tmp_path / "c", new_generator("test")).load()
        assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_of_other_code_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("dcbench.condense.CHECKPOINT_SECONDS", 0.0)
    FileCheckpoint(tmp_path / "c", new_generator("test"), "old").offer(lambda: {"x": torch.ones(1)})
    assert FileCheckpoint(tmp_path / "c", new_generator("test"), "new").load() is None
    assert FileCheckpoint(tmp_path / "c", new_generator("test"), "old").load() is not None


def test_a_state_may_hold_views_of_one_tensor(tmp_path, monkeypatch):
    monkeypatch.setattr("dcbench.condense.CHECKPOINT_SECONDS", 0.0)
    images = torch.arange(6.0)
    checkpoint = FileCheckpoint(tmp_path / "c", new_generator("test"))
    checkpoint.offer(lambda: {"all": images, "some": images[2:]})
    assert checkpoint.load()["some"].tolist() == [2, 3, 4, 5]


def test_nothing_to_load_or_nothing_readable_starts_afresh(tmp_path):
    path = tmp_path / "c.safetensors"
    assert FileCheckpoint(path, new_generator("test")).load() is None
    path.write_bytes(b"not safetensors")
    assert FileCheckpoint(path, new_generator("test")).load() is None
