"""The condensed images that a page shows: raw pixels, within bounds that keep it small enough to be sent around."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dcbench.condensed import stored_pixels
from dcbench.leaderboard import Row
from dcbench.submissions import Leaderboard

MOST_OF_A_CLASS = 10
MOST_BYTES_OF_A_ROW = 320_000
"""Ten images of each of ten classes, in colour, 32 pixels wide."""
MOST_BYTES_OF_A_PAGE = 12_000_000
"""Rows share these where they are many, and then show fewer images of each class."""


@dataclass(frozen=True)
class Pixels:
    """Images of one condensed set.

    Attributes:
        pixels: uint8, shape (n, C, H, W), class by class.
        labels: their classes, int64, shape (n,).
    """

    pixels: Tensor
    labels: Tensor


def page_pictures(leaderboard: Leaderboard) -> tuple[dict[str, Pixels], dict[str, str]]:
    """Return pictures of the first set of every row, by its condense key, and why others have none.

    Raises:
        DcbenchError: naming the file, when a stored set is damaged.
    """
    found: dict[str, Pixels] = {}
    why_not: dict[str, str] = {}
    for key, row in _first_sets(leaderboard):
        submission = leaderboard.submission(row)
        path = submission.set_path(key) if submission else None
        if path is None:
            why_not[key] = "its set is not in the folder"
        elif (stored := stored_pixels(path, MOST_OF_A_CLASS)) is None:
            why_not[key] = "its set is kept without its images, or whitened"
        else:
            found[key] = Pixels(*stored)
    most = min(MOST_BYTES_OF_A_ROW, MOST_BYTES_OF_A_PAGE // max(1, len(found)))
    shown = {key: within(each, most) for key, each in found.items()}
    why_not |= {key: "one image of each class is more than fits this page" for key, each in shown.items() if not each}
    return {key: each for key, each in shown.items() if each}, why_not


def within(picture: Pixels, most: int) -> Pixels | None:
    """Return as many images of every class as fit a number of bytes; None where not even one of each does."""
    order = _places(picture.labels)
    for count in range(MOST_OF_A_CLASS, 0, -1):
        chosen = picture.pixels[order < count]
        if chosen.nbytes <= most:
            return Pixels(chosen, picture.labels[order < count])
    return None


def _first_sets(leaderboard: Leaderboard) -> Iterator[tuple[str, Row]]:
    """Yield each set whose picture is wanted once, though its row may stand in several tables."""
    seen = set()
    for table in leaderboard.tables:
        for entry in table.entries:
            for key in entry.row.condense_keys[:1]:
                if key not in seen:
                    seen.add(key)
                    yield key, entry.row


def _places(labels: Tensor) -> Tensor:
    """Return at which place among the images of its class each stands, for sorted labels: int64, shape (n,)."""
    return torch.arange(len(labels)) - torch.searchsorted(labels, labels)
