"""Reading condensed sets made elsewhere: every form that is known, and nothing that runs code."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_info
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from dcbench.formats.foreign import Statement, read_foreign
from dcbench.utils.errors import DcbenchError

IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
INFO = make_info()


def saved(folder, content, name="set.pt"):
    path = folder / name
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "content",
    [
        {"data": [[IMAGES, LABELS]]},
        {"data": [(IMAGES, LABELS), (IMAGES, LABELS)]},
        {"images": IMAGES, "labels": LABELS},
        {"syn_imgs": IMAGES, "syn_labels": LABELS.double()},
        [IMAGES, LABELS],
        (IMAGES.clone().requires_grad_(), LABELS),
        [[IMAGES, LABELS], [IMAGES, LABELS]],
    ],
)
def test_torch_files_of_every_form(tmp_path, content):
    file = read_foreign(saved(tmp_path, content), INFO)
    for each in file.sets:
        assert torch.equal(each.images, IMAGES)
        assert not each.images.requires_grad
        assert torch.equal(each.labels.long(), LABELS)
        assert each.pixels is None
    assert len(file.sets) == (2 if str(content).count("tensor") == 4 else 1)


def test_the_authors_format_is_normalised_and_states_accuracies(tmp_path):
    stated = {"ConvNet": [np.float64(0.25), np.float32(0.75)], "MLP": [0.5], "none": []}
    file = read_foreign(saved(tmp_path, {"data": [[IMAGES, LABELS]] * 5, "accs_all_exps": stated}), INFO)
    assert len(file.sets) == 5
    assert {each.pixels for each in file.sets} == {"normalised"}
    assert file.stated == {"ConvNet": (0.25, 0.75), "MLP": (0.5,)}


@pytest.mark.parametrize(
    "number", [np.float64(-1.5), np.float32(0.25), np.int64(-3), np.uint8(200), np.float16(2.5), np.bool_(True)]
)
def test_numpy_scalars_come_back_as_numbers(tmp_path, number):
    path = saved(tmp_path, {"data": [[IMAGES, LABELS]], "accs_all_exps": {"net": [number]}})
    assert read_foreign(path, INFO).stated == {"net": (float(number),)}


def test_images_find_their_labels(tmp_path):
    path = saved(tmp_path, IMAGES, "images_best.pt")
    with pytest.raises(DcbenchError, match=r"images_best\.pt has images alone: name .* with --labels"):
        read_foreign(path, INFO)
    saved(tmp_path, LABELS, "labels_best.pt")
    first = read_foreign(path, INFO)
    assert torch.equal(first.sets[0].labels, LABELS)
    other = saved(tmp_path, 2 - LABELS, "other.pt")
    second = read_foreign(path, INFO, Statement(labels=other))
    assert torch.equal(second.sets[0].labels, 2 - LABELS)
    assert first.sha256 != second.sha256


def test_npz_and_safetensors(tmp_path):
    pixels = (IMAGES.clamp(0, 1) * 255).to(torch.uint8)
    np.savez(tmp_path / "set.npz", images=pixels.numpy(), labels=LABELS.numpy().astype(np.uint8))
    save_file({"images": IMAGES, "labels": LABELS}, tmp_path / "set.safetensors")
    (raw,) = read_foreign(tmp_path / "set.npz", INFO).sets
    (unsaid,) = read_foreign(tmp_path / "set.safetensors", INFO).sets
    assert (raw.pixels, unsaid.pixels) == ("raw", None)
    assert torch.equal(raw.images, pixels)
    assert torch.equal(unsaid.images, IMAGES)


def folder_of(path, names, size=(8, 8), mode="L"):
    for label, name in enumerate(names):
        (path / name).mkdir(parents=True)
        for number in range(2):
            Image.new(mode, size[::-1], 10 * label + number).save(path / name / f"{number}.png")
    return path


def folder_with(path, mode):
    (path / "0").mkdir(parents=True)
    Image.new(mode, (8, 8)).save(path / "0" / "0.png")
    return path


@pytest.mark.parametrize("names", [["class 0", "class 1", "class 2"], ["0", "1", "2"], ["2"]])
def test_a_folder_per_class(tmp_path, names):
    file = read_foreign(folder_of(tmp_path / "set", names), INFO)
    (found,) = file.sets
    assert found.pixels == "raw"
    assert found.labels.tolist() == [label for name in names for label in [int(name[-1])] * 2]
    assert found.images[:, 0, 0, 0].tolist() == [10 * row + n for row in range(len(names)) for n in range(2)]


def test_what_is_hidden_in_a_folder_is_no_part_of_the_set(tmp_path):
    folder = folder_of(tmp_path / "set", ["0", "1"])
    whole = read_foreign(folder, INFO)
    for hidden in (folder / ".ipynb_checkpoints", folder / "0" / ".ipynb_checkpoints"):
        hidden.mkdir()
        (hidden / "notes.txt").write_text("x")
    (folder / "1" / ".DS_Store").write_text("x")
    found = read_foreign(folder, INFO)
    assert found.sha256 == whole.sha256
    assert torch.equal(found.sets[0].images, whole.sets[0].images)


def test_images_alone_under_a_name_take_labels_from_a_file(tmp_path):
    np.savez(tmp_path / "set.npz", images=IMAGES.numpy())
    labels = saved(tmp_path, {"labels": LABELS}, "other.pt")
    (found,) = read_foreign(tmp_path / "set.npz", INFO, Statement(labels=labels)).sets
    assert torch.equal(found.images, IMAGES)
    assert torch.equal(found.labels, LABELS)


def test_other_arrays_do_not_matter_and_two_pairs_are_refused(tmp_path):
    pair = {"images": IMAGES.numpy(), "labels": LABELS.numpy()}
    np.savez(tmp_path / "more.npz", **pair, class_names=np.array(["a", "b", "c"]))
    assert len(read_foreign(tmp_path / "more.npz", INFO).sets) == 1
    np.savez(tmp_path / "two.npz", **pair, x=IMAGES.numpy(), y=LABELS.numpy())
    with pytest.raises(DcbenchError, match="no condensed set of a known form"):
        read_foreign(tmp_path / "two.npz", INFO)


@pytest.mark.parametrize(
    ("mode", "message"),
    [("RGBA", "mode RGBA"), ("LA", "mode LA"), ("I;16", "more than 8 bits")],
)
def test_images_of_another_kind_are_refused(tmp_path, mode, message):
    with pytest.raises(DcbenchError, match=message):
        read_foreign(folder_with(tmp_path / "set", mode), INFO)


def test_what_is_no_image_in_a_folder_is_refused_and_postscript_is_not_run(tmp_path):
    folder = folder_of(tmp_path / "set", ["0"])
    (folder / "0" / "9.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    with pytest.raises(DcbenchError, match=r"9\.png cannot be read as an image: cannot identify"):
        read_foreign(folder, INFO)
    (folder / "0" / "9.png").rename(folder / "0" / "notes.txt")
    with pytest.raises(DcbenchError, match=r"notes\.txt is not an image"):
        read_foreign(folder, INFO)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(data=st.data(), kind=st.sampled_from(["legacy.pt", "zip.pt", "packed.npz", "set.npz", "set.safetensors"]))
def test_damage_anywhere_gives_one_message_or_another_set(tmp_path, data, kind):
    path = tmp_path / kind
    if kind.endswith("pt"):
        torch.save([IMAGES, LABELS], path, _use_new_zipfile_serialization=kind == "zip.pt")
    elif kind.endswith("npz"):
        write = np.savez_compressed if kind == "packed.npz" else np.savez
        write(path, images=IMAGES.numpy(), labels=LABELS.numpy())
    else:
        save_file({"images": IMAGES, "labels": LABELS}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        read_foreign(path, INFO)
    except DcbenchError as error:
        assert kind in str(error)  # noqa: PT017


def test_a_folder_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(DcbenchError, match=r"has a folder 'cat': a folder per class is named class 0, class 1"):
        read_foreign(folder_of(tmp_path / "a", ["0", "cat"]), INFO)
    with pytest.raises(DcbenchError, match=r"\.png cannot be .*: it has 8x9 pixels, made_up has 8x8"):
        read_foreign(folder_of(tmp_path / "b", ["0"], size=(8, 9)), INFO)
    (tmp_path / "c" / "0").mkdir(parents=True)
    with pytest.raises(DcbenchError, match="has no images"):
        read_foreign(tmp_path / "c", INFO)
    (tmp_path / "c" / "0" / "0.png").write_bytes(b"no image")
    with pytest.raises(DcbenchError, match=r"0\.png cannot be read as an image"):
        read_foreign(tmp_path / "c", INFO)


class Runs:
    """A pickle that runs a command when it is read freely."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Evaluates(Runs):
    def __reduce__(self):
        return eval, (f"__import__('os').system({self.command!r})",)


