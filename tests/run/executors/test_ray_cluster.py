"""Runs on a real Ray cluster of several nodes, each with processes of its own, on this machine."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import tiny_plugin
import torch
from running import interrupt, is_alive, sets, trials, wait_for

from dcbench.evaluate.protocols import PROTOCOLS
from dcbench.results.store import RECORDS, Store, read_records
from dcbench.run.plan import make_plan
from dcbench.run.scheduler import Scheduler
from dcbench.utils.errors import DcbenchError, StorageError

pytest.importorskip("ray", reason="Ray is not there for this Python or system")

from ray.cluster_utils import Cluster

from dcbench.run.executors.ray_cluster import Needs, RayCluster, _connected

pytestmark = pytest.mark.slow

METHODS = {
    "methods": ("gradmatch", "random", "means"),
    "networks": ("convnet:depth=1,width=4",),
    "eval_networks": ("linear", "mlp"),
    "options": {"gradmatch.iterations": "2"},
}


@pytest.fixture(scope="module")
def cluster():
    """Three nodes, each of one CPU, that have the tests' plugin."""
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(tiny_plugin.__file__).parent), os.environ.get("PYTHONPATH", "")]
    )
    # A node is given up when it has not answered twice for 10 s; Ray's own five times are long for a test.
    system = {"health_check_failure_threshold": 2, "health_check_period_ms": 1000}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": system}
    found = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        found.add_node(num_cpus=1)
    found.wait_for_nodes()
    # Once, not for each run: Ray has been seen to crash a process that disconnects. Those that the tests start
    # connect on their own.
    with _connected(found.address):
        yield found
    found.shutdown()


@pytest.fixture
def run_there(cluster, plugins, request_for):
    """Run a request on the cluster and return the scheduler."""

    def go(folder, force=False, threads=1, **changes):
        plan = make_plan(request_for(**changes), plugins)
        executor = RayCluster(Needs(), threads, engine="plain", address=cluster.address)
        scheduler = Scheduler(plan, plugins, Store(folder), force, executor=executor, checkpoint_every=0)
        scheduler.run()
        return scheduler

    return go


def steps_in(log):
    """Which process has taken which step of `Paces`."""
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []


def meanwhile(function):
    """Run a function in a thread of its own; what it raises is raised when it is joined."""
    raised = []

    def catching():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    def join():
        thread.join()
        if raised:
            raise raised[0]

    thread = threading.Thread(target=catching)
    thread.start()
    return join


def test_a_cluster_gives_the_same_bytes_as_one_after_the_other(run, run_there, tmp_path):
    run(tmp_path / "a", **METHODS, sets=2, evals=2)
    runner = run_there(tmp_path / "b", **METHODS, sets=2, evals=2)
    assert sets(tmp_path / "a") == sets(tmp_path / "b")
    assert trials(tmp_path / "a") == trials(tmp_path / "b")
    assert (runner.outcome.condensed, runner.outcome.evaluated) == (5, 24)
    assert not list((tmp_path / "b" / "checkpoints").iterdir())
    again = run_there(tmp_path / "b", **METHODS, sets=2, evals=3)
    assert (again.outcome.condensed, again.outcome.evaluated) == (0, 12)  # from the sets, which were sent there
    forced = run_there(tmp_path / "b", **METHODS, sets=1, evals=1, force=True)
    assert (forced.outcome.condensed, forced.outcome.evaluated) == (3, 6)


def test_cells_are_computed_with_the_threads_they_are_told(run_there, tmp_path):
    run_there(tmp_path, threads=3)  # of one CPU, for which Ray allows one
    (record,) = read_records(tmp_path / RECORDS)
    assert record.device.endswith(", 3 threads")


def test_failures_there_are_recorded_and_their_tracebacks_arrive(run_there, tmp_path):
    runner = run_there(tmp_path, methods=("fails", "random"))
    assert [failure.error for failure in runner.outcome.failures] == ["RuntimeError: nothing works"]
    assert runner.outcome.evaluated == 1
    (trace,) = (tmp_path / "failures").iterdir()
    assert "nothing works" in trace.read_text()


