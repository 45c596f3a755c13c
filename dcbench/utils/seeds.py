"""Randomness: every draw comes from a generator seeded by what is being computed, never from global state."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dcbench.utils.hashes import derive_seed as derive_seed

GLOBALS = threading.RLock()
"""Whoever uses torch's global generators holds it: threads that compute side by side share them."""


def new_generator(*parts: str | int | None) -> torch.Generator:
    """Return a CPU generator seeded from the parts.

    It lives on the CPU also when the work is on a GPU, so that a spec draws the same numbers on both.
    """
    return torch.Generator().manual_seed(derive_seed(*parts))


def draw_seed(generator: torch.Generator) -> int:
    """Draw a 62-bit seed from a generator."""
    return int(torch.randint(2**62, (), generator=generator, dtype=torch.int64))


@contextmanager
def seeded_globals(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators for code that accepts no other, and restore them afterwards.

    Parameter initialisation and dropout in `torch.nn` draw from the global generators alone.
    """
    cuda = [device] if device.type == "cuda" else []
    with GLOBALS, torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for each in cuda:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield
