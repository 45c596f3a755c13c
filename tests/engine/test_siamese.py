"""Each siamese operation against its formula, written here once more for one image, in plain numpy."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import tiny_plugin
import torch
from helpers import make_info

from dcbench.api import SiameseAugmentation, suitable_strategy
from dcbench.core.loaded_dataset import load_dataset
from dcbench.engine.siamese import FULL, OPERATIONS
from dcbench.plugins import Plugins
from dcbench.utils.errors import DcbenchError

SHIFT = {8: 1, 9: 1, 14: 2, 28: 4, 32: 4}
HOLE = {8: 4, 9: 5, 14: 7, 28: 14, 32: 16}
"""By the side in pixels: how far a crop shifts at most, and the side of a cutout."""
SIZES = [(8, 8), (28, 28), (32, 32), (9, 14), (14, 8)]
ALMOST_ONE = 1 - 2**-53
"""The greatest uniform draw."""


def color(x, u):
    x = x + (u[0] - 0.5)
    grey = x.mean(axis=0)
    x = (x - grey) * (2 * u[1]) + grey
    return (x - x.mean()) * (u[2] + 0.5) + x.mean()


def crop(x, u):
    result, (_, height, width) = np.zeros_like(x), x.shape
    down, right = (
        int(draw * (2 * SHIFT[side] + 1)) - SHIFT[side] for draw, side in zip(u[:2], (height, width), strict=True)
    )
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + right < width:
                result[:, row, column] = x[:, row + down, column + right]
    return result


def cutout(x, u):
    result, (_, height, width) = x.copy(), x.shape
    corner = []
    for draw, side in zip(u[:2], (height, width), strict=True):
        centres = side if HOLE[side] % 2 else side + 1
        corner.append(int(draw * centres) - HOLE[side] // 2)
    for row in range(corner[0], corner[0] + HOLE[height]):
        for column in range(corner[1], corner[1] + HOLE[width]):
            if 0 <= row < height and 0 <= column < width:
                result[:, row, column] = 0
    return result


def flip(x, u):
    return x[:, :, ::-1] if u[0] < 0.5 else x


def affine(x, matrix, align_corners):
    """Let every output pixel look where the matrix sends it; a pixel's weight falls linearly with the distance."""
    _, height, width = x.shape
    rows, columns = (each.ravel() for each in np.mgrid[:height, :width])
    if align_corners:  # -1 and 1 are the middles of the outermost pixels
        places = np.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1])
        places = matrix @ places
        columns, rows = (places[0] + 1) / 2 * (width - 1), (places[1] + 1) / 2 * (height - 1)
    else:  # -1 and 1 are the image's edges
        places = np.stack([(columns + 0.5) / width * 2 - 1, (rows + 0.5) / height * 2 - 1])
        places = matrix @ places
        columns, rows = (places[0] + 1) / 2 * width - 0.5, (places[1] + 1) / 2 * height - 0.5
    by_row = np.maximum(0, 1 - abs(rows[:, None] - np.arange(height)))
    by_column = np.maximum(0, 1 - abs(columns[:, None] - np.arange(width)))
    return np.einsum("ph,pw,chw->cp", by_row, by_column, x, optimize=True).reshape(x.shape)


def scale(x, u, align_corners=False):
    low, high = 1 / 1.2, 1.2
    return affine(x, np.diag(low + u[:2] * (high - low)), align_corners)


def rotate(x, u, align_corners=False):
    angle = np.deg2rad(-15 + 30 * u[0])
    return affine(x, np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), align_corners)


FORMULAE = {
    "color": (color, {}),
    "crop": (crop, {}),
    "cutout": (cutout, {}),
    "flip": (flip, {}),
    "scale": (scale, {}),
    "scale with corners": (scale, {"align_corners": True}),
    "rotate": (rotate, {}),
    "rotate with corners": (rotate, {"align_corners": True}),
}


def operation(case):
    """Return the operation that a case is about."""
    formula, options = FORMULAE[case]
    return partial(OPERATIONS[formula.__name__], **options)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n=5, channels=3, size=(8, 8), dtype=torch.float64):
    """Images whose channels have different means."""
    offsets = torch.arange(1.0, channels + 1, dtype=dtype).view(-1, 1, 1)
    return torch.randn(n, channels, *size, generator=generator(), dtype=dtype) + offsets


def draws(n=5):
    """Uniform draws, the least and the greatest among them."""
    u = torch.rand(3, n, generator=generator(1), dtype=torch.float64)
    u[:, 0], u[:, 1] = 0, ALMOST_ONE
    return u


