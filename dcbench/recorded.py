"""Recorded work: what a GPU is told to do is remembered once, and told again as one, by CUDA graphs.

On small images a GPU is done with an operation before Python has got to the next: a matching step at 1 image per
class is some 5,000 of them. Recorded, they follow each other without Python in between. They are the same, in the
same order, so the numbers are the same, too.

A recording is of a function of a network and of other tensors. It has a network and tensors of its own, into which
those that it is called with are copied. So it serves every network that differs in its parameters alone: each that
an iteration draws afresh, each that an evaluation trains.
"""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Outputs = tuple[Any, ...]
"""Tensors, or None."""
Replay = Callable[[], object]

KEPT = 4
"""Recordings at a time: of matching, of training on a batch and on the smaller last one, and one more."""
WARM_UPS = 2
"""Times that a function is called first, for libraries to set up what they do not while they are recorded."""
TOLERANCE = 1e-3
"""Relative difference up to which what is replayed is what was computed."""

_known: OrderedDict[Hashable, Recording | None] = OrderedDict()
"""What was called last: its recording, or None where it was called once."""
_refused: set[Hashable] = set()
"""What cannot be recorded."""


class Recorded:
    """A function of a network and tensors: called as it is at first, replayed from the second time on.

    The next call overwrites the tensors that it returns. The function must depend on its arguments alone, and must
    neither change the network nor draw random numbers.
    """

    def __init__(self, function: Callable[..., Outputs], network: nn.Module, *constants: Hashable) -> None:
        """Prepare.

        Args:
            function: called as ``function(network, *constants, *tensors)``.
            network: in the mode in which it is used.
            constants: the same for every call.
        """
        self._function, self._network, self._constants = function, network, constants
        self._state = _state_of(network)
        self._key = (function, constants, _fingerprint(network))

    def __call__(self, *tensors: Tensor) -> Outputs:
        """Return what the function does."""
        key = (self._key, tuple((each.shape, each.dtype, each.device) for each in tensors))
        if key in _refused:
            return self._call(tensors)
        seen, recording = key in _known, _known.get(key)
        if recording is not None:
            _known.move_to_end(key)
            return recording.replay(self._state, tensors)
        found = self._call(tensors)
        _known[key] = self._record(key, tensors, found) if seen else None  # what comes twice comes often
        while len(_known) > KEPT:
            _known.popitem(last=False)
        return found

    def _call(self, tensors: Sequence[Tensor]) -> Outputs:
        return self._function(self._network, *self._constants, *tensors)

    def _record(self, key: Hashable, tensors: Sequence[Tensor], expected: Outputs) -> Recording | None:
        """Return a recording that gives what is expected; None, with a warning, where that fails."""
        if not all(each is None or each.isfinite().all() for each in expected):
            return None  # nothing to compare with, of what will not go on for long
        try:
            recording = Recording(self._function, self._network, self._constants, tensors)
            found = recording.replay(self._state, tensors)
        except RuntimeError as error:  # of which torch's own are, running out of memory among them
            reason = str(error).strip().splitlines()[0]
        else:
            if _agree(found, expected):
                return recording
            reason = "replayed, it gives other numbers"
        _refused.add(key)
        name = type(self._network).__name__
        warnings.warn(f"{name} cannot be recorded, so it takes longer: {reason}", stacklevel=3)
        return None


class Recording:
    """What a function does to a network and tensors of certain shapes."""

    def __init__(
        self,
        function: Callable[..., Outputs],
        network: nn.Module,
        constants: Sequence[Hashable],
        tensors: Sequence[Tensor],
    ) -> None:
        """Record."""
        twin = copy.deepcopy(network)
        inputs = tuple(each.detach().clone() for each in tensors)
        self._inputs = (*_state_of(twin), *inputs)
        self.outputs, self._replay = capture(lambda: function(twin, *constants, *inputs))

    @torch.no_grad()
    def replay(self, state: Sequence[Tensor], tensors: Sequence[Tensor]) -> Outputs:
        """Return what the function gives for a network of this state and for tensors, until the next time."""
        torch._foreach_copy_(self._inputs, (*state, *tensors))
        self._replay()
        return self.outputs


def forget() -> None:
    """Let go of all recordings, and of the memory that they hold."""
    _known.clear()


def gave_up() -> bool:
    """Say whether there was anything in this process that could not be recorded."""
    return bool(_refused)


def capture(work: Callable[[], Outputs]) -> tuple[Outputs, Replay]:
    """Record work on the current GPU.

    Returns:
        The tensors that it gives, and what fills them again from what its inputs then hold.
    """
    graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(aside)
    with torch.cuda.graph(graph):
        outputs = work()
    return outputs, graph.replay


def _state_of(network: nn.Module) -> tuple[Tensor, ...]:
    return (*network.parameters(), *network.buffers())


def _fingerprint(network: nn.Module) -> str:
    """Return what two networks share only if they do the same, but for the values of parameters and buffers.

    One that cannot be pickled shares it with none.
    """
    numbers = {id(each): number for number, each in enumerate(_state_of(network))}
    written = io.BytesIO()
    try:
        _Pickler(written, numbers).dump(network)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError):
        return uuid.uuid4().hex
    return hashlib.sha256(written.getvalue()).hexdigest()


class _Pickler(pickle.Pickler):
    """Writes a network with its parameters and buffers left out; every other tensor is written in full."""

    def __init__(self, file: io.BytesIO, numbers: dict[int, int]) -> None:
        super().__init__(file)
        self._numbers = numbers

    def persistent_id(self, obj: object) -> object:
        if not isinstance(obj, Tensor) or id(obj) not in self._numbers:
            return None
        return self._numbers[id(obj)], tuple(obj.shape), str(obj.dtype), obj.requires_grad


def _agree(found: Outputs, expected: Outputs) -> bool:
    """Say whether tensors differ by rounding at most."""
    return all(
        a is b if a is None or b is None else bool((a - b).norm() <= TOLERANCE * b.norm())
        for a, b in zip(found, expected, strict=True)
    )
