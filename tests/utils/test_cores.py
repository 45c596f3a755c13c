"""Cores that others use, too: threads that sleep while they wait, and advice where it helps."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dcbench.utils import cores
from dcbench.utils.cores import SPINS, advice_where_shared

POLICY = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("before", "set_by_user", "expected"),
    [
        ("", {}, SPINS),
        ("", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("", {"OMP_WAIT_POLICY": "active"}, None),
        ("import torch;", {}, None),  # which has read it by now
    ],
)
def test_threads_of_openmp_sleep_while_they_wait_unless_told_otherwise(before, set_by_user, expected):
    code = f"{before}import os, dcbench; print(os.environ.get('GOMP_SPINCOUNT'))"
    others = {name: value for name, value in os.environ.items() if name not in POLICY}
    done = subprocess.run(
        [sys.executable, "-c", code], env=others | set_by_user, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(expected)


@pytest.mark.parametrize(
    ("load", "threads", "advised"),
    [
        ("1.10 0.50 0.20 2/300 4242", 2, "--threads 1 "),
        ("3.00 3.00 3.00 4/300 4242", 2, "2 of 2 cores"),
        ("1.10 0.50 0.20 1/300 4242", 2, ""),  # what was running has ended
        ("0.10 0.50 0.20 3/300 4242", 2, ""),  # what runs has only begun
        ("1.10 0.50 0.20 2/300 4242", 1, ""),
        ("no load", 2, ""),
        (None, 2, ""),
    ],
)
def test_advice_is_given_where_others_use_the_cores(tmp_path, monkeypatch, load, threads, advised):
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 2)
    if load:
        (tmp_path / "loadavg").write_text(load)
    advice = advice_where_shared(threads, tmp_path / "loadavg")
    assert advised in advice
    assert bool(advice) == bool(advised)
