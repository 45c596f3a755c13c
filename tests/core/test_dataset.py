"""What the core accepts from a data set plugin, its hash, and the digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dcbench_plugins.datasets.digits import Digits
from helpers import make_split

from dcbench.core.dataset import Dataset, Split, Splits
from dcbench.core.loaded_dataset import channel_statistics, load_dataset
from dcbench.utils.errors import DcbenchError

ROOT = Path("not used")


def good_splits(**changes):
    splits = Splits(make_split(seed=0), make_split(seed=1), ("a", "b", "c"), mean=(0.5,), std=(0.2,))
    return replace(splits, **changes)


def load(splits):
    """Load a data set whose plugin returns these splits."""

    class Given(Dataset):
        name = "given"

        def load(self, root):
            return splits

    return load_dataset(Given(), ROOT)


@pytest.fixture(scope="module")
def digits():
    return load_dataset(Digits(), ROOT)


def test_the_facts_come_from_what_is_loaded():
    colour = make_split(channels=3, size=(8, 6))
    info = load(Splits(colour, colour, ("a", "b", "c", "d"))).info
    assert (info.name, info.channels, info.size) == ("given", 3, (8, 6))
    assert (info.num_classes, info.class_names) == (4, ("a", "b", "c", "d"))
    assert len(info.mean) == len(info.std) == 3


IMAGES, LABELS = make_split().images, make_split().labels
UNUSABLE = {
    "float images": (Split(IMAGES.float(), LABELS), "images must be uint8 .* not torch.float32"),
    "no channels": (Split(IMAGES[:, 0], LABELS), r"of shape \(N, C, H, W\), not .*\(12, 8, 8\)"),
    "int32 labels": (Split(IMAGES, LABELS.int()), "labels must be int64 .* not torch.int32"),
    "fewer labels": (Split(IMAGES, LABELS[1:]), r"labels must be int64 of shape \(12,\), not .*\(11,\)"),
    "soft labels": (Split(IMAGES, LABELS.unsqueeze(1)), r"not torch.int64 of \(12, 1\)"),
    "nothing": (Split(IMAGES[:0], LABELS[:0]), "it is empty"),
    "label too high": (Split(IMAGES, LABELS + 1), r"labels must lie in 0\.\.2, not 1\.\.3"),
    "label too low": (Split(IMAGES, LABELS - 1), r"labels must lie in 0\.\.2, not -1\.\.1"),
}


@pytest.mark.parametrize(("split", "problem"), UNUSABLE.values(), ids=UNUSABLE.keys())
@pytest.mark.parametrize("which", ["train", "test"])
def test_an_unusable_split_is_refused_by_data_set_split_and_problem(split, problem, which):
    word = {"train": "training", "test": "test"}[which]
    with pytest.raises(DcbenchError, match=f"dataset 'given' cannot be used: in its {word} split, .*{problem}"):
        load(good_splits(**{which: split}))


def test_a_plugin_that_raises_is_reported_by_data_set_and_error():
    class Broken(Dataset):
        name = "broken"

        def load(self, root):
            raise KeyError("no such thing")

    with pytest.raises(DcbenchError, match="dataset 'broken' cannot be used: KeyError: 'no such thing'"):
        load_dataset(Broken(), ROOT)


def test_a_plugins_own_message_to_the_user_is_passed_on():
    class Absent(Dataset):
        name = "absent"

        def load(self, root):
            raise DcbenchError("put it there")

    with pytest.raises(DcbenchError, match=r"^put it there$"):
        load_dataset(Absent(), ROOT)


def test_splits_of_different_sizes_are_refused():
    with pytest.raises(DcbenchError, match=r"dataset 'given' .* different shapes"):
        load(good_splits(test=make_split(size=(8, 9))))


def test_given_statistics_are_kept():
    assert (load(good_splits()).info.mean, load(good_splits()).info.std) == ((0.5,), (0.2,))


def test_statistics_left_empty_are_those_of_the_training_split():
    splits = good_splits(mean=(), std=())
    info = load(splits).info
    assert (info.mean, info.std) == channel_statistics(splits.train.images)


def test_channel_statistics_agree_with_numpy():
    images = make_split((30, 30, 30), channels=3, size=(7, 5)).images
    images[:, 1] //= 4
    pixels = images.numpy() / 255
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), atol=0.5001e-4)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), atol=0.5001e-4)
    assert all(value == round(value, 4) for value in (*mean, *std))


def test_a_constant_channel_has_a_deviation_of_one():
    assert channel_statistics(torch.full((2, 1, 4, 4), 51, dtype=torch.uint8)) == ((0.2,), (1.0,))


def test_channel_statistics_do_not_depend_on_the_order_of_the_images():
    images = make_split((50, 50, 50)).images
    assert channel_statistics(images) == channel_statistics(images.flip(0))


def with_pixel_changed(split):
    images = split.images.clone()
    images[3, 0, 2, 1] ^= 1
    return Split(images, split.labels)


def with_labels_changed(split):
    labels = split.labels.clone()
    labels[3] = (labels[3] + 1) % 3
    return Split(split.images, labels)


def reshaped(split):
    return Split(split.images.reshape(12, 1, 4, 16), split.labels)


GOOD = good_splits()
CHANGES = {
    "a pixel of the training split": {"train": with_pixel_changed(GOOD.train)},
    "a pixel of the test split": {"test": with_pixel_changed(GOOD.test)},
    "a label of the training split": {"train": with_labels_changed(GOOD.train)},
    "a label of the test split": {"test": with_labels_changed(GOOD.test)},
    "the number of classes": {"class_names": ("a", "b", "c", "d")},
    "the mean": {"mean": (0.51,)},
    "the deviation": {"std": (0.21,)},
    "the shape": {"train": reshaped(GOOD.train), "test": reshaped(GOOD.test)},
    "the splits swapped": {"train": GOOD.test, "test": GOOD.train},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_the_hash_depends_on(changes):
    assert load(good_splits(**changes)).info.sha256 != load(good_splits()).info.sha256


def test_the_hash_does_not_depend_on_how_images_lie_in_memory():
    train = good_splits().train
    strided = train.images.transpose(2, 3).contiguous().transpose(2, 3)
    assert not strided.is_contiguous()
    assert load(good_splits(train=Split(strided, train.labels))).info.sha256 == load(good_splits()).info.sha256


def test_digits_are_split_1442_to_355(digits):
    assert digits.train.images.shape == (1442, 1, 8, 8)
    assert digits.test.images.shape == (355, 1, 8, 8)
    assert digits.info.class_names == tuple("0123456789")


def test_digits_are_split_alike_in_every_class(digits):
    held_out = torch.bincount(digits.test.labels)
    everything = held_out + torch.bincount(digits.train.labels)
    assert torch.equal(held_out, everything // 5)


def test_every_digit_of_scikit_learn_is_in_exactly_one_split(digits):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    ours = torch.cat([digits.train.images, digits.test.images])[:, 0].numpy()
    labels = torch.cat([digits.train.labels, digits.test.labels]).numpy()
    theirs = np.rint(bunch.images * 255 / 16).astype(np.uint8)

    def counted(images, targets):
        return sorted((int(target), image.tobytes()) for image, target in zip(images, targets, strict=True))

    assert counted(ours, labels) == counted(theirs, bunch.target)


def test_the_bytes_of_the_digits_are_pinned(digits):
    assert digits.info.sha256 == "ee3b3e34c3393ad7473752189e2dfd6b6d596ea8e8abc5dbaf4ee57df3c1e21c"
    assert (digits.info.mean, digits.info.std) == ((0.3052,), (0.376,))


def test_data_of_another_hash_than_the_plugin_says_are_refused_with_the_remedy():
    class Known(Dataset):
        name = "known"
        sha256 = "0" * 64
        remedy = "Ask for it again in {root}."

        def load(self, root):
            return good_splits()

    with pytest.raises(DcbenchError) as caught:
        load_dataset(Known(), ROOT)
    hashed = load(good_splits()).info.sha256
    assert f"the hash {hashed[:12]}, not 000000000000. Ask for it again in {ROOT}." in str(caught.value)
    Known.sha256 = hashed
    assert load_dataset(Known(), ROOT).info.sha256 == hashed


def test_the_old_name_of_the_remedy_works_and_warns():
    with pytest.warns(DeprecationWarning, match=r"Dataset\.mend is now Dataset\.remedy"):

        class Old(Dataset):
            name = "old"
            mend = "Ask for it again."

            def load(self, root):
                return good_splits()

    assert Old.remedy == "Ask for it again."


def test_the_hash_of_the_digits_is_known():
    assert load_dataset(Digits(), ROOT).info.sha256 == Digits.sha256