@pytest.fixture
def repeatable():
    """Let torch repeat itself; afterwards it is as it was."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(params=["as it is", "repeatable"])
def both(request):
    """Either way of torch: resampling has a path of its own where torch is to repeat itself."""
    if request.param == "repeatable":
        request.getfixturevalue("repeatable")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("case", FORMULAE)
@pytest.mark.usefixtures("both")
def test_an_operation_is_its_formula(case, size, channels):
    images, u, (formula, options) = noise(channels=channels, size=size), draws(), FORMULAE[case]
    expected = np.stack([formula(x, draw, **options) for x, draw in zip(images.numpy(), u.T.numpy(), strict=True)])
    alike = np.stack([formula(x, u[:, 3].numpy(), **options) for x in images.numpy()])
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        for needs_gradient in (False, True):
            given = images.to(dtype, copy=True).requires_grad_(needs_gradient)
            for result, wanted in (
                (operation(case)(given, u), expected),
                (operation(case)(given, u[:, 3:4]), alike),
            ):
                assert (result.dtype, result.shape) == (dtype, images.shape)
                np.testing.assert_allclose(result.detach().numpy(), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("case", FORMULAE)
@pytest.mark.usefixtures("both")
def test_gradients_agree_with_finite_differences(case, n):
    images = noise(2, 2, (5, 6)).requires_grad_()
    for seed in range(3):
        u = torch.rand(3, n, generator=generator(seed), dtype=torch.float64)
        assert torch.autograd.gradcheck(partial(operation(case), u=u), images)


@pytest.mark.parametrize("case", FORMULAE)
def test_the_images_are_left_alone_and_their_layout_is_kept(case):
    images = noise()
    before = images.clone()
    for u in (draws(), draws()[:, 1:2]):
        result = operation(case)(images, u)
        assert not result.is_contiguous(memory_format=torch.channels_last)  # networks compute by layout
    assert torch.equal(images, before)


@pytest.mark.parametrize("side", [8, 28, 32])
def test_crop_shifts_by_every_number_of_pixels_equally_often(side):
    steps, times = 2 * SHIFT[side] + 1, 20
    u = (torch.arange(steps * times, dtype=torch.float64) / (steps * times)).repeat(3, 1)
    images = torch.zeros(steps * times, 1, side, side)
    images[:, :, side // 2, side // 2] = 1
    places = OPERATIONS["crop"](images, u).flatten(1).argmax(dim=1)
    wanted = torch.arange(SHIFT[side], -SHIFT[side] - 1, -1).repeat_interleave(times) + side // 2
    assert torch.equal(places, wanted * side + wanted)


@pytest.mark.parametrize("side", [8, 28, 32])
def test_cutout_has_its_centre_everywhere_equally_often(side):
    centres, times = side + 1, 20
    u = (torch.arange(centres * times, dtype=torch.float64) / (centres * times)).repeat(3, 1)
    result = OPERATIONS["cutout"](torch.ones(centres * times, 1, side, side), u)
    removed = (result == 0).sum(dim=(1, 2, 3))
    half = HOLE[side] // 2
    sides = torch.tensor([min(centre + half, side) - max(centre - half, 0) for centre in range(centres)])
    assert torch.equal(removed, (sides**2).repeat_interleave(times))


@pytest.fixture
def seen(monkeypatch):
    """Collect what is drawn: the operation and its uniform draws."""
    found = []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda x, u, name=name, **options: found.append((name, u, options)))
    return found


def test_operations_and_their_draws_are_uniform(seen):
    augmentation, drawing, times = SiameseAugmentation(FULL), generator(), 3000
    for _ in range(times):
        augmentation.draw(drawing, 2)(None)
    names = [name for name, *_ in seen]
    for name in OPERATIONS:  # within four standard deviations
        assert abs(names.count(name) - times / 6) < 4 * (times * 1 / 6 * 5 / 6) ** 0.5
        ours = torch.stack([u for each, u, _ in seen if each == name])
        for values in ours.flatten(1).T:  # three rows for two images: none follows from another, none is skewed
            places = torch.linspace(0, 1, len(values), dtype=torch.float64)
            assert 0 <= values.min() <= values.max() < 1
            assert (values.sort().values - places).abs().max() < 2 / len(values) ** 0.5
        correlations = torch.corrcoef(ours.flatten(1).T) - torch.eye(6)
        assert correlations.abs().max() < 4.5 / len(ours) ** 0.5


def test_only_the_operations_of_a_strategy_are_drawn_and_corners_reach_resampling_alone(seen):
    for _ in range(60):
        SiameseAugmentation("flip_scale_rotate", align_corners=True).draw(drawing := generator(len(seen)))(None)
        SiameseAugmentation("flip_scale_rotate").draw(drawing)(None)
    assert {name for name, *_ in seen} == {"flip", "scale", "rotate"}
    for turn, (name, u, options) in enumerate(seen):
        assert u.shape == (3, 1)
        assert options == ({} if name == "flip" else {"align_corners": turn % 2 == 0})


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_view_does_the_same_to_batches_of_any_size(name):
    images = noise(7)
    for seed in range(5):
        view = SiameseAugmentation(name).draw(generator(seed))
        real = view(images)
        torch.testing.assert_close(view(images[2:4]), real[2:4], rtol=0, atol=1e-14)
        torch.testing.assert_close(view(images[:1]), real[:1], rtol=0, atol=1e-14)
        torch.testing.assert_close(view(images), real, rtol=0, atol=0)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_generator_alone_says_what_is_drawn(name):
    augmentation, images = SiameseAugmentation(name), noise(30)
    torch.manual_seed(0)
    first = augmentation(images, generator(1))
    torch.manual_seed(1)
    untouched = torch.get_rng_state()
    assert torch.equal(first, augmentation(images, generator(1)))
    assert torch.equal(first, augmentation.draw(generator(1), 30)(images))
    assert torch.equal(untouched, torch.get_rng_state())
    assert not torch.equal(first, augmentation(images, generator(2)))


def test_images_of_a_batch_are_changed_one_by_one_unless_they_are_to_be_alike():
    same = noise(1).repeat(30, 1, 1, 1)
    for name in OPERATIONS:
        each = SiameseAugmentation(name)(same, generator())
        assert len({image.numpy().tobytes() for image in each}) >= (2 if name == "flip" else 9)
        alike = SiameseAugmentation(name).draw(generator())(same)
        assert len({image.numpy().tobytes() for image in alike}) == 1


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("color_rotat", r"unknown augmentation 'rotat'. Did you mean 'rotate'\? Known: color, crop, cutout"),
        ("colour", r"unknown augmentation 'colour'. Did you mean 'color'\?"),
        ("crop_", "unknown augmentation ''"),
        ("", "unknown augmentation ''. Known: color, crop"),
    ],
)
def test_a_strategy_that_is_none_is_refused(strategy, message):
    with pytest.raises(DcbenchError, match=message):
        SiameseAugmentation(strategy)
    with pytest.raises(DcbenchError, match=message):
        suitable_strategy(make_info(), strategy)


def test_nothing_is_left_for_a_data_set_that_nothing_suits():
    info = make_info(unsuitable=frozenset({"flip", "color"}))
    assert suitable_strategy(info) == "crop_cutout_scale_rotate"
    assert suitable_strategy(info, "flip_scale") == "scale"
    with pytest.raises(
        DcbenchError, match="augmentation 'flip_color' does not suit made_up: no operation is left"
    ):
        suitable_strategy(info, "flip_color")


@pytest.mark.parametrize(("name", "least"), [("crop", 4), ("cutout", 2)])
def test_images_that_are_too_small_are_refused(name, least):
    for size in ((least - 1, 9), (9, least - 1)):
        height, width = size
        message = f"'{name}' needs images of at least {least}x{least} pixels; made_up has {height}x{width}"
        with pytest.raises(DcbenchError, match=message):
            suitable_strategy(make_info(size=size), f"color_{name}")
        assert suitable_strategy(make_info(size=size), "color") == "color"
    assert suitable_strategy(make_info(size=(least, least)), name) == name
    images = torch.ones(40, 1, least, least)
    result = SiameseAugmentation(name)(images, generator())
    assert (result == 1).any(dim=3).any(dim=2).all()  # something is left of each
    assert not torch.equal(result, images)


def test_a_data_set_that_forbids_what_does_not_exist_is_refused():
    info = make_info(unsuitable=frozenset({"flips"}))
    with pytest.raises(DcbenchError, match=r"among those unsuitable for made_up: 'flips'. Did you mean 'flip'\?"):
        suitable_strategy(info, "color")


def test_digits_are_not_flipped_and_what_says_nothing_gets_everything(tmp_path):
    plugins = Plugins.load()
    unsuitable = {name: plugins.datasets.get(name).unsuitable for name in plugins.datasets}
    assert {name for name, these in unsuitable.items() if these} >= {"digits", "mnist", "svhn"}
    assert all(these <= {"flip"} for these in unsuitable.values())
    assert suitable_strategy(make_info(unsuitable=unsuitable["mnist"])) == "color_crop_cutout_scale_rotate"
    assert FULL == "color_crop_cutout_flip_scale_rotate"
    assert suitable_strategy(load_dataset(tiny_plugin.Tiny(), tmp_path).info) == FULL
