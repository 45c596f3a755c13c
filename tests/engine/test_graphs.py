"""Replayed work gives what the work gives, for all networks and tensors; what cannot be recorded is done as it is.

Without a GPU, recording is played by what calls the function again on the recording's own tensors.
"""

from __future__ import annotations

import gc
import threading
import warnings
import weakref

import pytest
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from helpers import make_info
from torch import nn

from dcbench.core.architecture import new_network
from dcbench.engine.engine import PLAIN, Engine, choose_engine, engine_for, graphs
from dcbench.engine.graphs import KEPT, Replayed
from dcbench.engine.matching import gradient_targets, matching_gradient, matching_gradient_to
from dcbench.engine.training import train_network
from dcbench.results.store import RECORDS, read_records
from dcbench.utils.devices import choose_device
from dcbench.utils.seeds import new_generator

RECORDING = Engine("fast", replays=True)
CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("error:.*cannot be recorded")


class Recorder:
    """Plays the part of a GPU's graphs: counts recordings and replays."""

    def __init__(self):
        self.recordings = self.replays = 0

    def capture(self, work):
        self.recordings += 1
        outputs = tuple(None if each is None else each.clone() for each in work())

        def replay():
            self.replays += 1
            with torch.enable_grad():
                found = work()
            for mine, its in zip(outputs, found, strict=True):
                if mine is not None:
                    mine.copy_(its)

        return outputs, replay


@pytest.fixture(autouse=True)
def nothing_is_known():
    graphs.clear()
    yield
    graphs.clear()


@pytest.fixture(params=["played", pytest.param("cuda", marks=pytest.mark.skipif("not torch.cuda.is_available()"))])
def device(request, monkeypatch):
    """A device whose work is recorded, or the CPU, on which that is played."""
    if request.param == "cuda":
        return choose_device("cuda")
    monkeypatch.setattr(graphs, "capture", Recorder().capture)
    return CPU


@pytest.fixture
def recorder(monkeypatch):
    player = Recorder()
    monkeypatch.setattr(graphs, "capture", player.capture)
    return player


def network_of(seed=0, device=CPU, **options):
    return new_network(ConvNet(width=8, depth=2, **options), make_info(), seed, device)


def images_of(n, seed=0, device=CPU):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).to(device)


def squares(real, synthetic):
    return torch.stack([(a - b).pow(2).sum() for a, b in zip(real, synthetic, strict=True)]).sum()


def scaled(network, factor, images):
    return (network(images) * factor, None)


def train(network, n=10, epochs=4, batch_size=6):
    """Train a network for some epochs by the active engine, and return its parameters."""
    device = next(network.parameters()).device
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    train_network(
        network,
        images_of(n, device=device),
        torch.arange(n, device=device) % 3,
        optimizer,
        epochs=epochs,
        batch_size=batch_size,
        generator=new_generator("shuffle"),
        augmentation="crop_scale_rotate",
    )
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def trained(network, engine, **options):
    """Return the parameters of a network that an engine has trained, on batches of unequal size."""
    with engine.active():
        return train(network, **options)


def test_training_is_the_same_to_the_byte(device):
    plain, found = (trained(network_of(device=device), engine) for engine in (PLAIN, RECORDING))
    assert torch.equal(found, plain)
    assert not torch.equal(
        found, torch.cat([p.detach().flatten() for p in network_of(device=device).parameters()])
    )


def test_matching_is_the_same_to_the_byte_for_fresh_networks_and_new_images(device):
    def steps(engine):
        found = []
        with engine.active():
            for seed in range(5):
                real = (images_of(n, seed, device) for n in (9, 5, 7))
                synthetic = images_of(6, 100 + seed, device).split(2)
                found.append(matching_gradient(network_of(seed, device), real, synthetic, squares))
        return found

    for plain, found in zip(steps(PLAIN), steps(RECORDING), strict=True):
        assert torch.equal(plain[0], found[0])
        assert torch.equal(plain[1], found[1])
        assert plain[0].norm() > 0


def test_matching_to_targets_is_the_same_to_the_byte(device):
    network = network_of(device=device)
    targets = gradient_targets(network, (images_of(n, 1, device) for n in (9, 5, 7)))

    def steps(engine):
        with engine.active():
            return [
                matching_gradient_to(network, targets, images_of(6, seed, device).split(2), squares)[0]
                for seed in range(4)
            ]

    for plain, found in zip(steps(PLAIN), steps(RECORDING), strict=True):
        assert torch.equal(plain, found)


def test_batchnorm_statistics_are_those_of_the_network_at_hand(device):
    def steps(engine):
        found = []
        with engine.active():
            for seed in range(4):
                network = network_of(seed, device, norm="batch").train()
                with torch.no_grad():
                    network(images_of(20, 50 + seed, device))
                network.eval()
                real = (images_of(4, seed, device) for _ in range(3))
                found.append(matching_gradient(network, real, images_of(6, 9, device).split(2), squares)[0])
        return found

    for plain, found in zip(steps(PLAIN), steps(RECORDING), strict=True):
        assert torch.equal(plain, found)


