"""Which device a name stands for."""

from __future__ import annotations

import pytest
import torch

from dcbench.run.executors.processes import device_of_slot
from dcbench.utils.devices import choose_device
from dcbench.utils.errors import DcbenchError


@pytest.fixture
def two_gpus(monkeypatch):
    """Pretend that there are two; return the devices that become current ones."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: None)
    return current


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_any_gpu_will_do_so_each_lane_has_its_own(two_gpus, name):
    device = choose_device(name)
    assert device == torch.device("cuda")
    assert [device_of_slot(device, slot).index for slot in range(4)] == [0, 1, 0, 1]
    assert two_gpus == []


def test_a_gpu_that_is_named_is_that_of_every_lane(two_gpus):
    device = choose_device("cuda:1")
    assert [device_of_slot(device, slot).index for slot in range(2)] == [1, 1]
    assert two_gpus == [torch.device("cuda:1")]


def test_a_gpu_that_is_not_there_is_refused(two_gpus):
    with pytest.raises(DcbenchError, match="device 'cuda:2' is not there: torch sees 2 CUDA devices"):
        choose_device("cuda:2")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused():
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(DcbenchError, match="device 'cuda' is not there"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["tpu", "cpu:x", "mps", "cuda:01", "cuda:-1"])
def test_what_is_no_device_is_refused(name):
    with pytest.raises(DcbenchError, match="use auto, cpu, cuda or cuda:N"):
        choose_device(name)
