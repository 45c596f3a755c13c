"""A user's own data, from an .npz file and from a folder of images, through the command line and by themselves."""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from dcbench_plugins.datasets.folder import Folder
from dcbench_plugins.datasets.npz import Npz
from PIL import Image

from dcbench.cli import main
from dcbench.core.loaded_dataset import load_dataset
from dcbench.plugins import Plugins
from dcbench.results.store import RECORDS, read_records
from dcbench.utils.errors import DcbenchError

SMALL = "--eval-network mlp --evals 1 --budget quick"
COUNTS = (9, 3, *[5] * 14)
"""Training images per class: sixteen classes, not alike."""
SIZE = (8, 12)


def arrays(counts=COUNTS, size=SIZE, seed=0):
    """Images and labels of a split: noise, a stripe brighter where the class says, the classes mixed."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    images = generator.integers(100, size=(len(labels), *size), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image.reshape(-1)[label * 6 : label * 6 + 6] += 150
    return images, labels


def npz_arrays(**changes):
    """The arrays of a good file, with some of them changed, or left out where they are None."""
    (train_images, train_labels), (test_images, test_labels) = arrays(), arrays([2] * 16, seed=1)
    found = {
        "train_images": train_images,
        "train_labels": train_labels,
        "test_images": test_images,
        "test_labels": test_labels,
    } | changes
    return {name: array for name, array in found.items() if array is not None}


def write_npz(path, **changes):
    np.savez(path, **npz_arrays(**changes))
    return path


def write_image(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    image.save(path, **options)
    return path


def write_folder(root, splits=None, reverse=False):
    """Write PNGs of the same images as `npz_arrays`, the classes named a to p."""
    found = npz_arrays()
    files = []
    for which in ("train", "test"):
        pairs = zip(found[f"{which}_images"], found[f"{which}_labels"], strict=True)
        files += [
            (root / which / chr(97 + label) / f"{n:03}.png", image) for n, (image, label) in enumerate(pairs)
        ]
    for path, image in reversed(files) if reverse else files:
        write_image(path, image)
    return root


def small_folder(root):
    """Write a folder of two classes, with a grey 4x4 image of each in either split."""
    for which in ("train", "test"):
        for label in "ab":
            write_image(root / which / label / "0.png", np.full((4, 4), 100))
    return root


def load(dataset):
    return load_dataset(dataset, None)


def load_npz(path, **options):
    return load(Npz(path=str(path), **options))


def load_folder(path, **options):
    return load(Folder(path=str(path), **options))


@pytest.fixture
def dcbench(tmp_path, monkeypatch):
    """Run a command line in an empty folder; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def invoke(line):
        result = CliRunner().invoke(main, line.split(), terminal_width=200)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def records(tmp_path):
    return read_records(tmp_path / "results" / RECORDS)


@pytest.fixture(params=["npz", "folder"])
def source(request, tmp_path):
    """The same data from either, as written on the command line from the working folder."""
    if request.param == "npz":
        write_npz(tmp_path / "stripes.npz")
        return "npz:stripes.npz"
    write_folder(tmp_path / "stripes")
    return "folder:stripes"


def test_a_run_goes_by_the_files_name_and_never_by_its_path(dcbench, source, tmp_path):
    result = dcbench(f"run -m random -d {source} {SMALL}")
    assert result.exit_code == 0, result.output
    assert "stripes: protocol dc, budget quick" in " ".join(result.stdout.split())
    (record,) = records(tmp_path)
    assert (record.dataset, record.n_test) == ("stripes", 32)
    everything = result.stdout + (tmp_path / "results" / RECORDS).read_text()
    assert source not in everything
    assert source.partition(":")[2] + "/" not in everything


def test_a_title_is_the_name_in_table_records_and_files(dcbench, source, tmp_path):
    result = dcbench(f"run -m random -d {source},title=My_stripes-2.0 {SMALL}")
    assert "My_stripes-2.0: protocol" in " ".join(result.stdout.split())
    assert [record.dataset for record in records(tmp_path)] == ["My_stripes-2.0"]
    assert all(path.name.startswith("My_stripes-2.0_") for path in (tmp_path / "results" / "sets").glob("*.png"))


