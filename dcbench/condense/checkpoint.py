"""The state of unfinished condensations, in files that are whole or not used."""

from __future__ import annotations

import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from dcbench.core.loss_watch import Diverged, LossWatch
from dcbench.utils.files import write_atomically

CHECKPOINT_SECONDS = 30.0
"""Seconds between two checkpoints, unless the user says otherwise."""
WORTH = 50
"""Another checkpoint is not written before this many times the seconds that one took: they cost 2 % at most."""

OWN = "dcbench."
"""Begins the names of what is kept along with a method's state."""
DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
NO_DIGEST = "0" * 64

_chosen: ContextVar[float | None] = ContextVar("seconds between checkpoints", default=None)


def checkpoint_seconds() -> float:
    """Return the seconds between two checkpoints: those the user chose, else `CHECKPOINT_SECONDS`."""
    chosen = _chosen.get()
    return CHECKPOINT_SECONDS if chosen is None else chosen


@contextmanager
def checkpointing_every(seconds: float | None) -> Iterator[None]:
    """Let `checkpoint_seconds` return a number within; with None, do nothing."""
    token = _chosen.set(_chosen.get() if seconds is None else seconds)
    try:
        yield
    finally:
        _chosen.reset(token)


@dataclass(frozen=True)
class Circumstances:
    """With what a condensation is made.

    Attributes:
        engine: its name, or those of several, one after the other.
        device: likewise.
        peak_memory_bytes: the most so far.
    """

    engine: str = ""
    device: str = ""
    peak_memory_bytes: int = 0

    def after(self, earlier: Circumstances) -> Circumstances:
        """Return them for the whole of a condensation that was interrupted."""
        return Circumstances(
            _and_then(earlier.engine, self.engine),
            _and_then(earlier.device, self.device),
            max(earlier.peak_memory_bytes, self.peak_memory_bytes),
        )


