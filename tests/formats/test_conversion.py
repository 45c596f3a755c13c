"""What pixels and labels of sets made elsewhere become, and which words for them are doubted."""

import warnings

import pytest
import tiny_plugin
import torch
from helpers import make_info

from dcbench.core.dataset import Split
from dcbench.core.loaded_dataset import LoadedDataset, load_dataset
from dcbench.formats.conversion import to_condensed
from dcbench.formats.foreign import Statement, from_tensors
from dcbench.formats.forms import ForeignSet
from dcbench.utils.errors import DcbenchError

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(20, 1, 8, 8, generator=GENERATOR)
Y = torch.arange(10).repeat_interleave(2)
Z = torch.randn(20, 10, generator=GENERATOR)
ONE_HOT = torch.eye(10)[Y]


def smooth(n, channels=1):
    """Images whose neighbouring pixels are alike, as in photographs, dark ones and light ones: uint8."""
    coarse = torch.rand(n, channels, 3, 3, generator=torch.Generator().manual_seed(1))
    images = torch.nn.functional.interpolate(coarse, (8, 8), mode="bilinear", align_corners=True)
    return (images * 200 + torch.linspace(0, 55, n).view(-1, 1, 1, 1)).to(torch.uint8)


def data_of(images):
    info = make_info(images.shape[1], classes=10, mean=(0.5,) * images.shape[1], std=(0.2,) * images.shape[1])
    split = Split(images, torch.arange(len(images)) % 10)
    return LoadedDataset(info, split, split)


DATA = data_of(smooth(400))


def converted(images, labels=Y, data=DATA, **said):
    """The set, and the warnings."""
    (foreign,) = from_tensors(images, labels).sets
    with warnings.catch_warnings(record=True, action="always") as caught:
        condensed = to_condensed(foreign, data, Statement(**said), "a.pt")
    return condensed, [str(each.message) for each in caught]


def test_logits_are_trained_on_by_their_softmax():
    condensed, _ = converted(X, Z, pixels="raw", labels_are="logits")
    assert condensed.brings == {"temperature": 1.0}
    assert torch.equal(condensed.labels, Z)
    assert torch.equal(condensed.decoded()[1], Z.softmax(dim=1))
    hot, _ = converted(X, Z, pixels="raw", labels_are="logits", brings={"temperature": 4.0})
    assert torch.equal(hot.decoded()[1], (Z / 4).softmax(dim=1))


@pytest.mark.parametrize("labels", [ONE_HOT - 0.1, 3 * ONE_HOT - 0.3, ONE_HOT.double() - 0.1, ONE_HOT * 2])
def test_one_hot_labels_of_any_scale_are_classes_and_it_is_said(labels):
    condensed, told = converted(X, labels, pixels="raw")
    assert torch.equal(condensed.labels, Y)
    assert len(told) == 1
    assert "for one class" in told[0]
    assert "they are taken as classes" in told[0]


def test_plain_one_hot_and_smoothed_labels_are_what_they_were():
    hard, told = converted(X, ONE_HOT, pixels="raw")
    smoothed, more = converted(X, ONE_HOT * 0.9 + 0.01, pixels="raw")
    assert (hard.track, smoothed.track, told + more) == ("hard-label", "soft-label", [])


@pytest.mark.parametrize(
    ("labels", "name"),
    [(ONE_HOT - 0.1 + 0.05 * Z, r"targets of a regression \(KIP, FRePo\)"), (5 * Z, r"logits \(DATM\)")],
)
def test_rows_that_are_neither_are_named_for_what_they_are_like(labels, name):
    with pytest.raises(DcbenchError, match=rf"no probabilities, .* look like {name}\. --labels-are logits"):
        converted(X, labels, pixels="raw")
    condensed, _ = converted(X, labels, pixels="raw", labels_are="classes")
    assert torch.equal(condensed.labels, labels.argmax(dim=1))


def test_grey_is_for_grey_data():
    with pytest.raises(DcbenchError, match="--grey is for grey data sets, and made_up is in colour"):
        converted(X.expand(20, 3, 8, 8), Y, data_of(smooth(20, 3)), pixels="raw", grey=True)


def test_labels_in_order_must_divide():
    condensed, _ = converted(X, "in-order", pixels="raw")
    assert torch.equal(condensed.labels, Y)
    with pytest.raises(DcbenchError, match="19 images, which do not divide by the 10 classes"):
        converted(X[:19], "in-order", pixels="raw")


def test_raw_pixels_a_little_outside_are_used_and_it_is_said():
    images = smooth(20).float() / 255 * 1.2 - 0.1
    outside = int(((images < 0) | (images > 1)).sum())
    condensed, told = converted(images, pixels="raw")
    assert torch.allclose(condensed.images, (images - 0.5) / 0.2)
    far = max(-float(images.min()), float(images.max()) - 1)
    assert told == [
        f"a.pt: {outside} of 1280 raw pixels lie outside [0, 1], by up to {far:.3g}. They are used as they are."
    ]


def test_background_that_is_all_a_little_below_0_is_of_pixels():
    _, told = converted(X * (X > 0.8) * 1.2 - 0.1, pixels="raw")
    assert "raw pixels lie outside [0, 1], by up to 0.1. They are used" in told[-1]


