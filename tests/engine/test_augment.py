"""Each augmentation against what it says it does."""

from __future__ import annotations

import pytest
import torch

from dcbench.engine.augment import CROP_PIXELS, OPERATIONS, ROTATE_DEGREES, augment
from dcbench.utils.errors import DcbenchError

EVERYTHING = "crop_scale_rotate"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n=40, channels=2, height=12, width=20, seed=0):
    """Images whose channels have different means."""
    offsets = torch.arange(1.0, channels + 1).view(1, -1, 1, 1)
    return torch.randn(n, channels, height, width, generator=generator(seed)) + offsets


def shifted(image, down, right, fill):
    """Move a picture by whole pixels: negative is up and left."""
    _, height, width = image.shape
    moved = fill.view(-1, 1, 1).expand_as(image).clone()
    rows, columns = range(max(0, down), height + min(0, down)), range(max(0, right), width + min(0, right))
    moved[:, rows.start : rows.stop, columns.start : columns.stop] = image[
        :, rows.start - down : rows.stop - down, columns.start - right : columns.stop - right
    ]
    return moved


def blob(height, width, y, x, radius=2.0):
    """One round blob, centred at pixel coordinates (y, x)."""
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width).view(1, -1)
    return torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * radius**2)).view(1, 1, height, width)


def centre(image):
    """Return the centre of mass (y, x) from the middle of the image."""
    _, height, width = image.shape
    weights = image[0] / image.sum()
    y = (weights.sum(1) * (torch.arange(height) - (height - 1) / 2)).sum()
    x = (weights.sum(0) * (torch.arange(width) - (width - 1) / 2)).sum()
    return torch.stack([y, x])


@pytest.mark.parametrize("strategy", ["flip", "crop_flip", "crop_", "_", "Crop"])
def test_an_unknown_operation_is_refused_with_the_list(strategy):
    with pytest.raises(DcbenchError, match=r"unknown augmentation .* Known: crop, rotate, scale\."):
        augment(torch.zeros(1, 1, 8, 8), strategy, torch.Generator())


def test_no_strategy_returns_the_images_and_draws_nothing():
    images, drawing = noise(), generator()
    before = drawing.get_state()
    assert torch.equal(augment(images, "", drawing), images)
    assert torch.equal(drawing.get_state(), before)


@pytest.mark.parametrize("strategy", [*OPERATIONS, EVERYTHING])
def test_shape_and_type_are_kept_and_the_input_is_left_alone(strategy):
    images = noise().double()
    before = images.clone()
    result = augment(images, strategy, generator())
    assert (result.shape, result.dtype) == (images.shape, torch.float64)
    assert torch.equal(images, before)
    assert not torch.equal(result, images)


@pytest.mark.parametrize("strategy", [*OPERATIONS, EVERYTHING])
def test_the_draws_depend_on_the_generator_alone(strategy):
    torch.manual_seed(0)
    first = augment(noise(), strategy, generator(1))
    torch.manual_seed(1)
    assert torch.equal(first, augment(noise(), strategy, generator(1)))
    assert not torch.equal(first, augment(noise(), strategy, generator(2)))


def test_crop_moves_by_whole_pixels_and_fills_with_the_channel_means_of_the_batch():
    images = noise(n=60)
    fill = images.mean(dim=(0, 2, 3))
    steps = range(-CROP_PIXELS, CROP_PIXELS + 1)
    seen = set()
    for image, result in zip(images, augment(images, "crop", generator()), strict=True):
        found = [
            (down, right)
            for down in steps
            for right in steps
            if torch.allclose(result, shifted(image, down, right, fill), atol=1e-3)
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 20
    assert {abs(down) for down, _ in seen} == {abs(right) for _, right in seen} == set(range(CROP_PIXELS + 1))


def test_scale_stretches_height_and_width_apart_by_0_8_to_1_2_about_the_centre():
    height, width = 40, 60
    corner = blob(height, width, y=8, x=10)
    before = centre(corner[0])
    factors = torch.stack([centre(r) / before for r in augment(corner.repeat(80, 1, 1, 1), "scale", generator())])
    assert factors.min() > 0.79
    assert factors.max() < 1.21
    assert (factors.amin(dim=0) < 0.85).all()
    assert (factors.amax(dim=0) > 1.15).all()
    assert (factors[:, 0] - factors[:, 1]).abs().max() > 0.2


def test_scale_fills_with_zeros():
    images = torch.ones(40, 1, 16, 16)
    corners = augment(images, "scale", generator())[:, 0, 0, 0]
    assert corners.min() == 0
    assert corners.max() == 1


def test_rotate_turns_by_up_to_45_degrees_and_keeps_distances_on_images_that_are_not_square():
    height, width = 40, 60
    images = blob(height, width, y=10, x=26).repeat(80, 1, 1, 1)
    before = centre(images[0])
    fill = images.mean()
    after = torch.stack(
        [centre((result - fill).clamp(min=0)) for result in augment(images, "rotate", generator())]
    )
    start = centre((images[0] - fill).clamp(min=0))
    torch.testing.assert_close(after.norm(dim=1), start.norm().expand(80), rtol=0.03, atol=0)
    angles = torch.rad2deg(torch.atan2(after[:, 0], after[:, 1]) - torch.atan2(before[0], before[1]))
    assert angles.abs().max() < ROTATE_DEGREES + 1
    assert angles.min() < -35
    assert angles.max() > 35


def test_rotate_fills_with_the_mean_of_the_batch():
    images = noise(n=40, height=16, width=16)
    corners = augment(images, "rotate", generator())[:, :, 0, 0]
    filled = (corners - images.mean()).abs().amax(dim=1) < 1e-4
    assert filled.float().mean() > 0.3


def test_each_image_gets_one_operation_drawn_from_all():
    # On images of ones the operations are told apart by what they fill with: crop and rotate change nothing.
    images = torch.ones(300, 1, 16, 16)
    cropped_or_rotated = (augment(images, "crop_rotate", generator()) - 1).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert cropped_or_rotated.all()
    scaled = (augment(images, EVERYTHING, generator()) - 1).abs().amax(dim=(1, 2, 3)) > 1e-5
    # A third are scaled, of which a quarter only outwards.
    assert 0.15 < scaled.float().mean() < 0.35


def test_images_of_a_batch_are_drawn_for_one_by_one():
    result = augment(noise(n=1).repeat(30, 1, 1, 1), EVERYTHING, generator())
    assert len({image.numpy().tobytes() for image in result}) > 20


@pytest.mark.parametrize("strategy", OPERATIONS)
def test_gradients_reach_the_images_and_agree_with_finite_differences(strategy):
    images = noise(n=2, channels=1, height=6, width=6).double().requires_grad_()
    weights = torch.randn(images.shape, generator=generator(1), dtype=torch.float64)

    def loss(inputs):
        return (weights * augment(inputs, strategy, generator(2))).sum()

    (gradient,) = torch.autograd.grad(loss(images), images)
    direction = torch.randn(images.shape, generator=generator(3), dtype=torch.float64)
    direction -= direction.mean()  # leaves the fill as it is, which counts as a constant
    step = 1e-5
    with torch.no_grad():
        difference = (loss(images + step * direction) - loss(images - step * direction)) / (2 * step)
    assert difference.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-6)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("strategy", OPERATIONS)
def test_gradients_do_not_leak_from_one_image_to_another_through_the_fill(strategy):
    images = noise().requires_grad_()
    (gradient,) = torch.autograd.grad(augment(images, strategy, generator())[0].sum(), images)
    assert gradient[0].abs().sum() > 0
    assert gradient[1:].abs().sum() == 0
