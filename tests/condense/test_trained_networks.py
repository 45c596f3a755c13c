"""Trained networks are made once, by whoever comes first, and what they took is charged to all who use them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_plugin
import torch
from helpers import make_task
from running import sets, wait_for
from tiny_plugin import Dropout, Linear

import dcbench
from dcbench.condense import trained_networks
from dcbench.condense.trained_networks import TrainedNetworks
from dcbench.core.loaded_dataset import load_dataset
from dcbench.core.spec import SOFT_LABELS
from dcbench.core.trained_network import NetworkRecipe
from dcbench.results import network_file
from dcbench.results.artefacts import Artefacts
from dcbench.results.store import RECORDS, read_records
from dcbench.run.executors.processes import Processes
from dcbench.utils.errors import NewerFormat

RECIPE = NetworkRecipe(epochs=2, lr=0.05, batch_size=16, snapshots=(0,), held_out=0.2)
train_from_recipe = trained_networks.train_from_recipe


@pytest.fixture
def made(monkeypatch):
    """The numbers of the networks that are trained."""
    numbers = []

    def noting(spec, *how):
        numbers.append(spec.number)
        return train_from_recipe(spec, *how)

    monkeypatch.setattr(trained_networks, "train_from_recipe", noting)
    return numbers


@pytest.fixture
def ask(tiny, tmp_path):
    """Ask for trained networks, as a method does."""

    def go(count=1, architecture=None, data=tiny, **changes):
        task = make_task(data, architecture or Linear(), folder=tmp_path / "r")
        return task.trained_networks(RECIPE.model_copy(update=changes), count)

    return go


def files(folder):
    """The networks of a results folder."""
    return {path.name: path.read_bytes() for path in (folder / "networks").glob("*.safetensors")}


def test_networks_are_trained_once_and_more_of_them_only_as_needed(ask, made):
    first, second = ask(2), ask(3)
    assert made == [0, 1, 2]
    assert [each.sha256 for each in first] == [each.sha256 for each in second[:2]]
    assert len({each.sha256 for each in second}) == 3
    assert [each.seconds for each in first] == [each.seconds for each in second[:2]]


def test_a_network_is_what_was_trained(ask, tiny):
    (network,) = ask(zca=True, epochs=30)
    module = network.network()
    assert not module.training
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in network.state().items())
    whitened = tiny.train_split(zca=True)
    right = module(whitened.normalised(slice(None))).argmax(1) == tiny.train.labels
    held_out = torch.zeros(len(right), dtype=torch.bool)
    held_out[network.held_out] = True
    assert network.accuracy == right[~held_out].double().mean().item() > 0.6
    assert network.held_out_accuracy[30] == right[held_out].double().mean().item()
    assert network.epochs == (0, 30)
    assert not torch.equal(network.state(0)["1.weight"], network.state(30)["1.weight"])
    with pytest.raises(ValueError, match=r"the states after epochs \(0, 30\) were kept, not that after 7"):
        network.state(7)


def test_all_that_a_network_depends_on_makes_another_file(ask, tiny, tmp_path, monkeypatch):
    ask(2)
    ask(lr=0.06)
    ask(seed=1)
    ask(architecture=Dropout())
    ask(data=replace(tiny, info=replace(tiny.info, sha256="2" * 64)))
    monkeypatch.setattr(trained_networks, "source_sha256", lambda cls: "3" * 64)
    ask()
    assert len(files(tmp_path / "r")) == 7


@pytest.mark.parametrize("suffix", [".safetensors", ".cost.json"])
def test_a_damaged_network_is_trained_again(ask, tmp_path, made, suffix, recwarn):
    (before,) = ask()
    intact = files(tmp_path / "r")
    (path,) = (tmp_path / "r" / "networks").glob(f"*{suffix}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (after,) = ask()
    assert made == [0, 0]
    assert files(tmp_path / "r") == intact
    assert after.sha256 == before.sha256
    if suffix == ".safetensors":
        (message,) = {str(warning.message) for warning in recwarn}
        assert str(path) in message
        assert message.endswith("The network is trained again.")
        assert len({(warning.filename, warning.lineno) for warning in recwarn}) == 1  # by default it is said once


def test_a_network_of_a_newer_dcbench_is_left_alone(ask, tmp_path, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(network_file, "FORMAT", "dcbench-network/2")
        ask()
    before = files(tmp_path / "r")
    with pytest.raises(NewerFormat, match="is of a newer dcbench"):
        ask()
    assert files(tmp_path / "r") == before


def test_how_far_the_training_is_is_told_for_all_that_are_missing(tiny, tmp_path):
    steps = []
    networks = TrainedNetworks(Artefacts(tmp_path), lambda *step: steps.append(step))
    networks(Linear(), RECIPE, 1, tiny.train)
    assert steps == [
        ("linear on tiny, 2 epochs", "1 network", done, total) for done, total in ((0, 0), (1, 2), (2, 2))
    ]
    steps.clear()
    networks(Linear(), RECIPE, 3, tiny.train)
    assert [step[1:] for step in steps] == [
        ("2 networks", done, total) for done, total in ((0, 0), (1, 4), (2, 4), (3, 4), (4, 4))
    ]
    steps.clear()
    networks(Linear(), RECIPE, 3, tiny.train)
    assert steps == []


# Several processes


def ask_there(root, log, hangs_at):
    """Ask for four networks in a process of its own; note which are trained, and when all are there."""
    torch.set_num_threads(1)

    def slowly(spec, *how):
        with open(log, "a") as file:
            file.write(f"{os.getpid()} {spec.number}\n")
        time.sleep(1000 if spec.number == hangs_at else 0.3)
        return train_from_recipe(spec, *how)

    trained_networks.train_from_recipe = slowly
    data = load_dataset(tiny_plugin.Tiny(), root)
    networks = TrainedNetworks(Artefacts(root / "r"), lambda *step: None)(Linear(), RECIPE, 4, data.train)
    (root / f"{os.getpid()}.found").write_text(" ".join(each.sha256 for each in networks))


@pytest.fixture
def processes(tmp_path):
    """Start processes that ask for the same networks."""
    context, started = multiprocessing.get_context("spawn"), []

    def go(hangs_at=None):
        process = context.Process(target=ask_there, args=(tmp_path, tmp_path / "log", hangs_at))
        process.start()
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.join()


def trained_there(folder):
    log = folder / "log"
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []


def test_processes_that_need_the_same_networks_make_each_once_and_share_the_work(processes, tmp_path, ask):
    both = [processes(), processes()]
    for process in both:
        process.join()
        assert process.exitcode == 0
    trained = trained_there(tmp_path)
    assert sorted(number for _, number in trained) == [0, 1, 2, 3]
    assert {pid for pid, _ in trained} <= {process.pid for process in both}
    expected = " ".join(each.sha256 for each in ask(4))
    assert [(tmp_path / f"{process.pid}.found").read_text() for process in both] == [expected] * 2
    assert not [*(tmp_path / "r" / ".locks").iterdir(), *(tmp_path / "r" / "checkpoints").glob("*")]


def test_a_process_that_dies_on_a_network_leaves_it_to_others(processes, tmp_path, ask):
    dies = processes(hangs_at=1)
    wait_for(lambda: (dies.pid, 1) in trained_there(tmp_path))
    waits = processes()
    wait_for(lambda: (waits.pid, 3) in trained_there(tmp_path))
    time.sleep(0.5)
    assert (waits.pid, 1) not in trained_there(tmp_path)
    os.kill(dies.pid, signal.SIGKILL)
    waits.join()
    assert waits.exitcode == 0
    assert trained_there(tmp_path) == [
        (dies.pid, 0),
        (dies.pid, 1),
        *((waits.pid, number) for number in (2, 3, 1)),
    ]
    assert Path(tmp_path / f"{waits.pid}.found").read_text() == " ".join(each.sha256 for each in ask(4))


# Runs


def test_what_networks_took_is_charged_to_all_who_use_them_and_not_to_their_own_work(run, tmp_path, monkeypatch):
    def slowly(*how):
        time.sleep(1)
        return train_from_recipe(*how)

    monkeypatch.setattr(trained_networks, "train_from_recipe", slowly)
    run(tmp_path / "r", methods=("taught", "random"), ipcs=(1, 2))
    records = read_records(tmp_path / "r" / RECORDS)
    taught = [record for record in records if record.method == "taught"]
    assert [record.ipc for record in taught] == [1, 2]
    seconds = taught[0].networks_seconds
    assert [record.networks_seconds for record in taught] == [seconds] * 2
    assert 2 < seconds < 60
    assert all(record.condense_seconds < 1 for record in taught)
    assert all(
        record.networks_seconds == 0
        for record in read_records(tmp_path / "r" / RECORDS)
        if record.method == "random"
    )


def test_a_set_with_all_that_it_brings_is_evaluated_recorded_and_read(run, tmp_path):
    run(tmp_path, methods=("taught",), evals=2)
    (path,) = (tmp_path / "sets").glob("*.safetensors")
    condensed = dcbench.load_set(path).set
    brings = {"lr": 0.02, "temperature": 4.0, "factor": 2}
    assert condensed.brings == brings
    for record in read_records(tmp_path / RECORDS):
        assert (record.brings, record.set_sha256, record.track) == (brings, condensed.sha256(), SOFT_LABELS)
        assert record.storage_bytes == 3 * (8 * 8 + 3) * 4


@pytest.mark.parametrize("architecture", ["linear", "dropout"])
def test_a_set_is_the_same_whether_its_networks_are_made_or_there(run, tmp_path, architecture):
    words = {"methods": ("taught",), "networks": (architecture,)}
    for folder in ("a", "b"):
        run(tmp_path / folder, **words)
    (first,), (again,) = (list((tmp_path / folder / "sets").glob("*.safetensors")) for folder in ("a", "b"))
    run(tmp_path / "b", **words, force=True)
    assert first.read_bytes() == again.read_bytes()
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_training_that_diverges_fails_its_cell_and_names_network_and_epoch(run, tmp_path):
    runner = run(tmp_path, methods=("taught", "random"), options={"taught.lr": "1e38"})
    (failure,) = runner.outcome.failures
    assert failure.error.startswith(
        "Diverged: network 0 of linear on tiny, trained for 2 epochs, batch 16, SGD 1e+38"
    )
    assert failure.error.endswith(
        ("the training loss is nan in epoch 1", "the network is not finite after epoch 1")
    )
    assert runner.outcome.evaluated == 1
    assert not list((tmp_path / "networks").glob("*"))


def test_no_networks_at_all_are_refused(run, tmp_path):
    runner = run(tmp_path, methods=("taught", "random"), options={"networks": "0"})
    (failure,) = runner.outcome.failures
    assert failure.error == "ValueError: there must be at least one network, not 0"
    assert runner.outcome.evaluated == 1


def test_several_processes_of_a_run_give_the_same_bytes(run, tmp_path):
    words = {"methods": ("taught",), "ipcs": (1, 2)}
    run(tmp_path / "a", **words)
    run(tmp_path / "b", **words, executor=Processes(2, 1))
    assert sets(tmp_path / "a") == sets(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
