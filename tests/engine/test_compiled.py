"""Compiled networks compute what the networks do, and one compilation serves all networks of a structure."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
import threading
import weakref
from functools import partial

import pytest
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from helpers import make_info, make_train
from safetensors.torch import load_file
from torch import nn
from torch._dynamo.utils import counters

from dcbench.core.architecture import new_network
from dcbench.core.spec import FULL, QUICK
from dcbench.engine.compiled import can_compile, compile_network, compile_work, count_weight_flops
from dcbench.engine.engine import PLAIN, Engine, choose_engine, compiled
from dcbench.engine.matching import gradient_targets, matching_gradient, matching_gradient_to
from dcbench.engine.training import accuracy, train_network
from dcbench.results.store import RECORDS, read_records
from dcbench.utils.errors import DcbenchError
from dcbench.utils.seeds import new_generator

COMPILED = Engine("compiled", workers=2, micro_batch=8, compiles=True)
CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("error:.*cannot be compiled")
needs_compiler = pytest.mark.skipif(not can_compile(), reason="no C++ compiler")


@pytest.fixture(autouse=True)
def all_work_is_long(monkeypatch):
    monkeypatch.setattr("dcbench.engine.engine.COMPILE_FROM", 0.0)
    monkeypatch.setattr("dcbench.engine.engine.SHARE_FROM", 0.0)


def network_of(seed=0, dtype=torch.float64, width=4):
    return new_network(ConvNet(width=width, depth=2), make_info(), seed=seed).to(dtype)


def images_of(n, dtype=torch.float64):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(n)).to(dtype)


def gradient_of(network, forward, images):
    return torch.autograd.grad(forward(images).pow(2).sum(), tuple(network.parameters()))


@needs_compiler
def test_one_compilation_serves_every_network_of_a_structure_and_every_number_of_images():
    first = compile_network(network_of().train(), images_of(3), gradients=True)
    first(images_of(5))
    graphs = counters["stats"]["unique_graphs"]
    for seed, n in enumerate((2, 7, 31, 40, 1), start=1):
        network, images = network_of(seed).train(), images_of(n)
        forward = compile_network(network, images, gradients=True)
        found, expected = gradient_of(network, forward, images), gradient_of(network, network, images)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    assert counters["stats"]["unique_graphs"] == graphs > 0


@needs_compiler
def test_any_number_of_structures_is_compiled_and_serves_all_workers():
    more_than_torch_allows = range(2, 12)
    graphs = counters["stats"]["unique_graphs"]
    for classes in more_than_torch_allows:
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, classes)).double()
        forward = COMPILED.forward(network, images_of(2), passes=1)
        assert forward is not network
        both = threading.Barrier(2, timeout=60)

        def use(n, forward=forward, both=both):
            both.wait()
            return forward(images_of(n))

        for n, logits in zip((3, 5), COMPILED.map(use, (3, 5)), strict=True):
            torch.testing.assert_close(logits, network(images_of(n)))
    assert counters["stats"]["unique_graphs"] == graphs + len(more_than_torch_allows)


@needs_compiler
def test_networks_are_not_kept_alive():
    network = network_of(5).train()
    forward = compile_network(network, images_of(2), gradients=True)
    forward(images_of(3)).sum().backward()
    gone = weakref.ref(network)
    del network, forward
    gc.collect()
    assert gone() is None


def squares(real, synthetic):
    return torch.stack([(a - b).pow(2).sum() for a, b in zip(real, synthetic, strict=True)]).sum()


@needs_compiler
@pytest.mark.parametrize(
    ("ipcs", "distance", "works"),
    [
        ((6, 6, 5), squares, 1),
        ((6, 6, 6), lambda real, synthetic: squares(real, synthetic), 0),
        ((6, 6, 6), partial(squares), 0),
    ],
)
def test_matching_is_the_same(ipcs, distance, works, monkeypatch):
    monkeypatch.setattr(compiled, "_works", {})
    outcomes, synthetic = [], images_of(sum(ipcs)).split(ipcs)
    real = [images_of(n) for n in (30, 5, 17)]
    networks = [nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3)).double() for _ in range(2)]
    for engine in (PLAIN, COMPILED):
        for network in networks:
            with engine.active():
                outcomes += matching_gradient(network, real, synthetic, distance)
                outcomes += matching_gradient_to(network, gradient_targets(network, real), synthetic, distance)
    for plain, found in zip(outcomes[:8], outcomes[8:], strict=True):
        torch.testing.assert_close(found, plain, rtol=1e-9, atol=1e-12)
        assert plain.norm() > 0
    assert len(compiled._works) == works


@needs_compiler
@pytest.mark.parametrize("n", [3, 10, 50])
def test_training_is_the_same(n):
    outcomes = []
    for engine in (PLAIN, COMPILED, COMPILED):
        network = network_of()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        labels, generator = torch.arange(n) % 3, new_generator("shuffle")
        threads = torch.get_num_threads()
        with engine.active():
            train_network(network, images_of(n), labels, optimizer, epochs=3, batch_size=40, generator=generator)
        assert torch.get_num_threads() == threads
        outcomes.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    plain, found, again = outcomes
    torch.testing.assert_close(found, plain, rtol=1e-9, atol=1e-12)
    assert torch.equal(found, again)


@needs_compiler
def test_accuracy_is_the_same():
    train, network = make_train(counts=(20, 11, 9)), network_of(dtype=torch.float32).eval()
    images = train.normalised(slice(1))
    COMPILED.forward(network, images, passes=1, gradients=False)
    graphs = counters["stats"]["unique_graphs"]
    with dataclasses.replace(COMPILED, micro_batch=20).active():  # torch compiles anew for fewer than 16
        found = accuracy(network, train)
    assert found == accuracy(network, train)
    assert 0 < found < 1
    assert counters["stats"]["unique_graphs"] == graphs  # what was compiled is what was used


@needs_compiler
def test_a_network_that_cannot_be_compiled_is_used_as_it_is(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no space left on device\nand a long story")

    monkeypatch.setattr(compiled, "_known", {})
    monkeypatch.setattr(torch, "compile", lambda *_, **__: refuse)
    network = network_of()
    with COMPILED.active():
        with pytest.warns(UserWarning, match=r"Sequential cannot be compiled, so it takes longer: no space left"):
            assert compile_network(network, images_of(2), gradients=True) is network
        assert COMPILED.statement() == "compiled in part"
    with COMPILED.active():
        assert COMPILED.statement() == "compiled"  # whatever was done before
        assert compile_network(network, images_of(2), gradients=True) is network  # said once
        assert COMPILED.statement() == "compiled in part"
    assert (Engine("fast").statement(), PLAIN.statement()) == ("fast", "plain")


def squared_gradient(network, images):
    """Work with a second derivative: of the squared norm of a gradient, by images."""
    images = images.detach().requires_grad_()
    gradient = torch.autograd.grad(network(images).square().mean(), tuple(network.parameters()), create_graph=True)
    return torch.autograd.grad(sum(each.square().sum() for each in gradient), images)


def weighed(network, given):
    """What has to see tensors flat, as a distance has."""
    return (given.flatten(1) * given.flatten(1).cumsum(1)).sum(1), network(given).sum(1)


@needs_compiler
def test_compiled_work_takes_tensors_that_lie_otherwise_in_memory_than_those_it_was_compiled_for():
    network = nn.Sequential(nn.Flatten(), nn.Linear(108, 3)).double()
    images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    work = compile_work(weighed, network, (), (images,))
    otherwise = images.flip(0).contiguous(memory_format=torch.channels_last)
    assert otherwise.stride() != images.stride()
    for a, b in zip(work(otherwise), weighed(network, otherwise), strict=True):
        torch.testing.assert_close(a, b)


@needs_compiler
def test_one_compilation_of_work_serves_networks_of_a_structure(monkeypatch):
    monkeypatch.setattr(compiled, "_works", {})
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Tanh()).double() for _ in range(2)]
    works = [compile_work(squared_gradient, network, (), (images_of(4),)) for network in networks]
    assert len(compiled._works) == 1
    assert None not in compiled._works.values()
    for network, work in zip(networks, works, strict=True):
        for _ in range(2):
            for images in (images_of(4) + 1, images_of(5)):  # the latter as it is
                torch.testing.assert_close(work(images), squared_gradient(network, images), rtol=1e-9, atol=1e-12)
            with torch.no_grad():
                network[1].weight.mul_(2)  # the parameters are those of the call


@pytest.mark.parametrize(
    ("compiling", "reason"),
    [
        (lambda *_, **__: lambda *_: [][0], "list index out of range"),
        (lambda *_, **__: lambda *given: (given[-1] + 1,), "compiled, it gives other numbers"),
    ],
)
def test_work_that_cannot_be_compiled_is_done_as_it_is(compiling, reason, monkeypatch):
    monkeypatch.setattr(compiled, "_works", {})
    monkeypatch.setattr(torch, "compile", compiling)
    network, images = network_of(), images_of(2)
    with COMPILED.active():
        with pytest.warns(UserWarning, match=f"Sequential cannot be compiled, so it takes longer: {reason}"):
            work = COMPILED.compile_work(squared_gradient, network, tensors=(images,))
        assert COMPILED.statement() == "compiled in part"
        assert torch.equal(work(images)[0], squared_gradient(network, images)[0])


def test_a_network_that_cannot_be_pickled_is_not_compiled_at_every_call(monkeypatch):
    monkeypatch.setattr(compiled, "_try_work", lambda *_: pytest.fail("compiled"))
    network, images = network_of(), images_of(2)
    network.made_here = lambda: None
    with COMPILED.active():
        work = COMPILED.compile_work(squared_gradient, network, tensors=(images,))
        assert COMPILED.statement() == "compiled in part"
    assert torch.equal(work(images)[0], squared_gradient(network, images)[0])


def test_short_work_is_not_compiled(monkeypatch):
    monkeypatch.setattr("dcbench.engine.engine.compile_network", lambda *_: "compiled")
    network, images = network_of(), images_of(2)
    flops = count_weight_flops(network, images)
    # Padded by 3, the images are 12x12 and, pooled, 6x6, then 3x3; operations are counted singly.
    assert flops == 2 * (12 * 12 * 9 * 4 + 6 * 6 * 4 * 9 * 4 + 4 * 9 * 3)
    monkeypatch.setattr("dcbench.engine.engine.COMPILE_FROM", 10.0 * flops)
    assert COMPILED.forward(network, images, passes=9) is network
    assert COMPILED.forward(network, images, passes=10) == "compiled"
    monkeypatch.setattr("dcbench.engine.engine.SHARE_FROM", 3.0 * flops)
    assert COMPILED.forward(network, images, passes=10, passes_at_once=2) is network
    assert COMPILED.forward(network, images, passes=10, passes_at_once=3) == "compiled"
    assert Engine("fast", workers=2).forward(network, images, passes=10) is network


def test_choosing(monkeypatch):
    monkeypatch.setattr("dcbench.engine.engine._keep_freed_memory", lambda: None)
    monkeypatch.setattr("dcbench.engine.engine.can_compile", lambda: True)
    assert choose_engine("auto", CPU, FULL.long).name == "compiled"
    assert choose_engine("auto", CPU, QUICK.long).name == "fast"
    assert choose_engine("compiled", CPU, QUICK.long).compiles
    monkeypatch.setattr("dcbench.engine.engine.can_compile", lambda: False)
    assert choose_engine("auto", CPU, FULL.long).name == "fast"
    with pytest.raises(DcbenchError, match=r"needs a C\+\+ compiler"):
        choose_engine("compiled", CPU)


def test_a_machine_without_a_compiler(tmp_path):
    code = "from dcbench.engine.compiled import can_compile; print(can_compile())"
    changes = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | changes, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.slow
@needs_compiler
def test_fresh_processes_give_the_same_bytes(tmp_path, dcbench_command):
    found = []
    for name in ("once", "twice"):
        command = [*dcbench_command, "run", "-d", "digits", "-m", "gradmatch", "--ipc", "1", "-o", "iterations=1"]
        command += ["--budget", "quick", "--evals", "1", "--eval-network", "mlp", "--engine", "compiled"]
        subprocess.run([*command, "--results", tmp_path / name], check=True, capture_output=True)
        (path,) = (tmp_path / name / "sets").glob("*.safetensors")
        (record,) = read_records(tmp_path / name / RECORDS)
        assert record.engine == "compiled"
        found.append((path.read_bytes(), record.accuracy))
    assert found[0] == found[1]


@needs_compiler
def test_a_run_gives_the_same_bytes_twice_and_plain_results_up_to_rounding(tmp_path, run):
    words = {"methods": ("gradmatch",), "options": {"iterations": "2", "outer_loop": "2"}, "ipcs": (2,)}
    words |= {"networks": ("convnet:depth=2,width=4",), "eval_networks": ("convnet:depth=2,width=4",)}
    found = []
    for name, engine in (("plain", PLAIN), ("once", COMPILED), ("twice", COMPILED)):
        run(tmp_path / name, engine=engine, **words)
        (path,) = (tmp_path / name / "sets").glob("*.safetensors")
        found.append((path.read_bytes(), load_file(path)["images"]))
    assert found[1][0] == found[2][0]
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-3, atol=1e-3)
