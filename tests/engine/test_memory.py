"""When memory runs out, a cell fails and says what would fit; the others go on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from helpers import make_info
from tiny_plugin import Linear

from dcbench.core.architecture import Architecture
from dcbench.engine.memory import activation_bytes, free_memory, is_out_of_memory
from dcbench.results.store import RECORDS, read_records

CPU_ERROR = (
    "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError(CPU_ERROR), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, is_one):
    assert is_out_of_memory(error) == is_one


def test_a_method_that_runs_out_of_memory_says_what_would_fit(run, tmp_path):
    runner = run(tmp_path / "r", methods=("wanders", "random"), options={"memory_at": "3"})
    (failure,) = runner.outcome.failures
    assert failure.error.startswith("OutOfMemoryError: CUDA out of memory. linear keeps ")
    assert re.search(r"are free on cpu: at most [\d,]+ images fit at once", failure.error)
    assert "batch_real=32, batch_train=16 (batch_real=16, say)" in failure.error
    assert "The engine fast passes real and test images 32 at a time" in failure.error
    assert runner.outcome.evaluated == 1


def test_an_evaluation_that_runs_out_of_memory_says_what_would_fit(run, tmp_path, monkeypatch):
    def exhaust(*arguments):
        raise MemoryError

    monkeypatch.setattr("dcbench.evaluate.side_by_side.evaluate", exhaust)
    (failure,) = run(tmp_path / "r").outcome.failures
    assert failure.error.startswith("MemoryError. linear keeps")
    assert "Protocol dc trains on 256 images at once." in failure.error


def test_activations_of_a_network_are_counted_in_bytes():
    # The images, 4 bytes a pixel; the softmax of 3 classes, 4 bytes each; a label of 8 bytes. And a 4-byte sum.
    assert activation_bytes(Linear(), make_info()) == pytest.approx(64 * 4 + 3 * 4 + 8, abs=8)


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyError("weights"), AssertionError()])
def test_of_a_network_that_cannot_be_tried_nothing_is_said(error):
    class Broken(Architecture):
        """Breaks."""

        name = "broken"

        def build(self, info):
            raise error

    assert activation_bytes(Broken(), make_info()) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_that_is_free_is_some_of_what_the_machine_has():
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_memory(torch.device("cpu")) < there


LIMITED = """
import resource, sys
import torch
from dcbench.cli import main
import dcbench.run.cell_runner
size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + 700_000_000,) * 2)
main()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS")
def test_a_real_method_in_little_memory_fails_and_the_others_go_on(tmp_path):
    words = "run -d digits -m gradmatch -m random --network convnet:width=1024 --eval-network mlp --evals 1"
    words += " --budget quick --engine plain -o gradmatch.iterations=1 -o gradmatch.batch_real=200"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words.split(), "--results", str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1, done.stderr
    failed, fine = read_records(tmp_path / RECORDS)
    assert (failed.method, failed.status, fine.method, fine.status) == ("gradmatch", "failed", "random", "ok")
    assert "convnet:width=1024 keeps" in failed.error
    assert "images fit at once" in failed.error
    assert "batch_real=200" in failed.error
    assert json.loads((tmp_path / RECORDS).read_text().splitlines()[0])["error"] == failed.error
