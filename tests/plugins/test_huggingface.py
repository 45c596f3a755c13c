"""Data sets through Hugging Face's package: parquet files, and what is refused."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import torch
from dcbench_plugins.datasets.huggingface import HuggingFace
from helpers import make_split
from PIL import Image

from dcbench.core.loaded_dataset import load_dataset
from dcbench.utils.errors import DcbenchError

hub = pytest.importorskip("datasets")

SPLITS = {"train": make_split((4, 3, 2), seed=0), "test": make_split((2, 2, 1), seed=1)}
NAMES = ["cat", "dog", "owl"]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Ask nothing of the network, and show no bars."""
    monkeypatch.setattr(hub.config, "HF_HUB_OFFLINE", True)
    hub.disable_progress_bars()


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write(folder, splits=SPLITS, names=NAMES, label="label", labelled=lambda value: value, colour=()):
    """Write a parquet file per split."""
    folder.mkdir()
    kind = hub.ClassLabel(names=names) if names else hub.Value("string")
    features = hub.Features({"id": hub.Value("int64"), "image": hub.Image(), label: kind})
    for which, split in splits.items():
        pixels = [image[0].numpy() for image in split.images]
        if which in colour:
            pixels = [np.stack([each] * 3, axis=2) for each in pixels]
        cells = [{"bytes": png(each), "path": None} for each in pixels]
        columns = {
            "id": list(range(len(cells))),
            "image": cells,
            label: [labelled(value) for value in split.labels.tolist()],
        }
        hub.Dataset.from_dict(columns, features=features).to_parquet(str(folder / f"{which}-0.parquet"))
    return folder


def load(text, root):
    return load_dataset(HuggingFace.parse(text), root)


def test_parquet_files_are_read_with_the_columns_found(tmp_path):
    folder = write(tmp_path / "animals")
    assert HuggingFace(path=str(folder)).is_here(tmp_path)
    data = load(str(folder), tmp_path)
    assert (data.info.name, data.info.class_names) == ("animals", ("cat", "dog", "owl"))
    for split, written in ((data.host_train, SPLITS["train"]), (data.host_test, SPLITS["test"])):
        assert torch.equal(split.images, written.images)
        assert torch.equal(split.labels, written.labels)
    assert load(f"{folder},title=mine,classes=0+2", tmp_path).info.name == "mine:classes=0+2"


def test_one_image_in_colour_makes_all_of_them_colour(tmp_path):
    data = load(str(write(tmp_path / "mixed", colour=("test",))), tmp_path)
    assert torch.equal(data.host_train.images, SPLITS["train"].images.expand(-1, 3, -1, -1))


def test_labels_that_are_words_are_numbered_in_their_order(tmp_path):
    folder = write(tmp_path / "words", names=None, label="species", labelled=lambda value: NAMES[::-1][value])
    data = load(f"{folder},label=species", tmp_path)
    assert data.info.class_names == ("cat", "dog", "owl")
    assert torch.equal(data.host_test.labels, 2 - SPLITS["test"].labels)


def test_images_of_several_sizes_need_one(tmp_path):
    splits = SPLITS | {"test": make_split((2, 2, 1), size=(8, 12))}
    folder = write(tmp_path / "sizes", splits)
    with pytest.raises(DcbenchError, match=r"images have 8x8 and 8x12 pixels\. Give one size, as in size=8x8"):
        load(str(folder), tmp_path)
    assert load(f"{folder},size=16", tmp_path).info.size == (16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("test=validation", "there is no split 'validation' among train, test"),
        ("label=kind", "there is no column 'kind'. Name one of id, image, label, as in label=COLUMN"),
        ("image=id", "cannot be had|cannot be used"),
    ],
)
def test_what_is_not_there_is_named(options, message, tmp_path):
    folder = write(tmp_path / "animals")
    with pytest.raises(DcbenchError, match=message):
        load(f"{folder},{options}", tmp_path)


def test_several_columns_of_labels_are_not_chosen_among(tmp_path):
    folder = write(tmp_path / "twice", label="fine_label")
    for file in folder.iterdir():
        data = hub.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
        data.add_column("label", data["fine_label"]).to_parquet(str(file))
    with pytest.raises(
        DcbenchError, match=r"2 columns may be the labels\. Name one of id, image, fine_label, label"
    ):
        load(str(folder), tmp_path)


def test_test_labels_that_are_hidden_are_refused(tmp_path):
    hidden = {"test": SPLITS["test"].__class__(SPLITS["test"].images, SPLITS["test"].labels * 0 - 1)}
    folder = write(tmp_path / "hidden", SPLITS | hidden)
    with pytest.raises(DcbenchError, match="there is no class -1 in training"):
        load(str(folder), tmp_path)


def test_what_is_on_the_hub_is_here_once_it_was_downloaded(tmp_path):
    dataset = HuggingFace(path="someone/FashionThings")
    assert dataset.is_here(tmp_path) is False
    folder = tmp_path / "huggingface" / "someone___fashion_things" / "default" / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    assert dataset.is_here(tmp_path)
    assert dataset.table_name() == "hf:someone/FashionThings"


def test_without_the_package_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DcbenchError, match=r"pip install 'dcbench-suite\[hf\]'"):
        load("someone/something", tmp_path)
