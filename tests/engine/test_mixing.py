"""Crops and CutMix: what is drawn, and that it is drawn from the generator alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dcbench.engine.mixing import crop_and_resize, cutmix

HEIGHT, WIDTH = 40, 48


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(n):
    """Images whose every pixel is their number."""
    return torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).repeat(1, 2, HEIGHT, WIDTH)


def ramp(n):
    """Images whose channels are the row and the column of each pixel."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack([rows, columns]).float().repeat(n, 1, 1, 1)


@pytest.mark.parametrize("change", [cutmix, lambda images, generator: crop_and_resize(images, 0.5, generator)])
def test_the_draws_come_from_the_generator_and_the_images_stay(change):
    images, state = torch.randn(6, 3, HEIGHT, WIDTH, generator=generator()), torch.get_rng_state()
    before = images.clone()
    one = change(images, generator(1))
    assert torch.equal(one, change(images, generator(1)))
    assert not torch.equal(one, change(images, generator(2)))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_crop_of_everything_is_the_image_and_draws_nothing():
    images, source = ramp(2), generator()
    assert crop_and_resize(images, 1, source) is images
    assert torch.equal(source.get_state(), generator().get_state())


def crops(n=400):
    """The rows and columns, from the first to beyond the last, of crops of half the area or more."""
    ramps = crop_and_resize(ramp(n), 0.5, generator())
    # What is between the middles of the outer pixels of a crop, enlarged: linear but for the border.
    steps = [ramps[:, 0, 20, 0] - ramps[:, 0, 19, 0], ramps[:, 1, 0, 24] - ramps[:, 1, 0, 23]]
    sides = [steps[0] * HEIGHT, steps[1] * WIDTH]
    middles = [ramps[:, 0, 19:21, 0].mean(dim=1) + 0.5, ramps[:, 1, 0, 23:25].mean(dim=1) + 0.5]
    return [(middle - side / 2, side) for middle, side in zip(middles, sides, strict=True)]


def test_crops_are_whole_pixels_of_half_the_area_or_more():
    (top, height), (left, width) = crops()
    for value in (top, height, left, width):
        assert float((value - value.round()).abs().max()) < 1e-2
    area = height * width / (HEIGHT * WIDTH)
    assert 0.47 < float(area.min()) < 0.53
    assert 0.85 < float(area.max()) <= 1.001
    ratio = width / height
    assert float(ratio.min()) > 0.70
    assert float(ratio.max()) < 1.40
    assert float(ratio.min()) < 0.85 < 1.2 < float(ratio.max())
    assert float(top.min()) > -0.01
    assert float((top + height).max()) < HEIGHT + 0.01
    assert float((left + width).max()) < WIDTH + 0.01


def test_a_crop_is_enlarged_as_torch_does():
    images = torch.randn(5, 3, HEIGHT, WIDTH, generator=generator(3))
    made = crop_and_resize(images, 0.5, generator())
    boxes = torch.stack([each for side in crops(5) for each in side], dim=1).round().int()
    for number, (top, height, left, width) in enumerate(boxes.tolist()):
        piece = images[number : number + 1, :, top : top + height, left : left + width]
        expected = F.interpolate(piece, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
        inner = (..., slice(2, -2), slice(2, -2))  # at a crop's edge the pixels beyond it count, too
        torch.testing.assert_close(made[number : number + 1][inner], expected[inner], atol=1e-4, rtol=1e-4)


def test_cutmix_takes_one_rectangle_for_the_batch_from_a_permutation():
    for seed in range(40):
        mixed = cutmix(numbered(5), generator(seed))
        partners = torch.randperm(5, generator=generator(seed)).float()
        own = torch.arange(5.0)
        moved = partners != own
        assert ((mixed == own.view(5, 1, 1, 1)) | (mixed == partners.view(5, 1, 1, 1))).all()
        masks = (mixed == partners.view(5, 1, 1, 1))[moved]
        assert (masks == masks[:1, :1]).all()
        rows, columns = masks[0, 0].any(dim=1), masks[0, 0].any(dim=0)
        assert torch.equal(masks[0, 0], rows[:, None] & columns[None])
        for side in (rows, columns):  # in one piece
            assert int((side[1:] != side[:-1]).sum()) <= 2


def test_the_rectangles_of_cutmix_have_areas_of_all_sizes_uniformly():
    """Where it lies inside the image, the area is a uniform part of it: sides are rounded down to even numbers."""
    shares = []
    for seed in range(2000):
        source = generator(seed)
        swapped = torch.randperm(2, generator=source).tolist() == [1, 0]
        kept, *places = torch.rand(3, dtype=torch.float64, generator=source).tolist()
        mixed = cutmix(numbered(2), generator(seed))
        share = float((mixed[0] != 0).float().mean())
        expected = 1.0
        for side, place in zip((HEIGHT, WIDTH), places, strict=True):
            half, centre = int(side * (1 - kept) ** 0.5) // 2, int(place * side)
            expected *= (min(side, centre + half) - max(0, centre - half)) / side
        if swapped:
            assert share == pytest.approx(expected)
            shares.append(1 - kept)
    assert float(torch.tensor(shares).mean()) == pytest.approx(0.5, abs=0.03)
