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
from dcbench.core.spec import EvaluationSpec
from dcbench.engine import graphs
from dcbench.engine.engine import MICRO_BATCH, Engine
from dcbench.evaluate.protocols import EvaluationProtocol
from dcbench.run.cells import Cell

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
    graphs.forget()
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def what_would_fit(cell: Cell, trial: EvaluationSpec | None, engine: Engine, protocol: EvaluationProtocol) -> str:
    """Return sentences for the user: how many images fit at once, and which options say how many there are.

    Args:
        cell: that failed.
        trial: the evaluation that failed, or None where the condensation did.
        engine: how it was computed.
        protocol: of evaluations.
    """
    said, device = [], cell.bench.device
    network = _network_of(cell, trial)
    needed = activation_bytes(network, cell.bench.info) if network else None
    free = free_memory(device)
    if network and needed:
        shape = "x".join(map(str, (cell.bench.info.channels, *cell.bench.info.size)))
        said.append(f"{network} keeps {_spell(needed)} of activations for each image of {shape}.")
        if free is not None:
            fits = max(0, free // needed)
            said.append(f"{_spell(free)} are free on {device}: at most {fits:,} images fit at once.")
    elif free is not None:
        said.append(f"{_spell(free)} are free on {device}.")
    if trial is None:
        said += _batch_options(cell)
    else:
        said.append(f"Protocol {protocol.name} trains on {protocol.batch_size} images at once.")
    if engine.micro_batch:
        said.append(f"Engine {engine.name} passes real and test images {engine.micro_batch} at a time.")
    elif device.type == "cpu":
        said.append(f"--engine fast passes real and test images {MICRO_BATCH} at a time.")
    return " ".join(said)


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


def _network_of(cell: Cell, trial: EvaluationSpec | None) -> Architecture | None:
    """Return the network that was trained or matched on, where there is one."""
    if trial is not None:
        return next((each for each, _ in cell.trials if str(each) == trial.evaluation_network), None)
    network = getattr(cell.maker, "architecture", None)  # a set made elsewhere has none
    return network if cell.spec.matching_network else None


def _batch_options(cell: Cell) -> list[str]:
    """Return the method's options that say how many images it takes at once."""
    sizes = {
        name: value
        for name, value in cell.spec.options.items()
        if name.startswith("batch") and isinstance(value, int) and not isinstance(value, bool)
    }
    if not sizes:
        return []
    listed = ", ".join(f"{name}={value}" for name, value in sizes.items())
    name, value = max(sizes.items(), key=lambda item: item[1])
    return [f"Options of {cell.spec.method} that say how many: {listed} (-o {name}={max(1, value // 2)}, say)."]


def _spell(size: int) -> str:
    """Return a size in decimal units, e.g. ``1.2 MB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
