"""The protocols by name."""

from __future__ import annotations

from collections.abc import Callable

from dcbench.core.architecture import Architecture
from dcbench.evaluate.dc import DC
from dcbench.evaluate.distillation import KD
from dcbench.evaluate.dsa import DSA
from dcbench.evaluate.protocol import EvaluationProtocol
from dcbench.evaluate.soft_label import SOFT
from dcbench.utils.errors import DcbenchError, unknown_name

PROTOCOLS: dict[str, EvaluationProtocol] = {protocol.name: protocol for protocol in (DC, DSA, SOFT, KD)}


def get_protocol(spelling: str, make_architecture: Callable[[str], Architecture]) -> EvaluationProtocol:
    """Return a protocol by what users write and records state: ``name``, or ``name:option=value``.

    Args:
        spelling: the name, and options where the protocol has any.
        make_architecture: returns a network by its spelling, as `dcbench.plugins.Plugins.make_architecture`.

    Raises:
        DcbenchError: when there is none of that name, or what follows it does not fit.
    """
    name, colon, options = spelling.partition(":")
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    if colon and not options.strip():
        raise DcbenchError(f"protocol {spelling!r}: after the colon there is nothing; write {name!r}.")
    return PROTOCOLS[name].spelt(options, make_architecture)
