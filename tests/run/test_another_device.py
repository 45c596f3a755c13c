"""On a device that is not the CPU: the CPU's values, nothing of the CPU among its tensors, and few reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.datasets.digits import Digits
from helpers import make_info, make_set, make_split, make_task
from pretend import DEVICE, READS
from running import carry_out, load_plugins, make_request, sets

from dcbench.core.architecture import new_network
from dcbench.core.condensed_set import check_set
from dcbench.core.loaded_dataset import LoadedDataset, load_dataset
from dcbench.core.method import Setting
from dcbench.core.spec import QUICK, EvaluationSpec
from dcbench.engine.siamese import OPERATIONS, SiameseAugmentation
from dcbench.engine.training import logits
from dcbench.evaluate.protocols import PROTOCOLS, get_protocol
from dcbench.evaluate.trial import evaluate
from dcbench.plugins import Plugins
from dcbench.results.store import RECORDS, read_records
from dcbench.utils.errors import DcbenchError
from dcbench.utils.seeds import seeded_globals

CPU = torch.device("cpu")
METHODS = {name: Plugins.load().method_class(name) for name in Plugins.load().methods}
FEW = 4
"""Steps of a method, or epochs, at most."""
LOOPS = {"outer_loop": 2, "inner_loop": 2}
"""So that a method which trains its networks does so, if not for long."""

REFUSED = {
    "plain": lambda x: x + torch.ones(3),
    "matrix": lambda x: x @ torch.ones(3, 2),
    "in place": lambda x: x.mul_(torch.ones(3)),
    "into the CPU": lambda x: torch.ones(()).add_(x.sum()),
    "stacked": lambda x: torch.stack([x.sum(), torch.ones(())]),
    "index of the device": lambda x: torch.ones(3)[x.argmax(dim=1)],
    "labels": lambda x: torch.nn.functional.cross_entropy(x, torch.tensor([0, 1])),
    "generator": lambda x: torch.randn(3, device=x.device, generator=torch.Generator()),
    "generator of a permutation": lambda x: torch.randperm(3, device=x.device, generator=torch.Generator()),
}
ALLOWED = {
    "number": (lambda x: x * torch.tensor(2.0), 0),
    "index of the CPU": (lambda x: x[torch.tensor([0, 0, 1])], 0),
    "filled": (lambda x: torch.full_like(x, 3).masked_fill(x > 0, torch.tensor(1.0)), 0),
    "made there": (lambda x: torch.arange(3, device=x.device) + torch.tensor([1, 2, 3], device=x.device), 0),
    "viewed": (lambda x: x.clone().view(-1)[1:].mul_(2), 0),
    "mask": (lambda x: x[x > 0], 1),
    "non-zero": (lambda x: x.nonzero(), 1),
    "number read": (lambda x: x * x.sum().item(), 1),
    "list": (lambda x: torch.tensor(x.tolist(), device=x.device), 1),
    "branch": (lambda x: x if x.sum() > 0 else -x, 1),
    "copy": (lambda x: x.cpu().to(x.device), 1),
    "copy into": (lambda x: torch.empty(2, 3).copy_(x).to(x.device), 1),
    "row by a number of the device": (lambda x: x[x.argmax() * 0], 1),
}
DEVICES = [DEVICE, pytest.param(torch.device("cuda"), marks=pytest.mark.skipif("not torch.cuda.is_available()"))]


@pytest.fixture
def x():
    return torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -7.0]])


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("case", REFUSED)
def test_the_device_refuses_what_cuda_refuses(case, device, x):
    with pytest.raises(
        (RuntimeError, IndexError), match=r"same device|device type for generator|indices should be"
    ):
        REFUSED[case](x.to(device))


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("case", ALLOWED)
def test_the_device_does_what_the_cpu_does_and_counts_its_reads(case, device, x):
    work, reads = ALLOWED[case]
    READS.clear()
    result = work(x.to(device))
    assert len(READS) == (reads if device == DEVICE else 0)
    assert result.device.type == device.type
    assert torch.equal(result.cpu(), work(x))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return load_dataset(Digits(), tmp_path_factory.mktemp("data"))


class Steps:
    """Counts the reads between the first step that is told and the last."""

    def __init__(self):
        self.told = []

    def __call__(self, done, total):
        self.told.append(len(READS))

    def check(self, *, per_step):
        """One more is allowed, because the losses of 20 steps are read together at some step."""
        between = READS[self.told[0] : self.told[-1]] if self.told else []
        assert len(between) <= per_step * (len(self.told) - 1) + 1, Counter(between)


def condense(method, data, ipc, steps, folder):
    task = make_task(data, ConvNet(width=8, depth=2), ipc, progress=steps, folder=folder)
    READS.clear()
    with seeded_globals(0, data.device):
        condensed = method.condense(task)
    task.losses.settle()
    return condensed


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_the_same_bytes_and_does_not_wait(name, digits, tmp_path):
    """A training in a step reads its losses at its end, hence a read for every two steps.

    What is chosen image by image is read image by image, by its position. Trained networks are those of the CPU.
    """
    cls, ipc = METHODS[name], 2
    quick = {option: min(value, FEW) for option, value in cls.quick.items() if type(value) is int}
    loops = {option: value for option, value in LOOPS.items() if option in cls.model_fields}
    counts = tuple(map(len, digits.train.class_indices))
    method = cls.configure(quick | loops).resolve(Setting(digits.info, counts, ipc, "convnet"))
    expected = condense(method, digits, ipc, Steps(), tmp_path)
    steps = Steps()
    condensed = condense(method, digits.on(DEVICE), ipc, steps, tmp_path)
    check_set(condensed, digits.train, ipc if "ipc" in method.depends_on else None)
    assert condensed.sha256() == expected.sha256()
    assert all(torch.equal(condensed.history[curve], expected.history[curve]) for curve in expected.history)
    steps.check(per_step=0.5)
    chosen, classes = (0, 0) if condensed.indices is None else (len(condensed.indices), digits.info.num_classes)
    assert len(READS) <= 0.5 * len(steps.told) + 2 * (chosen + classes) + 6, Counter(READS)


@pytest.mark.parametrize("repeatable", [False, True])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_siamese_view_gives_the_same_values_and_gradients_and_does_not_wait(name, repeatable):
    images = torch.randn(4, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    on_cpu, there = images.clone().requires_grad_(), images.to(DEVICE).requires_grad_()
    torch.use_deterministic_algorithms(repeatable)
    try:
        for seed, n in enumerate((1, 4, 1, 1)):
            view = SiameseAugmentation(name).draw(torch.Generator().manual_seed(seed), n)
            expected = view(on_cpu), *torch.autograd.grad((view(on_cpu) ** 2).sum(), on_cpu)
            READS.clear()
            found = view(there), *torch.autograd.grad((view(there) ** 2).sum(), there)
            assert not READS, Counter(READS)
            assert all(torch.equal(*each) for each in zip((one.cpu() for one in found), expected, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


SETS = {
    "hard labels": {},
    "soft labels": {"labels": torch.eye(3).repeat(4, 1) * 0.7 + 0.1},
    "whitened": {"zca": True},
}


UNFIT = {("kd", "soft labels"), ("kd", "whitened")}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", SETS)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_gives_the_same_weights_and_does_not_wait(name, form, channels, monkeypatch):
    """Only the losses of 20 epochs are read together, and the number of right answers at the end."""
    counts, size = (40, 40, 40), (12, 8)
    info = make_info(channels, size, name="mnist")  # which dc augments, too
    cpu = LoadedDataset(info, make_split(counts, channels, size), make_split(counts, channels, size, seed=1))
    condensed = make_set(4, channels, size, **SETS[form])
    protocol = get_protocol(name, Plugins.load().make_architecture)
    if (name, form) in UNFIT:
        with pytest.raises(DcbenchError, match=f"protocol {name} takes"):
            protocol.check_set(condensed.traits)
        return
    weights, accuracies, reads = [], [], []

    def spy(network, split):
        result = logits(network, split)
        reads.append(len(READS))
        weights.append(torch.cat([each.detach().flatten() for each in network.parameters()]).cpu())
        return result

    monkeypatch.setattr("dcbench.evaluate.accuracy.logits", spy)
    for data in (cpu, cpu.on(DEVICE)):
        spec = EvaluationSpec(
            set_sha256="0", dataset="made_up", dataset_sha256="0", evaluation_network="convnet",
            protocol=name, budget="quick", seed=0,
        )  # fmt: skip
        test, steps, budget = data.test_split(condensed.zca), Steps(), replace(QUICK, max_steps=FEW)
        READS.clear()
        teacher = (
            protocol.teacher_for(info) and new_network(ConvNet(width=8, depth=2), info, 1, data.device).eval()
        )
        judged = (condensed, test, ConvNet(width=8, depth=2), protocol, budget, steps)
        trial = evaluate(spec, *judged, teacher=teacher)
        accuracies.append(trial.answers[0].scores["accuracy"])
    assert torch.equal(*weights)
    assert accuracies[0] == accuracies[1]
    steps.check(per_step=0)
    assert reads[-1] <= 2, Counter(READS)


def npz_of(folder, *shape):
    generator = np.random.default_rng(0)
    parts = {"train": 30, "test": 12}
    arrays = {
        f"{part}_images": generator.integers(256, size=(n, *shape), dtype=np.uint8) for part, n in parts.items()
    }
    labels = {f"{part}_labels": np.arange(n) % 3 for part, n in parts.items()}
    np.savez(folder / "own.npz", **arrays, **labels)
    return f"npz:{folder / 'own.npz'}"


FORMS = {
    "digits": lambda folder: "digits",
    "unequal classes": lambda folder: "tiny",
    "a file, grey": lambda folder: npz_of(folder, 8, 12),
    "a file, colour": lambda folder: npz_of(folder, 12, 8, 3),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_run_leaves_the_same_files(form, tmp_path):
    """Plan, condensation, checkpoint, evaluation and records, for methods that choose and that compute."""
    outcomes = []
    for device in (CPU, DEVICE):
        request = make_request(
            tmp_path,
            datasets=(FORMS[form](tmp_path),),
            methods=("random", "gradmatch"),
            options={"iterations": "1"},
            budget=replace(QUICK, max_steps=FEW),
            device=device,
        )
        runner = carry_out(request, load_plugins(), tmp_path / device.type)
        assert not runner.outcome.failures
        records = read_records(tmp_path / device.type / RECORDS)
        accuracies = {record.key: (record.set_sha256, record.accuracy) for record in records}
        assert all(record.device.startswith(device.type) for record in records)
        outcomes.append((sets(tmp_path / device.type), accuracies))
    assert outcomes[0] == outcomes[1]
