"""Seeds by hashing; without torch, so that what needs no generator starts quickly."""

from __future__ import annotations

import hashlib
import json


def derive_seed(*parts: str | int | None) -> int:
    """Return a 63-bit seed that depends on every part and on nothing else."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
