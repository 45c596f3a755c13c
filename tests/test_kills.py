"""Killed anywhere, a run goes on, and ends with what an undisturbed one gives: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from file_faults import ENDED, Faults, end
from kills import TIMES

from dcbench.checkpoint import checkpointing_every
from dcbench.files import clear_left_over
from dcbench.protocols import get_protocol
from dcbench.store import RECORDS, read_records

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

SMALL = {
    "methods": ("wanders", "random"),
    "options": {"steps": "3"},
    "protocol": replace(get_protocol("dc"), epochs=2),
    "evals": 2,
}


@pytest.fixture
def every_checkpoint(monkeypatch):
    """Let a checkpoint be written whenever one is offered."""
    monkeypatch.setattr("dcbench.checkpoint.WORTH", 0)
    with checkpointing_every(0):
        yield


def outcome(folder):
    """Return the bytes of sets and pictures, and the records without what differs between two runs."""
    kept = {path.name: path.read_bytes() for path in sorted((folder / "sets").iterdir()) if path.suffix != ".json"}
    records = (record.model_dump(mode="json", exclude=set(TIMES)) for record in read_records(folder / RECORDS))
    return kept, Counter(json.dumps(record, sort_keys=True) for record in records)


def killed_at(run, folder, number, midway):
    """Run in a process that ends before its n-th file operation; return its operations where it completes."""
    folder.mkdir(exist_ok=True)
    log = folder.with_suffix(".operations")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with Faults(folder, number, end, midway).active() as faults:
                run(folder, **SMALL)
            log.write_text(json.dumps(faults.operations))
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, ENDED)
    return [] if code else json.loads(log.read_text())


def check_goes_on(run, folder, expected):
    """Let another run complete, when what is left over is old, and compare."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 7200,) * 2)
    clear_left_over(folder)
    runner = run(folder, **SMALL)
    assert not runner.outcome.failures
    assert outcome(folder) == expected
    assert not [*folder.rglob("*.tmp"), *(folder / "checkpoints").glob("*")]
    assert all(record.condense_seconds is not None for record in read_records(folder / RECORDS))


@pytest.mark.filterwarnings("ignore:.*its last line, which is torn", "ignore:.*fork")
def test_killed_before_any_file_operation_or_within_any_write_nothing_is_lost(run, tmp_path, every_checkpoint):
    operations = killed_at(run, tmp_path / "whole", None, False)
    expected = outcome(tmp_path / "whole")
    assert {name for name, _ in operations} == {"open", "write", "fsync", "replace", "unlink", "mkdir"}
    assert sum("checkpoints" not in name and ".safetensors" in name for _, name in operations) > 10
    writes = [number for number, (name, _) in enumerate(operations) if name == "write"]
    # After an operation is before the next one; after the last, all is done.
    moments = [(number, False) for number in range(len(operations))] + [(number, True) for number in writes]
    for number, midway in moments:
        folder = tmp_path / f"{number}{midway}"
        assert killed_at(run, folder, number, midway) == []
        check_goes_on(run, folder, expected)


@pytest.mark.filterwarnings("ignore:.*its last line, which is torn")
def test_killed_again_and_again_it_completes_all_the_same(run, tmp_path, every_checkpoint):
    killed_at(run, tmp_path / "whole", None, False)
    folder, kills = tmp_path / "r", 0
    while not killed_at(run, folder, 20, kills % 2 == 1):
        kills += 1
        assert kills < 60
    assert kills > 5
    check_goes_on(run, folder, outcome(tmp_path / "whole"))


def test_fifty_runs_killed_at_random_moments_lose_nothing():
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("kills.py"), "--kills", "50"], capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    assert found["kills"] == 50
    assert [found[name] for name in ("lost", "duplicated", "different", "left_over", "problems")] == [0] * 5
    assert done.returncode == 0, done.stderr