def test_a_cell_whose_worker_is_killed_goes_on_from_the_checkpoint_that_arrived(run, run_there, tmp_path):
    log = tmp_path / "log"
    words = {"methods": ("paces",), "options": {"log": str(log)}, "sets": 3}
    run(tmp_path / "a", **words)
    log.unlink()

    lost = []

    def kill():
        wait_for(lambda: any((tmp_path / "b" / "checkpoints").glob("*.safetensors")))
        for pid in {pid for pid, _ in steps_in(log)}:  # one of them wrote it
            os.kill(pid, signal.SIGKILL)
            lost.extend(row for row in steps_in(log) if row[0] == pid)

    join = meanwhile(kill)
    with pytest.warns(UserWarning, match=r"a worker died on paces on tiny, ipc 1, seed \d \(The worker died"):
        runner = run_there(tmp_path / "b", **words)
    join()
    assert sets(tmp_path / "a") == sets(tmp_path / "b")
    assert trials(tmp_path / "a") == trials(tmp_path / "b")
    assert (runner.outcome.condensed, runner.outcome.failures) == (3, [])
    assert len(steps_in(log)) < 3 * 30 + len(lost)  # it was not begun anew


def taught_with(log, **changes):
    """What to change in a request for sets that need two trained networks, whose training steps are noted."""
    return {"methods": ("taught",), "networks": (f"noting:log={log}",), "ipcs": (1, 2), "sets": 2, **changes}


def noted(log):
    """Which process has taken each training step."""
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_nodes_train_each_network_once_and_are_sent_those_that_are_there(run, run_there, tmp_path):
    log = tmp_path / "log"
    run(tmp_path / "a", **taught_with(log))
    steps = len(noted(log))
    log.unlink()
    runner = run_there(tmp_path / "b", **taught_with(log))
    assert (runner.outcome.condensed, runner.outcome.failures) == (4, [])
    assert sets(tmp_path / "a") == sets(tmp_path / "b")
    assert trials(tmp_path / "a") == trials(tmp_path / "b")
    assert len(noted(log)) == steps
    again = run_there(tmp_path / "b", **taught_with(log, ipcs=(3,)))
    assert (again.outcome.condensed, len(noted(log))) == (2, steps)
    assert not [*(tmp_path / "b" / ".locks").iterdir(), *(tmp_path / "b" / "checkpoints").iterdir()]


def test_a_network_whose_worker_is_killed_is_trained_on_by_another(run, run_there, tmp_path):
    log = tmp_path / "log"
    words = taught_with(log, options={"epochs": "12", "networks": "1"}, sets=1)
    run(tmp_path / "a", **words)
    steps = len(noted(log))
    log.unlink()

    def kill():
        wait_for(lambda: any((tmp_path / "b" / "checkpoints").glob("*.safetensors")))
        os.kill(noted(log)[0], signal.SIGKILL)

    join = meanwhile(kill)
    with pytest.warns(UserWarning, match="a worker died on taught on tiny"):
        runner = run_there(tmp_path / "b", **words)
    join()
    assert (runner.outcome.condensed, runner.outcome.failures) == (2, [])
    assert sets(tmp_path / "a") == sets(tmp_path / "b")
    assert len(set(noted(log))) == 2
    assert steps <= len(noted(log)) < steps + noted(log).count(noted(log)[0])  # it was not begun anew


def test_training_that_diverges_there_is_recorded_and_holds_up_nobody(run_there, tmp_path):
    runner = run_there(tmp_path, methods=("taught", "random"), ipcs=(1, 2), options={"taught.lr": "1e38"})
    failures = [failure.error.partition(",")[0] for failure in runner.outcome.failures]
    # While a cell trains one network, the other cell may begin with the next.
    assert {"Diverged: network 0 of linear on tiny"} <= {*failures}
    assert {*failures} <= {f"Diverged: network {number} of linear on tiny" for number in range(2)}
    assert len(failures) == 2
    assert runner.outcome.evaluated == 2


