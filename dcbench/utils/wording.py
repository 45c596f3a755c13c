"""Numbers with their nouns."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number of things in words, as in ``1 cell`` and ``2 cells``."""
    return f"{number} {noun}{'s' * (number != 1)}"
