"""Runs in processes of their own, with the tests' plugin, and what they leave."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

from helpers import TIMES

from dcbench.store import RECORDS, read_records

CHECKOUT = {"git_sha", "git_dirty"}
"""Fields of records that change when somebody commits, or edits, between two runs."""

RUN = """
import sys
sys.path.insert(0, {here!r})
import torch
import tiny_plugin
from dcbench.plugins import PluginInfo, Plugins
load = Plugins.load.__func__
def load_with_tiny(cls, *args, **words):
    plugins = load(cls, *args, **words)
    plugins.add(tiny_plugin, PluginInfo("tiny", "tiny_plugin", "tests", "0"))
    return plugins
Plugins.load = classmethod(load_with_tiny)
from dcbench.cli import main
if __name__ == "__main__":
    main(sys.argv[1:])
"""


def sets(folder):
    return {path.name: path.read_bytes() for path in (folder / "sets").iterdir() if path.suffix != ".json"}


def trials(folder):
    found = [record.model_dump(exclude=TIMES | CHECKOUT) for record in read_records(folder / RECORDS)]
    return sorted(found, key=lambda fields: json.dumps(fields, sort_keys=True))


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
    assert "Interrupted. 0 new records are kept" in out
    assert "Traceback" not in out
    wait_for(lambda: not any(map(is_alive, workers)))
