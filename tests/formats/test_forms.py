"""Each form in which condensed sets are published gives the images and labels that its code meant."""

import numpy as np
import pytest
import torch
from helpers import make_info
from PIL import Image
from safetensors.torch import save_file

from dcbench.formats.foreign import Statement, from_tensors, read_foreign
from dcbench.utils.errors import DcbenchError

X = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(10).repeat_interleave(2)
INFO = make_info(classes=10)


def saved(folder, content, name="set.pt"):
    torch.save(content, folder / name)
    return folder / name


def the_set(path, said=None):
    (only,) = read_foreign(path, INFO, said).sets
    return only


@pytest.mark.parametrize(
    "content",
    [
        {"data": X, "target": Y},
        {"data": [*X], "target": Y.tolist()},
        {"x_train": X, "y_train": Y},
        {"image": X, "label": Y},
        {"images": X, "targets": Y},
        {"images": X, "labels": [*Y]},
        [X, Y.tolist()],
        [[*X], Y.tolist()],
        [(image, int(label)) for image, label in zip(X, Y, strict=True)],
        [[image, label] for image, label in zip(X, Y, strict=True)],
    ],
)
def test_images_and_labels_are_found_under_other_names_and_in_lists(tmp_path, content):
    found = the_set(saved(tmp_path, content))
    assert torch.equal(found.images, X)
    assert torch.equal(found.labels.long(), Y)
    assert found.lr is None


def test_arrays_of_keras_and_labels_that_are_floats_or_truths(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X.numpy(), y_train=Y.numpy().astype(float))
    assert torch.equal(the_set(tmp_path / "a.npz").labels.long(), Y)
    np.savez(tmp_path / "b.npz", images=X.numpy(), labels=Y.numpy() > 4)
    assert the_set(tmp_path / "b.npz").labels.tolist() == (Y > 4).tolist()


@pytest.mark.parametrize("rate", [0.02, torch.tensor(0.02), torch.tensor([0.02]), np.float64(0.02)])
@pytest.mark.parametrize("name", ["lr", "syn_lr", "learning_rate"])
def test_the_learning_rate_of_a_file_is_read(tmp_path, rate, name):
    file = read_foreign(saved(tmp_path, {"images": X, "labels": Y, name: rate}), INFO)
    assert [each.lr for each in file.sets] == [0.02]
    assert file.unused == ()
    assert the_set(saved(tmp_path, (X, Y, rate))).lr == 0.02


def test_the_learning_rate_beside_a_file_of_images_is_read(tmp_path):
    path = saved(tmp_path, X, "images_best.pt")
    saved(tmp_path, Y, "labels_best.pt")
    without = read_foreign(path, INFO)
    saved(tmp_path, torch.tensor(0.02), "lr_best.pt")
    assert the_set(path).lr == 0.02
    assert read_foreign(path, INFO).sha256 == without.sha256
    save_file({"images": X, "lr": torch.tensor(0.5)}, tmp_path / "alone.safetensors")
    assert the_set(tmp_path / "alone.safetensors", Statement(labels="in-order")).lr == 0.5


def test_several_learning_rates_are_refused(tmp_path):
    path = saved(tmp_path, {"images": X, "labels": Y, "lr": torch.tensor([0.1, 0.2])})
    with pytest.raises(DcbenchError, match="a learning rate that is not one number"):
        read_foreign(path, INFO)


def test_steps_to_be_taken_in_order_are_named_for_what_they_are(tmp_path):
    path = saved(tmp_path, [(X, Y, torch.tensor(0.02)), (X, Y, torch.tensor(0.01))])
    with pytest.raises(
        DcbenchError, match=r"list of 2 steps .* in this order .* No protocol here keeps to an order"
    ):
        read_foreign(path, INFO)


def test_what_else_a_file_holds_is_named(tmp_path):
    content = {"images": X, "labels": Y, "epochs": 300, "zca_mean": X[0], 3: "x"}
    assert read_foreign(saved(tmp_path, content), INFO).unused == ("epochs", "zca_mean", "3")
    authors = {"data": [[X, Y]], "accs_all_exps": {}, "notes": "x"}
    assert read_foreign(saved(tmp_path, authors), INFO).unused == ("notes",)
    np.savez(
        tmp_path / "a.npz", x_train=X.numpy(), y_train=Y.numpy(), x_test=X.numpy(), names=np.array(["a", None])
    )
    assert read_foreign(tmp_path / "a.npz", INFO).unused == ("x_test", "names")


@pytest.mark.parametrize("content", [X, [*X], {"images": X}, {"data": X}])
def test_images_alone_may_be_in_the_order_of_the_classes(tmp_path, content):
    path = saved(tmp_path, content)
    found = the_set(path, Statement(labels="in-order"))
    assert torch.equal(found.images, X)
    assert found.labels is None
    with pytest.raises(DcbenchError, match="or say --labels in-order"):
        read_foreign(path, INFO)
    with pytest.raises(DcbenchError, match="has labels of its own"):
        read_foreign(saved(tmp_path, [X, Y]), INFO, Statement(labels="in-order"))


def test_tensors_may_be_in_the_order_of_the_classes():
    (found,) = from_tensors([*X], "in-order").sets
    assert torch.equal(found.images, X)
    with pytest.raises(DcbenchError, match="must be tensors or arrays"):
        from_tensors(X, "in order")


def folder(path, names, mode="L", ending="png", **words):
    for label, name in enumerate(names):
        (path / name).mkdir(parents=True)
        colour = 20 * label if mode == "L" else (20 * label,) * 3
        Image.new(mode, (8, 8), colour).save(path / name / f"0.{ending}", **words)
    return path


@pytest.mark.parametrize("pattern", ["{}", "{:05d}", "new{:03d}", "class_{}"])
def test_folders_of_numbered_classes(tmp_path, pattern):
    found = the_set(folder(tmp_path / "set", [pattern.format(label) for label in range(10)]))
    assert found.labels.tolist() == list(range(10))
    assert found.images[:, 0, 0, 0].tolist() == [20 * label for label in range(10)]


@pytest.mark.parametrize("names", [["new0", "old1"], ["00", "0"], ["00010"]])
def test_folders_of_other_numbers_are_refused(tmp_path, names):
    with pytest.raises(DcbenchError, match="or by the number of the class"):
        the_set(folder(tmp_path / "set", names))


def test_images_in_colour_for_grey_data(tmp_path):
    copies = the_set(folder(tmp_path / "copies", ["00000", "00001"], "RGB", "jpg", quality=100))
    assert copies.images.shape == (2, 1, 8, 8)
    assert copies.images.float().mean(dim=(1, 2, 3)).tolist() == pytest.approx([0, 20], abs=1)
    path = folder(tmp_path / "colours", ["0"])
    Image.new("RGB", (8, 8), (255, 0, 0)).save(path / "0" / "1.png")
    with pytest.raises(DcbenchError, match=r"1\.png .* in colour and made_up is grey; --grey makes"):
        the_set(path)
    assert the_set(path, Statement(grey=True)).images[:, 0, 0, 0].tolist() == [0, 76]


def test_a_list_of_tensors_that_torch_cannot_stack_is_no_set(tmp_path):
    strange = torch.empty(3, 1, 2, 2, dtype=torch.float8_e4m3fn, device="meta")
    with pytest.raises(DcbenchError, match="no condensed set of a known form"):
        the_set(saved(tmp_path, [[0.5], (strange, torch.zeros(3, 1, 2, 2, dtype=torch.complex64))]))
