"""Engines: how networks are matched, trained and tested. The engines differ by rounding alone.

The plain engine does one thing after the other, as the papers' code does, and torch shares every single operation
between threads. The fast engine is for the CPU:

- Each thread has work of its own: a class to match, a chunk of the test split. Operations on few images gain
  little from being shared, and threads that share them wait for each other.
- Images pass in micro-batches, whose activations stay in the caches. Gradients are summed.
- Freed memory is kept: glibc would return it to the system at every operation on a large batch, which takes long.

The compiled engine also compiles networks for long work, and work with second derivatives as a whole (see
`dcbench.engine.compiled`), and shares batches of training between threads. On a GPU the fast engine records what
Python tells the GPU to do, and replays it (see `dcbench.engine.graphs`).

The spec, the device and the user alone decide on the engine: the same spec gives the same bytes. All engines
compute a network plainly if it draws random numbers, or if its images do not pass independently of each other.
"""

from __future__ import annotations

import ctypes
import math
import platform
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from dcbench.engine import compiled, graphs
from dcbench.engine.compiled import Forward, can_compile, compile_network, compile_work, count_weight_flops
from dcbench.engine.graphs import Outputs, Replayed
from dcbench.utils.errors import DcbenchError, unknown_name
from dcbench.utils.seeds import GLOBALS

Item = TypeVar("Item")
Result = TypeVar("Result")

MICRO_BATCH = 32
"""Images at a time: 16 MB of the largest activation of a ConvNet on 32x32 pixels."""
COMPILE_FROM = 1e11
"""Floating-point operations of a piece of work, a second's for two cores, from which on it is compiled."""
SHARE_FROM = 5e9
"""Floating-point operations from which on it pays to share them out between workers, who all wait for the last."""
FEW = 4
"""Images of a batch from which on it is shared out between the workers."""
ENGINES = ("auto", "plain", "fast", "compiled")
IN_PART = " in part"
"""Follows the engine's name where something could not be compiled or recorded."""


@dataclass(frozen=True)
class Engine:
    """One way to compute.

    Attributes:
        name: as users write it.
        workers: threads that have work of their own.
        micro_batch: images of a class, or of a test split, that pass through a network at a time; None for all.
        compiles: whether networks are compiled for long work.
        replays: whether the operations of a GPU are recorded and replayed.
        side_by_side: whether small networks are trained one on each worker (see `dcbench.evaluate.side_by_side`).
    """

    name: str
    workers: int = 1
    micro_batch: int | None = None
    compiles: bool = False
    replays: bool = False
    side_by_side: bool = False

    def forward(
        self,
        network: nn.Module,
        images: Tensor,
        *,
        passes: int,
        passes_at_once: int | None = None,
        gradients: bool = True,
    ) -> Forward:
        """Return the function that passes images through a network: itself or, where that pays, its compiled form.

        Args:
            network: in the mode in which it will be used.
            images: some that it takes, (N, C, H, W).
            passes: how many images will pass; one that passes back, too, counts as three.
            passes_at_once: how many until the workers wait for each other; None for all.
            gradients: whether they will be needed.
        """
        if not self.compiles_for(network, images, passes, passes_at_once):
            return network
        # Compiled code depends on how many threads the thread has that it is compiled in.
        return next(self.map(lambda _: compile_network(network, images, gradients), (None,)))

    def compiles_for(
        self, network: nn.Module, images: Tensor, passes: int, passes_at_once: int | None = None
    ) -> bool:
        """Say whether work is compiled that so many images pass in, as ``forward`` counts them."""
        if not self.compiles:
            return False
        flops = count_weight_flops(network, images[:1])
        return passes * flops >= COMPILE_FROM and (passes_at_once or passes) * flops >= SHARE_FROM

    def compile_work(
        self, function: Callable[..., Outputs], network: nn.Module, *constants: Hashable, tensors: Sequence[Tensor]
    ) -> Callable[..., Outputs]:
        """Return a function of tensors that does ``function(network, *constants, *tensors)``, compiled.

        Unlike ``forward``, for work that takes derivatives of derivatives. The arguments are those of
        `dcbench.engine.compiled.compile_work`.
        """
        compile_it = partial(compile_work, function, network, constants, tensors)
        return next(self.map(lambda _: compile_it(), (None,)))

    def replayed(
        self, function: Callable[..., Outputs], network: nn.Module, *constants: Hashable
    ) -> Callable[..., Outputs]:
        """Return a function of tensors that calls ``function(network, *constants, *tensors)``, or replays it.

        Its next call may overwrite what it returned. See `dcbench.engine.graphs.Replayed`.
        """
        return (Replayed if self.replays else partial)(function, network, *constants)

    def statement(self) -> str:
        """Return what records state: the name, unless something could not be compiled or recorded."""
        in_part = (self.compiles and compiled.fell_back.is_set()) or (self.replays and graphs.fell_back())
        return self.name + IN_PART if in_part else self.name

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield ``function(item)`` for all items in their order, computed by the workers.

        The caller's thread draws the items, in order, and few of them in advance.
        """
        if self.workers == 1:
            yield from map(function, items)
            return
        pool, waiting = self.pool(), deque[Future[Result]]()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def share(self, n: int) -> int:
        """Return how many images of a batch of n one worker computes at a time: equal shares, or all of a few."""
        if n < FEW:
            return n
        rounds = math.ceil(n / (self.workers * (self.micro_batch or n)))
        return math.ceil(n / (rounds * self.workers))

    def pool(self) -> ThreadPoolExecutor:
        """Return the workers' threads, none of which shares its operations with others."""
        return _pool(self.workers)

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Leave the cores to the workers: meanwhile operations of this thread use one thread.

        After an operation OpenMP's other threads stay awake for a while, and take time from the workers.
        """
        before = torch.get_num_threads()
        if self.workers > 1:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if self.workers > 1:
                torch.set_num_threads(before)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Use this engine for what this thread computes within; then forget recordings and what fell back."""
        try:
            with self.current():
                yield
        finally:
            compiled.fell_back.clear()
            graphs.clear()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Use this engine for what this thread computes within."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


