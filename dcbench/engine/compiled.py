"""Compiled networks: `torch.compile` computes what stands between two convolutions in one pass over memory.

On the CPU, normalisation, activation and pooling take as long as half the convolutions; compiled, a quarter of
that. Compiling takes some 15 seconds per kind of network, so it is for long work. One compilation serves every
network of the same structure, whatever its parameters, and any number of images; for few images torch compiles
again. The thread that calls compiled code computes it alone.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]

OPTIONS: dict[str, str | int | bool | Callable[..., object]] = {"cpp.threads": 1}
WARM_UP = 32
"""Images that a fresh compilation is tried on."""

_known: dict[str, bool] = {}
"""Structures that were tried, and whether they compile."""
_fell_back = False
_compiling = threading.Lock()


@cache
def can_compile() -> bool:
    """Say whether this machine has what compiling needs, by trying it: a C++ compiler, and Python's headers."""
    _configure()
    try:
        torch.compile(lambda x: x + 1, options=OPTIONS)(torch.zeros(64))
    except RuntimeError:  # the base of all errors of torch
        return False
    return True


def clear() -> None:
    """Forget that something could not be compiled."""
    global _fell_back
    _fell_back = False


def fell_back() -> bool:
    """Say whether a network could not be compiled since the last `clear`."""
    return _fell_back


def compile_network(network: nn.Module, images: Tensor, gradients: bool) -> Forward:
    """Return the compiled network; where compiling fails, warn and return the network itself.

    Call it in a thread whose operations use as many threads as those of the threads that will use the result.

    Args:
        network: in the mode in which it will be used; it draws no random numbers.
        images: some that it takes, (N, C, H, W).
        gradients: whether they will be needed; else the result is for inference mode.
    """
    run = torch.compile(network, options=OPTIONS)

    def forward(images: Tensor) -> Tensor:
        if len(images) == 1:  # torch would compile for one image anew
            return network(images)  # type: ignore[no-any-return]
        _configure()
        torch._dynamo.maybe_mark_dynamic(images, 0)
        return run(images)  # type: ignore[no-any-return]

    # A name for the networks that one compilation serves. Torch compiles again where it is too wide.
    shapes = [tuple(parameter.shape) for parameter in network.parameters()]
    key = f"{network}{shapes}{tuple(images.shape[1:])}{images.dtype}{network.training}{gradients}"
    with _compiling:
        if key not in _known:
            with torch.inference_mode(not gradients):
                _known[key] = _try(forward, network, images[:1].repeat(WARM_UP, 1, 1, 1))
    if _known[key]:
        return forward
    global _fell_back
    _fell_back = True
    return network


def count_weight_flops(network: nn.Module, images: Tensor) -> int:
    """Return the operations of a network's pass over one image, additions and multiplications counted apart.

    Those of convolutions and linear layers, from their shapes. Torch's own counter counts attention, too, but it
    takes 10 ms, which is long where each iteration draws a network, and imports the compiler, which takes seconds.
    """
    counts = []

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            counts.append(2 * layer.weight.numel() * output.numel() // len(layer.weight))

    with ExitStack() as stack, torch.no_grad():
        for each in network.modules():
            stack.callback(each.register_forward_hook(count).remove)
        network(images)
    return sum(counts) // len(images)


def _try(forward: Forward, network: nn.Module, images: Tensor) -> bool:
    """Compile by a pass forward and, where gradients are wanted, back; say whether it worked."""
    try:
        logits = forward(images)
        if logits.requires_grad:
            parameters = [each for each in network.parameters() if each.requires_grad]
            torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        warnings.warn(f"{type(network).__name__} cannot be compiled, so it takes longer: {reason}", stacklevel=2)
        return False
    return True


def _configure() -> None:
    """Let a thread compile any number of networks: past its limit torch stops compiling and does not say so.

    Each thread has these settings of its own.
    """
    if getattr(_this_thread, "configured", False):
        return
    import torch._dynamo.config as dynamo

    # By their old names, which every version knows.
    dynamo.cache_size_limit = dynamo.accumulated_cache_size_limit = 10_000
    dynamo.automatic_dynamic_shapes = False  # after two sizes torch would compile for any size
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it complains that there is no CUDA
    _this_thread.configured = True


_this_thread = threading.local()
