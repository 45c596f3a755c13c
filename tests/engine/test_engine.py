"""The fast engine computes what the plain one does, up to rounding, and the same bytes every time."""

from __future__ import annotations

import threading

import pytest
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from helpers import make_info, make_train
from safetensors.torch import load_file
from torch import nn

from dcbench.core.architecture import new_network
from dcbench.engine.engine import PLAIN, Engine, active_engine, choose_engine, engine_for
from dcbench.engine.matching import matching_gradient
from dcbench.engine.training import accuracy
from dcbench.results.store import RECORDS, read_records
from dcbench.utils.errors import DcbenchError

FAST = Engine("fast", workers=2, micro_batch=8)
ENGINES = [Engine("fast", workers=1, micro_batch=8), FAST, Engine("fast", workers=3, micro_batch=7)]


def network_of(norm="instance", dtype=torch.float32, **options):
    return new_network(ConvNet(width=8, depth=2, norm=norm, **options), make_info(), seed=0).to(dtype)


def images_of(n, dtype=torch.float32):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(n)).to(dtype)


def squares(real, synthetic):
    return torch.stack([(a - b).pow(2).sum() for a, b in zip(real, synthetic, strict=True)]).sum()


def match(engine, dtype=torch.float64, sizes=(30, 5, 17)):
    with engine.active():
        real = (images_of(n, dtype) for n in sizes)
        return matching_gradient(network_of(dtype=dtype), real, images_of(6, dtype).split(2), squares)


@pytest.mark.parametrize("engine", ENGINES)
def test_matching_is_the_same(engine):
    expected, found = match(PLAIN), match(engine)
    assert torch.allclose(found[0], expected[0], rtol=1e-10, atol=1e-14)
    assert torch.allclose(found[1], expected[1], rtol=1e-12)
    assert expected[0].norm() > 0


def test_threads_are_left_to_the_workers_for_a_while():
    given = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with FAST.sharing():
            assert torch.get_num_threads() == 1
            assert set(FAST.map(lambda _: torch.get_num_threads(), range(8))) == {1}
        assert torch.get_num_threads() == 2
        with PLAIN.sharing():
            assert torch.get_num_threads() == 2
        assert set(FAST.map(lambda _: torch.get_num_threads(), range(8))) == {1}
    finally:
        torch.set_num_threads(given)


@pytest.mark.parametrize("engine", ENGINES)
def test_accuracy_is_the_same(engine):
    train = make_train(counts=(20, 11, 9))
    network = network_of()
    with engine.active():
        found = accuracy(network, train)
    expected = (network(train.normalised(slice(None))).argmax(1) == train.labels).float().mean()
    assert found == pytest.approx(float(expected))
    assert 0 < found < 1
    assert not network.training


def test_networks_that_look_at_a_whole_batch_are_tested_on_whole_ones():
    train = make_train(counts=(20, 11, 9))
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, track_running_stats=False), nn.Linear(64, 3))
    plain = accuracy(network, train)
    with Engine("fast", workers=2, micro_batch=4).active():
        assert accuracy(network, train) == plain


def test_fast_gives_the_same_bytes_every_time():
    first = match(FAST, torch.float32)
    for _ in range(5):
        again = match(FAST, torch.float32)
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])


@pytest.mark.parametrize(
    ("module", "plainly"),
    [
        (nn.Identity(), False),
        (nn.GroupNorm(1, 1), False),
        (nn.InstanceNorm2d(1), False),
        (nn.InstanceNorm2d(1, track_running_stats=True), True),
        (nn.BatchNorm2d(1), True),
        (nn.BatchNorm2d(1).eval(), False),
        (nn.BatchNorm2d(1, track_running_stats=False).eval(), True),
        (nn.InstanceNorm2d(1, track_running_stats=True).eval(), False),
        (nn.utils.spectral_norm(nn.Conv2d(1, 1, 1)), True),
        (nn.Dropout(0.5), True),
        (nn.Dropout(0.5).eval(), False),
    ],
)
def test_networks_whose_batches_cannot_be_split_are_computed_plainly(module, plainly):
    network = nn.Sequential(module, nn.Flatten(), nn.Linear(64, 3))
    before = torch.get_rng_state(), {name: each.clone() for name, each in network.state_dict().items()}
    with FAST.active():
        assert (engine_for(network, images_of(2)) is PLAIN) == plainly
    assert torch.equal(torch.get_rng_state(), before[0])
    for name, each in network.state_dict().items():
        assert torch.equal(each, before[1][name])


def test_items_are_drawn_in_order_by_the_caller_and_not_far_ahead():
    drawn, thread = [], threading.get_ident()

    def items():
        for number in range(20):
            assert threading.get_ident() == thread
            drawn.append(number)
            yield number

    found = FAST.map(lambda number: (number, threading.get_ident(), torch.get_num_threads()), items())
    first = next(found)
    assert len(drawn) <= FAST.workers + 1
    everything = [first, *found]
    assert [number for number, _, _ in everything] == list(range(20))
    assert thread not in {worker for _, worker, _ in everything}
    assert {threads for _, _, threads in everything} == {1}


def test_an_error_of_a_worker_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(FAST.map(lambda number: 1 / number, [1, 0, 2]))


def test_engines_are_active_within_their_block_alone():
    assert active_engine() is PLAIN
    with FAST.active():
        assert active_engine() is FAST
        with PLAIN.active():
            assert active_engine() is PLAIN
    assert active_engine() is PLAIN


def test_choosing(monkeypatch):
    kept = []
    monkeypatch.setattr("dcbench.engine.engine._keep_freed_memory", lambda: kept.append(True))
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_engine("plain", cpu) is PLAIN
    assert choose_engine("auto", cuda) is PLAIN
    assert not kept
    assert choose_engine("auto", cpu) == choose_engine("fast", cpu)
    assert not choose_engine("fast", cpu, long=True).compiles
    assert choose_engine("fast", cpu).workers == torch.get_num_threads()
    assert kept
    with pytest.raises(DcbenchError, match=r"unknown engine 'fats'\. Did you mean 'fast'"):
        choose_engine("fats", cpu)
    with pytest.raises(DcbenchError, match=r"engine 'compiled' is for the CPU; on cuda there is 'fast'"):
        choose_engine("compiled", cuda)


def test_records_say_the_engine(tmp_path, run):
    run(tmp_path / "r", methods=("means",))
    run(tmp_path / "r", methods=("means",), engine=FAST, eval_networks=("linear", "mlp"))
    run(tmp_path / "r", methods=("means",), engine=FAST, ipcs=(2,))
    engines = [record.engine for record in read_records(tmp_path / "r" / RECORDS)]
    assert engines == ["plain", "plain to condense, fast to evaluate", "fast"]


def test_engines_agree_in_a_run(tmp_path, run):
    words = {"methods": ("gradmatch",), "options": {"iterations": "2", "outer_loop": "2"}, "ipcs": (2,)}
    words |= {"networks": ("convnet:depth=2,width=8",), "eval_networks": ("mlp",)}
    images = {}
    for name, engine in (("plain", PLAIN), ("fast", FAST), ("again", FAST)):
        run(tmp_path / name, engine=engine, **words)
        (path,) = (tmp_path / name / "sets").glob("*.safetensors")
        images[name] = load_file(path)["images"]
    assert torch.equal(images["fast"], images["again"])
    assert not torch.equal(images["fast"], images["plain"])
    assert (images["fast"] - images["plain"]).norm() < 1e-4 * images["plain"].norm()