PLAIN = Engine("plain")

_current: ContextVar[Engine] = ContextVar("engine", default=PLAIN)


def engine_for(network: nn.Module, images: Tensor) -> Engine:
    """Return the active engine, or the plain one where splitting a batch would change what a network computes.

    Args:
        network: in the mode in which it will be used.
        images: some that it takes, shape (N, C, H, W).
    """
    engine = _current.get()
    if engine is PLAIN or mixes_images(network) or any(draws_or_changes(network, images[:1])):
        return PLAIN
    return engine


def mixes_images(network: nn.Module) -> bool:
    """Say whether BatchNorm normalises a batch by itself, so that its images do not pass independently."""
    return any(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) and (layer.training or layer.running_mean is None)
        for layer in network.modules()
    )


def active_engine() -> Engine:
    """Return the active engine."""
    return _current.get()


def choose_engine(name: str, device: torch.device, long: bool = False, side_by_side: bool = False) -> Engine:
    """Return the engine that a user names; ``auto`` is the one that is fastest for the device and the run.

    An engine of the CPU other than the plain one changes how this process allocates memory, for good.

    Args:
        name: one of `ENGINES`.
        device: that it is for.
        long: whether the run is long enough for compiling, which takes 15 seconds for each kind of network.
        side_by_side: whether one thread may train a small network on the CPU.

    Raises:
        DcbenchError: for an unknown name, or an engine that is not for the device.
    """
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if device.type != "cpu":
        if name == "compiled":
            raise DcbenchError(f"engine 'compiled' is for the CPU; on {device.type} there is 'fast'.")
        return Engine("fast", replays=True) if name == "fast" else PLAIN
    if name == "plain":
        return PLAIN
    if name == "compiled" and not can_compile():
        raise DcbenchError("engine 'compiled' needs a C++ compiler, g++ or clang++; without one there is 'fast'.")
    compiles = name == "compiled" or (name == "auto" and long and can_compile())
    _keep_freed_memory()
    return Engine(
        "compiled" if compiles else "fast",
        workers=torch.get_num_threads(),
        micro_batch=MICRO_BATCH,
        compiles=compiles,
        side_by_side=side_by_side,
    )


def draws_or_changes(network: nn.Module, images: Tensor) -> tuple[bool, bool]:
    """Say whether a pass draws from a global generator, as dropout does, and whether it changes buffers.

    Generators and buffers are left as they were.
    """
    devices = [images.device] if images.is_cuda else []

    def states() -> list[Tensor]:
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]

    buffers = list(network.buffers())
    versions, values = [each._version for each in buffers], [each.clone() for each in buffers]
    with GLOBALS, torch.random.fork_rng(devices=devices), torch.no_grad():
        before = states()
        network(images)
        drew = not all(map(torch.equal, before, states()))
        changed = versions != [each._version for each in buffers]
        for buffer, value in zip(buffers, values, strict=True) if changed else ():
            buffer.copy_(value)
    return drew, changed


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "dcbench", initializer=_work_alone)


def _work_alone() -> None:
    """Let operations of this thread use this thread alone."""
    torch.get_num_threads()  # a thread forgets what it sets before it has asked
    torch.set_num_threads(1)


@cache
def _keep_freed_memory() -> None:
    """Tell glibc to take large blocks from its heap, and to keep them when they are freed."""
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 64 * 2**20)
