"""Common corruptions: the authors' own images as reference, and what the measure makes of them.

``authors.npz`` was made by the authors' make_cifar_c.py (scikit-image 0.26, OpenCV 5.0, ImageMagick 6.9.11): an
image, uint8, (32, 32, 3), and by the name of a corruption its five severities, (5, 32, 32, 3), after
``numpy.random.seed(severity)``. impulse_noise is missing, because scikit-image draws it in another way.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dcbench_plugins.measures import corruptions, strata
from dcbench_plugins.measures.common_corruptions import CORRUPTIONS, corrupt
from dcbench_plugins.measures.corruptions import Corruptions
from helpers import make_info, make_train
from torch import nn

from dcbench.core.split import ResidentSplit
from dcbench.core.whitening import whiten
from dcbench.utils.errors import DcbenchError

AUTHORS = np.load(Path(__file__).parent / "authors.npz")
DRAWN_BY_CHANNEL = {"gaussian_noise", "shot_noise", "impulse_noise"}
NOT_MONOTONE = {"glass_blur", "frost", "elastic_transform"}
"""Their parameters do not grow with severity, or the change of pixels does not grow with them."""


def rng(seed=0):
    return np.random.RandomState(seed)


def smooth(count=40, size=(32, 32), channels=3):
    """Images in which neighbours are alike, as in photographs: uint8, (N, H, W, C)."""
    pixels = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    pixels = nn.functional.interpolate(pixels, size, mode="bicubic").clamp(0, 1) * 255
    return pixels.permute(0, 2, 3, 1).to(torch.uint8).numpy()


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("name", sorted(set(AUTHORS.files) - {"image"}))
def test_a_corruption_is_that_of_the_authors_code(name, severity):
    ours = corrupt(AUTHORS["image"][None], name, severity, rng(severity))[0].astype(int)
    away = np.abs(ours - AUTHORS[name][severity - 1])
    assert away.max() <= 1  # the fraction of a level is cut off
    assert (away > 0).mean() < 0.25
    others = np.abs(ours - np.delete(AUTHORS[name], severity - 1, axis=0).astype(int))
    assert (others.max(axis=(1, 2, 3)) > 1).all()  # so near only to its own severity


def test_impulse_noise_is_salt_and_pepper_in_equal_parts():
    images = np.full((200, 32, 32, 3), 100, np.uint8)
    for severity, share in enumerate((0.01, 0.02, 0.03, 0.05, 0.07), start=1):
        values, counts = np.unique(corrupt(images, "impulse_noise", severity, rng()), return_counts=True)
        assert values.tolist() == [0, 100, 255]
        np.testing.assert_allclose(counts / images.size, [share / 2, 1 - share, share / 2], atol=0.0005)


def test_all_fifteen_are_there_in_the_order_of_the_paper():
    assert len(CORRUPTIONS) == 15
    assert set(CORRUPTIONS) == {*AUTHORS.files, "impulse_noise"} - {"image"}


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - NOT_MONOTONE))
def test_the_mean_change_grows_with_severity(name):
    images = smooth()
    changes = [np.abs(corrupt(images, name, each, rng()) - images.astype(float)).mean() for each in range(1, 6)]
    assert changes == sorted(changes)
    assert changes[0] > 0.1


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - DRAWN_BY_CHANNEL - {"frost"}))
def test_a_grey_image_is_changed_like_each_channel_of_its_copy_in_colour(name):
    grey = smooth(channels=1)
    for severity in (1, 3, 5):
        in_colour = corrupt(grey.repeat(3, axis=3), name, severity, rng())
        assert np.abs(in_colour - corrupt(grey, name, severity, rng()).astype(int)).max() <= 1


def test_frost_on_a_grey_image_is_the_grey_of_frost_in_colour():
    black = np.zeros((5, 32, 32, 3), np.uint8)
    in_colour = corrupt(black, "frost", 5, rng()) @ [0.299, 0.587, 0.114]
    grey = corrupt(black[..., :1], "frost", 5, rng())[..., 0]
    assert np.abs(in_colour - grey).max() <= 1
    assert grey.mean() > 30


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (9, 14), (40, 70)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_corruption_takes_every_size(size, channels):
    images = smooth(3, size, channels)
    for name in CORRUPTIONS:
        changed = corrupt(images, name, 5, rng())
        assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
        assert (changed != images).any(axis=(1, 2, 3)).all(), name


def test_black_images_stay_finite():
    """No division by their brightest pixel, which is 0."""
    black = np.zeros((2, 8, 8, 1), np.uint8)
    assert not corrupt(black, "fog", 5, rng()).any()
    assert (corrupt(black, "brightness", 1, rng()) == int(0.05 * 255)).all()


def test_images_are_corrupted_a_part_at_a_time(monkeypatch):
    images = smooth(7)
    whole = corrupt(images, "zoom_blur", 3, rng())
    monkeypatch.setattr("dcbench_plugins.measures.common_corruptions.AT_ONCE", 2 * images[0].size)
    assert np.array_equal(corrupt(images, "zoom_blur", 3, rng()), whole)


# The measure


@pytest.fixture(autouse=True)
def nothing_kept():
    corruptions._kept.cache_clear()


@pytest.fixture
def test():
    return make_train((9, 9, 9), size=(8, 8))


def network_for(split, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(split.images[0].numel(), 3)).eval()


def by_hand(network, split, images):
    with torch.no_grad():
        outputs = network(split.normalise(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255))
    return (outputs.argmax(dim=1) == split.labels).double().mean().item()


def test_scores_are_means_of_accuracies_on_corrupted_images(test):
    network, generator = network_for(test), torch.Generator().manual_seed(0)
    labels = network(test.normalised(slice(None))).argmax(dim=1)
    test = ResidentSplit(test.images, torch.where(torch.arange(27) < 24, labels, 0), test.info)
    before = generator.get_state()
    scores = Corruptions(types="contrast+pixelate").scores(network, test, generator)
    images = test.images.permute(0, 2, 3, 1).numpy()
    table = {
        name: [by_hand(network, test, corrupt(images, name, each, rng())) for each in range(1, 6)]
        for name in ("contrast", "pixelate")  # which draw nothing
    }
    mean, clean = np.mean(list(table.values())), by_hand(network, test, images)
    expected = {
        "corrupted_accuracy": mean,
        "clean_accuracy": clean,
        "relative_drop": (clean - mean) / clean,
        "contrast": np.mean(table["contrast"]),
        "pixelate": np.mean(table["pixelate"]),
    } | {f"severity_{each + 1}": (table["contrast"][each] + table["pixelate"][each]) / 2 for each in range(5)}
    assert scores == pytest.approx(expected)
    assert scores["contrast"] != scores["pixelate"]
    assert not network.training
    assert torch.equal(generator.get_state(), before)


def test_by_default_all_fifteen_are_asked(test):
    scores = Corruptions().scores(network_for(test), test, torch.Generator())
    assert {*CORRUPTIONS, *(f"severity_{each}" for each in range(1, 6))} < scores.keys()
    assert len(scores) == 23
    assert scores["corrupted_accuracy"] == pytest.approx(np.mean([scores[each] for each in CORRUPTIONS]))
    assert Corruptions.main in scores


def test_a_network_that_is_never_right_drops_by_nothing(test):
    split = ResidentSplit(test.images, torch.full_like(test.labels, 2), test.info)
    network = network_for(split)
    with torch.no_grad():
        network[-1].bias[2] = -1e6
    scores = Corruptions(types="fog").scores(network, split, torch.Generator())
    assert (scores["clean_accuracy"], scores["relative_drop"]) == (0, 0)


def test_the_same_data_are_corrupted_the_same_way_and_once(test, monkeypatch):
    first = corruptions.corrupted(test, "snow", 2).images
    assert corruptions.corrupted(test, "snow", 2).images is first  # kept
    corruptions._kept.cache_clear()
    assert torch.equal(corruptions.corrupted(test, "snow", 2).images, first)
    assert not torch.equal(corruptions.corrupted(test, "snow", 3).images, first)
    renamed = ResidentSplit(test.images, test.labels, make_info(sha256="1" * 64))
    assert not torch.equal(corruptions.corrupted(renamed, "snow", 2).images, first)


def test_other_images_of_the_same_data_set_are_not_taken_for_those_kept(test):
    whole = corruptions.corrupted(test, "contrast", 3).images
    part = corruptions.corrupted(test.part(torch.tensor([4, 2])), "contrast", 3).images
    assert torch.equal(part, whole[[4, 2]])


def test_what_is_kept_is_bounded(test, monkeypatch):
    monkeypatch.setattr(corruptions, "KEPT_BYTES", 3 * test.images.numel())
    scores = Corruptions(types="fog").scores(network_for(test), test, torch.Generator())
    kept = corruptions._kept
    assert kept.cache_info().currsize == 1
    assert corruptions.corrupted(test, "fog", 3).images is corruptions.corrupted(test, "fog", 3).images
    assert corruptions.corrupted(test, "fog", 4).images is not corruptions.corrupted(test, "fog", 4).images
    assert Corruptions(types="fog").scores(network_for(test), test, torch.Generator()) == scores


def test_whitened_images_are_corrupted_before_they_are_whitened():
    train = make_train((9, 9, 9))
    white = whiten(train)
    changed = corruptions.corrupted(white, "contrast", 5)
    assert torch.equal(changed.images, corruptions.corrupted(train, "contrast", 5).images)
    torch.testing.assert_close(changed.normalised(slice(None)), white.normalise(changed.raw(slice(None))))


def test_the_images_are_a_fixed_share_of_each_class():
    split = make_train((10, 20, 30))
    some = strata.stratified(split, 12)
    assert torch.bincount(some.labels).tolist() == [2, 4, 6]
    assert torch.equal(some.images, strata.stratified(split, 12).images)
    assert strata.stratified(split, 0) is strata.stratified(split, 60) is split
    assert len(Corruptions(images=7).scores(network_for(split), split, torch.Generator())) == 23
    distinct = {image.numpy().tobytes() for image in strata.stratified(split, 59).images}
    assert len(distinct) == 59


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("types=fog+snow", "corruptions:types=snow+fog"),
        ("types=fog+ fog", "corruptions:types=fog"),
        ("types=all", "corruptions"),
        ("types=" + "+".join(CORRUPTIONS), "corruptions"),
    ],
)
def test_the_same_corruptions_are_spelled_the_same(written, canonical):
    assert str(Corruptions.parse(written)) == canonical


@pytest.mark.parametrize("written", ["types=frog", "types=", "types=fog+frog", "images=-1"])
def test_wrong_options_are_refused(written):
    with pytest.raises(DcbenchError, match=r"option '(types|images)' of measure 'corruptions'"):
        Corruptions.parse(written)


def test_it_says_which_images_it_cannot_corrupt():
    measure = Corruptions()
    assert measure.unsuited(make_info(1, (8, 8))) == measure.unsuited(make_info(3, (300, 200))) == ""
    assert measure.unsuited(make_info(2, (8, 8))) == "needs images of 1 or 3 channels, and these have 2"
    assert "8 pixels" in measure.unsuited(make_info(3, (7, 20)))
