"""Torch's SGD and AdamW, without the import that torch's optimisers begin with.

The first optimiser of a process imports ``torch._dynamo``, and with it sympy and 900 modules: 4 s, for the sake of
optimisers that are themselves compiled. Two decorators of torch import it, at the first call: one around
`torch.optim.Optimizer.add_param_group` and its kind, one around ``step``. These classes have the same functions
without their decorators, so they compute the same bytes by torch's own code, and are optimisers for all who take
one: a scheduler, say. They do not know ``differentiable=True``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


def _undecorated(cls: type[Optimizer], name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = inspect.unwrap(getattr(cls, name))
    return function


class _Undecorated(Optimizer):
    """What all optimisers have in common."""

    add_param_group = _undecorated(Optimizer, "add_param_group")
    state_dict = _undecorated(Optimizer, "state_dict")
    load_state_dict = _undecorated(Optimizer, "load_state_dict")
    zero_grad = _undecorated(Optimizer, "zero_grad")


class SGD(_Undecorated, torch.optim.SGD):
    """`torch.optim.SGD`, quicker to start with."""

    step = torch.no_grad()(_undecorated(torch.optim.SGD, "step"))


class AdamW(_Undecorated, torch.optim.AdamW):
    """`torch.optim.AdamW`, quicker to start with."""

    step = torch.no_grad()(_undecorated(torch.optim.AdamW, "step"))
