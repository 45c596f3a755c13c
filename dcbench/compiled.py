"""Compiled networks: what stands between convolutions in one pass over memory, by `torch.compile`.

On the CPU, normalisation, activation and pooling together take as long as half the convolutions, since each reads
and writes all activations. Compiled, they take a quarter of that. Compiling takes some 15 seconds per kind of
network, so it is for long work.

One compilation serves every network of the same structure, whatever its parameters, and every number of images but
one. Compiled code runs in the thread that calls it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]

WARM_UP = 32
"""Images that a fresh compilation is tried on."""

_known: dict[str, bool] = {}
"""Structures that were tried, and whether they compile."""


def can_compile() -> bool:
    """Say whether this machine has what compiling needs, a C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def compile_network(network: nn.Module, images: Tensor, gradients: bool) -> Forward:
    """Return what computes the same as the network, compiled; the network itself where that fails.

    Call it in a thread that shares operations with as many others as those in which the result will be used.

    Args:
        network: one that draws no random numbers, in the mode in which it will be used.
        images: some that it takes, (N, C, H, W).
        gradients: whether any will be wanted; else the result is for inference mode.
    """
    _configure()
    run = torch.compile(network, options={"cpp.threads": 1})

    def forward(images: Tensor) -> Tensor:
        if len(images) == 1:  # which torch would compile anew
            return network(images)  # type: ignore[no-any-return]
        torch._dynamo.maybe_mark_dynamic(images, 0)
        return run(images)  # type: ignore[no-any-return]

    key = f"{_structure(network, images)}{gradients}"
    if key not in _known:
        some = images[:1].expand(WARM_UP, *images.shape[1:]).contiguous()
        with torch.inference_mode(not gradients):
            _known[key] = _try(forward, network, some)
    return forward if _known[key] else network


def count_flops(network: nn.Module, images: Tensor) -> int:
    """Return the operations of a network's pass over one image, additions and multiplications counted apart."""
    key = _structure(network, images)
    if key not in _flops:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images[:1])
        _flops[key] = counter.get_total_flops()
    return _flops[key]


_flops: dict[str, int] = {}


def _structure(network: nn.Module, images: Tensor) -> str:
    """Return a name for what a compilation serves. Where two networks share it wrongly, torch sees to that."""
    shapes = [tuple(parameter.shape) for parameter in network.parameters()]
    return f"{network}{shapes}{images.shape[1:]}{images.dtype}{network.training}"


def _try(forward: Forward, network: nn.Module, images: Tensor) -> bool:
    """Compile by a pass forward and, where gradients are wanted, back; say whether it worked."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        logits = forward(images)
        if logits.requires_grad:
            torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    except RuntimeError as error:  # of which torch's own are, whatever goes wrong
        reason = str(error).strip().splitlines()[0]
        warnings.warn(f"{type(network).__name__} cannot be compiled, so it takes longer: {reason}", stacklevel=2)
        return False
    return True


@cache
def _configure() -> None:
    """Let one process compile any number of networks; past torch's limit it would stop to, silently."""
    import torch._dynamo.config as dynamo

    dynamo.automatic_dynamic_shapes = False  # once it has seen two sizes, it would compile for any
    dynamo.recompile_limit = dynamo.accumulated_recompile_limit = 10_000
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # which misses CUDA, aloud
