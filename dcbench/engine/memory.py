"""When memory runs out: noticing it, giving back what the failed work held, and saying what would fit."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
import sys
import traceback
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dcbench.core.architecture import Architecture, new_network
from dcbench.core.dataset import DatasetInfo
from dcbench.engine import graphs

CPU_SAYS = ("DefaultCPUAllocator", "can't allocate memory", "bad_alloc", "not enough memory")
"""What torch's errors contain that are plain RuntimeErrors, when the CPU's memory has run out."""

HEAP = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]
"""The fields of glibc's ``struct mallinfo2``."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory has run out, on the CPU or on a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in CPU_SAYS)


def free_what_failed(error: BaseException) -> None:
    """Let go of the tensors that the failed work held, so that other work finds the memory free."""
    failed: BaseException | None = error
    while failed is not None:
        traceback.clear_frames(failed.__traceback__)
        failed = failed.__cause__ or failed.__context__
    graphs.clear()
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def activation_bytes(architecture: Architecture, info: DatasetInfo) -> int | None:
    """Return the bytes that one image's pass forward keeps for the pass back; None where that is not found out.

    Matching gradients, which differentiates twice, keeps a few times as much for synthetic images.
    """
    # Nothing is computed on the meta device, and no memory is needed, of which there is none.
    for device in ("meta", "cpu"):
        try:
            return _kept(architecture, info, torch.device(device))
        except Exception:  # networks that read numbers off their tensors do not run there
            continue
    return None


def _kept(architecture: Architecture, info: DatasetInfo, device: torch.device) -> int:
    if device.type == "meta":
        with device:
            network = architecture.build(info)
    else:
        network = new_network(architecture, info, 0)
    parameters = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}  # kept alive, so that no storage's address is used again

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in parameters:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    images = torch.zeros(2, info.channels, *info.size, device=device)  # BatchNorm takes no single one
    with torch.random.fork_rng(devices=()), torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
        F.cross_entropy(network.train()(images), torch.zeros(2, dtype=torch.int64, device=device))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) // 2


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that this process can still allocate; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if not sys.platform.startswith("linux"):
        return None
    meminfo, status = _kilobytes(Path("/proc/meminfo")), _kilobytes(Path("/proc/self/status"))
    bounds = [meminfo[name] for name in ("MemAvailable",) if name in meminfo]
    import resource  # not on Windows

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and "VmSize" in status:
        bounds.append(limit - status["VmSize"])
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no control group of version 2, or one without a limit
        bounds.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    # What was freed stays with the process, and is not among what the system has.
    return max(0, min(bounds)) + _free_in_heap() if bounds else None


def _free_in_heap() -> int:
    """Return the bytes that glibc keeps for this process, freed and to be allocated again."""
    if platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        return 0
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = type("Mallinfo", (ctypes.Structure,), {"_fields_": [(n, ctypes.c_size_t) for n in HEAP]})
    return int(mallinfo().fordblks)


def _kilobytes(path: Path) -> dict[str, int]:
    """Read the lines ``Name: 123 kB`` of a file, in bytes."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[2:] == ["kB"]}
