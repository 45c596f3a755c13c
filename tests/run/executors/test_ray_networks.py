"""The actor that hands out trained networks: one worker after the other, whatever becomes of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tiny_plugin import Linear

from dcbench.condense import trained_networks
from dcbench.condense.trained_networks import TrainedNetworks
from dcbench.core.trained_network import NetworkRecipe
from dcbench.results.artefacts import Artefacts
from dcbench.utils.errors import StorageError

pytest.importorskip("ray", reason="Ray is not there for this Python or system")

from dcbench.run.executors import ray_networks
from dcbench.run.executors.ray_networks import NetworkKeeper, RayArtefacts

KEY, PATHS = "a" * 64, ["checkpoints/c", "networks/n"]


@pytest.fixture
def keeper(tmp_path):
    return NetworkKeeper(tmp_path)


def test_a_worker_gets_the_files_that_there_are_and_others_wait_until_it_gives_them_back(keeper, tmp_path):
    assert keeper.ask(1, KEY, PATHS) == {}
    assert keeper.ask(2, KEY, PATHS) is None
    assert Artefacts(tmp_path).try_lock(KEY) is None  # so do other runs on the folder
    assert keeper.ask(2, "b" * 64, PATHS) == {}
    keeper.give_back(1, KEY, {"networks/n": b"network"})
    assert keeper.ask(2, KEY, PATHS) == {"networks/n": b"network"}
    keeper.give_back(2, KEY, {"networks/n": None, "checkpoints/c": b"state"})
    assert keeper.ask(3, KEY, PATHS) == {"checkpoints/c": b"state"}


def test_a_network_whose_worker_has_failed_or_died_is_for_others_as_it_was(keeper):
    keeper.ask(1, KEY, PATHS)
    keeper.give_back(1, KEY, {"checkpoints/c": b"state"})
    for end in (lambda: keeper.give_up(2), lambda: keeper.give_back(2, KEY, None)):
        assert keeper.ask(2, KEY, PATHS) == {"checkpoints/c": b"state"}
        keeper.give_up(1)  # another cell
        assert keeper.ask(3, KEY, PATHS) is None
        end()
    assert keeper.ask(3, KEY, PATHS) == {"checkpoints/c": b"state"}
    keeper.give_back(2, KEY, {"networks/n": b"network"})  # of a worker that was taken for dead
    assert keeper.ask(3, KEY, PATHS) == {"checkpoints/c": b"state", "networks/n": b"network"}


@pytest.fixture
def ask_there(keeper, tiny, tmp_path, monkeypatch):
    """Ask for two networks on a node; return them and the numbers of those that were trained."""
    train_from_recipe = trained_networks.train_from_recipe
    methods = ((name, getattr(keeper, name)) for name in ("ask", "give_back"))
    handle = SimpleNamespace(**{name: SimpleNamespace(remote=method) for name, method in methods})
    monkeypatch.setattr(ray_networks.ray, "get", lambda result: result)

    def go(cell):
        made = []

        def noting(spec, *how):
            made.append(spec.number)
            return train_from_recipe(spec, *how)

        monkeypatch.setattr(trained_networks, "train_from_recipe", noting)
        artefacts = RayArtefacts(tmp_path / f"node {cell}", handle, cell)
        return TrainedNetworks(artefacts, lambda *step: None)(Linear(), RECIPE, 2, tiny.train), made

    return go


RECIPE = NetworkRecipe(epochs=1, batch_size=16)


def test_a_worker_trains_what_is_free_waits_for_the_rest_and_is_sent_what_is_there(
    ask_there, keeper, tmp_path, monkeypatch
):
    (first, second), made = ask_there(1)
    assert made == [0, 1]
    again, made = ask_there(2)
    assert made == []
    assert [each.sha256 for each in again] == [first.sha256, second.sha256]
    assert [each.seconds for each in again] == [first.seconds, second.seconds]
    assert {path.name for path in (tmp_path / "networks").iterdir()} == {
        path.name for path in (tmp_path / "node 1" / "networks").iterdir()
    }
    for path in (tmp_path / "networks").iterdir():
        path.unlink()
    keeper.ask(4, first.spec.key(), PATHS)
    monkeypatch.setattr(ray_networks.time, "sleep", lambda seconds: keeper.give_up(4))
    anew, made = ask_there(3)
    assert made == [1, 0]
    assert [each.sha256 for each in anew] == [first.sha256, second.sha256]
    assert not list((tmp_path / ".locks").iterdir())


def test_training_that_fails_there_changes_nothing_and_leaves_the_network_to_others(
    ask_there, keeper, tmp_path, monkeypatch
):
    monkeypatch.setattr(trained_networks, "save_network", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ask_there(1)
    assert not (tmp_path / "networks").exists()
    with pytest.raises(ZeroDivisionError):  # it got the right to try
        ask_there(2)


def test_no_lock_is_left_where_all_are_given_back(keeper, tmp_path):
    keeper.ask(1, KEY, PATHS)
    keeper.give_back(1, KEY, {})
    assert not list((tmp_path / ".locks").iterdir())


def test_a_network_that_cannot_be_written_is_released(keeper, tmp_path):
    (tmp_path / "networks").touch()
    keeper.ask(1, KEY, PATHS)
    with pytest.raises(StorageError, match="networks/n cannot be written"):
        keeper.give_back(1, KEY, {"networks/n": b"network"})
    assert keeper.ask(2, KEY, PATHS) == {}
