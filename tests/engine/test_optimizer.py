"""SGD and AdamW that import no compiler: torch's own, byte for byte."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from dcbench.engine.optimizer import SGD, AdamW

SETTINGS = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.5}),
    (SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}),
    (SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True, "foreach": True}),
    (AdamW, {"lr": 0.001}),
    (AdamW, {"lr": 0.001, "weight_decay": 0.1, "betas": (0.5, 0.9)}),
]


def train(optimizer_class, setting, steps=7):
    """Parameters of several shapes after some steps, one of them without a gradient now and then."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(128, 3, 3, 3), (10, 2048), (128,), (), (7, 1)]
    parameters = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    optimizer = optimizer_class(parameters, **setting)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [4], 0.1)
    for step in range(steps):
        for number, each in enumerate(parameters):
            skipped = number == 3 and step % 2 == 0
            each.grad = None if skipped else torch.randn(each.shape, generator=generator)
        optimizer.step()
        scheduler.step()
    return parameters, optimizer


@pytest.mark.parametrize(("quick", "setting"), SETTINGS)
def test_the_bytes_are_those_of_torch(quick, setting):
    ours, optimizer = train(quick, setting)
    theirs, expected = train(getattr(torch.optim, quick.__name__), setting)
    for one, other in zip(ours, theirs, strict=True):
        assert one.detach().numpy().tobytes() == other.detach().numpy().tobytes()
    state, other = optimizer.state_dict(), expected.state_dict()
    assert state["param_groups"] == other["param_groups"]
    for number, values in other["state"].items():
        for name, value in values.items():
            assert torch.equal(state["state"][number][name], value)


def test_its_state_can_be_loaded_and_gradients_are_cleared():
    parameters, optimizer = train(*SETTINGS[2])
    optimizer.zero_grad()
    assert all(each.grad is None for each in parameters)
    fresh = SGD(parameters, lr=1.0, momentum=0.1)
    fresh.load_state_dict(optimizer.state_dict())
    assert fresh.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("made", ["SGD(parameters, lr=0.1, momentum=0.9)", "AdamW(parameters, lr=0.1)"])
def test_no_compiler_is_imported_for_it(made):
    code = (
        "import sys, torch; from dcbench.engine.optimizer import SGD, AdamW; from torch import nn;"
        f"network = nn.Linear(2, 2); parameters = network.parameters(); optimizer = {made};"
        "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5);"
        "network(torch.ones(1, 2)).sum().backward(); optimizer.step(); scheduler.step(); optimizer.zero_grad();"
        "optimizer.load_state_dict(optimizer.state_dict());"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
