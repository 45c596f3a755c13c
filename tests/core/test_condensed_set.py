"""What a set brings with it beside images and labels, and what networks are trained on in the end."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import make_set, make_train

from dcbench.core.condensed_set import check_set

LOGITS = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))


def enlarged(tile, height, width):
    """Enlarge a tile, (C, h, w), pixel by pixel: bilinear, with the pixels' corners in the same place."""
    tile, (channels, h, w) = tile.numpy(), tile.shape
    image = np.zeros((channels, height, width), np.float32)
    for y in range(height):
        for x in range(width):
            fy, fx = max((y + 0.5) * h / height - 0.5, 0), max((x + 0.5) * w / width - 0.5, 0)
            (top, left), (down, right) = (int(fy), int(fx)), (min(int(fy) + 1, h - 1), min(int(fx) + 1, w - 1))
            dy, dx = fy - top, fx - left
            upper = (1 - dx) * tile[:, top, left] + dx * tile[:, top, right]
            lower = (1 - dx) * tile[:, down, left] + dx * tile[:, down, right]
            image[:, y, x] = (1 - dy) * upper + dy * lower
    return torch.from_numpy(image)


@pytest.mark.parametrize(("factor", "size"), [(2, (8, 8)), (2, (8, 12)), (4, (8, 8)), (3, (6, 9))])
def test_each_tile_is_an_image_of_the_full_size_with_the_label_of_its_grid(factor, size):
    condensed = make_set(ipc=2, channels=3, size=size, factor=factor)
    images, labels = condensed.decoded()
    height, width = size[0] // factor, size[1] // factor
    expected = [
        enlarged(image[:, row * height : (row + 1) * height, column * width : (column + 1) * width], *size)
        for image in condensed.images
        for row in range(factor)
        for column in range(factor)
    ]
    torch.testing.assert_close(images, torch.stack(expected))
    assert torch.equal(labels, condensed.labels.repeat_interleave(factor**2))


def test_without_a_factor_images_are_as_they_are():
    condensed = make_set(lr=0.1)
    images, labels = condensed.decoded()
    assert images is condensed.images
    assert labels is condensed.labels


def test_logits_become_probabilities_at_their_temperature():
    condensed = make_set(labels=LOGITS, temperature=4.0, factor=2)
    images, labels = condensed.decoded()
    exps = [[math.exp(value / 4) for value in row] for row in LOGITS.tolist()]
    expected = torch.tensor([[each / sum(row) for each in row] for row in exps for _ in range(4)])
    torch.testing.assert_close(labels, expected)
    assert len(images) == len(labels) == 12


def test_what_is_stored_is_counted_not_what_is_decoded():
    assert make_set(factor=2).storage_bytes == make_set().storage_bytes


def test_all_that_a_set_brings_is_in_its_hash():
    condensed = make_set(labels=LOGITS, temperature=1.0)
    others = [
        replace(condensed, **change)
        for change in (
            {"temperature": 2.0},
            {"lr": 0.1},
            {"lr": 0.2},
            {"factor": 2},
            {"zca": True},
            {"temperature": None},
        )
    ]
    assert len({each.sha256() for each in [condensed, *others]}) == 7
    assert condensed.brings == {"temperature": 1.0}
    assert make_set().brings == {}


REFUSED = {
    "lr 0": ({"lr": 0.0}, "lr must be a number above 0, found 0.0"),
    "lr below 0": ({"lr": -0.1}, "lr must be a number above 0"),
    "lr NaN": ({"lr": math.nan}, "lr must be a number above 0, found nan"),
    "lr infinite": ({"lr": math.inf}, "lr must be a number above 0"),
    "lr a tensor": ({"lr": torch.tensor(0.1)}, "lr must be a number above 0"),
    "temperature 0": ({"labels": LOGITS, "temperature": 0.0}, "temperature must be a number above 0, found 0.0"),
    "temperature of classes": ({"temperature": 1.0}, "labels that are logits, and these are classes"),
    "no probabilities": (
        {"labels": LOGITS},
        "must be probabilities, or logits with a temperature",
    ),
    "no sum of 1": ({"labels": torch.full((3, 3), 0.5)}, "must be probabilities, or logits"),
    "logits not finite": ({"labels": LOGITS / 0, "temperature": 1.0}, "labels must be finite"),
    "factor 0": ({"factor": 0}, "factor must be a whole number that divides 8 and 8, found 0"),
    "factor 3": ({"factor": 3}, "factor must be a whole number that divides 8 and 8, found 3"),
    "factor 2.0": ({"factor": 2.0}, "factor must be a whole number"),
}


@pytest.mark.parametrize(("changes", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_is_refused(changes, problem):
    with pytest.raises(ValueError, match=problem):
        check_set(make_set(**changes), make_train(), 1)


def test_a_set_that_brings_all_it_can_is_accepted():
    check_set(make_set(labels=LOGITS, lr=0.02, temperature=4.0, factor=2), make_train(), 1)
