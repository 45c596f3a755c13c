"""Compiled networks: `torch.compile` computes what stands between two convolutions in one pass over memory.

On the CPU, normalisation, activation and pooling take as long as half the convolutions; compiled, a quarter of
that. Compiling takes some 15 seconds per kind of network, so it is for long work. One compilation serves every
network of the same structure, whatever its parameters, and any number of images; for few images torch compiles
again. The thread that calls compiled code computes it alone.

Torch does not compile derivatives of derivatives. Work that takes some is traced before: written down as the
operations that it comes to, in a row, of which torch need not take derivatives any more.
"""

from __future__ import annotations

import copy
import logging
import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dcbench.engine.graphs import Outputs, agree, fingerprint, state_of

if TYPE_CHECKING:
    from torch.fx import GraphModule

Forward = Callable[[Tensor], Tensor]

OPTIONS: dict[str, str | int | bool | Callable[..., object]] = {"cpp.threads": 1}
WARM_UP = 32
"""Images that a fresh compilation is tried on."""

_works: dict[Hashable, Callable[..., Outputs] | None] = {}
"""Compiled work; None for work that does not compile."""
_known: dict[str, bool] = {}
"""Structures that were tried, and whether they compile."""
_compiling = threading.Lock()
fell_back = threading.Event()
"""Set once something could not be compiled; the engine clears it when it is done."""


@cache
def can_compile() -> bool:
    """Say whether this machine has what compiling needs, by trying it: a C++ compiler, and Python's headers."""
    _configure()
    try:
        torch.compile(lambda x: x + 1, options=OPTIONS)(torch.zeros(64))
    except RuntimeError:  # the base of all errors of torch
        return False
    return True


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
    fell_back.set()
    return network


def compile_work(
    function: Callable[..., Outputs], network: nn.Module, constants: Sequence[Hashable], tensors: Sequence[Tensor]
) -> Callable[..., Outputs]:
    """Return a function of tensors that does ``function(network, *constants, *tensors)``, compiled.

    Where compiling fails, or for tensors of other shapes or types, it does the work as it is; a failure warns. One
    compilation serves all networks that differ in parameters and buffers alone.

    Args:
        function: returns tensors without a graph, and may take derivatives of any order. It must depend on its
            arguments alone, draw no random numbers, and not decide by the values of tensors.
        network: in the mode in which it will be used.
        constants: the same for every call.
        tensors: some that it takes.
    """
    plain = partial(function, network, *constants)
    name, forms = fingerprint(network), _forms(tensors)
    key = (function, tuple(constants), name, forms)
    with _compiling:
        if name and key not in _works:
            _works[key] = _try_work(function, network, constants, tensors)
    run = _works.get(key)  # none for a network without a name, which would be compiled at every call
    if run is None:
        fell_back.set()
        return plain

    def work(*tensors: Tensor) -> Outputs:
        if _forms(tensors) != forms:
            return plain(*tensors)
        _configure()
        with torch.no_grad():
            # What was traced is right for tensors that lie in memory as those did. Gradients lie as torch likes.
            return run(*state_of(network), *(each.contiguous() for each in tensors))

    return work


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


class _Work(nn.Module):
    """Work on a network, as a module, whose parameters can be replaced for a call."""

    def __init__(
        self, function: Callable[..., Outputs], network: nn.Module, constants: Sequence[Hashable]
    ) -> None:
        super().__init__()
        self.network = network
        self._work = partial(function, network, *constants)

    def forward(self, *tensors: Tensor) -> Outputs:
        return self._work(*tensors)


def _try_work(
    function: Callable[..., Outputs], network: nn.Module, constants: Sequence[Hashable], tensors: Sequence[Tensor]
) -> Callable[..., Outputs] | None:
    """Trace and compile work, and compare what it returns; where that fails, warn and return None."""
    from torch.fx.experimental.proxy_tensor import make_fx

    _configure()
    expected = function(network, *constants, *tensors)
    work = _Work(function, copy.deepcopy(network), constants)
    parameters, buffers = (
        [name for name, _ in named] for named in (work.named_parameters(), work.named_buffers())
    )

    def traced(*given: Tensor) -> Outputs:
        state = [each.detach() for each in given[: len(parameters) + len(buffers)]]
        for each in state[: len(parameters)]:
            each.requires_grad_()
        replaced = dict(zip((*parameters, *buffers), state, strict=True))
        return functional_call(work, replaced, given[len(state) :])  # type: ignore[no-any-return]

    given = (*state_of(network), *(each.contiguous() for each in tensors))
    try:
        run = torch.compile(_without_unused(make_fx(traced)(*given)), options=OPTIONS)
        with torch.no_grad():
            found = run(*given)
    except Exception as error:  # whatever a network may raise
        reason = str(error).strip().splitlines()[0]
    else:
        if agree(found, expected):
            return run
        reason = "compiled, it gives other numbers"
    warnings.warn(f"{type(network).__name__} cannot be compiled, so it takes longer: {reason}", stacklevel=3)
    return None


def _without_unused(graph: GraphModule) -> GraphModule:
    """Leave out what nobody uses, also of the gradients that one operation computes for a convolution."""
    graph.graph.eliminate_dead_code()
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.convolution_backward.default):
        used = {user.args[1] for user in node.users}
        node.update_arg(len(node.args) - 1, [mask and i in used for i, mask in enumerate(node.args[-1])])
    graph.recompile()
    return graph


def _forms(tensors: Sequence[Tensor]) -> tuple[tuple[torch.Size, torch.dtype], ...]:
    return tuple((each.shape, each.dtype) for each in tensors)


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
