"""The picture of a condensed set."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import make_info, make_set, make_train
from PIL import Image

from dcbench.core.condensed_set import CondensedSet
from dcbench.results.picture import GAP, MOST_COLUMNS, draw_picture, save_picture
from dcbench.results.stored_pixels import to_pixels as array_to_pixels

TILE = 64


def to_pixels(images, mean, std):
    return torch.from_numpy(array_to_pixels(images.numpy(), mean, std))


def plain_set(levels, labels, channels=1):
    """Images of one grey level each, a fraction of the pixel range; `make_info` normalises it."""
    images = (torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, channels, 8, 8) - 0.5) / 0.25
    return CondensedSet(images.clone(), torch.tensor(labels))


def tile_levels(picture, columns, classes):
    """Return the red value at the middle of every place an image can be at, a list per class."""
    left = picture.width - columns * (TILE + GAP)
    return [
        [
            picture.getpixel((left + column * (TILE + GAP) + TILE // 2, GAP + row * (TILE + GAP) + TILE // 2))[0]
            for column in range(columns)
        ]
        for row in range(classes)
    ]


def test_pixels_are_those_that_were_normalised():
    train = make_train(channels=3)
    assert torch.equal(to_pixels(train.normalised(slice(None)), train.info.mean, train.info.std), train.images)


def test_an_image_beyond_the_pixel_range_is_compressed_into_it_and_keeps_its_order():
    wide = torch.linspace(-8, 8, 64).view(1, 1, 8, 8)
    levels = to_pixels(wide, (0.5,), (0.25,)).flatten().int()
    assert (levels[0], levels[-1]) == (0, 255)
    assert (levels.diff() >= 0).all()
    # Cut off at the pixel range, three quarters of it would be black or white.
    assert ((levels == 0) | (levels == 255)).float().mean() < 0.2


def test_how_an_image_is_shown_does_not_depend_on_the_others():
    images = make_set(ipc=4).images * torch.arange(12).view(-1, 1, 1, 1)
    one_by_one = torch.cat([to_pixels(image, (0.5,), (0.25,)) for image in images.split(1)])
    assert torch.equal(to_pixels(images, (0.5,), (0.25,)), one_by_one)


def test_whitened_images_are_shown_as_they_are_from_black_to_white():
    levels = torch.linspace(-2, 2, 64).view(1, 1, 8, 8)
    condensed = CondensedSet(levels.repeat(3, 1, 1, 1), torch.arange(3), zca=True)
    picture = draw_picture(condensed, make_info(mean=(0.9,)), columns=1)
    left, step = picture.width - TILE - GAP, TILE // 8
    found = [picture.getpixel((left + x * step + 1, GAP + y * step + 1))[0] for y in range(8) for x in range(8)]
    assert (found[0], found[63]) == (0, 255)
    assert found == sorted(found)
    assert 120 < found[31] < 135 < found[48]


def test_images_stand_in_the_row_of_their_class_in_order():
    condensed = plain_set([0.0, 0.2, 0.4, 0.6, 0.8, 1 / 3], [2, 0, 1, 0, 2, 1])
    picture = draw_picture(condensed, make_info(), columns=2)
    assert tile_levels(picture, 2, 3) == [[51, 153], [102, 85], [0, 204]]


def test_soft_labels_count_as_their_most_likely_class():
    soft = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.2, 0.6, 0.2]])
    condensed = replace(plain_set([0.2, 0.4, 0.6], [0, 0, 0]), labels=soft)
    assert tile_levels(draw_picture(condensed, make_info(), 1), 1, 3) == [[102], [153], [51]]


def test_a_class_with_fewer_images_leaves_places_white():
    picture = draw_picture(plain_set([0.2, 0.4, 0.0, 0.6], [0, 0, 1, 2]), make_info(), columns=2)
    assert tile_levels(picture, 2, 3) == [[51, 102], [0, 255], [153, 255]]


def test_there_is_room_for_every_class_and_its_name():
    wide = draw_picture(make_set(), make_info(class_names=("x" * 40, "b", "c")), columns=1)
    narrow = draw_picture(make_set(), make_info(class_names=("a", "b", "c")), columns=1)
    assert narrow.height == wide.height == GAP + 3 * (TILE + GAP)
    assert wide.width > narrow.width > TILE
    names = narrow.crop((0, 0, narrow.width - TILE - GAP, narrow.height))
    assert names.getextrema()[0][0] == 0  # black on white


@pytest.mark.parametrize(("size", "tile"), [((8, 8), (64, 64)), ((28, 28), (56, 56)), ((100, 100), (100, 100))])
def test_images_are_enlarged_by_a_whole_factor(size, tile):
    info = make_info(size=size, class_names=("a", "b", "c"))
    one, two = (draw_picture(make_set(size=size), info, columns) for columns in (1, 2))
    assert (two.width - one.width, one.height) == (tile[1] + GAP, GAP + 3 * (tile[0] + GAP))


def test_colours_and_orientation_are_kept():
    images = torch.full((1, 3, 2, 4), -2.0)  # black
    images[0, 0, 0, 3] = 2.0  # the upper right corner is red
    info = make_info(3, (2, 4), classes=1)
    picture = draw_picture(CondensedSet(images, torch.tensor([0])), info, columns=1)
    left = picture.width - (TILE + GAP)
    assert picture.getpixel((left + TILE - 1, GAP)) == (255, 0, 0)
    assert picture.getpixel((left, GAP)) == (0, 0, 0)
    assert picture.getpixel((left + TILE - 1, GAP + 31)) == (0, 0, 0)
    # Pixels are enlarged to squares of one colour, never blended.
    tile = picture.crop((left, GAP, left + TILE, GAP + TILE // 2))
    assert sorted(tile.getcolors()) == [(16 * 16, (255, 0, 0)), (7 * 16 * 16, (0, 0, 0))]


@pytest.mark.parametrize(("ipc", "columns"), [(1, 1), (7, 7), (MOST_COLUMNS + 1, MOST_COLUMNS), (None, 10)])
def test_a_saved_picture_has_a_column_per_image_up_to_a_limit(ipc, columns, tmp_path):
    condensed, path = make_set(ipc or 12), tmp_path / "new" / "picture.png"
    save_picture(path, condensed, make_info(), ipc)
    with Image.open(path) as picture:
        assert picture.size == draw_picture(condensed, make_info(), columns).size
    assert picture.size == draw_picture(condensed, make_info(), ipc).size


def test_the_same_set_gives_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        save_picture(tmp_path / name, make_set(ipc=2), make_info(), 2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_drawing_leaves_the_set_alone():
    condensed = make_set()
    before = condensed.sha256()
    draw_picture(condensed, make_info(), 1)
    assert condensed.sha256() == before


def test_a_class_without_an_image_has_an_empty_row():
    picture = draw_picture(plain_set([0.2, 0.4], [0, 0]), make_info(), columns=2)
    assert tile_levels(picture, 2, 3) == [[51, 102], [255, 255], [255, 255]]