@pytest.mark.parametrize(("images", "hint"), [(X * 255, "save them as uint8"), (X * 6 - 3, "normalised ones")])
def test_what_cannot_be_pixels_is_refused(images, hint):
    with pytest.raises(DcbenchError, match=rf"must lie in \[0, 1\], but for a few .*{hint}"):
        converted(images, pixels="raw")


def test_other_statistics_are_taken_back():
    pixels = smooth(20).float() / 255
    as_raw, _ = converted(pixels, pixels="raw")
    theirs, told = converted((pixels - 0.4) / 0.3, mean=(0.4,), std=(0.3,))
    assert torch.allclose(theirs.images, as_raw.images, atol=1e-5)
    assert told == []
    for mean, problem in (((0.4, 0.4), "need 1 number each"), ((120.0,), "divide those of pixels up to 255")):
        with pytest.raises(DcbenchError, match=problem):
            converted(pixels, mean=mean, std=(0.3,))
    with pytest.raises(DcbenchError, match="has raw images: --mean and --std are of normalised ones"):
        converted(pixels, pixels="raw", mean=(0.4,), std=(0.3,))


PIXELS = DATA.train.images[:20].float() / 255
UNDER = {
    "raw": PIXELS,
    "normalised": DATA.train.normalised(slice(20)),
    "zca": DATA.train_split(zca=True).normalised(slice(20)),
}


@pytest.mark.parametrize("true", UNDER)
@pytest.mark.parametrize("claimed", ["normalised", "zca"])
def test_a_word_that_does_not_fit_is_doubted_and_the_better_one_named(true, claimed):
    condensed, told = converted(UNDER[true], pixels=claimed)
    assert torch.equal(condensed.images, UNDER[true])
    assert [text.partition("say --")[2] for text in told] == ([] if true == claimed else [f"{true}."])


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_more_contrast_than_real_images_have_is_not_doubted(scale):
    assert converted(UNDER["normalised"] * scale, pixels="normalised")[1] == []


@pytest.mark.parametrize(("mean", "std", "told"), [(0.8, 0.1, 1), (0.45, 0.25, 0)])
def test_images_that_other_statistics_normalised_are_doubted_where_that_can_be_seen(mean, std, told):
    images = (PIXELS - mean) / std
    found = converted(images, pixels="normalised")[1]
    assert [text.partition("other statistics, ")[2] for text in found] == ["say which: --mean and --std."] * told
    assert converted(images, pixels=None, mean=(mean,), std=(std,))[1] == []


def test_words_are_compared_on_real_images(tmp_path, plugins):
    digits = load_dataset(plugins.make_dataset("digits"), tmp_path)
    images, labels = digits.train.normalised(slice(50)), digits.train.labels[:50]
    for claimed, better in (("normalised", []), ("zca", ["normalised."])):
        told = converted(images, labels, digits, pixels=claimed)[1]
        assert [text.partition("say --")[2] for text in told] == better


def test_noise_that_is_called_normalised_is_doubted(tmp_path):
    tiny = load_dataset(tiny_plugin.Tiny(), tmp_path)
    _, told = converted(X, torch.arange(20) % 3, tiny, pixels="normalised")
    assert "They are like raw ones: say --raw." in told[0]


def test_copies_in_three_channels_are_grey_again():
    condensed, _ = converted(X.expand(20, 3, 8, 8), pixels="raw")
    assert torch.equal(condensed.images, converted(X, pixels="raw")[0].images)
    colours = torch.rand(20, 8, 8, 3, generator=torch.Generator().manual_seed(2))
    with pytest.raises(
        DcbenchError, match=r"of 8x8x3, made_up has 1x8x8\. --grey makes colours grey; -d made_up:channels=3 has"
    ):
        converted(colours, pixels="raw")
    grey, _ = converted(colours.permute(0, 3, 1, 2), pixels="raw", grey=True)
    expected = 0.299 * colours[..., 0] + 0.587 * colours[..., 1] + 0.114 * colours[..., 2]
    assert torch.allclose(grey.images[:, 0] * 0.2 + 0.5, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "spelling"),
    [
        ((3, 12, 12), "made_up:channels=3,size=12"),
        ((12, 10, 3), "made_up:channels=3,size=12x10"),
        ((1, 12, 12), "made_up:size=12"),
        ((12, 12), "made_up:size=12"),
    ],
)
def test_images_of_another_size_name_the_form_of_the_data_set_that_fits(shape, spelling):
    foreign = ForeignSet(torch.rand(20, *shape), Y)
    with pytest.raises(DcbenchError, match=rf"made_up has 1x8x8\. -d {spelling} has images of that size"):
        to_condensed(foreign, DATA, Statement(pixels="raw"), "a.pt")


@pytest.mark.parametrize("rate", [-0.02, 0.0, float("nan"), float("inf")])
def test_a_rate_of_the_file_must_be_above_0_unless_another_is_given(rate):
    foreign = ForeignSet(X, Y, lr=rate)
    with pytest.raises(DcbenchError, match=r"has a learning rate of .*: give one above 0 with --lr"):
        to_condensed(foreign, DATA, Statement(pixels="raw"), "a.pt")
    assert to_condensed(foreign, DATA, Statement(pixels="raw", brings={"lr": 0.5}), "a.pt").lr == 0.5