def test_a_run_gives_the_same_bytes(device, tmp_path, run):
    words = {"methods": ("gradmatch",), "options": {"iterations": "3", "outer_loop": "3"}, "ipcs": (2,)}
    words |= {"networks": ("convnet:depth=2,width=8",), "eval_networks": ("mlp",), "device": device}
    sets = []
    for name, engine in (("plain", PLAIN), ("fast", RECORDING)):
        run(tmp_path / name, engine=engine, **words)
        (path,) = (tmp_path / name / "sets").glob("*.safetensors")
        (record,) = read_records(tmp_path / name / RECORDS)
        assert (record.status, record.engine) == ("ok", name)
        sets.append((path.read_bytes(), record.accuracy))
    assert sets[0] == sets[1]


def test_one_recording_serves_all_networks_that_differ_in_parameters(recorder):
    with RECORDING.active():
        for seed in range(3):
            train(network_of(seed), n=6, epochs=5)
    assert recorder.recordings == 1
    assert recorder.replays == 1 + 3 * 5 - 2  # tried once; the first two steps were not replayed


class Odd(nn.Module):
    """A network whose numbers depend on more than parameters."""

    def __init__(self, factor=1.0, mask=1.0):
        super().__init__()
        self.layer, self.factor = nn.Linear(64, 3), factor
        self.mask = torch.full((64,), mask)  # no buffer

    def forward(self, images):
        return self.layer(images.flatten(1) * self.mask) * self.factor


def test_networks_that_differ_in_anything_else_do_not_share_one(recorder):
    networks = [Odd(), Odd(factor=2.0), Odd(mask=3.0)]
    for network in networks:
        network.load_state_dict(networks[0].state_dict())
        calls = [Replayed(scaled, network, 1.0)(images_of(2))[0].clone() for _ in range(3)]
        assert all(torch.equal(each, network(images_of(2))) for each in calls)
    assert recorder.recordings == 3
    for network in (network_of(), network_of(activation="sigmoid"), network_of().eval()):
        calls = [Replayed(scaled, network, 1.0)(images_of(2))[0].clone() for _ in range(3)]
        assert all(torch.equal(each, network(images_of(2))) for each in calls)
    assert recorder.recordings == 6


def test_constants_and_shapes_tell_recordings_apart(recorder):
    network = network_of()
    for factor, n in ((1.0, 2), (2.0, 2), (1.0, 3)):
        for _ in range(3):
            found, nothing = Replayed(scaled, network, factor)(images_of(n))
            assert torch.equal(found, network(images_of(n)) * factor)
            assert nothing is None
    assert recorder.recordings == 3


def test_what_was_matched_is_not_overwritten(recorder):
    with RECORDING.active():
        found = [
            matching_gradient(network_of(), [images_of(4)] * 3, images_of(3, seed).split(1), squares)
            for seed in range(4)
        ]
    assert recorder.replays == 3
    assert len({float(distance) for _, distance in found}) == 4
    assert not torch.equal(found[2][0], found[3][0])


def test_what_cannot_be_recorded_is_done_as_it_is_and_said_once(monkeypatch):
    def refuse(_):
        raise RuntimeError("operation not permitted when stream is capturing\nand a long story")

    monkeypatch.setattr(graphs, "capture", refuse)
    expected = trained(network_of(), PLAIN, batch_size=10)
    with RECORDING.active():
        with pytest.warns(
            UserWarning, match="Sequential cannot be recorded, so it takes longer: operation not perm"
        ):
            assert torch.equal(train(network_of(), batch_size=10), expected)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train(network_of(), batch_size=10)
        assert RECORDING.statement() == "fast in part"
        assert PLAIN.statement() == "plain"
    assert RECORDING.statement() == "fast"


def test_recordings_give_way_where_memory_is_short(recorder):
    network, short = network_of(), [False]

    def hungry(network, images):
        if short.pop():
            short.append(False)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        short.append(False)
        return (network(images),)

    for _ in range(2):
        Replayed(scaled, network, 1.0)(images_of(2))
    assert graphs._recordings
    short[0] = True
    assert torch.equal(Replayed(hungry, network)(images_of(3))[0], network(images_of(3)))
    assert not graphs._recordings
    short[0] = True
    with pytest.raises(torch.OutOfMemoryError):
        Replayed(hungry, network)(images_of(5))


def test_what_is_replayed_wrongly_is_not_used(monkeypatch):
    def forgetful(work):
        outputs = tuple(each.clone() for each in work())
        return outputs, lambda: outputs[1].zero_()

    monkeypatch.setattr(graphs, "capture", forgetful)
    with pytest.warns(UserWarning, match="replayed, it gives other numbers"):
        found = trained(network_of(), RECORDING, batch_size=10)
    assert torch.equal(found, trained(network_of(), PLAIN, batch_size=10))


