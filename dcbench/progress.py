"""What observers are told during a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Progress:
    """One moment of a run.

    Attributes:
        phase: ``condense`` or ``evaluate``.
        work: what kind of work it is; pieces of the same kind take about the same time,
            e.g. ``gradmatch on digits, ipc 1``.
        piece: which one of its kind, e.g. ``seed 0``, or ``random, ipc 1, seed 0, network 2``.
        done: steps done of this piece; 0 when it starts.
        total: steps of this piece, of equal work; 0 when it starts, since it may not be known by then.
        pieces_left: how many pieces of the same kind are still to be done, this one included.
        run_done: pieces of the run that are finished.
        run_total: pieces of the run.
        slot: which of several pieces that are worked on at once, from 0.
    """

    phase: Literal["condense", "evaluate"]
    work: str
    piece: str
    done: int
    total: int
    pieces_left: int
    run_done: int
    run_total: int
    slot: int = 0
