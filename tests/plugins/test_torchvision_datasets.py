"""The torchvision data sets on tiny files of their own formats, read by torchvision's own code."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import pickle
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
from dcbench_plugins.datasets.torchvision_datasets import (
    CIFAR10,
    CIFAR100,
    EMNIST,
    GTSRB,
    KMNIST,
    MNIST,
    QMNIST,
    STL10,
    SVHN,
    USPS,
    FashionMNIST,
    Imagenette,
)
from PIL import Image
from torchvision import datasets as tv

from dcbench.core.loaded_dataset import load_dataset
from dcbench.utils.errors import DcbenchError

COUNTS = {"train": 30, "test": 20}
PAPERS = [MNIST, FashionMNIST, SVHN, CIFAR10, CIFAR100]
EVERY = [*PAPERS, KMNIST, EMNIST, QMNIST, USPS, STL10, GTSRB, Imagenette]


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    """Let the files below stand for the real ones."""
    for dataset in EVERY:
        monkeypatch.setattr(dataset, "sha256", "")


@pytest.fixture(autouse=True)
def tries(monkeypatch):
    """Cut the network off, and note the addresses that were asked for."""
    asked = []

    def refuse(url, *args, **kwargs):
        asked.append(url if isinstance(url, str) else url.full_url)
        raise URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", refuse)
    return asked


def pixels(which, shape):
    generator = np.random.default_rng(len(which))
    return generator.integers(256, size=(COUNTS[which], *shape), dtype=np.uint8)


def classes(which, n=10):
    return np.arange(COUNTS[which]) * 7 % n


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def idx(array):
    """Spell an array of bytes as an IDX file."""
    sizes = b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write_idx(root, source, monkeypatch, packed):
    """Write the MNIST family's four files and return their folder."""
    folder = root / source.__name__ / "raw"
    folder.mkdir(parents=True)
    resources = []
    for which, prefix in (("train", "train"), ("test", "t10k")):
        for name, array in (
            (f"{prefix}-images-idx3-ubyte", pixels(which, (28, 28))),
            (f"{prefix}-labels-idx1-ubyte", classes(which)),
        ):
            data = gzip.compress(idx(array), mtime=0)
            resources.append((f"{name}.gz", md5(data)))
            if packed:
                (folder / f"{name}.gz").write_bytes(data)
            else:
                (folder / name).write_bytes(idx(array))
    monkeypatch.setattr(source, "resources", resources)
    return folder


def write_svhn(root, monkeypatch):
    """Write both .mat files; there, the digit 0 has the label 10."""
    files = {}
    for which in COUNTS:
        path = root / f"{which}_32x32.mat"
        labels = np.where(classes(which) == 0, 10, classes(which)).astype(np.uint8)
        scipy.io.savemat(path, {"X": pixels(which, (3, 32, 32)).transpose(2, 3, 1, 0), "y": labels[:, None]})
        files[which] = [f"http://example.invalid/{path.name}", path.name, md5(path.read_bytes())]
    monkeypatch.setattr(tv.SVHN, "split_list", files)


def write_cifar(root, source, key, names, monkeypatch):
    """Write a file per split, and the class names."""
    folder = root / source.base_folder
    folder.mkdir()

    def write(name, content):
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, md5(data)]

    def batch(which):
        flat = pixels(which, (3, 32, 32)).reshape(COUNTS[which], -1)
        return {"data": flat, key: classes(which, len(names)).tolist()}

    meta = source.meta | {"md5": write(source.meta["filename"], {source.meta["key"]: names})[1]}
    monkeypatch.setattr(source, "train_list", [write("train", batch("train"))])
    monkeypatch.setattr(source, "test_list", [write("test", batch("test"))])
    monkeypatch.setattr(source, "meta", meta)


def listing(root):
    """Everything below a folder, with the bytes of its files and when they were changed."""
    return {
        path.relative_to(root): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in root.rglob("*")
    }


