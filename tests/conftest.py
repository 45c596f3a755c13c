from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_plugin
import torch
from running import RUN

from dcbench.budgets import BUDGETS
from dcbench.cells import Bench
from dcbench.checkpoint import checkpointing_every
from dcbench.datasets import load_dataset
from dcbench.engine import PLAIN
from dcbench.plan import Request, make_plan
from dcbench.plugins import PluginInfo, Plugins
from dcbench.protocols import get_protocol
from dcbench.runner import Runner
from dcbench.store import Store

# The tests' tensors are too small to share between threads; the processes they start inherit this.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = (
    "0"  # as `dcbench.executors.ray_cluster` does, before Ray is imported
)


@pytest.fixture
def plugins():
    """Every installed plugin, and the tests' own."""
    loaded = Plugins.load()
    loaded.add(tiny_plugin, PluginInfo("tiny", "tiny_plugin", "tests", "0"))
    return loaded


@pytest.fixture
def tiny(tmp_path):
    """The tests' data set, on the CPU."""
    return Bench(load_dataset(tiny_plugin.Tiny(), tmp_path), torch.device("cpu"))


@pytest.fixture
def request_for(tmp_path):
    """Make a request that is small unless told otherwise."""

    def make(**changes):
        fields = {
            "datasets": ("tiny",),
            "methods": ("random",),
            "ipcs": (1,),
            "networks": ("linear",),
            "eval_networks": ("linear",),
            "options": {},
            "protocol": get_protocol("dc"),
            "budget": BUDGETS["full"],
            "sets": 1,
            "evals": 1,
            "seed": 0,
            "device": torch.device("cpu"),
            "data_root": tmp_path,
        }
        return Request(**(fields | changes))

    return make


@pytest.fixture
def run(plugins, request_for):
    """Run a request into a folder and return the runner, whose store and outcome tell the rest."""

    def go(folder, force=False, engine=PLAIN, executor=None, **changes):
        folder.mkdir(exist_ok=True)
        plan = make_plan(request_for(**changes), plugins)
        runner = Runner(plan, plugins, Store(folder), force, engine, executor)
        runner.run()
        return runner

    return go


@pytest.fixture
def every_checkpoint(monkeypatch):
    """Let a checkpoint be written whenever one is offered."""
    monkeypatch.setattr("dcbench.checkpoint.WORTH", 0)
    with checkpointing_every(0):
        yield


@pytest.fixture
def dcbench_command():
    """How to start the command in a process of its own."""
    return [sys.executable, "-c", "from dcbench.cli import main; main()"]


@pytest.fixture
def start(tmp_path):
    """Start `dcbench run` with the tests' plugin in a process of its own; all are killed in the end."""
    script, started = tmp_path / "run.py", []
    script.write_text(RUN.format(here=str(Path(__file__).parent)))

    def go(*words):
        command = [sys.executable, str(script), "run", "-d", "tiny", "--results", str(tmp_path / "r"), *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.wait()
