"""When memory runs out: noticing it, freeing what the failed work held, and counting what there is."""

from __future__ import annotations

import contextlib
import gc
import traceback
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from dcbench.core.architecture import Architecture
from dcbench.core.dataset import DatasetInfo
from dcbench.engine import graphs

CPU_MESSAGES = ("DefaultCPUAllocator", "can't allocate memory", "bad_alloc", "not enough memory")
"""Words in torch's RuntimeErrors when the memory of the CPU has run out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory has run out, on the CPU or on a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in CPU_MESSAGES)


def free_what_failed(error: BaseException) -> None:
    """Free the tensors that the failed work held, so that other work can have the memory."""
    failed: BaseException | None = error
    while failed is not None:
        traceback.clear_frames(failed.__traceback__)
        failed = failed.__cause__ or failed.__context__
    graphs.clear()
    return_freed_memory()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def activation_bytes(architecture: Architecture, info: DatasetInfo) -> int | None:
    """Return the bytes that the forward pass of one image keeps for the backward pass; None if it cannot be tried.

    Matching gradients, which differentiates twice, keeps a few times as much for synthetic images.
    """
    kept: dict[int, Tensor] = {}  # kept alive, so that no storage's address is used again

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    device = torch.device("meta")  # which computes nothing and needs no memory, of which there is none
    try:
        with device:
            network = architecture.build(info).train()
        images = torch.zeros(2, info.channels, *info.size, device=device)  # BatchNorm takes no single one
        with torch.random.fork_rng(devices=()), torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
            F.cross_entropy(network(images), torch.zeros(2, dtype=torch.int64, device=device))
    except Exception:  # a network that reads values of its tensors does not run on meta
        return None
    for parameter in network.parameters():
        kept.pop(parameter.untyped_storage()._cdata, None)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) // 2


def parameter_bytes(architecture: Architecture, info: DatasetInfo) -> int:
    """Return the bytes of the parameters of a network."""
    with torch.device("meta"):
        return sum(parameter.nbytes for parameter in architecture.build(info).parameters())


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process can still allocate."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    bounds = [psutil.virtual_memory().available]
    with contextlib.suppress(OSError, ValueError):  # no control group of version 2, or one without a limit
        group = Path("/sys/fs/cgroup")
        bounds.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, int(min(bounds)))


def return_freed_memory() -> None:
    """Give the memory that this process has freed back to the system."""
    gc.collect()
    if hasattr(psutil, "heap_trim"):  # not with every C library
        psutil.heap_trim()
