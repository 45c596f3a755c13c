"""The condensed set: what is accepted from a method, and its file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from helpers import make_set, make_train
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dcbench.core.condensed_set import CondensedSet, check_set
from dcbench.core.split import ResidentSplit
from dcbench.results.set_file import load_set, save_set, without_images
from dcbench.results.set_header import FIRST_FORMAT, FORMAT
from dcbench.utils.errors import DcbenchError


@pytest.fixture
def train():
    return make_train((4, 7, 5))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a set.safetensors"


def header_of(condensed, train, **more):
    return {"set_sha256": condensed.sha256(), "train_size": len(train), **more}


def save(path, condensed, train, **more):
    save_set(path, condensed, header_of(condensed, train, **more))


def assert_same(a, b):
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.labels, b.labels)
    assert (a.images.dtype, a.labels.dtype) == (b.images.dtype, b.labels.dtype)
    assert a.sha256() == b.sha256()


def soft_set():
    return make_set(ipc=2, labels=torch.softmax(torch.arange(18.0).view(6, 3) % 5, dim=1))


# The set itself


def test_a_coreset_has_the_images_and_labels_of_the_chosen_positions(train):
    chosen = torch.tensor([9, 2, 5])
    coreset = CondensedSet.select(train, chosen)
    assert torch.equal(coreset.images, train.normalised(slice(None))[chosen])
    assert torch.equal(coreset.labels, train.labels[chosen])
    assert torch.equal(coreset.indices, chosen)


def test_soft_labels_are_ranked_in_a_track_of_their_own():
    assert make_set().track == "hard-label"
    assert soft_set().track == "soft-label"


def test_storage_is_that_of_images_and_labels_as_tensors():
    assert make_set(ipc=2).storage_bytes == 6 * 64 * 4 + 6 * 8


def test_the_hash_is_pinned():
    # It is part of every evaluation key: a change would orphan every record.
    condensed = CondensedSet(torch.arange(8.0).view(2, 1, 2, 2), torch.tensor([0, 1]))
    assert condensed.sha256() == "847ece5253c6b07028033633aa4d6b1ecb42065b47a5b9a59efa79d7da1925eb"


def test_the_hash_depends_on_images_and_labels_their_shapes_and_types():
    condensed = make_set(ipc=2)
    changed = [
        replace(condensed, images=condensed.images + 1e-6),
        replace(condensed, images=condensed.images.double()),
        replace(condensed, images=condensed.images.view(6, 1, 4, 16)),
        replace(condensed, labels=condensed.labels.flip(0)),
        replace(condensed, labels=condensed.labels.int()),
    ]
    assert len({each.sha256() for each in [condensed, *changed]}) == 6


def test_the_hash_depends_on_nothing_else():
    condensed = make_set(ipc=2)
    strided = condensed.images.transpose(2, 3).contiguous().transpose(2, 3)
    same = replace(condensed, images=strided, indices=torch.arange(6), history={"loss": torch.ones(3)})
    assert same.sha256() == condensed.sha256()


# What is accepted


@pytest.mark.parametrize(
    ("condensed", "ipc"), [(make_set(ipc=2), 2), (make_set(ipc=2), None), (soft_set(), 2), (soft_set(), None)]
)
def test_a_proper_set_is_accepted(condensed, ipc, train):
    check_set(condensed, train, ipc)


def test_any_number_per_class_is_accepted_where_the_method_decides(train):
    check_set(CondensedSet.select(train, torch.arange(7)), train, None)


def test_a_coreset_must_have_the_labels_of_its_positions(train):
    coreset = CondensedSet.select(train, torch.stack([members[0] for members in train.class_indices]))
    check_set(coreset, train, 1)
    with pytest.raises(ValueError, match="must be those that indices choose"):
        check_set(replace(coreset, labels=coreset.labels.flip(0)), train, 1)


def test_a_coreset_whose_labels_are_of_a_type_that_torch_cannot_compare_is_refused(train):
    coreset = CondensedSet.select(train, torch.arange(len(train)))
    with pytest.raises(ValueError, match="must be those that indices choose"):
        check_set(replace(coreset, labels=coreset.labels.to(torch.uint16)), train, None)


def with_pixel(value):
    images = make_set().images.clone()
    images[1, 0, 3, 3] = value
    return {"images": images}


IMAGES = make_set().images
REFUSED = {
    "float64 images": ({"images": IMAGES.double()}, "must be detached float32 .*, found torch.float64"),
    "another size": ({"images": IMAGES[..., 1:]}, r"of shape \(N, 1, 8, 8\), found .*\(3, 1, 8, 7\)"),
    "no channels": ({"images": IMAGES[:, 0]}, r"found .*\(3, 8, 8\)"),
    "attached images": ({"images": IMAGES.clone().requires_grad_()}, "must be detached"),
    "images elsewhere": ({"images": IMAGES.to("meta")}, "must be on the CPU"),
    "labels elsewhere": ({"labels": torch.arange(3, device="meta")}, "must be on the CPU"),
    "NaN": (with_pixel(torch.nan), "images must be finite"),
    "infinity": (with_pixel(torch.inf), "images must be finite"),
    "int32 labels": ({"labels": torch.arange(3).int()}, "labels must be int64 .*, found torch.int32"),
    "fewer labels": ({"labels": torch.arange(2)}, r"labels must be int64 of shape \(3,\), found .*\(2,\)"),
    "label too high": ({"labels": torch.tensor([0, 1, 3])}, r"labels must lie in 0\.\.2"),
    "label too low": ({"labels": torch.tensor([-1, 0, 1])}, r"labels must lie in 0\.\.2"),
    "a class twice": ({"labels": torch.tensor([0, 1, 1])}, r"exactly 1 images of every class, found \[1, 2, 0\]"),
    "float64 soft labels": ({"labels": torch.eye(3).double()}, r"soft labels must be float32 of shape \(3, 3\)"),
    "nothing": ({"images": IMAGES[:0], "labels": torch.arange(0)}, "there are no images"),
    "other positions": ({"indices": torch.arange(3)}, "images and labels must be those that indices choose"),
    "history elsewhere": ({"history": {"loss": torch.ones(2, device="meta")}}, r"history 'loss' must be .* CPU"),
    "history of two dimensions": ({"history": {"loss": torch.ones(2, 2)}}, r"history 'loss' must be .*\(steps,\)"),
    "history of numbers": ({"history": {"loss": [1.0, 2.0]}}, "history 'loss' must be a tensor"),
    "fewer soft labels": ({"labels": torch.eye(3)[:2]}, r"soft labels must be float32 of shape \(3, 3\)"),
    "soft labels too wide": ({"labels": torch.ones(3, 4)}, r"soft labels must be float32 of shape \(3, 3\)"),
}


@pytest.mark.parametrize(("changes", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(changes, problem, train):
    with pytest.raises(ValueError, match=problem):
        check_set(make_set(**changes), train, 1)


@pytest.mark.parametrize("condensed", [make_set(ipc=2), soft_set()], ids=["hard", "soft"])
def test_more_images_than_asked_for_are_refused(condensed, train):
    with pytest.raises(ValueError, match=r"expected .* found"):
        check_set(condensed, train, 1)


# The file


@pytest.mark.parametrize("condensed", [make_set(ipc=2), soft_set()], ids=["hard", "soft"])
def test_what_is_saved_is_loaded(condensed, path, train):
    condensed = replace(condensed, history={"loss": torch.tensor([3.0, 2.0, 1.0])})
    save(path, condensed, train, method="mine", nested={"a": [1, 2]})
    loaded, header = load_set(path, train)
    assert_same(loaded, condensed)
    assert loaded.indices is None
    assert list(loaded.history) == ["loss"]
    assert loaded.history["loss"].tolist() == [3.0, 2.0, 1.0]
    assert header == {"format": FORMAT, **header_of(condensed, train, method="mine", nested={"a": [1, 2]})}


def test_what_a_set_brings_is_saved_in_a_format_of_its_own(path, train):
    logits = torch.arange(9.0).view(3, 3)
    condensed = make_set(labels=logits, lr=0.02, temperature=4.0, factor=2)
    save(path, condensed, train)
    loaded, header = load_set(path, train)
    assert_same(loaded, condensed)
    assert (loaded.lr, loaded.temperature, loaded.factor) == (0.02, 4.0, 2)
    assert header["brings"] == condensed.brings == {"lr": 0.02, "temperature": 4.0, "factor": 2}
    assert (header["format"], FORMAT) == ("dcbench-set/3", "dcbench-set/2")  # earlier versions refuse it
    assert without_images(path) == path.read_bytes()
    save(path, make_set(lr=0.03), train)
    other = path.read_bytes().replace(b"0.03", b"0.04")
    path.write_bytes(other)
    with pytest.raises(DcbenchError, match="is damaged"):
        load_set(path, train)


def test_a_set_that_brings_nothing_has_the_bytes_that_it_always_had(path, train):
    # As the version before there was anything to bring wrote it.
    save_set(path, CondensedSet(torch.arange(8.0).view(2, 1, 2, 2), torch.tensor([0, 1])), {"set_sha256": "0"})
    known = "372359f0611f6cf8426b9eb1c3488ff18f5b4b6214d8a6efca98cc849645071c"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == known


@pytest.mark.parametrize("brings", [{"lr": "0.1"}, {"decoder": 1}, [0.1]], ids=str)
def test_a_file_that_brings_what_it_cannot_is_refused_by_name(path, train, brings):
    condensed = make_set()
    save(path, condensed, train, brings=brings)
    with pytest.raises(DcbenchError, match=r"a set\.safetensors cannot be read as a condensed set"):
        load_set(path, train)


def test_a_coreset_is_saved_with_its_images_and_positions(path, train):
    coreset = CondensedSet.select(train, torch.tensor([9, 2, 5]))
    save(path, coreset, train)
    loaded, _ = load_set(path, make_train((1, 1, 1)))  # the training split is not needed
    assert_same(loaded, coreset)
    assert torch.equal(loaded.indices, coreset.indices)


def test_tensors_that_are_not_contiguous_are_saved(path, train):
    images = make_set(ipc=2).images.transpose(2, 3)
    labels = torch.rand(3, 6, generator=torch.Generator().manual_seed(0)).t()
    assert not images.is_contiguous()
    assert not labels.is_contiguous()
    condensed = CondensedSet(images, labels)
    save(path, condensed, train)
    assert_same(load_set(path, train)[0], condensed)


def test_tensors_that_share_their_memory_are_saved(path, train):
    images = torch.zeros(3, 1, 8, 8)
    condensed = make_set(images=images, history={"first": images[:, 0, 0, 0], "second": images[:, 0, 0, 0]})
    save(path, condensed, train)
    assert_same(load_set(path, train)[0], condensed)


def test_saving_twice_gives_the_same_bytes(path, tmp_path, train):
    condensed = replace(make_set(), history={"loss": torch.zeros(2), "accuracy": torch.ones(2)})
    again = replace(make_set(), history={"accuracy": torch.ones(2), "loss": torch.zeros(2)})
    save(path, condensed, train, b=1, a=2)
    save(tmp_path / "again", again, train, a=2, b=1)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_the_whole_split_is_stored_by_its_positions_alone(path, train):
    whole = CondensedSet.select(train, torch.randperm(len(train), generator=torch.Generator().manual_seed(0)))
    save(path, whole, train)
    assert set(load_file(path)) == {"indices", "labels"}
    assert path.stat().st_size < whole.images.nbytes
    loaded, _ = load_set(path, train)
    assert_same(loaded, whole)
    assert torch.equal(loaded.indices, whole.indices)


def test_the_whole_of_another_split_is_not_taken_for_it(path, train):
    save(path, CondensedSet.select(train, torch.arange(len(train))), train)
    with pytest.raises(DcbenchError, match="do not match the hash"):
        load_set(path, make_train((4, 7, 5), seed=1))


@pytest.mark.parametrize("tensor", ["images", "labels"])
def test_a_tensor_that_does_not_match_the_hash_is_refused(path, train, tensor):
    condensed = make_set(ipc=2)
    other = replace(condensed, **{tensor: getattr(condensed, tensor).flip(0)})
    save_set(path, other, header_of(condensed, train))
    with pytest.raises(DcbenchError, match=r"a set\.safetensors is damaged: its tensors do not match the hash"):
        load_set(path, train)


def everything(path, train):
    """All that is read of a file, in a form that can be compared; NaN and all."""
    condensed, header = load_set(path, train)
    history = {name: curve.tolist() for name, curve in condensed.history.items()}
    indices = None if condensed.indices is None else condensed.indices.tolist()
    return repr((condensed.sha256(), condensed.zca, history, indices, header))


@pytest.mark.parametrize("mask", [1, 0x80, 0xFF])
def test_a_flip_of_any_byte_is_noticed_or_changes_nothing_that_is_read(path, mask):
    train = make_train((4, 7, 5), size=(2, 2))
    coreset = CondensedSet.select(train, torch.tensor([9, 2, 5]))
    save(path, replace(coreset, history={"loss": torch.tensor([0.5, 0.25])}), train, spec={"options": {"lr": 0.1}})
    intact, read = path.read_bytes(), everything(path, train)
    noticed = 0
    for position in range(len(intact)):
        damaged = bytearray(intact)
        damaged[position] ^= mask
        path.write_bytes(damaged)
        try:
            assert everything(path, train) == read
        except DcbenchError as error:
            assert str(path) in str(error)  # noqa: PT017
            noticed += 1
    # Unnoticed are spaces in place of spaces, and the like.
    assert noticed > 0.95 * len(intact)


def first_format(path):
    """Bring a file to the form that files had before their headers had the hash of all content."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["dcbench"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["content_sha256"]
    header["format"] = FIRST_FORMAT
    save_file(tensors, path, {"dcbench": json.dumps(header, sort_keys=True)})


