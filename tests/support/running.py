"""Runs of all kinds, also in processes of their own, with the tests' plugin, and what they leave."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import tiny_plugin
import torch
from helpers import TIMES

from dcbench.condense.checkpoint import checkpointing_every
from dcbench.core.spec import BUDGETS
from dcbench.evaluate.protocols import PROTOCOLS
from dcbench.plugins import PluginInfo, Plugins
from dcbench.results.artefacts import Artefacts
from dcbench.results.records import CHECKSUM
from dcbench.results.store import RECORDS, Store, read_records
from dcbench.run.plan import Request, make_plan
from dcbench.run.scheduler import Scheduler
from dcbench.utils.files import LEFT_OVER_SECONDS

CHECKOUT = {"git_sha", "git_dirty"}
"""Fields of records that change when somebody commits, or edits, between two runs."""

UNALIKE = {*TIMES, *CHECKOUT, CHECKSUM}
"""Fields of lines of records that two runs of the same need not have in common."""


def load_plugins():
    """Load every installed plugin, and the tests' own."""
    loaded = Plugins.load()
    loaded.add(tiny_plugin, PluginInfo("tiny", "tiny_plugin", "tests", "0"))
    return loaded


SHORT = replace(PROTOCOLS["dc"], epochs=30)
"""The protocol, with a tenth of its epochs: few tests are about how good networks get."""


def make_request(data_root, **changes):
    """Make a request that is small unless told otherwise."""
    fields = {
        "datasets": ("tiny",),
        "methods": ("random",),
        "ipcs": (1,),
        "networks": ("linear",),
        "eval_networks": ("linear",),
        "options": {},
        "protocol": SHORT,
        "budget": BUDGETS["full"],
        "sets": 1,
        "evals": 1,
        "seed": 0,
        "device": torch.device("cpu"),
        "data_root": data_root,
    }
    return Request(**(fields | changes))


def carry_out(request, plugins, folder, *how):
    """Run a request into a folder and return the scheduler, whose store and outcome tell the rest."""
    folder.mkdir(exist_ok=True)
    scheduler = Scheduler(make_plan(request, plugins), plugins, Store(folder), *how)
    scheduler.run()
    return scheduler


@contextmanager
def checkpointing_always():
    """Let a checkpoint be written whenever one is offered, whatever it costs."""
    with patch("dcbench.condense.checkpoint.WORTH", 0), checkpointing_every(0):
        yield


SMALL = {
    "methods": ("wanders", "taught"),
    "options": {"steps": "3", "taught.epochs": "1"},
    "protocol": replace(PROTOCOLS["dc"], epochs=2),
    "evals": 2,
}
"""What to change in a request so that its run takes a moment, and writes some of everything."""

RUN = """
import sys
sys.path.insert(0, {here!r})
from running import load_tiny_always
load_tiny_always()
from dcbench.cli import main
if __name__ == "__main__":
    main(sys.argv[1:])
"""


def load_tiny_always():
    """Let the commands of this process have the tests' plugin."""
    load = Plugins.load

    def load_with_tiny(*args, **words):
        plugins = load(*args, **words)
        if "tiny" not in plugins.datasets:
            plugins.add(tiny_plugin, PluginInfo("tiny", "tiny_plugin", "tests", "0"))
        return plugins

    Plugins.load = load_with_tiny


def sets(folder):
    """The sets and pictures of a results folder, and the networks that were trained for them."""
    paths = [*(folder / "sets").iterdir(), *(folder / "networks").glob("[!.]*")]
    return {path.name: path.read_bytes() for path in paths if path.suffix != ".json"}


def trials(folder):
    found = [record.model_dump(exclude=TIMES | CHECKOUT) for record in read_records(folder / RECORDS)]
    return sorted(found, key=lambda fields: json.dumps(fields, sort_keys=True))


def outcome(folder):
    return sets(folder), trials(folder)


def grow_old(folder):
    """Let what killed processes left be as old as it has to be for others to clear it."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 2 * LEFT_OVER_SECONDS,) * 2)


def check_goes_on(run, folder, expected):
    """Let a run complete what another one left long ago, and compare its outcome; nothing is left over."""
    grow_old(folder)
    Artefacts(folder).clear_left_over()
    runner = run(folder, **SMALL)
    assert not runner.outcome.failures
    assert outcome(folder) == expected
    assert not [*folder.rglob("*.tmp"), *(folder / "checkpoints").glob("*")]
    assert all(record.condense_seconds is not None for record in read_records(folder / RECORDS))


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def wait_for(condition, process=None, seconds=100):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def interrupt(process, workers):
    """Interrupt a run that has recorded nothing yet: it says so, and its workers end."""
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert ": 0 new records" in out
    assert "Traceback" not in out
    wait_for(lambda: not any(map(is_alive, workers)))
