"""Choosing the device, making it repeat itself, and sending it tensors."""

from __future__ import annotations

import os
import re

import torch
from torch import Tensor

from dcbench.utils.errors import DcbenchError


def choose_device(name: str) -> torch.device:
    """Return the device a user names: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; others raise a `DcbenchError`.

    ``auto`` is CUDA if there is any, else the CPU. ``cuda`` is returned without an index, which the current device
    of the process stands for, so that several processes can be given one each; a device with an index becomes the
    current one. On CUDA, deterministic kernels and full float32 are switched on, for the same bytes each time.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9]\d?))?", name):
        raise DcbenchError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N.")
    device = torch.device(name)
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise DcbenchError(f"device {name!r} is not there: torch sees {count} CUDA devices.")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if device.index is not None:
        torch.cuda.set_device(device)  # whose generator is then the one that checkpoints keep
    return device


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, without waiting for what the device was told before.

    From memory that the system may move, a copy to a GPU waits until all that is under way there is done.
    """
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
