"""The state of unfinished condensations, in files that are used only if they are whole."""

from __future__ import annotations

import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from dcbench.core.loss_watch import Diverged, LossWatch
from dcbench.results.artefacts import Cost
from dcbench.utils import interruption
from dcbench.utils.files import write_atomically

CHECKPOINT_SECONDS = 30.0
"""Seconds between two checkpoints, unless the user says otherwise."""
WORTH = 50
"""After a checkpoint, this many times the seconds that it took pass before the next: they cost 2 % at most."""

OWN = "dcbench."
"""The names of what is kept along with a method's state begin with this."""
UNKNOWN = Cost(seconds=0.0, peak_memory_bytes=0, engine="")

DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
NO_DIGEST = "0" * 64
"""What stands for the hash until it is known: give it as ``sha256`` in the metadata."""

_chosen: ContextVar[float | None] = ContextVar("seconds between checkpoints", default=None)


def checkpoint_seconds() -> float:
    """Return the seconds between two checkpoints: those the user chose, else `CHECKPOINT_SECONDS`."""
    return CHECKPOINT_SECONDS if (chosen := _chosen.get()) is None else chosen


@contextmanager
def checkpointing_every(seconds: float | None) -> Iterator[None]:
    """Let `checkpoint_seconds` return a number within; with None, do nothing."""
    token = _chosen.set(_chosen.get() if seconds is None else seconds)
    try:
        yield
    finally:
        _chosen.reset(token)