def check_splits(data, shape, n_classes=10):
    """Compare with what was written."""
    for which, split in (("train", data.train), ("test", data.test)):
        assert torch.equal(split.images, torch.from_numpy(pixels(which, shape)).reshape(split.images.shape))
        assert split.images.shape[1:] == ((1, *shape) if len(shape) == 2 else shape)
        assert split.labels.tolist() == classes(which, n_classes).tolist()
    assert data.info.num_classes == n_classes


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "unpacked"])
@pytest.mark.parametrize("dataset", [MNIST, FashionMNIST, KMNIST])
def test_the_mnist_family_is_read_and_its_folder_left_as_it_was(dataset, packed, tmp_path, monkeypatch, tries):
    write_idx(tmp_path, getattr(tv, dataset.source), monkeypatch, packed)
    before = listing(tmp_path)
    assert dataset().is_here(tmp_path)
    data = load_dataset(dataset(), tmp_path)
    check_splits(data, (28, 28))
    assert listing(tmp_path) == before
    assert not tries


def test_packed_and_unpacked_files_give_the_same_data(tmp_path, monkeypatch):
    hashes = set()
    for packed in (True, False):
        root = tmp_path / str(packed)
        write_idx(root, tv.MNIST, monkeypatch, packed)
        hashes.add(load_dataset(MNIST(), root).info.sha256)
    assert len(hashes) == 1


def test_a_packed_file_with_a_wrong_checksum_is_not_used(tmp_path, monkeypatch, tries):
    folder = write_idx(tmp_path, tv.MNIST, monkeypatch, packed=True)
    images = folder / "train-images-idx3-ubyte.gz"
    images.write_bytes(gzip.compress(idx(255 - pixels("train", (28, 28))), mtime=0))
    before = listing(tmp_path)
    assert not MNIST().is_here(tmp_path)
    assert not tries
    with pytest.raises(DcbenchError) as caught:
        load_dataset(MNIST(), tmp_path)
    assert f"dataset 'mnist' is not whole in {tmp_path} " in str(caught.value)
    assert listing(tmp_path) == before
    assert tries


@pytest.mark.parametrize("length", [0, 10, 500])
def test_an_unpacked_file_that_is_cut_off_is_an_error_that_names_the_root(length, tmp_path, monkeypatch):
    images = write_idx(tmp_path, tv.MNIST, monkeypatch, packed=False) / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:length])
    with pytest.raises(DcbenchError) as caught:
        load_dataset(MNIST(), tmp_path)
    assert f"is not whole in {tmp_path} " in str(caught.value)