def test_files_of_the_first_format_are_read(path, train):
    condensed = make_set(history={"loss": torch.ones(2)})
    save(path, condensed, train, method="mine")
    first_format(path)
    loaded, header = load_set(path, train)
    assert_same(loaded, condensed)
    assert header["method"] == "mine"


def test_a_file_that_has_lost_its_hash_is_not_taken_for_one_of_the_first_format(path, train):
    save(path, make_set(), train)
    path.write_bytes(path.read_bytes().replace(b"content_sha256", b"content_sha255"))
    with pytest.raises(DcbenchError, match="it has no 'content_sha256'"):
        load_set(path, train)


def test_the_images_of_a_coreset_may_be_taken_out_of_its_file(path, train):
    coreset = CondensedSet.select(train, torch.tensor([9, 2, 5]))
    save(path, replace(coreset, history={"loss": torch.ones(2)}), train)
    path.write_bytes(without_images(path))
    assert set(load_file(path)) == {"indices", "labels", "history.loss"}
    assert_same(load_set(path, train)[0], coreset)


@pytest.mark.parametrize("position", [-1, -8 * 3 - 1, -500])
def test_images_are_not_taken_out_of_a_damaged_file(path, train, position):
    save(path, CondensedSet.select(train, torch.tensor([9, 2, 5])), train)
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DcbenchError, match=r"a set\.safetensors is damaged"):
        without_images(path)


