"""Replayed work: CUDA graphs record the operations of a GPU once, and repeat them as one.

On small images a GPU has done an operation before Python starts the next: a matching step at 1 image per class is
some 5,000 of them. Replayed, they follow each other without Python in between, in the same order, so the numbers
are the same.

A recording has a network and tensors of its own, into which those that it is called with are copied. So it serves
every network that differs in its parameters alone: each that an iteration draws, each that an evaluation trains.
"""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import uuid
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Outputs = tuple[Any, ...]
"""Tensors, or None."""
Replay = Callable[[], object]

KEPT = 4
"""Recordings at a time: of matching, of training on a batch and on the smaller last one, and one more."""
NOTED = 64
"""Functions that were called once, at a time."""
WARM_UPS = 2
"""Calls before a recording: libraries set up then what they cannot set up while they are recorded."""
TOLERANCE = 1e-3
"""Relative difference up to which a replayed result agrees with the computed one."""

_recordings: dict[Hashable, Recording] = {}
"""The one that was used last is the last."""
_called_once: set[Hashable] = set()
_refused: set[Hashable] = set()
"""What cannot be recorded."""


class Replayed:
    """A function of a network and tensors: called as it is at first, replayed from the second time on.

    The next call overwrites the tensors that it returns. The function must depend on its arguments alone, and must
    draw no random numbers. Where it changes the network, it is not recorded.
    """

    def __init__(self, function: Callable[..., Outputs], network: nn.Module, *constants: Any) -> None:
        """Prepare for calls as ``function(network, *constants, *tensors)``.

        Args:
            function: the work.
            network: in the mode in which it is used.
            constants: the same for every call; where one has no hash, nothing is recorded.
        """
        self._function, self._network, self._constants = function, network, constants
        self._state = state_of(network)
        self._key = (function, constants, fingerprint(network) or uuid.uuid4().hex)

    def __call__(self, *tensors: Tensor) -> Outputs:
        """Return what the function does."""
        key = (self._key, tuple((each.shape, each.dtype, each.device) for each in tensors))
        try:
            recording = _recordings.get(key)
        except TypeError:  # a constant without a hash
            return self._call(tensors)
        if recording is not None:
            _recordings[key] = _recordings.pop(key)
            return recording.replay(self._state, tensors)
        before = [each._version for each in self._state]
        result = self._call(tensors)
        if key in _refused:
            return result
        if before != [each._version for each in self._state]:  # they grow whenever a tensor is written to
            self._refuse(key, "it changes when it is used")
        elif key in _called_once:  # it will be called often
            _called_once.remove(key)
            self._record(key, tensors, result)
        else:
            if len(_called_once) == NOTED:
                _called_once.clear()
            _called_once.add(key)
        return result

    def _call(self, tensors: Sequence[Tensor]) -> Outputs:
        try:
            return self._function(self._network, *self._constants, *tensors)
        except torch.OutOfMemoryError:
            if not _recordings:
                raise
        _recordings.clear()  # recordings hold memory, too
        torch.cuda.empty_cache()
        return self._call(tensors)

    def _record(self, key: Hashable, tensors: Sequence[Tensor], expected: Outputs) -> None:
        """Make a recording that gives what is expected; where that fails, warn."""
        if not all(each is None or each.isfinite().all() for each in expected):
            return  # there is nothing to compare with, and the work is about to fail
        while len(_recordings) >= KEPT:
            del _recordings[next(iter(_recordings))]
        try:
            recording = Recording(self._function, self._network, self._constants, tensors)
            result = recording.replay(self._state, tensors)
        except Exception as error:  # whatever a network or a distance may raise, and running out of memory
            lines = str(error).strip().splitlines()
            self._refuse(key, lines[0] if lines else type(error).__name__)
            return
        if agree(result, expected):
            _recordings[key] = recording
        else:
            self._refuse(key, "replayed, it gives other numbers")

    def _refuse(self, key: Hashable, reason: str) -> None:
        _refused.add(key)
        name = type(self._network).__name__
        warnings.warn(f"{name} cannot be recorded, so it takes longer: {reason}", stacklevel=4)