def test_a_flip_of_any_byte_of_an_unpacked_file_is_an_error_that_names_the_root(tmp_path, monkeypatch):
    folder = write_idx(tmp_path, tv.MNIST, monkeypatch, packed=False)
    monkeypatch.setattr(MNIST, "sha256", load_dataset(MNIST(), tmp_path).info.sha256)
    for file in sorted(folder.iterdir()):
        intact = file.read_bytes()
        for position in (*range(min(20, len(intact))), len(intact) // 2, len(intact) - 1):
            for mask in (1, 2, 8, 0xFF):
                damaged = bytearray(intact)
                damaged[position] ^= mask
                file.write_bytes(damaged)
                with pytest.raises(DcbenchError, match=re.escape(str(tmp_path))):
                    load_dataset(MNIST(), tmp_path)
        file.write_bytes(intact)
    assert load_dataset(MNIST(), tmp_path).info.sha256 == MNIST.sha256


def test_a_flip_of_any_byte_of_a_cifar_or_svhn_file_is_an_error_that_names_the_root(tmp_path, monkeypatch):
    write_svhn(tmp_path, monkeypatch)
    write_cifar(tmp_path, tv.CIFAR10, "labels", [f"kind {label}" for label in range(10)], monkeypatch)
    for dataset, names in (
        (SVHN, ("train_32x32.mat", "test_32x32.mat")),
        (CIFAR10, ("train", "test", "batches.meta")),
    ):
        for name in names:
            file = tmp_path / (tv.CIFAR10.base_folder if dataset is CIFAR10 else "") / name
            intact = file.read_bytes()
            for position in (0, len(intact) // 3, len(intact) - 1):
                damaged = bytearray(intact)
                damaged[position] ^= 1
                file.write_bytes(damaged)
                with pytest.raises(DcbenchError, match=re.escape(f"is not whole in {tmp_path} ")):
                    load_dataset(dataset(), tmp_path)
            file.write_bytes(intact)
        load_dataset(dataset(), tmp_path)


def test_packed_files_make_up_for_an_unpacked_one_that_is_cut_off(tmp_path, monkeypatch, tries):
    folder = write_idx(tmp_path, tv.MNIST, monkeypatch, packed=True)
    for file in folder.glob("*.gz"):
        (folder / file.stem).write_bytes(gzip.decompress(file.read_bytes())[:10])
    check_splits(load_dataset(MNIST(), tmp_path), (28, 28))
    assert not tries


def test_a_damaged_cifar_file_is_an_error_that_names_the_root(tmp_path, monkeypatch, tries):
    names = [f"kind {label}" for label in range(10)]
    write_cifar(tmp_path, tv.CIFAR10, "labels", names, monkeypatch)
    (tmp_path / tv.CIFAR10.base_folder / "test").write_bytes(b"not what it was")
    assert not CIFAR10().is_here(tmp_path)
    assert not tries
    with pytest.raises(DcbenchError) as caught:
        load_dataset(CIFAR10(), tmp_path)
    assert f"is not whole in {tmp_path} " in str(caught.value)
    assert tries


def test_absent_data_are_downloaded_once_with_a_progress_bar(tmp_path, monkeypatch, capfd):
    monkeypatch.undo()  # the network is this machine's own
    monkeypatch.setattr(MNIST, "sha256", "")
    served = tmp_path / "served"
    folder = write_idx(served, tv.MNIST, monkeypatch, packed=True)
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(tv.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        first = load_dataset(MNIST(), tmp_path / "root")
        assert "100%" in capfd.readouterr().err
        server.shutdown()
    check_splits(first, (28, 28))
    assert load_dataset(MNIST(), tmp_path / "root").info == first.info


def test_svhn_is_read_with_the_label_10_as_0(tmp_path, monkeypatch, tries):
    write_svhn(tmp_path, monkeypatch)
    assert SVHN().is_here(tmp_path)
    data = load_dataset(SVHN(), tmp_path)
    check_splits(data, (3, 32, 32))
    assert data.info.class_names == tuple("0123456789")
    assert not tries


@pytest.mark.parametrize(
    ("dataset", "key", "names"),
    [
        (CIFAR10, "labels", [f"kind {label}" for label in range(10)]),
        (CIFAR100, "fine_labels", [f"kind {label}" for label in range(100)]),
    ],
)
def test_the_cifar_family_is_read(dataset, key, names, tmp_path, monkeypatch, tries):
    write_cifar(tmp_path, getattr(tv, dataset.source), key, names, monkeypatch)
    assert dataset().is_here(tmp_path)
    data = load_dataset(dataset(), tmp_path)
    check_splits(data, (3, 32, 32), len(names))
    assert data.info.class_names == tuple(names)
    assert not tries


@pytest.mark.parametrize("dataset", EVERY)
def test_absent_data_that_cannot_be_downloaded_say_where_and_how_to_name_another_folder(dataset, tmp_path, tries):
    root = tmp_path / "not yet there"
    assert not dataset().is_here(root)
    assert not root.exists()
    with pytest.raises(DcbenchError) as caught:
        load_dataset(dataset(), root)
    message = str(caught.value)
    assert message.startswith(f"dataset '{dataset.name}' is not whole in {root} ")
    assert "no network in tests" in message
    assert "as the data root" in message
    assert tries


def test_a_data_root_that_cannot_be_made_is_an_error_of_the_users(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DcbenchError, match="as the data root"):
        load_dataset(SVHN(), tmp_path / "file" / "root")


@pytest.mark.parametrize("dataset", PAPERS)
def test_each_states_a_mean_and_a_deviation_per_channel(dataset):
    channels = 1 if issubclass(getattr(tv, dataset.source), tv.MNIST) else 3
    assert len(dataset.channel_mean) == len(dataset.channel_std) == channels
    assert all(0 < value < 1 for value in (*dataset.channel_mean, *dataset.channel_std))


def test_flips_do_not_suit_digits_letters_and_signs():
    mirrored = {"fashion_mnist", "cifar10", "cifar100", "stl10", "imagenette"}
    assert {dataset.name for dataset in EVERY if not dataset.unsuitable} == mirrored
    assert all(dataset.unsuitable == {"flip"} for dataset in EVERY if dataset.name not in mirrored)


@pytest.mark.parametrize(
    ("division", "names", "first"),
    [("letters", "abcdefghijklmnopqrstuvwxyz", 1), ("digits", "0123456789", 0)],
)
def test_emnist_is_turned_upright_and_letters_count_from_0(division, names, first, tmp_path, monkeypatch, tries):
    folder = tmp_path / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    for which in COUNTS:
        prefix = folder / f"emnist-{division}-{which}"
        Path(f"{prefix}-images-idx3-ubyte").write_bytes(idx(pixels(which, (28, 28)).transpose(0, 2, 1)))
        Path(f"{prefix}-labels-idx1-ubyte").write_bytes(idx(classes(which, len(names)) + first))
    dataset = EMNIST.parse(f"split={division}")
    assert dataset.is_here(tmp_path)
    assert not EMNIST().is_here(tmp_path)  # which is the division called balanced
    data = load_dataset(dataset, tmp_path)
    check_splits(data, (28, 28), len(names))
    assert (data.info.name, data.info.class_names) == (f"emnist:split={division}", tuple(names))
    assert not tries


def test_emnist_is_balanced_unless_said_otherwise():
    assert str(EMNIST()) == "emnist"
    with pytest.raises(DcbenchError, match="option 'split' of dataset 'emnist': input should be 'balanced'"):
        EMNIST.parse("split=capitals")


def test_qmnist_takes_the_class_of_its_eight_labels(tmp_path, tries):
    folder = tmp_path / "QMNIST" / "raw"
    folder.mkdir(parents=True)
    for which, count in COUNTS.items():
        labels = np.column_stack([classes(which), *(np.full(count, 300 + number) for number in range(7))])
        head = bytes([0, 0, 12, 2]) + count.to_bytes(4, "big") + (8).to_bytes(4, "big")
        (folder / f"qmnist-{which}-images-idx3-ubyte").write_bytes(idx(pixels(which, (28, 28))))
        (folder / f"qmnist-{which}-labels-idx2-int").write_bytes(head + labels.astype(">i4").tobytes())
    assert QMNIST().is_here(tmp_path)
    check_splits(load_dataset(QMNIST(), tmp_path), (28, 28))
    assert not tries


def test_usps_is_read(tmp_path, tries):
    for which, name in (("train", "usps.bz2"), ("test", "usps.t.bz2")):
        values = pixels(which, (256,)) / 127.5 - 1 + 1e-5  # torchvision rounds down
        lines = [
            f"{label + 1} " + " ".join(f"{place + 1}:{value:.6f}" for place, value in enumerate(row))
            for label, row in zip(classes(which), values, strict=True)
        ]
        (tmp_path / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    assert USPS().is_here(tmp_path)
    data = load_dataset(USPS(), tmp_path)
    assert torch.equal(data.host_test.images[:, 0].flatten(1), torch.from_numpy(pixels("test", (256,))))
    assert data.host_train.labels.tolist() == classes("train").tolist()
    assert not tries


def test_stl10_is_read_and_its_checksums_compared(tmp_path, monkeypatch, tries):
    folder = tmp_path / tv.STL10.base_folder
    folder.mkdir()
    for which, listed in (("train", "train_list"), ("test", "test_list")):
        images = pixels(which, (3, 96, 96)).transpose(0, 1, 3, 2).tobytes()
        labels = (classes(which) + 1).astype(np.uint8).tobytes()
        named = {f"{which}_X.bin": images, f"{which}_y.bin": labels}
        for name, content in named.items():
            (folder / name).write_bytes(content)
        monkeypatch.setattr(tv.STL10, listed, [[name, md5(content)] for name, content in named.items()])
    names = [f"kind {label}" for label in range(10)]
    (folder / "class_names.txt").write_text("\n".join(names))
    assert STL10().is_here(tmp_path)
    data = load_dataset(STL10(), tmp_path)
    check_splits(data, (3, 96, 96))
    assert data.info.class_names == tuple(names)
    assert not tries
    (folder / "test_y.bin").write_bytes(b"damaged")
    assert not STL10().is_here(tmp_path)


def photograph(label, size):
    """A square of one colour in the middle, and black to its left and right."""
    image = Image.new("RGB", size)
    side = min(size)
    image.paste((20 * label, 255 - 20 * label, 100), ((size[0] - side) // 2, 0, (size[0] + side) // 2, side))
    return image


def check_photographs(data, labels, size):
    """Compare with the photographs of these labels: scaled and cropped, they are of one colour inside."""
    for split in (data.host_train, data.host_test):
        assert split.labels.tolist() == labels
        colours = torch.tensor([[20 * label, 255 - 20 * label, 100] for label in labels])
        assert (split.images[..., 3:-3].int() - colours[:, :, None, None]).abs().max() <= 3  # of a JPEG
        assert split.images.shape[1:] == (3, size, size)


@pytest.mark.parametrize("size", [32, 16])
def test_traffic_signs_are_scaled_and_counted(size, tmp_path, monkeypatch, tries):
    base, labels = tmp_path / "gtsrb", [0, 1, 2, 3]
    train, test = base / "GTSRB" / "Training", base / "GTSRB" / "Final_Test" / "Images"
    test.mkdir(parents=True)
    for label in labels:
        (train / f"{label:05}").mkdir(parents=True)
        photograph(label, (60, 40)).save(train / f"{label:05}" / "00000.ppm")
        photograph(label, (24, 20)).save(test / f"{label:05}.ppm")
    rows = [f"{label:05}.ppm;24;20;0;0;0;0;{label}" for label in labels]
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    (base / "GT-final_test.csv").write_text("\n".join([head, *rows]))
    dataset = GTSRB() if size == 32 else GTSRB.parse(f"size={size}")
    assert not dataset.is_here(tmp_path)
    with pytest.raises(DcbenchError, match="its training split has 4 images, not 26,640"):
        load_dataset(dataset, tmp_path)
    monkeypatch.setattr(GTSRB, "counts", (4, 4))
    assert dataset.is_here(tmp_path)
    data = load_dataset(dataset, tmp_path)
    check_photographs(data, labels, size)
    assert data.info.num_classes == 43
    assert data.info.name == ("gtsrb" if size == 32 else "gtsrb:size=16")
    assert not tries


def test_imagenette_is_read_with_its_first_names(tmp_path, monkeypatch, tries):
    wnids = sorted(tv.Imagenette._WNID_TO_CLASS)
    for which in ("train", "val"):
        for label, wnid in enumerate(wnids):
            folder = tmp_path / "imagenette2-160" / which / wnid
            folder.mkdir(parents=True)
            photograph(label, (200, 160)).save(folder / f"{wnid}_1.JPEG", quality=95)
    assert not Imagenette().is_here(tmp_path)
    monkeypatch.setattr(Imagenette, "counts", (10, 10))
    assert Imagenette().is_here(tmp_path)
    data = load_dataset(Imagenette(), tmp_path)
    check_photographs(data, list(range(10)), 128)
    assert data.info.class_names[:2] == ("tench", "English springer")
    assert not tries
