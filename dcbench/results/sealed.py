"""Files of tensors that know whether they are whole: safetensors with the hash of the file in its metadata."""

from __future__ import annotations

import hashlib
import re

DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
NO_DIGEST = "0" * 64
"""What stands for the hash until it is known: give it as ``sha256`` in the metadata."""


def seal(data: bytes) -> bytes:
    """Return a safetensors file with its hash in its metadata in the place of `NO_DIGEST`."""
    # With its name, because what the file says of a data set may be of as many zeros.
    empty, stated = (b'"sha256":"%b"' % each.encode() for each in (NO_DIGEST, hashlib.sha256(data).hexdigest()))
    return data.replace(empty, stated, 1)


def is_intact(data: bytes) -> bool:
    """Say whether a file is what `seal` returned, to the last byte."""
    digest = DIGEST.search(data)
    return digest is not None and seal(data.replace(digest[0], b'"sha256":"%b"' % NO_DIGEST.encode(), 1)) == data
