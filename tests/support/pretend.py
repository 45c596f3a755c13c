"""A pretend accelerator: a device of torch that is not the CPU, for machines that have no other.

Its tensors hold their values in memory of the CPU, and the CPU computes with them, so results are the CPU's. What
differs is what a GPU is strict about: tensors of the device do not mix with tensors or generators of the CPU, as
on CUDA, where a tensor of the CPU may only be copied, index, or stand for a number if it is 0-dimensional. And
`READS` tells whenever the host waits for the device to read from it.

Importing this module registers the device with torch, for the rest of the process.
"""

from __future__ import annotations

import sys
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "pretend"
READS: list[str] = []
"""For every read of the device by the host, the file and line that asked for it, torch's own left out.

A number that becomes Python's, a copy to the CPU, and a result whose shape depends on values, as of a mask.
"""
COPIES = {"copy_", "_foreach_copy_"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
TAKE_NUMBERS = {"fill", "fill_", "masked_fill", "masked_fill_", *INDEXING}
"""They take 0-dimensional tensors of the CPU for a number, along with the elementwise operations."""
RESIZING = "arange arange.start arange.start_step eye eye.m linspace randperm randperm.generator".split()
"""Factories that begin with an empty tensor and resize it, which a `Pretend` cannot do."""

if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip("torch before 2.10 has no devices in Python", allow_module_level=True)


class Pretend(Tensor):
    """A tensor of the device: a form without memory, around the tensor on the CPU with the values, ``held``."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretend:
        with torch.inference_mode(held.is_inference()):  # not so in a view of a tensor from outside that mode
            return Tensor._make_wrapper_subclass(
                cls,
                held.shape,
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=DEVICE,
            )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"Pretend({self.held})"

    def tolist(self) -> list:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _compute(operation, *args, **kwargs or {})


def _compute(operation, *args, **kwargs):
    """Do what the device does for an operation: on the CPU, with the values that its tensors hold."""
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    own = {id(each.held): each for each in tensors if isinstance(each, Pretend)}
    _refuse_to_mix(operation, args, kwargs, [each for each in tensors if not isinstance(each, Pretend)])
    to_host = _goes_to_host(operation, args, kwargs)
    if _reads(operation, args, to_host):
        READS.append(_asked_from())
    if kwargs.get("device") is not None:
        kwargs["device"] = torch.device("cpu")
    args, kwargs = tree_map_only(Pretend, lambda each: each.held, (args, kwargs))
    result = operation(*args, **kwargs)
    for held in own.values():
        if held.shape != held.held.shape:
            raise NotImplementedError(f"{operation} resizes a tensor of the pretend device")
    if to_host:
        return result
    return tree_map_only(Tensor, lambda each: own[id(each)] if id(each) in own else Pretend(each), result)


def _name(operation):
    return operation._schema.name.removeprefix("aten::")


def _refuse_to_mix(operation, args, kwargs, of_host):
    """Raise what CUDA raises for tensors and generators of the CPU beside its own."""
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu' ({operation})")
    name = _name(operation)
    indices = {id(each) for each in tree_leaves(args[1])} if name in INDEXING else set()
    takes_numbers = torch.Tag.pointwise in operation.tags or name in TAKE_NUMBERS
    for tensor in of_host if name not in COPIES else ():
        written = tensor is args[0] and operation._schema.is_mutable
        if id(tensor) not in indices and (tensor.dim() or written or not takes_numbers):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu "
                f"({operation}, {tuple(tensor.shape)})"
            )


def _goes_to_host(operation, args, kwargs):
    """Say whether the result is a tensor of the CPU."""
    target = kwargs.get("device")
    if target is not None:
        return target.type == "cpu"
    return _name(operation) in COPIES and not isinstance(tree_leaves(args[0])[0], Pretend)


def _reads(operation, args, to_host):
    """Say whether the host waits for a value."""
    name, tags = _name(operation), operation.tags
    if name in INDEXING:  # a mask's values say how many are chosen
        return any(isinstance(each, Pretend) and each.dtype == torch.bool for each in tree_leaves(args[1]))
    if name in {"_to_copy", *COPIES}:
        return to_host
    return torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags


def _asked_from():
    """Return the innermost line on the stack that is neither torch's nor this file's."""
    frame = sys._getframe()
    while frame.f_code.co_filename == __file__ or "/torch/" in frame.f_code.co_filename:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class _Module(torch.utils.backend_registration._DummyBackendModule):
    """What torch asks about a device. Its global generator is the CPU's."""

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        torch.set_rng_state(state)


torch.utils.backend_registration._setup_privateuseone_for_python_backend(rename=NAME, backend_module=_Module())
DEVICE = torch.device(NAME, 0)
# Torch calls these where no argument is a tensor of the device.
_kernels, _others = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
_others.fallback(_compute, "PrivateUse1")
for _each in RESIZING:
    _operation, _overload = (*_each.split("."), "default")[:2]
    _kernels.impl(_each, partial(_compute, getattr(getattr(torch.ops.aten, _operation), _overload)), "PrivateUse1")


@torch.library.impl(_kernels, "_copy_from", "PrivateUse1")
def _copy_from(source, target, non_blocking=False):
    """Fill a new tensor: `torch.tensor` leaves out what Python does with it."""
    return _compute(torch.ops.aten.copy_.default, target, source)
