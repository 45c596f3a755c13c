"""The protocols by name."""

from __future__ import annotations

from dcbench.evaluate.dc import DC
from dcbench.evaluate.dsa import DSA
from dcbench.evaluate.protocol import EvaluationProtocol
from dcbench.utils.errors import unknown_name

PROTOCOLS: dict[str, EvaluationProtocol] = {protocol.name: protocol for protocol in (DC, DSA)}


def get_protocol(name: str) -> EvaluationProtocol:
    """Return a protocol by name.

    Raises:
        DcbenchError: when there is none of that name.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
