"""Runs that end before a file operation of theirs.

A process that has computed with threads of torch's cannot be forked. So runs are forked from a server, which has
imported all there is and done nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from functools import cache
from pathlib import Path

from file_faults import ENDED, Faults, end
from running import SMALL, carry_out, checkpointing_always, load_plugins, make_request

PLUGINS = load_plugins()


def killed_at(folder, number, midway=False):
    """Run what is small, ending before the n-th file operation; return the operations where it completes."""
    folder.mkdir(exist_ok=True)
    log = folder.with_suffix(".operations")
    process = _forks().Process(target=_run, args=(folder, number, midway, log))
    process.start()
    process.join()
    assert process.exitcode in (0, ENDED)
    return [] if process.exitcode else json.loads(log.read_text())


@cache
def _forks():
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed", "torch._dynamo"])  # of which torch imports the second when it trains
    return context


def _run(folder, number, midway, log):
    with Faults(folder, number, end, midway).active() as faults, checkpointing_always():
        carry_out(make_request(folder, **SMALL), PLUGINS, folder)
    log.write_text(json.dumps(faults.operations))
