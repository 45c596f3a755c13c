"""A split on the device: normalisation and drawing by class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import make_info, make_split, make_train

from dcbench.core.split import ResidentSplit


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def train():
    return make_train((4, 7, 2))


def test_its_length_is_the_number_of_images(train):
    assert len(train) == 13


def test_class_indices_are_those_of_each_class_in_order(train):
    for label, members in enumerate(train.class_indices):
        assert members.tolist() == [i for i, own in enumerate(train.labels.tolist()) if own == label]


def test_a_class_without_images_has_no_indices():
    split = make_split((2, 2))
    train = ResidentSplit.place(split, make_info(classes=3), torch.device("cpu"))
    assert [len(members) for members in train.class_indices] == [2, 2, 0]


def test_normalised_is_the_pixel_in_0_to_1_less_the_mean_over_the_deviation():
    info = make_info(3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    split = make_split(channels=3)
    images = ResidentSplit.place(split, info, torch.device("cpu")).normalised(slice(None))
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (info.mean, info.std))
    assert images.dtype == torch.float32
    np.testing.assert_allclose(images, (split.images.numpy() / 255 - mean) / std, rtol=1e-5, atol=1e-6)


def test_normalised_takes_indices_in_any_order_and_slices(train):
    everything = train.normalised(slice(None))
    chosen = torch.tensor([5, 0, 5])
    assert torch.equal(train.normalised(chosen), everything[chosen])
    assert torch.equal(train.normalised(slice(2, 6)), everything[2:6])


def test_normalising_leaves_the_stored_pixels_alone(train):
    before = train.images.clone()
    train.normalised(slice(None))
    assert torch.equal(train.images, before)


def test_drawn_images_are_different_ones_of_the_class(train):
    for seed in range(20):
        drawn = train.draw_indices(1, 5, generator(seed)).tolist()
        assert len(set(drawn)) == 5
        assert set(drawn) <= set(train.class_indices[1].tolist())


def test_every_image_of_a_class_can_be_drawn(train):
    seen = {index for seed in range(50) for index in train.draw_indices(1, 1, generator(seed)).tolist()}
    assert seen == set(train.class_indices[1].tolist())


def test_a_class_with_too_few_images_gives_all_it_has(train):
    drawn = train.draw_indices(2, 10, generator())
    assert sorted(drawn.tolist()) == train.class_indices[2].tolist()


def test_a_draw_depends_on_the_generator_alone(train):
    torch.manual_seed(0)
    first = train.draw_indices(1, 5, generator(3))
    torch.manual_seed(1)
    assert torch.equal(first, train.draw_indices(1, 5, generator(3)))
    assert any(not torch.equal(first, train.draw_indices(1, 5, generator(seed))) for seed in range(4, 8))


def test_draw_returns_the_normalised_images_of_draw_indices(train):
    expected = train.normalised(train.draw_indices(0, 3, generator(1)))
    assert torch.equal(train.draw(0, 3, generator(1)), expected)
