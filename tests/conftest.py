from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import depth
import pytest
import tiny_plugin
import torch
from hypothesis import settings
from running import RUN, SHORT, carry_out, checkpointing_always, load_plugins, make_request

from dcbench.core.loaded_dataset import load_dataset
from dcbench.engine.engine import PLAIN
from dcbench.evaluate.protocols import PROTOCOLS

# The tests' tensors are too small to share between threads; the processes they start inherit this.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = (
    "0"  # as `dcbench.run.executors.ray_cluster` does, before Ray is imported
)

# The time of an example says how busy the machine is, not whether it is right.
settings.register_profile("dcbench", deadline=None)
settings.load_profile("dcbench")

# What a shell starts in the background ignores interrupts, and so would all that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run also the tests that are marked slow")


def pytest_configure(config):
    depth.SLOW = config.getoption("--slow")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        # The slow ones first, so that no worker waits for a long one at the end.
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: runs with --slow"))


@pytest.fixture(scope="module")
def short():
    """Train networks for a tenth of the protocol's epochs, in files that are not about how good they get."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, "dc", SHORT)
        yield


@pytest.fixture
def plugins():
    """Every installed plugin, and the tests' own."""
    return load_plugins()


@pytest.fixture
def tiny(tmp_path):
    """The tests' data set, on the CPU."""
    return load_dataset(tiny_plugin.Tiny(), tmp_path)


@pytest.fixture
def request_for(tmp_path):
    """Make a request that is small unless told otherwise."""

    return partial(make_request, tmp_path)


@pytest.fixture
def run(plugins, request_for):
    """Run a request into a folder and return the runner, whose store and outcome tell the rest."""

    def go(folder, force=False, engine=PLAIN, executor=None, **changes):
        return carry_out(request_for(**changes), plugins, folder, force, engine, executor)

    return go


@pytest.fixture
def every_checkpoint():
    """Let a checkpoint be written whenever one is offered."""
    with checkpointing_always():
        yield


@pytest.fixture
def dcbench_command():
    """How to start the command in a process of its own."""
    return [sys.executable, "-c", "from dcbench.cli import main; main()"]


@pytest.fixture
def start(tmp_path):
    """Start `dcbench run` with the tests' plugin in a process of its own; all are killed in the end."""
    script, started = tmp_path / "run.py", []
    script.write_text(RUN.format(here=str(Path(tiny_plugin.__file__).parent)))

    def go(*words):
        command = [sys.executable, str(script), "run", "-d", "tiny", "--results", str(tmp_path / "r"), *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.wait()