class FileCheckpoint:
    """A method's state in a file, written now and then.

    The states of the task's and of the global generators and the cost so far are kept along with it. A file that
    is damaged, or was saved by other code of the method or its network, is not used, with a warning; the next save
    replaces it.
    """

    def __init__(
        self,
        path: Path,
        generator: torch.Generator,
        source: str = "",
        losses: LossWatch | None = None,
        here: Callable[[], Cost] = lambda: UNKNOWN,
        earlier: Sequence[Path] = (),
    ) -> None:
        """Start the clock.

        Args:
            path: the file.
            generator, losses: the task's; while losses are out of bounds, no state is saved.
            source: hashes of the code of the method and its network.
            earlier: files to load from where the first is not there, best first.
            here: returns the engine, the device and the peak memory of this process.
        """
        self.path = path
        self._earlier = earlier
        self._last: Callable[[], Mapping[str, Tensor]] | None = None
        self.written, self.writing_seconds = 0, 0.0
        self._source = source
        self._generator = generator
        self._losses = losses or LossWatch()
        self._here, self._before = here, UNKNOWN
        self._started = time.monotonic()
        self._next = self._started + checkpoint_seconds()

    def cost(self) -> Cost:
        """Return what this condensation has taken, before interruptions, too."""
        before, here = self._before, self._here()
        return Cost(
            seconds=before.seconds + time.monotonic() - self._started,
            peak_memory_bytes=max(before.peak_memory_bytes, here.peak_memory_bytes),
            engine=_and_then(before.engine, here.engine),
            checkpoints=self.written,
            checkpoint_seconds=self.writing_seconds,
            device=_and_then(before.device, here.device),
            # A method that goes on asks for the same networks again, or for none.
            networks_seconds=max(before.networks_seconds, here.networks_seconds),
        )

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """Leave what is done within out of the cost: it has a cost of its own."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._started += time.monotonic() - began

    def load(self) -> dict[str, Tensor] | None:
        """Return the saved state, and set the generators back to it; None where there is none that can be used."""
        path = next((path for path in (self.path, *self._earlier) if path.exists()), None)
        if path is None:
            return None
        try:
            data = path.read_bytes()
        except OSError as error:
            return _refuse(path, f"cannot be read: {error.strerror}")
        if not is_intact(data):
            return _refuse(path, "is damaged")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        if metadata.get("source") != self._source:
            return _refuse(path, "was saved by other code of the method or its network, and will be replaced")
        tensors = load_tensors(data)
        own = {name.removeprefix(OWN): tensors.pop(name) for name in list(tensors) if name.startswith(OWN)}
        try:
            self._put_back(own, json.loads(metadata["cost"]), json.loads(metadata["losses"]))
        except (
            KeyError,
            RuntimeError,
            TypeError,
            AssertionError,
        ) as error:  # of another torch, or without its GPU
            return _refuse(path, f"is not for this machine ({str(error).partition(chr(10))[0] or 'no GPU'})")
        return tensors

    def offer(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Save the state if it is time to, or if the process is asked to stop, which it then does.

        Raises:
            KeyboardInterrupt: when it was asked to stop.
            Diverged: when a loss is out of bounds or the state is not finite. The file keeps the last good one.
            StorageError: when the file cannot be written.
        """
        self._last = state
        if interruption.asked() or time.monotonic() >= self._next:
            self._save(self.path, state)
        if interruption.asked():
            raise KeyboardInterrupt
        interruption.state_was_offered()

    def keep_last(self, path: Path) -> None:
        """Save the state that was offered last, if one was, so that the work can go on from there later."""
        if self._last is not None:
            self._save(path, self._last)

    def _save(self, path: Path, state: Callable[[], Mapping[str, Tensor]]) -> None:
        began = time.monotonic()
        self._losses.settle()
        # Cloned, since safetensors refuses views of one tensor.
        tensors = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in state().items()
        }
        for name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                done = self._losses.iteration
                raise Diverged(f"{name!r} of the state is not finite after iteration {done}", done)
        cost = replace(self.cost(), checkpoints=self.written + 1)
        metadata = {
            "source": self._source,
            "cost": json.dumps(asdict(cost)),
            "losses": json.dumps([self._losses.first, self._losses.iteration]),
            "sha256": NO_DIGEST,
        }
        own = {OWN + name: tensor for name, tensor in self._generators().items()}
        write_atomically(path, seal(save_tensors({**tensors, **own}, metadata)))
        took = time.monotonic() - began
        self.written += 1
        self.writing_seconds += took
        self._next = time.monotonic() + max(checkpoint_seconds(), WORTH * took)

    def _generators(self) -> dict[str, Tensor]:
        """Return the states of the task's and of the global generators."""
        states = {"generator": self._generator.get_state(), "cpu": torch.get_rng_state()}
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            states["cuda"] = torch.cuda.get_rng_state()
        return states

    def _put_back(self, generators: Mapping[str, Tensor], cost: Mapping[str, Any], losses: Sequence[Any]) -> None:
        before = Cost(**cost)
        if "cuda" in generators:  # first what may fail: the generators are then as they were
            torch.cuda.set_rng_state(generators["cuda"])
        torch.set_rng_state(generators["cpu"])
        self._generator.set_state(generators["generator"])
        self._losses.first, self._losses.iteration = losses
        self._before, self.written, self.writing_seconds = before, before.checkpoints, before.checkpoint_seconds


def _refuse(path: Path, problem: str) -> dict[str, Tensor] | None:
    warnings.warn(f"{path} {problem}: it is not used, and the work starts again.", stacklevel=3)
    return None


def _and_then(earlier: str, later: str) -> str:
    names = earlier.split(", then ") if earlier else []
    return ", then ".join(names if names[-1:] == [later] else [*names, later])


def seal(data: bytes) -> bytes:
    """Return a safetensors file with its hash in its metadata in the place of `NO_DIGEST`."""
    # With its name, because what the file says of a data set may be of as many zeros.
    empty, stated = (b'"sha256":"%b"' % each.encode() for each in (NO_DIGEST, hashlib.sha256(data).hexdigest()))
    return data.replace(empty, stated, 1)


def is_intact(data: bytes) -> bool:
    """Say whether a file is what `seal` returned, to the last byte."""
    digest = DIGEST.search(data)
    return digest is not None and seal(data.replace(digest[0], b'"sha256":"%b"' % NO_DIGEST.encode(), 1)) == data
