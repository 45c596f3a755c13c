"""Clusters that are not there, and options of Ray that contradict each other."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from dcbench.cli import main
from dcbench.run.session import Execution
from dcbench.utils.errors import DcbenchError

pytest.importorskip("ray", reason="Ray is not there for this Python or system")

from dcbench.run.executors.ray_cluster import Needs, RayCluster


def test_a_cluster_that_is_not_there_is_said(run, tmp_path, monkeypatch):
    with pytest.raises(DcbenchError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        run(tmp_path, executor=RayCluster(Needs(), 1, address="127.0.0.1:1"))
    monkeypatch.setenv("RAY_ADDRESS", "ray://somewhere:10001")
    with pytest.raises(DcbenchError, match="must be on a node of the cluster"):
        run(tmp_path, executor=RayCluster(Needs(), 1))
    with pytest.raises(DcbenchError, match="no Ray cluster at nonsense: "):
        run(tmp_path, executor=RayCluster(Needs(), 1, address="nonsense"))


def test_auto_is_refused_where_no_cluster_runs(run, tmp_path, monkeypatch):
    def none_runs(address, folder):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr("dcbench.run.executors.ray_cluster.get_ray_address_from_environment", none_runs)
    with pytest.raises(DcbenchError, match="no Ray cluster at auto: Could not find any"):
        run(tmp_path, executor=RayCluster(Needs(), 1, address="auto"))


def test_without_ray_its_executor_says_how_to_have_it(monkeypatch, capsys, tmp_path):
    monkeypatch.delitem(sys.modules, "dcbench.run.executors.ray_cluster")
    monkeypatch.delitem(sys.modules, "dcbench.run.executors.ray_worker")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit) as ended:
        main(["run", "--results", str(tmp_path / "r"), "--executor", "ray"])
    assert ended.value.code == 2
    assert "the executor ray needs Ray: pip install 'dcbench-suite[ray]'." in capsys.readouterr().err


def test_options_of_ray_are_refused_without_it(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["run", "--results", str(tmp_path / "r"), "--gpus-per-cell", "0.25"])
    assert ended.value.code == 2
    assert "gpus_per_cell goes with the executor ray." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("device", "gpus", "message"),
    [
        ("cpu", "0.5", "the device cpu does not go with 0.5 GPUs per cell."),
        ("cuda", "0", "the device cuda does not go with 0 GPUs per cell."),
        ("cuda:1", "1", "device cuda:1: Ray says which GPU a cell gets; choose the device cuda."),
    ],
)
def test_devices_that_gpus_contradict_are_refused(device, gpus, message):
    execution = Execution(device=device, executor="ray", gpus_per_cell=float(gpus))
    with pytest.raises(DcbenchError, match=re.escape(message)):
        execution.choose_executor(torch.device("cpu"))
