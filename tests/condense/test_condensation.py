from __future__ import annotations

import pytest
import torch

from dcbench.condense.checkpoint import FileCheckpoint, checkpointing_every
from dcbench.core.loss_watch import Diverged, LossWatch
from dcbench.results.artefacts import Cost
from dcbench.utils.seeds import new_generator, seeded_globals


def test_a_checkpoint_brings_back_the_state_and_the_generator(tmp_path, monkeypatch):
    monkeypatch.setattr("dcbench.condense.checkpoint.CHECKPOINT_SECONDS", 0.0)
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
    monkeypatch.setattr("dcbench.condense.checkpoint.time.monotonic", lambda: clock[0])
    first = FileCheckpoint(tmp_path / "c", new_generator("test"))
    clock[0] = 140.0
    first.offer(lambda: {})
    clock[0] = 1000.0
    second = FileCheckpoint(tmp_path / "c", new_generator("test"))
    second.load()
    clock[0] = 1003.0
    assert second.cost().seconds == 43.0


def test_what_networks_took_before_an_interruption_is_kept_and_not_counted_twice(tmp_path):
    def gone_on(seconds):
        here = Cost(0.0, 0, networks_seconds=seconds)
        with checkpointing_every(0):
            checkpoint = FileCheckpoint(tmp_path / "c", new_generator("test"), here=lambda: here)
            checkpoint.load()
            checkpoint.offer(lambda: {})
        return checkpoint.cost().networks_seconds

    assert [gone_on(5.0), gone_on(5.0), gone_on(0.0)] == [5.0] * 3


