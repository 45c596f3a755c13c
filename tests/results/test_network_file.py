"""The file of a trained network: what is saved is loaded, and nothing damaged is taken for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from helpers import NoCheckpoint, make_train
from safetensors.torch import save_file

from dcbench.core.trained_network import NetworkRecipe, NetworkSpec
from dcbench.engine.trained_networks import generator_of, train_from_recipe
from dcbench.results import network_file
from dcbench.results.network_file import load_network, save_network
from dcbench.utils.errors import DcbenchError, NewerFormat

ARCHITECTURE = ConvNet(width=2, depth=1, norm="batch")  # whose state has a tensor of no dimensions
SPEC = NetworkSpec(
    dataset="made_up",
    dataset_sha256="0" * 64,
    network=str(ARCHITECTURE),
    source_sha256="1" * 64,
    recipe=NetworkRecipe(epochs=2, batch_size=8, snapshots=(0,), held_out=0.2),
    number=3,
)


@pytest.fixture(scope="module")
def training():
    return train_from_recipe(
        SPEC, ARCHITECTURE, make_train((9, 8, 7)), generator_of(SPEC), NoCheckpoint(), lambda done, total: None
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "networks" / "a network.safetensors"


def test_what_is_saved_is_loaded(training, path):
    save_network(path, SPEC, training)
    stored = load_network(path)
    assert (stored.spec, stored.path) == (SPEC, path)
    assert (stored.accuracy, stored.held_out_accuracy) == (training.accuracy, training.held_out_accuracy)
    assert torch.equal(stored.held_out, training.held_out)
    for epoch in (0, 2):
        state, expected = stored.read(epoch), training.states[epoch]
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
        assert all(state[name].dtype == tensor.dtype for name, tensor in expected.items())
        ARCHITECTURE.build(make_train().info).load_state_dict(state)


def test_saving_gives_the_same_bytes_every_time_and_leaves_nothing_else(training, path):
    versions = set()
    for _ in range(8):
        save_network(path, SPEC, training)
        versions.add(path.read_bytes())
    assert len(versions) == 1
    assert list(path.parent.iterdir()) == [path]


def test_its_hash_is_that_of_all_that_is_kept(training, path):
    save_network(path, SPEC, training)
    expected = load_network(path).sha256
    changed = {epoch: dict(state) for epoch, state in training.states.items()}
    name = next(iter(changed[0]))
    changed[0][name] = changed[0][name] + 1
    for other in (
        training,
        replace(training, accuracy=0.0),
        replace(training, states=changed),
        replace(training, held_out=training.held_out + 1),
        replace(training, held_out_accuracy={}),
    ):
        save_network(path, SPEC, other)
        assert (load_network(path).sha256 == expected) == (other is training)


def everything(path):
    """All that is read of a file, in a form that can be compared."""
    stored = load_network(path)
    states = [[(name, tensor.tolist()) for name, tensor in stored.read(epoch).items()] for epoch in (0, 2)]
    return repr((replace(stored, held_out=stored.held_out.tolist()), states))


def test_a_flip_of_any_byte_is_noticed_or_changes_nothing_that_is_read(training, path):
    save_network(path, SPEC, training)
    data, read, noticed = path.read_bytes(), everything(path), 0
    positions = range(0, len(data), 11)
    for at in positions:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            assert everything(path) == read
        except DcbenchError as error:
            assert str(path) in str(error)  # noqa: PT017
            noticed += 1
    assert noticed > 0.95 * len(positions)  # unnoticed are spaces in place of spaces, and the like


@pytest.mark.parametrize("length", [0, 4, 100, -100, -1])
def test_a_file_that_is_cut_off_is_refused_by_name(training, path, length):
    save_network(path, SPEC, training)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DcbenchError, match=r"a network\.safetensors cannot be read as a trained network"):
        load_network(path)


def test_a_network_of_a_newer_dcbench_is_no_damage(training, path, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(network_file, "FORMAT", "dcbench-network/2")
        save_network(path, SPEC, training)
    with pytest.raises(NewerFormat, match=r"a network\.safetensors, a dcbench-network/2, is of a newer dcbench"):
        load_network(path)


def test_what_is_no_network_is_refused_by_name(path):
    with pytest.raises(
        DcbenchError, match=r"network\.safetensors cannot be read as a trained network: No such file"
    ):
        load_network(path)
    path.parent.mkdir()
    for metadata in (None, {}, {"dcbench": "{}"}, {"dcbench": "[]"}, {"dcbench": "no JSON"}):
        save_file({"x": torch.ones(1)}, path, metadata)
        with pytest.raises(
            DcbenchError, match=r"network\.safetensors (is not|cannot be read as) a trained network"
        ):
            load_network(path)
