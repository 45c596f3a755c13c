"""Killed anywhere, a run goes on, and ends with what an undisturbed one gives: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import depth
import pytest
from killed import killed_at
from running import check_goes_on, outcome

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.mark.filterwarnings("ignore:.*its last line, which is torn")
# Every one takes six minutes.
@pytest.mark.parametrize("every", [pytest.param(2, marks=pytest.mark.slow) if depth.SLOW else 9])
def test_killed_before_any_file_operation_or_within_any_write_nothing_is_lost(
    run, tmp_path, every_checkpoint, every
):
    operations = killed_at(tmp_path / "whole", None)
    expected = outcome(tmp_path / "whole")
    assert {name for name, _ in operations} == {"open", "write", "fsync", "replace", "unlink", "mkdir"}
    written = [name for operation, name in operations if operation == "replace"]
    # Two sets and two networks; checkpoints of three steps, of two networks used, and of an epoch of each.
    assert sum(name.startswith(".tiny_") and ".safetensors" in name for name in written) == 4
    assert sum(not name.startswith(".tiny_") for name in written) == 7
    writes = [number for number, (name, _) in enumerate(operations) if name == "write"]
    # After an operation is before the next one; after the last, all is done.
    moments = [(number, False) for number in range(len(operations))] + [(number, True) for number in writes]
    for number, midway in moments[::every]:
        folder = tmp_path / f"{number}{midway}"
        assert killed_at(folder, number, midway) == []
        check_goes_on(run, folder, expected)


@pytest.mark.filterwarnings("ignore:.*its last line, which is torn")
def test_killed_again_and_again_it_completes_all_the_same(run, tmp_path, every_checkpoint):
    killed_at(tmp_path / "whole", None)
    folder, kills = tmp_path / "r", 0
    while not killed_at(folder, 20, kills % 2 == 1):
        kills += 1
        assert kills < 60
    assert kills > 2
    check_goes_on(run, folder, outcome(tmp_path / "whole"))


@pytest.mark.parametrize("kills", [pytest.param(50, marks=pytest.mark.slow) if depth.SLOW else 5])
def test_runs_killed_at_random_moments_lose_nothing(kills):
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "support" / "kills.py", "--kills", str(kills)],
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert found["kills"] == kills
    assert [found[name] for name in ("lost", "duplicated", "different", "left_over", "problems")] == [0] * 5
    assert done.returncode == 0, done.stderr