def test_time_that_is_not_counted_is_not(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("dcbench.condense.checkpoint.time.monotonic", lambda: clock[0])
    checkpoint = FileCheckpoint(tmp_path / "c", new_generator("test"))
    clock[0] = 103.0
    with checkpoint.not_counted():
        clock[0] = 200.0
    clock[0] = 204.0
    assert checkpoint.cost().seconds == 7.0


def test_a_condensation_that_went_on_elsewhere_says_where_it_began(tmp_path, monkeypatch):
    monkeypatch.setattr("dcbench.condense.checkpoint.CHECKPOINT_SECONDS", 0.0)

    def gone_on(engine, device, peak):
        here = Cost(0.0, peak, engine, device=device)
        checkpoint = FileCheckpoint(tmp_path / "c", new_generator("test"), here=lambda: here)
        checkpoint.load()
        checkpoint.offer(lambda: {})
        cost = checkpoint.cost()
        return cost.engine, cost.device, cost.peak_memory_bytes

    assert gone_on("plain", "cpu", 100) == ("plain", "cpu", 100)
    assert gone_on("plain", "cpu", 300) == ("plain", "cpu", 300)
    assert gone_on("fast", "cuda", 200) == ("plain, then fast", "cpu, then cuda", 300)
    assert gone_on("fast", "cuda", 200) == ("plain, then fast", "cpu, then cuda", 300)


def test_a_checkpoint_is_written_every_half_minute_at_most(tmp_path, monkeypatch):
    clock, states = [0.0], []
    monkeypatch.setattr("dcbench.condense.checkpoint.time.monotonic", lambda: clock[0])
    checkpoint = FileCheckpoint(tmp_path / "c", new_generator("test"))
    for seconds in (0, 10, 29, 31, 40, 60, 62):
        clock[0] = float(seconds)
        checkpoint.offer(lambda seconds=seconds: states.append(seconds) or {})
    assert states == [31, 62]


def test_global_generators_go_on_where_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr("dcbench.condense.checkpoint.CHECKPOINT_SECONDS", 0.0)
    with seeded_globals(5, torch.device("cpu")):
        FileCheckpoint(tmp_path / "c", new_generator("test")).offer(lambda: {})
        expected = torch.rand(3)
    with seeded_globals(6, torch.device("cpu")):
        FileCheckpoint(tmp_path / "c", new_generator("test")).load()
        assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_of_other_code_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("dcbench.condense.checkpoint.CHECKPOINT_SECONDS", 0.0)
    old, new = (FileCheckpoint(tmp_path / "c", new_generator("test"), source) for source in ("old", "new"))
    old.offer(lambda: {"x": torch.ones(1)})
    with pytest.warns(
        UserWarning,
        match="c was saved by other code of the method or its network, and will be replaced: it is not",
    ):
        assert new.load() is None
    assert old.load() == {"x": 1}


def test_a_state_may_hold_views_of_one_tensor(tmp_path, monkeypatch):
    monkeypatch.setattr("dcbench.condense.checkpoint.CHECKPOINT_SECONDS", 0.0)
    images = torch.arange(6.0)
    checkpoint = FileCheckpoint(tmp_path / "c", new_generator("test"))
    checkpoint.offer(lambda: {"all": images, "some": images[2:]})
    assert checkpoint.load()["some"].tolist() == [2, 3, 4, 5]


def test_nothing_to_load_starts_afresh(tmp_path):
    assert FileCheckpoint(tmp_path / "c", new_generator("test")).load() is None


def saved(path):
    """Save a state, and return the bytes of its file."""
    with checkpointing_every(0):
        FileCheckpoint(path, new_generator("test"), "code").offer(lambda: {"x": torch.arange(3.0)})
    return path.read_bytes()


def test_a_damaged_checkpoint_is_never_used(tmp_path):
    path = tmp_path / "c.safetensors"
    data = saved(path)
    damaged = [
        data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in [*range(600), *range(600, len(data), 7)]
    ]
    damaged += [data[:length] for length in (0, 1, 8, 200, len(data) - 1)] + [data + b"0", b"not safetensors"]
    before = torch.get_rng_state()
    for case in damaged:
        path.write_bytes(case)
        generator = new_generator("other")
        state = generator.get_state()
        with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
            assert FileCheckpoint(path, generator, "code").load() is None
        assert torch.equal(generator.get_state(), state)
    assert torch.equal(torch.get_rng_state(), before)
    path.write_bytes(data)
    assert FileCheckpoint(path, new_generator("test"), "code").load()["x"].tolist() == [0, 1, 2]


def test_generators_are_left_alone_where_a_checkpoint_is_for_another_machine(tmp_path, monkeypatch):
    path, generator = tmp_path / "c", new_generator("other")
    monkeypatch.setattr(FileCheckpoint, "_generators", with_a_gpu(FileCheckpoint._generators))
    monkeypatch.setattr(torch.cuda, "set_rng_state", no_gpu)
    saved(path)
    before = generator.get_state()
    with pytest.warns(UserWarning, match="not for this machine"):
        assert FileCheckpoint(path, generator, "code").load() is None
    assert torch.equal(generator.get_state(), before)


def with_a_gpu(original):
    return lambda self: {**original(self), "cuda": torch.zeros(16, dtype=torch.uint8)}


def no_gpu(state):
    raise RuntimeError("Found no NVIDIA driver")


def test_the_user_chooses_how_often(tmp_path, monkeypatch):
    clock, states = [0.0], []
    monkeypatch.setattr("dcbench.condense.checkpoint.time.monotonic", lambda: clock[0])
    with checkpointing_every(5):
        checkpoint = FileCheckpoint(tmp_path / "c", new_generator("test"))
        for seconds in (4, 6, 10, 11, 12):
            clock[0] = float(seconds)
            checkpoint.offer(lambda seconds=seconds: states.append(seconds) or {})
    assert states == [6, 11]


def test_a_checkpoint_that_takes_long_is_followed_by_a_long_pause(tmp_path, monkeypatch):
    clock, states = [0.0], []

    def slow(seconds):
        states.append(seconds)
        clock[0] += 2.0
        return {}

    monkeypatch.setattr("dcbench.condense.checkpoint.time.monotonic", lambda: clock[0])
    with checkpointing_every(1):
        checkpoint = FileCheckpoint(tmp_path / "c", new_generator("test"))
        for seconds in (5, 10, 106, 108):
            clock[0] = float(seconds)
            checkpoint.offer(lambda seconds=seconds: slow(seconds))
    assert states == [5, 108]
    assert (checkpoint.written, checkpoint.writing_seconds) == (2, 4.0)


def test_checkpoints_before_an_interruption_count(tmp_path):
    path = tmp_path / "c"
    saved(path)
    second = FileCheckpoint(path, new_generator("test"), "code")
    second.load()
    assert second.written == 1


def test_a_state_that_is_not_finite_does_not_replace_a_good_one(tmp_path):
    path = tmp_path / "c"
    data = saved(path)
    with checkpointing_every(0):
        checkpoint = FileCheckpoint(path, new_generator("test"), "code")
        with pytest.raises(Diverged, match="'images' of the state is not finite"):
            checkpoint.offer(lambda: {"images": torch.tensor([0.0, torch.inf])})
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("losses", "problem"),
    [
        ([1.0, float("nan")], "the loss is nan in iteration 2"),
        ([float("inf")], "the loss is inf in iteration 1"),
        ([2.0, 1.9e6, 2.1e6], r"the loss is 2.1e\+06 in iteration 3, more than a million times the first \(2\)"),
        ([-2.0, -2.1e6], r"the loss is -2.1e\+06 in iteration 2"),
        ([0.0, 0.9e6, 1.1e6], r"the loss is 1.1e\+06 in iteration 3"),
    ],
)
@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_the_first_loss_out_of_bounds_is_named(losses, problem, kind):
    watch = LossWatch()
    for iteration, loss in enumerate(losses[:-1], start=1):
        watch.check(iteration, kind(loss))
    with pytest.raises(Diverged, match=problem) as raised:
        watch.check(len(losses), kind(losses[-1]))
    assert raised.value.iteration == len(losses)


def test_losses_on_a_gpu_are_looked_at_together_and_the_first_bad_one_is_named(monkeypatch):
    watch = LossWatch()
    for iteration in range(1, 6):  # as `check` does for tensors that are not on the CPU
        watch._pending.append((iteration, torch.tensor(float("nan") if iteration > 3 else 1.0)))
    with pytest.raises(Diverged, match="in iteration 4"):
        watch.settle()
    watch.settle()  # told once


def test_the_first_loss_is_kept_over_an_interruption(tmp_path):
    path, losses = tmp_path / "c", LossWatch()
    losses.check(1, 3.0)
    with checkpointing_every(0):
        FileCheckpoint(path, new_generator("test"), losses=losses).offer(lambda: {})
    later = LossWatch()
    FileCheckpoint(path, new_generator("test"), losses=later).load()
    assert (later.first, later.iteration) == (3.0, 1)