class Scalar:
    """A numpy scalar of a type that carries a pickle of its own."""

    def __init__(self, inner):
        self.inner = inner

    def __reduce__(self):
        return np._core.multiarray.scalar, (np.dtype("O"), pickle.dumps(self.inner))


def beside_a_set(evil):
    return {"data": [[IMAGES, LABELS]], "accs_all_exps": evil}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", [lambda evil: evil, beside_a_set], ids=["alone", "beside a set"])
@pytest.mark.parametrize(
    "evil", [Runs, Evaluates, lambda command: Scalar(Runs(command))], ids=["os", "eval", "numpy"]
)
def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path, evil, wrap, legacy):
    mark = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    torch.save(wrap(evil(f"touch {mark}")), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DcbenchError, match=r"evil\.pt is refused: .* could run code\. Nothing was run\."):
        read_foreign(path, INFO)
    assert not mark.exists()


@pytest.mark.parametrize("evil", [Runs, Evaluates])
def test_the_malicious_pickles_do_run_where_they_are_read_freely(tmp_path, evil):
    torch.save(beside_a_set(evil(f"touch {tmp_path / 'ran'}")), tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "ran").exists()


def test_a_malicious_npz_is_refused_and_runs_nothing(tmp_path):
    mark = tmp_path / "ran"
    np.savez(tmp_path / "evil.npz", images=np.array([Runs(f"touch {mark}")], dtype=object), labels=np.zeros(1))
    with pytest.raises(DcbenchError, match=r"evil\.npz cannot be used: images: Object arrays cannot be loaded"):
        read_foreign(tmp_path / "evil.npz", INFO)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [{}, {"data": []}, {"data": [[IMAGES]]}, {"labels": LABELS}, [IMAGES, 3], 7, "text", {"data": [IMAGES]}],
)
def test_unknown_forms_are_refused(tmp_path, content):
    with pytest.raises(DcbenchError, match="has no condensed set of a known form"):
        read_foreign(saved(tmp_path, content), INFO)