def test_a_file_may_be_named_by_any_path(dcbench, source, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    name, _, path = source.partition(":")
    rows = json.loads(dcbench(f"run -m random -d {name}:../{path} {SMALL} --dry-run --json").stdout)
    assert [row["data set"] for row in rows] == ["stripes"]
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = json.loads(dcbench(f"run -m random -d {name}:~/{path} {SMALL} --dry-run --json").stdout)
    assert [row["data set"] for row in rows] == ["stripes"]


def test_one_changed_pixel_is_other_data_and_nothing_counts_as_done(dcbench, tmp_path):
    write_npz(tmp_path / "stripes.npz")
    dcbench(f"run -m random -d npz:stripes.npz {SMALL}")
    assert "Everything was done already" in dcbench(f"run -m random -d npz:stripes.npz {SMALL}").stdout
    images = npz_arrays()["test_images"]
    images[7, 3, 5] ^= 1
    write_npz(tmp_path / "stripes.npz", test_images=images)
    assert "Everything was done" not in dcbench(f"run -m random -d npz:stripes.npz {SMALL}").stdout
    before, after = records(tmp_path)
    assert before.dataset_sha256 != after.dataset_sha256
    assert before.condense_key != after.condense_key
    assert before.key != after.key


@pytest.mark.parametrize("method", ["random", "herding", "gradmatch -o init=real"])
def test_a_selection_of_more_than_the_smallest_class_has_is_refused_by_its_name(dcbench, source, tmp_path, method):
    result = dcbench(f"run -d {source} --ipc 4 {SMALL} -m {method}")
    assert result.exit_code == 2
    label = "1" if source.startswith("npz") else "b"
    message = f"ipc 4 is more than stripes has to choose from: class '{label}' has 3 training images."
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "results" / RECORDS).exists()


def test_methods_that_select_nothing_take_any_number_of_images_per_class(dcbench, tmp_path):
    write_npz(tmp_path / "stripes.npz")
    methods = "-m gradmatch -m whole -o iterations=1 -o outer_loop=1 --ipc 4 --network convnet:width=4"
    result = dcbench(f"run -d npz:stripes.npz {methods} {SMALL}")
    assert result.exit_code == 0, result.output
    assert {(record.status, record.method) for record in records(tmp_path)} == {
        ("ok", "gradmatch"),
        ("ok", "whole"),
    }


def test_a_name_that_a_registered_data_set_has_is_refused(dcbench, tmp_path):
    write_npz(tmp_path / "cifar10.npz")
    result = dcbench(f"run -m random -d npz:cifar10.npz {SMALL}")
    assert result.exit_code == 2
    assert "would be recorded as 'cifar10'" in " ".join(result.stderr.split())
    assert dcbench(f"run -m random -d npz:cifar10.npz,title=my_cifar10 {SMALL} --dry-run").exit_code == 0


@pytest.mark.parametrize("name", ["npz", "folder"])
@pytest.mark.parametrize("title", ["../x", "a b", "-x", ".x", "", "x\n", "ü", "x" * 61])
def test_a_title_that_is_no_name_is_refused(name, title):
    with pytest.raises(DcbenchError, match=f"option 'title' of dataset '{name}': .*should match"):
        Plugins.load().datasets.get(name).configure({"path": "x", "title": title})


@pytest.mark.parametrize("dataset", [Npz(path="dir/my data.npz"), Folder(path="dir/my data"), Folder(path="/")])
def test_a_file_name_that_is_no_name_for_tables_asks_for_a_title(dataset):
    with pytest.raises(DcbenchError, match=rf"is no name for tables .*{dataset.name}:PATH,title=NAME"):
        dataset.table_name()