def test_losses_that_are_not_finite_are_not_recorded(recorder):
    work = Replayed(scaled, network_of(), 1.0)
    for _ in range(3):
        assert work(images_of(2) * float("nan"))[0].isnan().all()
    assert recorder.recordings == 0
    work(images_of(2))
    assert recorder.recordings == 1
    assert work(images_of(2) * float("nan"))[0].isnan().all()


class Local:
    """What cannot be pickled."""

    def __init__(self):
        self.function = lambda: None


class Locked:
    """What cannot be copied, and has no hash."""

    __hash__ = None

    def __init__(self):
        self.lock = threading.Lock()

    def __eq__(self, other):
        return True

    def __call__(self, real, synthetic):
        return squares(real, synthetic)


def test_networks_that_cannot_be_compared_are_their_own(recorder):
    for factor in (1.0, 2.0):
        network = Odd(factor)
        network.part = Local()
        work = Replayed(scaled, network, 1.0)
        for _ in range(3):
            assert torch.equal(work(images_of(2))[0], network(images_of(2)))
    assert recorder.recordings == 2


def test_what_cannot_be_copied_or_compared_is_not_recorded(recorder):
    network = Odd()
    network.part = Locked()
    work = Replayed(scaled, network, 1.0)
    with pytest.warns(UserWarning, match="Odd cannot be recorded, so it takes longer: cannot pickle"):
        calls = [work(images_of(2))[0] for _ in range(3)]
    assert all(torch.equal(each, network(images_of(2))) for each in calls)
    with RECORDING.active():
        real, synthetic = [images_of(4)] * 3, images_of(3).split(1)
        found = [matching_gradient(network_of(), real, synthetic, Locked())[0] for _ in range(3)]
    assert torch.equal(found[0], found[2])
    assert recorder.recordings == 0


def test_a_recording_keeps_all_of_its_network(monkeypatch):
    masks = []

    def graph(work):
        """Remember, as a GPU does, where tensors are, and not the tensors."""
        mask, images = work()[1], images_of(2)
        masks.append(weakref.ref(mask))
        found = work()[0].clone(), mask
        return found, lambda: images

    monkeypatch.setattr(graphs, "capture", graph)
    network = Odd()

    def masked(network, images):
        return network(images), network.mask

    for _ in range(2):
        Replayed(masked, network)(images_of(2))
    (mask,) = masks
    (recording,) = graphs._recordings.values()
    recording._outputs = ()
    gc.collect()
    assert mask() is not network.mask
    assert mask() is not None


def test_tensors_that_are_no_parameters_tell_networks_apart_by_their_values(recorder):
    for mask, recordings in ((1.0, 1), (1.0, 1), (2.0, 2)):
        network = Odd(mask=mask)
        for _ in range(3):
            found = Replayed(scaled, network, 1.0)(images_of(2))[0]
            assert torch.equal(found, network(images_of(2)))
        assert recorder.recordings == recordings


def test_networks_that_change_when_they_are_used_are_computed_as_the_plain_engine_does(recorder):
    def normed(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Flatten(), nn.utils.spectral_norm(nn.Linear(64, 3)))

    expected = trained(normed(0), PLAIN)
    for engine in (RECORDING, Engine("fast", workers=2, micro_batch=2)):
        assert torch.equal(trained(normed(0), engine), expected)
    assert recorder.recordings == 0
    with pytest.warns(UserWarning, match="Sequential cannot be recorded, so it takes longer: it changes when"):
        Replayed(scaled, normed(0).train(), 1.0)(images_of(2))


def test_gradients_that_are_rounding_errors_need_not_be_the_same():
    large, zero = torch.ones(9), torch.full((3,), 1e-8)
    assert graphs.agree((large, zero, None), (large, -zero, None))
    assert not graphs.agree((large, zero, None), (large * 1.01, zero, None))
    assert not graphs.agree((large, None, zero), (large, zero, None))


def test_few_recordings_are_kept_and_none_after_a_cell(recorder):
    tensors = []

    def keep(network, images):
        tensors.append(weakref.ref(images))
        return (network(images),)

    with RECORDING.active():
        for n in range(1, KEPT + 4):
            for _ in range(2):
                Replayed(keep, network_of())(images_of(n))
        for n in range(20, 20 + 2 * KEPT):
            Replayed(keep, network_of())(images_of(n))  # once
        assert recorder.recordings == KEPT + 3
        gc.collect()
        assert len([tensor for tensor in tensors if tensor() is not None]) == 2 * KEPT  # recorded, tried
    gc.collect()
    assert not [tensor for tensor in tensors if tensor() is not None]


def test_networks_that_draw_are_not_recorded(device):
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3)).to(device)
    with RECORDING.active():
        assert engine_for(network, images_of(2, device=device)) is PLAIN
        assert engine_for(network.eval(), images_of(2, device=device)) is RECORDING


def test_the_user_chooses():
    cuda = torch.device("cuda")
    assert choose_engine("fast", cuda) == RECORDING
    assert choose_engine("auto", cuda) is PLAIN
    assert not choose_engine("fast", CPU).replays
