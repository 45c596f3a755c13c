"""Torch's SGD, without the import that torch's optimisers begin with.

The first optimiser of a process imports ``torch._dynamo``, and with it sympy and 900 modules: 4 s, for the sake of
optimisers that are themselves compiled. Two decorators of torch import it, at the first call: one around
`torch.optim.Optimizer.add_param_group` and its kind, one around ``step``. This class has the same functions
without their decorators, so it computes the same bytes by torch's own code, and is an optimiser for all who take
one: a scheduler, say.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch


def _undecorated(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = inspect.unwrap(getattr(torch.optim.SGD, name))
    return function


class SGD(torch.optim.SGD):
    """`torch.optim.SGD`, but for ``differentiable=True``, which it does not know; quicker to start with."""

    add_param_group = _undecorated("add_param_group")
    state_dict = _undecorated("state_dict")
    load_state_dict = _undecorated("load_state_dict")
    zero_grad = _undecorated("zero_grad")
    step = torch.no_grad()(_undecorated("step"))