@pytest.mark.parametrize("name", ["set.pt", "set.npz", "set.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "flipped"])
def test_damaged_files_are_refused_by_name(tmp_path, name, damage):
    path = tmp_path / name
    if name == "set.pt":
        torch.save({"images": IMAGES, "labels": LABELS}, path)
    elif name == "set.npz":
        np.savez(path, images=IMAGES.numpy(), labels=LABELS.numpy())
    else:
        save_file({"images": IMAGES, "labels": LABELS}, path)
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "empty": b"", "noise": b"\x93" * 100, "flipped": b"\xff" + whole[1:]}[
            damage
        ]
    )
    with pytest.raises(DcbenchError, match=name):
        read_foreign(path, INFO)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "set.txt").write_text("text")
    with pytest.raises(DcbenchError, match=r"is a file of type \.pt, \.pth, \.npz, \.safetensors, or a folder"):
        read_foreign(tmp_path / "set.txt", INFO)
    with pytest.raises(DcbenchError, match=r"none\.pt cannot be read: No such file"):
        read_foreign(tmp_path / "none.pt", INFO)


def test_a_zip_that_is_no_torch_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.pt", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(DcbenchError, match=r"set\.pt cannot be read as a torch file"):
        read_foreign(Path(tmp_path / "set.pt"), INFO)