class Recording:
    """A function of a network and of tensors of certain shapes, recorded."""

    def __init__(
        self,
        function: Callable[..., Outputs],
        network: nn.Module,
        constants: Sequence[Any],
        tensors: Sequence[Tensor],
    ) -> None:
        """Record."""
        # Kept, because a replay reads all its tensors, also those that are no parameters.
        self._twin = twin = copy.deepcopy(network)
        inputs = tuple(each.detach().clone() for each in tensors)
        self._inputs = (*state_of(twin), *inputs)
        self._alike = [  # inputs of one type are copied together
            [number for number, each in enumerate(self._inputs) if each.dtype == dtype]
            for dtype in dict.fromkeys(each.dtype for each in self._inputs)
        ]
        self._outputs, self._replay = capture(lambda: function(twin, *constants, *inputs))

    @torch.no_grad()
    def replay(self, state: Sequence[Tensor], tensors: Sequence[Tensor]) -> Outputs:
        """Return what the function gives for a network of this state and for tensors, until the next time."""
        given = (*state, *tensors)
        for numbers in self._alike:
            torch._foreach_copy_([self._inputs[n] for n in numbers], [given[n] for n in numbers])
        self._replay()
        return self._outputs


def clear() -> None:
    """Drop all recordings with their memory, and the list of what could not be recorded."""
    _recordings.clear()
    _called_once.clear()
    _refused.clear()


def fell_back() -> bool:
    """Say whether something could not be recorded since the last `clear`."""
    return bool(_refused)


def capture(work: Callable[[], Outputs]) -> tuple[Outputs, Replay]:
    """Record work on the current GPU; return its tensors, and a function that fills them again from its inputs."""
    # A stream of its own: libraries may free what they keep for a stream together with a recording made on it.
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    current = torch.cuda.current_stream()
    stream.wait_stream(current)
    try:
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                work()
        with torch.cuda.graph(graph, stream=stream):
            outputs = work()
    finally:
        torch.cuda.set_stream(current)  # where recording fails, another may be current
        current.wait_stream(stream)
    return outputs, graph.replay


def state_of(network: nn.Module) -> tuple[Tensor, ...]:
    """Return the parameters and buffers of a network."""
    return (*network.parameters(), *network.buffers())


def fingerprint(network: nn.Module) -> str | None:
    """Return a text that two networks share only if they do the same up to values of parameters and buffers.

    A network that cannot be pickled has none.
    """
    numbers = {id(each): number for number, each in enumerate(state_of(network))}
    written = io.BytesIO()
    try:
        _Pickler(written, numbers).dump(network)
    except Exception:  # whatever a part of a network may raise
        return None
    return hashlib.sha256(written.getvalue()).hexdigest()


class _Pickler(pickle.Pickler):
    """Writes a network: of parameters and buffers the form, of every other tensor a hash, too."""

    def __init__(self, file: io.BytesIO, numbers: dict[int, int]) -> None:
        super().__init__(file)
        self._numbers = numbers

    def persistent_id(self, obj: object) -> object:
        if not isinstance(obj, Tensor):
            return None
        form = tuple(obj.shape), str(obj.dtype), str(obj.device), obj.requires_grad
        if id(obj) in self._numbers:
            return self._numbers[id(obj)], form
        values = obj.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return hashlib.sha256(values.tobytes()).hexdigest(), form


def agree(result: Outputs, expected: Outputs) -> bool:
    """Say whether tensors, taken together, differ by rounding at most."""
    if [each is None for each in result] != [each is None for each in expected]:
        return False
    pairs = [(a, b) for a, b in zip(result, expected, strict=True) if a is not None]
    differences = torch.stack([(a - b).norm() for a, b in pairs])
    return bool(differences.norm() <= TOLERANCE * torch.stack([b.norm() for _, b in pairs]).norm())