@pytest.mark.parametrize(
    ("path", "name"), [("a/pets", "pets"), ("a/pets/", "pets"), ("a/pets/../cats.v2", "cats.v2"), (".", "here")]
)
def test_a_folder_goes_by_its_whole_name(path, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert Folder(path=path).table_name() == name


# --- npz ---


def test_the_facts_and_every_image_are_those_of_the_file(tmp_path):
    found = npz_arrays()
    data = load_npz(write_npz(tmp_path / "x.npz"))
    assert (data.info.channels, data.info.size, data.info.num_classes) == (1, SIZE, 16)
    assert torch.bincount(data.train.labels).tolist() == list(COUNTS)
    for which, split in (("train", data.train), ("test", data.test)):
        assert np.array_equal(split.images[:, 0].numpy(), found[f"{which}_images"])
        assert np.array_equal(split.labels.numpy(), found[f"{which}_labels"])


def test_colour_goes_from_the_last_place_to_the_second(tmp_path):
    colour = {f"{which}_images": npz_arrays()[f"{which}_images"] for which in ("train", "test")}
    colour = {name: np.stack([images, images // 2, images // 3], axis=3) for name, images in colour.items()}
    data = load_npz(write_npz(tmp_path / "x.npz", **colour))
    assert (data.info.channels, data.info.size) == (3, SIZE)
    assert np.array_equal(data.train.images.numpy(), colour["train_images"].transpose(0, 3, 1, 2))
    assert data.info.mean[0] > data.info.mean[1] > data.info.mean[2]


GOOD = npz_arrays()
IMAGES = {name: array for name, array in GOOD.items() if name.endswith("images")}
LABELS = {name: array for name, array in GOOD.items() if name.endswith("labels")}
RESPELT = {
    "one channel": {name: array[..., None] for name, array in IMAGES.items()},
    "a channel in one split only": {"test_images": GOOD["test_images"][..., None]},
    "by columns": {name: np.asfortranarray(array) for name, array in IMAGES.items()},
    "labels in a column": {name: array[:, None] for name, array in LABELS.items()},
    "labels in bytes": {name: array.astype(np.uint8) for name, array in LABELS.items()},
    "labels unsigned": {name: array.astype(np.uint64) for name, array in LABELS.items()},
    "labels the other way round": {name: array.astype(">i2") for name, array in LABELS.items()},
    "names": {"class_names": np.array(list("abcdefghijklmnop"))},
    "arrays nobody asked for": {"notes": np.zeros(3), "val_images": np.zeros((2, 3))},
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("changes", RESPELT.values(), ids=RESPELT.keys())
def test_the_hash_is_that_of_the_data_however_they_are_spelt(tmp_path, changes, save):
    plain = load_npz(write_npz(tmp_path / "plain.npz"))
    save(tmp_path / "other.npz", **npz_arrays(**changes))
    assert load_npz(tmp_path / "other.npz").info.sha256 == plain.info.sha256


def test_the_validation_split_is_in_neither_split_and_in_no_statistic(tmp_path):
    val = {"val_images": np.full((40, *SIZE), 255, dtype=np.uint8), "val_labels": np.arange(40) % 16}
    data = load_npz(write_npz(tmp_path / "x.npz", **val))
    assert (len(data.train.labels), len(data.test.labels)) == (sum(COUNTS), 32)
    assert not any((split.images == 255).all(dim=(1, 2, 3)).any() for split in (data.train, data.test))
    assert data.info.sha256 == load_npz(write_npz(tmp_path / "x.npz")).info.sha256


def test_names_of_keras_and_labels_that_are_floats_or_truth_values(tmp_path):
    expected = load_npz(write_npz(tmp_path / "x.npz"))
    found = npz_arrays()
    renamed = {
        f"{new}_{which}": found[f"{which}_{old}"] for which in ("train", "test") for new, old in KERAS.items()
    }
    floats = {name: array * 1.0 if name.startswith("y") else array for name, array in renamed.items()}
    for arrays in (renamed, floats):
        np.savez(tmp_path / "x.npz", **arrays)
        assert load_npz(tmp_path / "x.npz").info.sha256 == expected.info.sha256
    truths = {name: array > 3 for name, array in found.items() if name.endswith("labels")}
    data = load_npz(write_npz(tmp_path / "x.npz", **truths))
    assert torch.equal(data.host_train.labels, (expected.host_train.labels > 3).long())


def test_mean_and_deviation_are_those_of_the_training_split(tmp_path, source):
    name, _, path = source.partition(":")
    data = load_npz(tmp_path / path) if name == "npz" else load_folder(tmp_path / path)
    train = npz_arrays()["train_images"] / 255
    assert data.info.mean == pytest.approx((train.mean(),), abs=0.5001e-4)
    assert data.info.std == pytest.approx((train.std(),), abs=0.5001e-4)


LETTERS = tuple("abcdefghijklmnop")
NUMBERS = tuple(str(label) for label in range(16))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, NUMBERS),
        ({"class_names": np.array(LETTERS)}, LETTERS),
        ({"classes": np.array(LETTERS)}, LETTERS),
        ({"classes": np.arange(16)}, NUMBERS),
        ({"class_names": np.array([f"{each}é".encode() for each in LETTERS])}, tuple(f"{x}é" for x in LETTERS)),
    ],
    ids=["none", "class_names", "classes", "numbers", "bytes"],
)
def test_classes_are_named_by_an_array_of_strings_or_by_their_numbers(tmp_path, changes, names):
    assert load_npz(write_npz(tmp_path / "x.npz", **changes)).info.class_names == names


def test_a_class_may_be_absent_from_the_test_split(tmp_path):
    images, labels = arrays([2] * 15, seed=1)
    data = load_npz(write_npz(tmp_path / "x.npz", test_images=images, test_labels=labels))
    assert (data.info.num_classes, int(data.test.labels.max())) == (16, 14)


TRAIN, TEST, TRAIN_LABELS = GOOD["train_images"], GOOD["test_images"], GOOD["train_labels"]
KERAS = {"x": "images", "y": "labels"}

UNUSABLE = {
    "no training labels": ({"train_labels": None}, r"it has no array 'train_labels', but \['train_images', "),
    "no test images": ({"test_images": None}, "it has no array 'test_images'"),
    "floats": ({"train_images": TRAIN / 255}, "train_images is of dtype float64"),
    "int64 images": ({"test_images": TEST.astype(int)}, "test_images is of dtype int64"),
    "flat images": ({"train_images": TRAIN.reshape(len(TRAIN), -1)}, r"train_images has the shape \(82, 96\)"),
    "channels first": ({"train_images": np.stack([TRAIN] * 3, axis=1)}, r"has the shape \(82, 3, 8, 12\)"),
    "volumes": ({"train_images": TRAIN[..., None, None]}, r"train_images has the shape \(82, 8, 12, 1, 1\)"),
    "other test size": (
        {"test_images": TEST[:, 1:]},
        r"are of \(C, H, W\) \(1, 8, 12\), test_images of \(1, 7, 12\)",
    ),
    "no images": ({"test_images": TEST[:0], "test_labels": TRAIN_LABELS[:0]}, "test_images is empty"),
    "no pixels": ({"train_images": TRAIN[:, :0]}, "train_images is empty"),
    "a label too few": (
        {"train_labels": TRAIN_LABELS[1:]},
        r"train_labels has the shape \(81,\), train_images \(82, 8, 12\)",
    ),
    "labels between": ({"train_labels": TRAIN_LABELS + 0.5}, "train_labels has numbers that are not whole"),
    "no labels": ({"train_labels": TRAIN_LABELS * np.nan}, "train_labels has numbers that are not whole"),
    "complex labels": ({"train_labels": TRAIN_LABELS * 1j}, "train_labels is of dtype complex128"),
    "several labels": ({"train_labels": np.stack([TRAIN_LABELS] * 14, 1)}, "train_labels has 14 labels per image"),
    "labels from 1": (
        {"train_labels": TRAIN_LABELS + 1},
        "16 different values from 1 to 16, and 0 is not among them",
    ),
    "labels with a gap": (
        {"train_labels": np.where(TRAIN_LABELS == 5, 16, TRAIN_LABELS)},
        "16 different values from 0 to 16, and 5 is not among them",
    ),
    "negative labels": (
        {"train_labels": TRAIN_LABELS - 1},
        "16 different values from -1 to 14: labels must be 0 to K-1",
    ),
    "a label of the test split alone": ({"test_labels": GOOD["test_labels"] + 3}, "test_labels has the label 16"),
    "a negative test label": ({"test_labels": GOOD["test_labels"] - 1}, "test_labels has the label -1"),
    "too few names": ({"class_names": np.array(LETTERS[1:])}, "class_names has 15 names, train_labels 16 classes"),
    "a name twice": ({"class_names": np.array([*LETTERS[:15], "a"])}, "class_names has 15 names"),
    "a name that is none": ({"class_names": np.array([*LETTERS[:15], "\x1b[1m"])}, "that cannot be printed"),
    "names as objects": (
        {"class_names": np.array(LETTERS, dtype=object)},
        "class_names: Object arrays cannot be loaded",
    ),
}


@pytest.mark.parametrize(("changes", "problem"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_npz_is_refused_by_file_and_problem(tmp_path, changes, problem):
    path = write_npz(tmp_path / "x.npz", **changes)
    with pytest.raises(
        DcbenchError, match=f"^{re.escape(str(path))} cannot be used: .*{problem}.*Expected: train_im"
    ):
        load_npz(path)


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["train_images", "train_labels", "class_names"])
def test_an_npz_with_objects_is_refused_and_runs_nothing(dcbench, tmp_path, name):
    trace = tmp_path / "trace"
    write_npz(tmp_path / "x.npz", **{name: np.array([Malicious(trace)], dtype=object)})
    result = dcbench(f"run -m random -d npz:x.npz {SMALL}")
    assert result.exit_code == 2
    assert f"{name}: Object arrays cannot be loaded" in " ".join(result.stderr.split())
    assert not trace.exists()
    np.load(tmp_path / "x.npz", allow_pickle=True)[name]
    assert trace.exists()  # so the file would have done it


def test_objects_behind_a_header_that_denies_them_run_nothing(tmp_path):
    trace = tmp_path / "trace"
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([Malicious(trace)], dtype=object))
    payload = stream.getvalue()
    pickled = payload[payload.index(b"\n") + 1 :]
    replace_member(write_npz(tmp_path / "x.npz"), "train_labels", header((len(TRAIN_LABELS),), "|u1") + pickled)
    with pytest.raises(DcbenchError, match="train_labels goes on after its last value"):
        load_npz(tmp_path / "x.npz")
    assert not trace.exists()


def header(shape, descr):
    """The head of a .npy file that claims this."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "descr": descr, "fortran_order": False})
    return stream.getvalue()


def replace_member(path, name, data):
    """Write a zip again with one array's bytes replaced."""
    with zipfile.ZipFile(path) as old:
        members = {each: old.read(each) for each in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for each, content in (members | {f"{name}.npy": data}).items():
            new.writestr(each, content)


@pytest.mark.parametrize("shape", [(10**12, 28, 28), (82, 8, 13), (82, 8, 11), (-82, -8, 12), (-82, 8, 12)])
def test_a_header_that_claims_what_is_not_there_is_refused(tmp_path, shape):
    path = write_npz(tmp_path / "x.npz")
    replace_member(path, "train_images", header(shape, "|u1") + TRAIN.tobytes())
    with pytest.raises(DcbenchError, match=r"x\.npz (cannot be used: train_images|does not fit in memory)"):
        load_npz(path)


def cut_off(path):
    path.write_bytes(write_npz(path).read_bytes()[:3000])


def flipped(path):
    data = bytearray(write_npz(path).read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)


def an_array(path):
    with path.open("wb") as file:
        np.save(file, TRAIN)


NOT_NPZ = {
    "missing": (lambda path: None, "cannot be read: No such file"),
    "a folder": (lambda path: path.mkdir(), "cannot be read: Is a directory"),
    "empty": (lambda path: path.touch(), "is not a whole .npz file: File is not a zip file"),
    "text": (lambda path: path.write_text("no data\n" * 99), "is not a whole .npz file: File is not a zip file"),
    "an .npy": (an_array, "is not a whole .npz file: File is not a zip file"),
    "cut off": (cut_off, "is not a whole .npz file"),
    "damaged": (flipped, "is not a whole .npz file: Bad CRC-32"),
    "an empty zip": (lambda path: zipfile.ZipFile(path, "w").close(), r"it has no array 'train_images', but \[\]"),
}


@pytest.mark.parametrize(("make", "problem"), NOT_NPZ.values(), ids=NOT_NPZ.keys())
def test_what_is_no_npz_is_refused_by_file_and_problem(dcbench, tmp_path, make, problem):
    make(tmp_path / "x.npz")
    result = dcbench(f"run -m random -d npz:x.npz {SMALL}")
    assert result.exit_code == 2
    assert re.search(f"x.npz .*{problem}", " ".join(result.stderr.split()))
    assert "Traceback" not in result.output


# --- folder ---


def test_a_folder_and_a_file_of_the_same_images_are_the_same_data(tmp_path):
    # A folder is read class by class, so here the file has to be sorted likewise.
    found = npz_arrays()
    for which in ("train", "test"):
        order = np.argsort(found[f"{which}_labels"], kind="stable")
        for what in ("images", "labels"):
            found[f"{which}_{what}"] = found[f"{which}_{what}"][order]
    from_file = load_npz(write_npz(tmp_path / "x.npz", **found))
    from_folder = load_folder(write_folder(tmp_path / "x"))
    assert from_folder.info.sha256 == from_file.info.sha256
    assert from_folder.info.class_names == LETTERS
    assert torch.equal(from_folder.test.images, from_file.test.images)


def test_the_hash_does_not_depend_on_the_order_in_which_files_were_made(tmp_path):
    there = load_folder(write_folder(tmp_path / "there"))
    back = load_folder(write_folder(tmp_path / "back", reverse=True))
    assert there.info.sha256 == back.info.sha256


def test_the_order_of_files_is_not_left_to_the_file_system(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "x")
    sha256 = load_folder(folder).info.sha256
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(sorted(iterdir(self), reverse=True)))
    assert load_folder(folder).info.sha256 == sha256


def test_hidden_files_other_splits_and_files_beside_the_classes_are_left_alone(tmp_path):
    folder = write_folder(tmp_path / "x")
    plain = load_folder(folder)
    write_image(folder / "val" / "a" / "0.png", np.full(SIZE, 255))
    for place in (folder / "train", folder / "train" / "a", folder / "test" / "b"):
        (place / ".DS_Store").write_bytes(b"junk")
        (place / "._0.png").write_bytes(b"junk")
    (folder / "train" / ".checkpoints").mkdir()
    (folder / "train" / "labels.csv").write_text("")
    found = load_folder(folder)
    assert found.info == plain.info
    assert len(found.train.labels) == sum(COUNTS)


def test_links_are_followed(tmp_path):
    folder, elsewhere = small_folder(tmp_path / "x"), tmp_path / "elsewhere"
    write_image(elsewhere / "c" / "0.png", np.full((4, 4), 7))
    (folder / "train" / "c").symlink_to(elsewhere / "c")
    (folder / "train" / "a" / "1.png").symlink_to(elsewhere / "c" / "0.png")
    data = load_folder(folder)
    assert data.info.class_names == ("a", "b", "c")
    assert data.train.images[:, 0, 0, 0].tolist() == [100, 7, 100, 7]
    assert data.test.labels.tolist() == [0, 1]


@pytest.mark.parametrize("ending", ["png", "PNG", "bmp", "gif", "tif", "tiff", "webp", "pgm"])
def test_every_kind_of_file_without_loss_gives_the_same_pixels(tmp_path, ending):
    folder = small_folder(tmp_path)
    pixels = arrays()[0][0]
    options = {"lossless": True} if ending == "webp" else {}
    path = write_image(folder / "train" / "a" / f"1.{ending}", pixels, **options)
    data = load_folder(folder, size="8x12", channels=1)
    assert np.array_equal(data.train.images[1, 0].numpy(), pixels), path


def test_jpeg_is_read(tmp_path):
    write_image(small_folder(tmp_path) / "train" / "a" / "1.jpg", np.full((4, 4, 3), (200, 100, 50)), quality=95)
    image = load_folder(tmp_path).train.images[1].float()
    assert image.mean(dim=(1, 2)).tolist() == pytest.approx([200, 100, 50], abs=3)


def first_image(folder, image, **options):
    """Write an image as the first of a folder and return its pixels as they are loaded, (C, H, W)."""
    write_image(small_folder(folder) / "train" / "a" / "0.png", image)
    return load_folder(folder, **options).train.images[0]


def test_images_are_scaled_to_cover_the_size_and_cropped_at_the_centre(tmp_path):
    wide = np.zeros((8, 16), dtype=np.uint8)
    wide[:, 3:13] = 200  # the square in the middle, and what bilinear weights take in beside it
    assert (first_image(tmp_path, wide, size="4") == 200).all()
    assert (first_image(tmp_path, wide.T, size="4") == 200).all()
    whole = first_image(tmp_path, wide, size="4x8")[0]
    assert whole.shape == (4, 8)
    assert whole[:, [0, 7]].max() < 30 < 180 < whole[:, 3:5].min()


def test_small_images_are_enlarged_and_images_of_the_size_left_as_they_are(tmp_path):
    pixels = arrays(size=(8, 12))[0][0]
    assert np.array_equal(first_image(tmp_path, pixels, size="8x12")[0].numpy(), pixels)
    assert first_image(tmp_path, pixels, size="20x31").shape == (1, 20, 31)


def test_scaling_down_averages(tmp_path):
    board = np.indices((32, 32)).sum(0) % 2 * 255
    small = first_image(tmp_path, board, size="4")
    assert 120 < small.min() <= small.max() < 135


def rgba(colour, alpha):
    return np.full((4, 4, 4), (*colour, alpha))


COLOURS = {
    "colour": (Image.new("RGB", (4, 4), (10, 20, 30)), (10, 20, 30)),
    "palette": (Image.new("RGB", (4, 4), (10, 20, 30)).quantize(2), (10, 20, 30)),
    "opaque": (rgba((10, 20, 30), 255), (10, 20, 30)),
    "transparent": (rgba((10, 20, 30), 0), (255, 255, 255)),
    "half transparent": (rgba((5, 105, 205), 102), (155, 195, 235)),
    "black and white": (Image.new("1", (4, 4), 1), (255,)),
    "grey": (Image.new("L", (4, 4), 77), (77,)),
    "grey and transparent": (Image.new("LA", (4, 4), (77, 0)), (255,)),
}


@pytest.mark.parametrize(("image", "expected"), COLOURS.values(), ids=COLOURS.keys())
def test_grey_stays_grey_palettes_become_colours_and_what_is_transparent_lies_on_white(tmp_path, image, expected):
    found = first_image(tmp_path, image)
    assert found.shape == (len(expected), 4, 4)
    assert torch.equal(found, torch.tensor(expected, dtype=torch.uint8).view(-1, 1, 1).expand(-1, 4, 4))


def test_one_image_in_colour_makes_all_of_them_so_unless_channels_are_given(tmp_path):
    write_image(small_folder(tmp_path) / "test" / "b" / "1.png", np.full((4, 4, 3), (200, 0, 0)))
    data = load_folder(tmp_path)
    assert data.info.channels == 3
    assert (data.train.images == 100).all()
    forced = load_folder(tmp_path, channels=1)
    assert forced.info.channels == 1
    assert int(forced.test.images[2].unique()) == 60  # the luma of that red, 0.299 * 200
    assert load_folder(small_folder(tmp_path / "grey"), channels=3).info.channels == 3


def test_a_rotation_noted_in_exif_is_carried_out(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    pixels = np.zeros((4, 4), dtype=np.uint8)
    pixels[0] = 200
    write_image(small_folder(tmp_path) / "train" / "a" / "0.png", pixels, exif=exif)
    assert load_folder(tmp_path).train.images[0, 0, :, 3].tolist() == [200] * 4


def spoil(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def remove(*paths):
    for path in paths:
        path.unlink()


BAD_FOLDERS = {
    "no such folder": (
        lambda x: x.rename(x.parent / "y"),
        "train cannot be read: No such file .*Expected: train/CLASS",
    ),
    "no test": (lambda x: (x / "test").rename(x / "val"), "x/test cannot be read: No such file"),
    "a class of the test split alone": (
        lambda x: write_image(x / "test" / "z" / "0.png", np.zeros((4, 4))),
        "x/test/z: there is no class 'z' in .*x/train, which has a, b",
    ),
    "an empty class": (lambda x: (x / "train" / "c").mkdir(), r"x/train/c has no images \(.png, .jpg"),
    "an empty test split": (
        lambda x: remove(x / "test" / "a" / "0.png", x / "test" / "b" / "0.png"),
        "x/test has no images",
    ),
    "a class that cannot be printed": (
        lambda x: write_image(x / "train" / "\x1b[1m" / "0.png", np.zeros((4, 4))),
        "x/train has a class whose name cannot be printed",
    ),
    "another file": (
        lambda x: spoil(x / "train" / "a" / "1.heic", b""),
        "x/train/a/1.heic is not an image .*hide it",
    ),
    "a folder in a class": (lambda x: (x / "train" / "a" / "b.png").mkdir(), "x/train/a/b.png is not an image"),
    "not an image": (
        lambda x: spoil(x / "test" / "b" / "1.png", b"junk"),
        "x/test/b/1.png cannot be read as an image: cannot identify",
    ),
    "postscript": (
        lambda x: write_image(x / "train" / "b" / "1.png", np.zeros((4, 4)), format="EPS"),
        "x/train/b/1.png cannot be read as an image: cannot identify",
    ),
    "cut off": (
        lambda x: spoil(x / "train" / "b" / "0.png", (x / "train" / "b" / "0.png").read_bytes()[:50]),
        "x/train/b/0.png cannot be read as an image: .*runcated",
    ),
    "a dead link": (
        lambda x: (x / "train" / "a" / "1.png").symlink_to("nowhere.png"),
        "x/train/a/1.png cannot be read as an image: .*No such file",
    ),
    "another size": (
        lambda x: write_image(x / "test" / "a" / "1.png", np.zeros((5, 4))),
        "x/test/a/1.png has 5x4 pixels, .*x/train/a/0.png 4x4. Give one size .*folder:PATH,size=4x4",
    ),
    "sixteen bits": (
        lambda x: Image.fromarray(np.full((4, 4), 4000, dtype=np.uint16)).save(x / "train" / "a" / "1.png"),
        "x/train/a/1.png cannot be read as an image: it has more than 8 bits per pixel",
    ),
}


@pytest.mark.parametrize(("change", "problem"), BAD_FOLDERS.values(), ids=BAD_FOLDERS.keys())
def test_an_unusable_folder_is_refused_by_file_and_problem(dcbench, tmp_path, change, problem):
    change(small_folder(tmp_path / "x"))
    result = dcbench(f"run -m random -d folder:x {SMALL}")
    assert result.exit_code == 2
    assert re.search(problem, " ".join(result.stderr.split())), result.stderr
    assert "Traceback" not in result.output


def test_a_folder_without_classes_is_refused(tmp_path):
    for which in ("train", "test"):
        write_image(tmp_path / which / "0.png", np.zeros((4, 4)))
    with pytest.raises(DcbenchError, match=r"train has no folders\. Expected: train/CLASS/IMAGE"):
        load_folder(tmp_path)


def test_a_png_whose_pixels_do_not_match_their_checksum_is_refused(tmp_path):
    path = write_image(small_folder(tmp_path) / "train" / "b" / "1.png", np.full((4, 4), 7), compress_level=0)
    whole = path.read_bytes()
    start = whole.index(b"IDAT") + 4
    length = int.from_bytes(whole[start - 8 : start - 4], "big")
    other = zlib.compress(zlib.decompress(whole[start : start + length]).replace(b"\x07", b"\x08"), 0)
    assert len(other) == length
    path.write_bytes(whole[:start] + other + whole[start + length :])
    assert np.asarray(Image.open(path)).max() == 8  # so whoever does not look at the checksum reads another image
    with pytest.raises(DcbenchError, match=r"b/1\.png cannot be read as an image"):
        load_folder(tmp_path)


def test_an_image_that_would_unpack_to_far_too_many_pixels_is_refused(tmp_path, monkeypatch):
    write_image(small_folder(tmp_path) / "train" / "b" / "1.png", np.zeros((40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(DcbenchError, match=r"b/1.png cannot be read as an image: .*decompression bomb"):
        load_folder(tmp_path, size="4")


@pytest.mark.parametrize(
    "text", ["x,size=0", "x,size=8x", "x,size=axb", "x,size=-4", "x,size=99999", "x,channels=2"]
)
def test_a_size_or_number_of_channels_that_cannot_be_is_refused(text):
    with pytest.raises(DcbenchError, match=r"option '(size|channels)' of dataset 'folder'"):
        Folder.parse(text)