def test_more_positions_than_there_are_images_are_refused_and_not_looked_up(path, train, monkeypatch):
    many = torch.zeros(len(train) + 1, dtype=torch.int64)
    save_file({"indices": many, "labels": many.clone()}, path, {"dcbench": json.dumps(HEADER)})
    monkeypatch.setattr(ResidentSplit, "normalised", lambda *_: pytest.fail("looked up"))
    with pytest.raises(DcbenchError, match=r"a set\.safetensors .* 17 indices and 16 training images"):
        load_set(path, train)


def test_a_file_cut_off_anywhere_is_refused_by_name(path, train):
    save(path, make_set(), train)
    intact = path.read_bytes()
    for length in (0, 4, 100, len(intact) // 2, len(intact) - 1):
        path.write_bytes(intact[:length])
        with pytest.raises(DcbenchError, match=r"a set\.safetensors (is not|cannot be read as) a condensed set"):
            load_set(path, train)


def test_a_file_that_is_not_there_is_refused_by_name(path, train):
    with pytest.raises(DcbenchError, match=r"a set\.safetensors (is not|cannot be read as) a condensed set"):
        load_set(path, train)


HEADER = {"format": FIRST_FORMAT, "set_sha256": make_set().sha256()}
NOT_SETS = {
    "no metadata": None,
    "other metadata": {"something": "else"},
    "no JSON": {"dcbench": "{"},
    "no object": {"dcbench": "[]"},
    "another format": {"dcbench": json.dumps(HEADER | {"format": "dcbench-set/0"})},
    "no hash": {"dcbench": json.dumps({"format": FIRST_FORMAT})},
}


@pytest.mark.parametrize("metadata", NOT_SETS.values(), ids=NOT_SETS.keys())
def test_a_safetensors_file_that_is_no_condensed_set_is_refused_by_name(metadata, path, train):
    save_file({"images": make_set().images, "labels": make_set().labels}, path, metadata)
    with pytest.raises(DcbenchError, match=r"a set\.safetensors (is not|cannot be read as) a condensed set"):
        load_set(path, train)


@pytest.mark.parametrize("names", [("images",), ("labels",), ()])
def test_a_file_that_lacks_a_tensor_is_refused_by_name(names, path, train):
    tensors = {"images": make_set().images, "labels": make_set().labels}
    save_file({name: tensors[name] for name in names}, path, {"dcbench": json.dumps(HEADER)})
    with pytest.raises(DcbenchError, match=r"a set\.safetensors (is not|cannot be read as) a condensed set"):
        load_set(path, train)


@pytest.mark.parametrize("positions", [torch.tensor([0, 99]), torch.tensor([0.5, 1.5])], ids=["outside", "float"])
def test_positions_that_are_not_in_the_split_are_refused_by_name(positions, path, train):
    save_file({"indices": positions, "labels": torch.zeros(2).long()}, path, {"dcbench": json.dumps(HEADER)})
    with pytest.raises(DcbenchError, match=r"a set\.safetensors (is not|cannot be read as) a condensed set"):
        load_set(path, train)


def test_saving_leaves_nothing_else_behind(path, train):
    save(path, make_set(), train)
    save(path, make_set(seed=1), train)
    assert list(path.parent.iterdir()) == [path]
    assert_same(load_set(path, train)[0], make_set(seed=1))