class FileCheckpoint:
    """A method's state in a file, written now and then.

    The states of the task's and of the global generators and the seconds spent so far are kept along with it.
    What is damaged, or was saved by other code of the method or its network, is not used, with a warning; the next
    save replaces it.

    Attributes:
        path: the file.
        written: checkpoints written for this condensation, those before an interruption included.
        writing_seconds: what these took.
    """

    def __init__(
        self,
        path: Path,
        generator: torch.Generator,
        source: str = "",
        losses: LossWatch | None = None,
        here: Callable[[], Circumstances] = Circumstances,
    ) -> None:
        """Start the clock.

        Args:
            path: the file.
            generator: the task's.
            source: hashes of the code of the method and its network.
            losses: of the task; while they are out of bounds, no state is saved.
            here: with what this process goes on with it.
        """
        self.path = path
        self.written, self.writing_seconds = 0, 0.0
        self._source = source
        self._generator = generator
        self._losses = losses or LossWatch()
        self._here, self._earlier = here, Circumstances()
        self._started = time.monotonic()
        self._next = self._started + checkpoint_seconds()
        self._seconds_before = 0.0

    def seconds(self) -> float:
        """Return the seconds spent on this condensation, those before an interruption included."""
        return self._seconds_before + time.monotonic() - self._started

    def circumstances(self) -> Circumstances:
        """Return with what this condensation was made, before an interruption included."""
        return self._here().after(self._earlier)

    def load(self) -> dict[str, Tensor] | None:
        """Return the saved state, and set the generators back to it; None where there is none to be used."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"cannot be read: {error.strerror}")
            return None
        if not is_intact(data):
            self._warn("is damaged")
            return None
        metadata = _metadata(data)
        if metadata.get("source") != self._source:
            self._warn("was saved by other code of the method or its network, and will be replaced")
            return None
        tensors = load_tensors(data)
        own = {name: tensors.pop(name) for name in list(tensors) if name.startswith(OWN)}
        before = self._generator.get_state(), torch.get_rng_state()
        try:
            self._put_back({name.removeprefix(OWN): tensor for name, tensor in own.items()})
        except (
            KeyError,
            RuntimeError,
            TypeError,
            AssertionError,
        ) as error:  # of another torch, or without its GPU
            self._generator.set_state(before[0])
            torch.set_rng_state(before[1])
            self._warn(f"is not for this machine ({str(error).splitlines()[0] if str(error) else 'no GPU'})")
            return None
        stated = json.loads(metadata.get("circumstances", "{}"))
        known = {field.name for field in fields(Circumstances)} & stated.keys()
        self._earlier = Circumstances(**{name: stated[name] for name in known})
        return tensors

    def offer(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Save the state if it is time to.

        Raises:
            Diverged: when a loss is out of bounds or the state is not finite. The file keeps the last good one.
            StorageError: when the file cannot be written.
        """
        if time.monotonic() < self._next:
            return
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
        own = {OWN + name: tensor for name, tensor in self._own_state().items()}
        write_atomically(self.path, _seal(save_tensors({**tensors, **own}, self._header())))
        took = time.monotonic() - began
        self.written += 1
        self.writing_seconds += took
        self._next = time.monotonic() + max(checkpoint_seconds(), WORTH * took)

    def _header(self) -> dict[str, str]:
        circumstances = json.dumps(asdict(self.circumstances()))
        return {"source": self._source, "circumstances": circumstances, "sha256": NO_DIGEST}

    def _own_state(self) -> dict[str, Tensor]:
        """Return what is kept along with a method's state."""
        own = {
            "generator": self._generator.get_state(),
            "cpu": torch.get_rng_state(),
            "seconds": torch.tensor(self.seconds(), dtype=torch.float64),
            "written": torch.tensor(self.written + 1),
            "writing_seconds": torch.tensor(self.writing_seconds, dtype=torch.float64),
        }
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            own["cuda"] = torch.cuda.get_rng_state()
        if self._losses.first is not None:
            own["first_loss"] = torch.tensor(self._losses.first, dtype=torch.float64)
            own["iteration"] = torch.tensor(self._losses.iteration)
        return own

    def _put_back(self, own: Mapping[str, Tensor]) -> None:
        seconds, written, writing = (own[name].item() for name in ("seconds", "written", "writing_seconds"))
        self._generator.set_state(own["generator"])
        torch.set_rng_state(own["cpu"])
        if "cuda" in own:
            torch.cuda.set_rng_state(own["cuda"])
        if "first_loss" in own:
            self._losses.first, self._losses.iteration = own["first_loss"].item(), int(own["iteration"])
        self._seconds_before, self.written, self.writing_seconds = seconds, int(written), writing

    def _warn(self, problem: str) -> None:
        message = f"{self.path} {problem}: it is not used, and the condensation starts again."
        warnings.warn(message, stacklevel=3)


def _and_then(earlier: str, later: str) -> str:
    said = earlier.split(", then ") if earlier else []
    return ", then ".join(said if said[-1:] == [later] else [*said, later])


def _seal(data: bytes) -> bytes:
    """Put the hash of a safetensors file with `NO_DIGEST` in its metadata in the place of that."""
    empty = f'"sha256":"{NO_DIGEST}"'.encode()
    return data.replace(empty, f'"sha256":"{hashlib.sha256(data).hexdigest()}"'.encode(), 1)


def is_intact(data: bytes) -> bool:
    """Say whether a file is what `_seal` returned, to the last byte."""
    found = DIGEST.search(data)
    if found is None:
        return False
    start, end = found.span(1)
    whole = hashlib.sha256(data[:start])
    whole.update(NO_DIGEST.encode())
    whole.update(memoryview(data)[end:])
    return whole.hexdigest().encode() == found[1]


def _metadata(data: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file: JSON after 8 bytes that say how long it is."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return dict(header.get("__metadata__", {}))