def stop(pid):
    """Let a process and its children stand still, with their connections open."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                stop(int(path.parent.name))
    os.kill(pid, signal.SIGSTOP)


@pytest.mark.parametrize("stands_still", [False, True], ids=["dies", "stands still"])
def test_cells_of_a_node_that_is_lost_go_to_others(run, run_there, cluster, tmp_path, stands_still):
    log = tmp_path / "log"
    words = {"methods": ("paces",), "options": {"log": str(log)}, "sets": 4}
    run(tmp_path / "a", **words)
    log.unlink()
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()

    def end_node():
        wait_for(lambda: len({pid for pid, step in steps_in(log) if step > 3}) == 4)  # so this node has one
        if stands_still:
            stop(node.all_processes["raylet"][0].process.pid)
        else:
            cluster.remove_node(node, allow_graceful=False)

    join = meanwhile(end_node)
    with pytest.warns(UserWarning, match="a worker died on paces"):
        runner = run_there(tmp_path / "b", **words)
    join()
    assert sets(tmp_path / "a") == sets(tmp_path / "b")
    assert trials(tmp_path / "a") == trials(tmp_path / "b")
    assert (runner.outcome.condensed, runner.outcome.failures) == (4, [])
    if stands_still:
        cluster.remove_node(node, allow_graceful=False)


def test_a_run_that_is_killed_ends_its_workers_and_goes_on_when_started_again(run, start, cluster, tmp_path):
    log = tmp_path / "log"
    dc = PROTOCOLS["dc"]  # as the command has it
    run(
        tmp_path / "a",
        methods=("paces",),
        options={"log": str(log)},
        eval_networks=("linear",),
        sets=3,
        protocol=dc,
    )
    log.unlink()
    words = ["-m", "paces", "-o", f"log={log}", "--network", "linear", "--eval-network", "linear", "--evals", "1"]
    words += ["--sets", "3", "--no-baselines", "--checkpoint-every", "0", "--engine", "plain"]
    words += ["--executor", "ray", "--address", cluster.address]
    first = start(*words)
    wait_for(lambda: any((tmp_path / "r" / "checkpoints").glob("*.safetensors")), first)
    workers = {pid for pid, _ in steps_in(log)}
    first.kill()
    wait_for(lambda: not any(map(is_alive, workers)))
    begun = len(steps_in(log))
    second = start(*words)
    out, _ = second.communicate(timeout=120)
    assert second.returncode == 0, out
    assert sets(tmp_path / "a") == sets(tmp_path / "r")
    assert trials(tmp_path / "a") == trials(tmp_path / "r")
    assert len(steps_in(log)) - begun < 3 * 30  # from the checkpoints that had arrived


def test_an_interrupted_run_gives_its_cells_up(start, cluster, tmp_path):
    log = tmp_path / "log"
    words = ["-m", "paces", "-o", f"log={log}", "-o", "steps=1000", "--eval-network", "linear", "--evals", "1"]
    process = start(*words, "--no-baselines", "--executor", "ray", "--address", cluster.address)
    workers = {pid for pid, _ in wait_for(lambda: steps_in(log), process)}
    interrupt(process, workers)


def test_a_node_with_other_code_is_refused(run_there, tmp_path, monkeypatch):
    digests = sys.modules["dcbench.run.executors.ray_cluster"].digests_of_code
    monkeypatch.setattr(
        "dcbench.run.executors.ray_cluster.digests_of_code",
        lambda packages: digests(packages) | {"tiny_plugin": "0" * 64},
    )
    with pytest.raises(DcbenchError, match=r"has other code than the run: tiny_plugin\. Install the same"):
        run_there(tmp_path)
    assert not (tmp_path / RECORDS).exists()


def test_a_node_that_lacks_a_plugin_is_named(run_there, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_plugin.Means, "__module__", "not_there")
    monkeypatch.setitem(sys.modules, "not_there", tiny_plugin)
    with pytest.raises(DcbenchError, match=r"cannot work on cells: .*No module named 'not_there'"):
        run_there(tmp_path, methods=("means",))


def test_cells_with_needs_that_no_node_meets_wait_and_the_user_is_told(cluster):
    executor = RayCluster(Needs(cpus=2.0, memory=2**30), 2)
    with pytest.warns(UserWarning, match=r"room for a cell, 2 CPU, 0 GPU, 1 GiB of memory: waiting"):
        assert executor._room() == 1
    assert RayCluster(Needs(cpus=0.25), 1)._room() == 12 + 1 + 3
    assert RayCluster(Needs(), 1, at_once=2)._room() == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use it")
def test_cells_that_need_a_gpu_go_to_its_node_which_says_so_where_torch_cannot_use_it(
    cluster, plugins, request_for, tmp_path
):
    node = cluster.add_node(num_cpus=1, num_gpus=1)  # as far as Ray is told
    cluster.wait_for_nodes()
    try:
        executor = RayCluster(Needs(cpus=0.25, gpus=0.25), 1, engine="plain", address=cluster.address)
        assert executor._room() == 4 + 1 + 1
        plan = make_plan(request_for(), plugins)
        scheduler = Scheduler(plan, plugins, Store(tmp_path), executor=executor)
        with pytest.raises(DcbenchError, match=r"on node .*: device 'cuda' is not there: torch sees 0"):
            scheduler.run()
    finally:
        cluster.remove_node(node)


def test_results_that_cannot_be_written_end_the_run(run_there, tmp_path, monkeypatch):
    def full(path, data):
        raise StorageError("disk full.")

    monkeypatch.setattr("dcbench.run.executors.ray_networks.write_atomically", full)
    with pytest.raises(StorageError, match="disk full"):
        run_there(tmp_path)
    assert not (tmp_path / RECORDS).exists()
