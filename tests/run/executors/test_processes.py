"""Several cells at once in processes of their own, and several runs at once on one folder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from running import checkpointing_always, interrupt, is_alive, sets, trials, wait_for

from dcbench.condense.checkpoint import FileCheckpoint
from dcbench.results.store import RECORDS, Store, read_records
from dcbench.run.executors.processes import Processes, device_of_slot, reason_of
from dcbench.run.plan import make_plan
from dcbench.run.scheduler import Scheduler
from dcbench.utils.seeds import new_generator

GRADMATCH = {
    "methods": ("gradmatch", "random", "herding", "means"),
    "networks": ("convnet:depth=1,width=4",),
    "eval_networks": ("linear", "mlp"),
    "options": {"gradmatch.iterations": "2", "herding.epochs": "1"},
}


def test_processes_give_the_same_bytes_as_one_after_the_other(run, tmp_path):
    run(tmp_path / "a", **GRADMATCH, sets=2, evals=2)
    runner = run(tmp_path / "b", **GRADMATCH, sets=2, evals=2, executor=Processes(2, 1))
    assert sets(tmp_path / "a") == sets(tmp_path / "b")
    assert trials(tmp_path / "a") == trials(tmp_path / "b")
    assert (runner.outcome.condensed, runner.outcome.evaluated) == (7, 32)
    assert not list((tmp_path / "b" / ".locks").iterdir())


def test_what_is_done_is_not_done_again(run, tmp_path):
    run(tmp_path / "r", **GRADMATCH)
    again = run(tmp_path / "r", **GRADMATCH, evals=2, executor=Processes(3, 1))
    assert (again.outcome.condensed, again.outcome.evaluated) == (0, 8)


def test_failures_in_processes_are_recorded_and_the_other_cells_go_on(run, tmp_path):
    runner = run(tmp_path / "r", methods=("fails", "random"), executor=Processes(2, 1))
    assert [failure.error for failure in runner.outcome.failures] == ["RuntimeError: nothing works"]
    assert runner.outcome.evaluated == 1


@pytest.mark.parametrize("force", [False, True])
def test_the_cell_of_a_process_that_is_killed_goes_to_another(run, tmp_path, force):
    (tmp_path / "marks").mkdir()
    words = {"methods": ("dies", "random"), "options": {"dies.marks": str(tmp_path / "marks")}, "evals": 2}
    with pytest.warns(UserWarning, match=r"a worker died on dies on tiny, ipc 1, seed 0 \(killed by signal 9"):
        runner = run(tmp_path / "r", **words, executor=Processes(2, 1), force=force)
    assert (runner.outcome.condensed, runner.outcome.evaluated, runner.outcome.failures) == (2, 4, [])
    assert len(read_records(tmp_path / "r" / RECORDS)) == 4


def test_a_forced_cell_whose_process_is_killed_goes_on_from_this_run_s_checkpoint_alone(
    request_for, plugins, tmp_path
):
    log, store = tmp_path / "log", Store(tmp_path / "r")
    plan = make_plan(request_for(methods=("paces",), options={"log": str(log)}), plugins)
    Scheduler(plan, plugins, store).run()
    (cell,), before, once = plan.cells, sets(tmp_path / "r"), trials(tmp_path / "r")
    log.unlink()
    with checkpointing_always():  # of a former run, which had come to step 20
        former = FileCheckpoint(
            store.checkpoint_path(cell.spec), new_generator("another"), cell.source.origin.code
        )
        former.offer(lambda: {"images": torch.ones(3, 1, 8, 8), "steps": torch.tensor(20)})
    scheduler = Scheduler(plan, plugins, store, force=True, executor=Processes(2, 1), checkpoint_every=0)

    def steps():
        return [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []

    def kill():
        wait_for(lambda: len(steps()) > 10)
        os.kill(steps()[0][0], signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.warns(UserWarning, match="a worker died on paces"):
        scheduler.run()
    killing.join()
    first_steps = {}
    for worker, step in steps():
        first_steps.setdefault(worker, step)
    begun, gone_on = first_steps.values()
    assert (begun, gone_on > 0) == (0, True)
    assert (scheduler.outcome.condensed, scheduler.outcome.failures) == (1, [])
    assert (sets(tmp_path / "r"), trials(tmp_path / "r")) == (before, once * 2)


def test_a_worker_that_dies_in_the_middle_of_a_message_gives_its_cell_back():
    ours, theirs = multiprocessing.Pipe()
    os.write(theirs.fileno(), struct.pack("!i", 100) + b"the first bytes")
    theirs.close()
    requeued = []
    process = SimpleNamespace(exitcode=1, join=lambda timeout: None, is_alive=lambda: False)
    worker = SimpleNamespace(connection=ours, process=process, assignment=SimpleNamespace(number=7))
    scheduler = SimpleNamespace(requeue=lambda *what: requeued.append(what))
    assert not Processes(1, 1)._listen(worker, 0, scheduler)
    assert requeued == [(7, "exit code 1")]


def test_warnings_of_processes_are_passed_on(run, tmp_path):
    with pytest.warns(UserWarning, match="survived"):
        run(
            tmp_path / "r",
            methods=("dies",),
            options={"marks": str(tmp_path), "times": "0"},
            executor=Processes(2, 1),
        )


def test_a_cell_that_kills_every_process_is_recorded_as_failed(run, tmp_path):
    (tmp_path / "marks").mkdir()
    options = {"dies.marks": str(tmp_path / "marks"), "dies.times": "100"}
    with pytest.warns(UserWarning, match="a worker died"):
        runner = run(tmp_path / "r", methods=("dies", "random"), options=options, executor=Processes(1, 1))
    (failure,) = runner.outcome.failures
    assert failure.error.startswith("the worker died 3 times, the last time: killed by signal 9")
    assert failure.method == "dies"
    assert runner.outcome.evaluated == 1


def test_processes_share_gpus_out_unless_one_is_named(monkeypatch):
    import torch

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [device_of_slot(torch.device("cuda"), slot).index for slot in range(4)] == [0, 1, 0, 1]
    assert device_of_slot(torch.device("cuda:1"), 0).index == 1
    assert device_of_slot(torch.device("cpu"), 3).type == "cpu"
    assert reason_of(-11) == "killed by signal 11"
    assert reason_of(3) == "exit code 3"


def waiting(tmp_path, *words):
    marks = tmp_path / "marks"
    marks.mkdir(exist_ok=True)
    return [
        "-m",
        "waits",
        "-o",
        f"marks={marks}",
        "--eval-network",
        "linear",
        "--evals",
        "1",
        "--sets",
        "3",
        *words,
    ]


def started_by(tmp_path):
    return [int(path.stem) for path in (tmp_path / "marks").glob("*.started")]


@pytest.mark.parametrize("jobs", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_two_runs_on_one_folder_do_each_cell_once(start, tmp_path, jobs):
    words = waiting(tmp_path, "--jobs", jobs)
    first = start(*words)
    wait_for(lambda: started_by(tmp_path))
    second = start(*words)
    wait_for(lambda: len(started_by(tmp_path)) >= 2)  # the second run works, on another cell
    (tmp_path / "marks" / "go").touch()
    for process in (first, second):
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
    records = read_records(tmp_path / "r" / RECORDS)
    assert sorted(record.condense_seed for record in records) == [0, 1, 2]


@pytest.mark.slow
def test_a_run_takes_over_the_cell_of_another_that_dies_with_it(start, tmp_path):
    words = waiting(tmp_path)
    first = start(*words, "--sets", "1")
    wait_for(lambda: started_by(tmp_path))
    second = start(*words, "--sets", "1")
    wait_for(lambda: "waiting for it" in second.stdout.readline())
    assert len(started_by(tmp_path)) == 1
    first.kill()
    wait_for(lambda: len(started_by(tmp_path)) == 2)
    (tmp_path / "marks" / "go").touch()
    out, _ = second.communicate(timeout=120)
    assert second.returncode == 0, out
    assert len(read_records(tmp_path / "r" / RECORDS)) == 1


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
def test_workers_die_with_the_run(start, tmp_path):
    process = start(*waiting(tmp_path, "--jobs", "2"))
    workers = wait_for(lambda: len(found := started_by(tmp_path)) == 2 and found)
    assert process.pid not in workers
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, workers)))


@pytest.mark.slow
def test_an_interrupted_run_ends_its_workers_and_says_what_is_kept(start, tmp_path):
    process = start(*waiting(tmp_path, "--jobs", "2"))
    workers = wait_for(lambda: len(found := started_by(tmp_path)) == 2 and found)
    interrupt(process, workers)
