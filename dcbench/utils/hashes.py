"""Hashes of seeds and of condensed sets; without torch, so that what needs no tensors starts quickly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def derive_seed(*parts: str | int | None) -> int:
    """Return a 63-bit seed that depends on every part and on nothing else."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def hash_set(images: NDArray[Any], labels: NDArray[Any], zca: bool, brings: Mapping[str, float]) -> str:
    """Hash types, shapes and values of a condensed set, in contiguous arrays, and what it brings with it.

    ``brings`` is `CondensedSet.brings`; a set that brings nothing has the hash that it had before there was any.
    """
    stated = json.dumps(brings, sort_keys=True) if brings else ""
    digest = hashlib.sha256(("zca" * zca + stated).encode())
    for array in (images, labels):
        digest.update(f"torch.{array.dtype}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
