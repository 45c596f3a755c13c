"""Ctrl-C and SIGTERM: a condensation ends its step first, so that its state can be kept."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

_DEFAULTS: Mapping[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class _State:
    asked = 0
    waits = False


def asked() -> int:
    """Return the number of the signal that asks to stop; 0 for none."""
    return _State.asked


def state_was_offered() -> None:
    """Let a signal wait for the next offer, which comes at the end of the next step."""
    _State.waits = True


@contextmanager
def ending_steps() -> Iterator[None]:
    """Do work that may offer its state, and stop after it if that was asked for meanwhile."""
    _State.waits = False
    try:
        yield
    finally:
        _State.waits = False
    if _State.asked:
        raise KeyboardInterrupt


@contextmanager
def stopped_by_signals(say: bool = True) -> Iterator[None]:
    """Raise `KeyboardInterrupt` for SIGINT and SIGTERM: at once, or at the end of a step whose state is then kept.

    A second signal does not wait. Signals for which there is a handler already, or that are ignored, are left
    alone, and so are all of them outside the main thread. ``say`` tells the user that it may take a step.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        first, _State.asked = not _State.asked, number
        if not (_State.waits and first):
            raise KeyboardInterrupt
        if say:
            print("\nStopping at the end of this step, to keep its state. Again to stop at once.", file=sys.stderr)

    own = [number for number, usual in _DEFAULTS.items() if signal.getsignal(number) is usual]
    if threading.current_thread() is not threading.main_thread():
        own = []
    try:
        for number in own:
            signal.signal(number, stop)
        yield
    finally:
        _State.asked = 0
        for number in own:
            signal.signal(number, _DEFAULTS[number])
