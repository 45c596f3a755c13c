"""Forms of a data set: their spelling, what they make of images and labels, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from dcbench_plugins.datasets.digits import Digits
from dcbench_plugins.datasets.folder import Folder
from dcbench_plugins.datasets.npz import Npz
from helpers import make_split
from PIL import Image

from dcbench.core.dataset import Dataset, Split, Splits
from dcbench.core.loaded_dataset import load_dataset
from dcbench.core.spec import is_held_out
from dcbench.utils.errors import DcbenchError

ROOT = Path("not used")
COLOUR = Splits(
    make_split((6, 5, 4, 7), channels=3, size=(8, 12), seed=0),
    make_split((2, 1, 3, 2), channels=3, size=(8, 12), seed=1),
    ("a", "b", "c", "d"),
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.3, 0.4),
)


class Theirs(Dataset):
    """A data set of a third party's, which knows nothing of forms."""

    name = "theirs"
    splits: ClassVar[Splits] = COLOUR

    def load(self, root):
        return self.splits


def load(text, cls=Theirs):
    return load_dataset(cls.parse(text), ROOT)


@pytest.mark.parametrize(
    ("written", "spelling"),
    [
        ("", "digits"),
        ("classes=7+3", "digits:classes=3+7"),
        ("classes=0+1+2+5+7-9+8", "digits:classes=0-2+5+7-9"),
        ("classes=3-4", "digits:classes=3+4"),
        ("size=32x32", "digits:size=32"),
        ("size=28x40,channels=3", "digits:channels=3,size=28x40"),
        ("train_per_class=10,classes=00-04", "digits:classes=0-4,train_per_class=10"),
    ],
)
def test_a_form_has_one_canonical_spelling_which_is_its_name_in_records(written, spelling):
    dataset = Digits.parse(written)
    assert str(dataset) == dataset.record_name() == spelling
    assert Digits.from_spelling(f"digits:{written}") == Digits.from_spelling(spelling)


def test_a_title_is_followed_by_the_form():
    dataset = Npz.parse("data.npz,classes=0-2,title=mine")
    assert dataset.record_name() == "mine:classes=0-2"
    assert Npz.from_spelling(str(dataset)) == dataset
    assert dataset.table_name() == "mine"


def test_an_option_that_a_data_set_has_itself_keeps_its_own_meaning():
    dataset = Folder.parse("somewhere,size=32,classes=0-2")
    assert (dataset.size, str(dataset.form)) == ("32", "classes=0-2")
    assert dataset.record_name() == "somewhere:classes=0-2"  # as it was before there were forms


def test_classes_are_kept_in_both_splits_and_numbered_anew():
    data = load("classes=3+1")
    assert data.info.class_names == ("b", "d")
    for kept, whole in ((data.host_train, COLOUR.train), (data.host_test, COLOUR.test)):
        chosen = (whole.labels == 1) | (whole.labels == 3)
        assert torch.equal(kept.images, whole.images[chosen])
        assert torch.equal(kept.labels, (whole.labels[chosen] == 3).long())
    assert (data.info.mean, data.info.std) == (COLOUR.mean, COLOUR.std)
    assert load("classes=d+b").info == data.info  # whose name has the numbers


def test_training_images_are_kept_at_even_distances_and_all_test_images():
    data = load("train_per_class=3")
    wanted = []
    for label, count in enumerate((6, 5, 4, 7)):
        members = torch.nonzero(COLOUR.train.labels == label).flatten()
        wanted += [int(members[number * count // 3]) for number in range(3)]
    assert torch.equal(data.host_train.images, COLOUR.train.images[sorted(wanted)])
    assert torch.bincount(data.host_train.labels).tolist() == [3, 3, 3, 3]
    assert torch.equal(data.host_test.images, COLOUR.test.images)


def test_the_size_is_pillow_s_and_statistics_are_measured_anew():
    data = load("size=16")
    image = Image.fromarray(COLOUR.test.images[2].permute(1, 2, 0).numpy())
    square = image.resize((16, 16), Image.Resampling.BILINEAR, box=(2, 0, 10, 8))  # the middle of 8 x 12
    assert torch.equal(data.host_test.images[2], torch.from_numpy(np.array(square)).permute(2, 0, 1))
    assert data.info.size == (16, 16)
    assert data.info.mean != COLOUR.mean


def test_grey_is_pillow_s():
    data = load("channels=1")
    image = Image.fromarray(COLOUR.train.images[5].permute(1, 2, 0).numpy()).convert("L")
    assert torch.equal(data.host_train.images[5, 0], torch.from_numpy(np.array(image)))
    assert data.info.channels == 1


def test_grey_is_repeated_for_three_channels():
    data, whole = load("channels=3", Digits), load("", Digits)
    assert all(torch.equal(data.host_test.images[:, [each]], whole.host_test.images) for each in range(3))
    assert data.info.mean == whole.info.mean * 3


def test_the_hash_and_the_name_depend_on_the_form():
    texts = ["", "classes=0+1", "train_per_class=3", "size=16", "channels=1", "size=16,channels=1"]
    loaded = [load(text).info for text in texts]
    assert len({info.sha256 for info in loaded}) == len({info.name for info in loaded}) == len(texts)


def test_a_known_hash_is_that_of_the_data_as_they_are():
    assert load("classes=3+7", Digits).info.sha256 != Digits.sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes=a+dog", r"dataset theirs:classes=a\+dog cannot be had: unknown class 'dog'"),
        ("classes=a+a", "two classes at least"),
        ("classes=3", "two classes at least"),
        ("classes=3-1", "the range 3-1 runs backwards"),
        ("classes=0+4", r"dataset theirs:classes=0\+4 cannot be had: its classes are 0 to 3, and 4 is none"),
        ("train_per_class=5", "class 'c' has 4 training images, not 5"),
        ("train_per_class=0", "greater than or equal to 1"),
        ("size=0", "write pixels from 1 to 9999"),
        ("channels=2", "should be 1 or 3"),
        ("clases=0+1", "unknown option of dataset theirs 'clases'. Did you mean 'classes'"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(text, message):
    with pytest.raises(DcbenchError, match=message):
        load(text)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_two_channels_become_neither_grey_nor_colour(channels, monkeypatch):
    two = [Split(split.images[:, :2], split.labels) for split in (COLOUR.train, COLOUR.test)]
    monkeypatch.setattr(Theirs, "splits", Splits(*two, COLOUR.class_names))
    with pytest.raises(DcbenchError, match=f"theirs:channels={channels} cannot be had: only .* have 2"):
        load(f"channels={channels}")


def test_held_out_images_take_the_place_of_the_test_split():
    whole, form = load(""), load("validation=0.4")
    assert form.info.name == "theirs:validation=0.4"
    assert is_held_out(form.info.name)
    assert not is_held_out(whole.info.name)
    assert torch.bincount(form.host_test.labels).tolist() == [2, 2, 2, 3]  # of 6, 5, 4 and 7
    assert (form.info.mean, form.info.sha256 == whole.info.sha256) == (whole.info.mean, False)

    def images(*splits):
        return sorted(image.numpy().tobytes() for split in splits for image in split.images)

    assert images(form.host_train, form.host_test) == images(whole.host_train)
    few = load("train_per_class=3,validation=0.2")
    assert torch.bincount(few.host_test.labels).tolist() == [1] * 4
    assert images(few.host_train, few.host_test) == images(load("train_per_class=3").host_train)
    assert str(Digits().holding_out(0.2)) == "digits:validation=0.2"
    with pytest.raises(DcbenchError, match="none would be left to train on"):
        load("train_per_class=1,validation=0.1")
