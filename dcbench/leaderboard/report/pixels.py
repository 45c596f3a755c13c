"""The condensed images that a page shows: raw pixels, within bounds that keep it easy to open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from dcbench.leaderboard.board import Leaderboard
from dcbench.results.stored_pixels import stored_pixels

MOST_OF_A_CLASS = 10
MOST_BYTES_OF_A_ROW = 320_000
"""Ten images of each of ten classes, in colour, 32 pixels wide."""
MOST_BYTES_OF_A_PAGE = 8_000_000
"""Where rows are many, fewer images of each class are shown of all of them."""


@dataclass(frozen=True)
class Pixels:
    """Images of one condensed set, shape (n, C, H, W), class by class, and their classes, shape (n,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


def page_pictures(leaderboard: Leaderboard) -> tuple[dict[str, Pixels], dict[str, str]]:
    """Return pictures of the first set of every row, by its condense key, and why others have none.

    Raises:
        DcbenchError: naming the file, when a stored set is damaged.
    """
    found: dict[str, Pixels] = {}
    why_not: dict[str, str] = {}
    first = {entry.row.condense_keys[0]: entry.row for table in leaderboard.tables for entry in table.entries}
    for key, row in first.items():
        submission = leaderboard.submission(row)
        path = submission.set_path(key) if submission else None
        if path is None:
            published = submission and submission.card and submission.card.files
            why_not[key] = "others publish its set" if published else "its set is not in the folder"
        elif isinstance(stored := stored_pixels(path, MOST_OF_A_CLASS), str):
            why_not[key] = stored
        else:
            found |= _within({key: Pixels(*stored)}, MOST_BYTES_OF_A_ROW)
    shown = _within(found, MOST_BYTES_OF_A_PAGE)
    others = first.keys() - shown.keys() - why_not.keys()
    return shown, why_not | dict.fromkeys(others, "one image of each class is more than fits this page")


def first_of_each(picture: Pixels, count: int) -> Pixels:
    """Return the first images of every class."""
    places = np.arange(len(picture.labels)) - np.searchsorted(picture.labels, picture.labels)
    return Pixels(picture.pixels[places < count], picture.labels[places < count])


def _within(pictures: Mapping[str, Pixels], most: int) -> dict[str, Pixels]:
    """Return as many images of every class of all pictures as fit; at one of each, the first pictures."""
    kept = dict(pictures)
    for count in range(MOST_OF_A_CLASS, 0, -1):
        kept = {key: first_of_each(each, count) for key, each in kept.items()}
        if sum(each.pixels.nbytes for each in kept.values()) <= most:
            return kept
    taken = accumulate(each.pixels.nbytes for each in kept.values())
    return {key: each for (key, each), sofar in zip(kept.items(), taken, strict=True) if sofar <= most}
