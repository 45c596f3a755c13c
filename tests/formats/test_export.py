"""A set written for other people's code, and read again: the same set where the form allows it."""

from itertools import pairwise

import pytest
import torch
from helpers import make_set, make_train
from torchvision.datasets import ImageFolder

from dcbench.core.condensed_set import CondensedSet
from dcbench.core.dataset import Split
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.formats.conversion import to_condensed
from dcbench.formats.export import export_set
from dcbench.formats.foreign import Statement, read_foreign
from dcbench.utils.errors import DcbenchError

TRAIN = make_train(channels=3)
HEADER = {
    "classes": list(TRAIN.info.class_names),
    "normalisation": {"mean": TRAIN.info.mean, "std": TRAIN.info.std, "zca": False},
}
SOFT = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
SETS = {
    "synthetic": make_set(channels=3),
    "real": CondensedSet.select(TRAIN, torch.stack([each[1] for each in TRAIN.class_indices])),
    "logits": make_set(channels=3, labels=SOFT, temperature=2.5, lr=0.0123456789),
    "whitened": make_set(channels=3, zca=True),
    "tiles": make_set(channels=3, factor=2),
}


def read_again(path, words):
    given = words.split()
    kinds = {"--lr": float, "--temperature": float, "--factor": int}
    named = {word[2:]: kinds[word](value) for word, value in pairwise(given) if word in kinds}
    pixels = {"--zca": "zca", "--normalised": "normalised"}.get(given[0] if given else "")
    split = Split(TRAIN.images, TRAIN.labels)
    file = read_foreign(path, TRAIN.info)
    assert not {*file.unused} - named.keys()  # nothing that a warning has to name
    (foreign,) = file.sets
    data = LoadedDataset(TRAIN.info, split, split)
    return to_condensed(foreign, data, Statement(pixels=pixels, brings=named), path)


@pytest.mark.filterwarnings("ignore:.*pixels from")
@pytest.mark.parametrize("form", ["pt", "npz"])
@pytest.mark.parametrize("which", SETS)
def test_tensors_and_arrays_are_read_as_the_same_set_by_the_words_that_are_told(which, form, tmp_path):
    words, exact = export_set(tmp_path / f"set.{form}", form, SETS[which], HEADER)
    assert exact
    assert read_again(tmp_path / f"set.{form}", words).sha256() == SETS[which].sha256()


def test_two_lines_load_it_without_dcbench(tmp_path):
    export_set(tmp_path / "set.pt", "pt", SETS["logits"], HEADER)
    kept = torch.load(tmp_path / "set.pt")
    assert torch.equal(kept["images"], SETS["logits"].images)
    assert (kept["lr"], kept["mean"], kept["classes"]) == (0.0123456789, TRAIN.info.mean, HEADER["classes"])


@pytest.mark.parametrize("which", ["real", "synthetic"])
def test_a_folder_keeps_real_images_exactly_and_rounds_others(which, tmp_path):
    _, exact = export_set(tmp_path / "set", "folder", SETS[which], HEADER)
    again = read_again(tmp_path / "set", "")
    assert exact == (which == "real") == (again.sha256() == SETS[which].sha256())
    assert [label for _, label in ImageFolder(tmp_path / "set").samples] == [0, 1, 2]


@pytest.mark.parametrize(("which", "problem"), [("logits", "soft labels"), ("whitened", "whitened")])
def test_what_a_folder_cannot_keep_is_refused_and_nothing_is_written(which, problem, tmp_path):
    with pytest.raises(DcbenchError, match=problem):
        export_set(tmp_path / "set", "folder", SETS[which], HEADER)
    (tmp_path / "there").touch()
    with pytest.raises(DcbenchError, match="is there already"):
        export_set(tmp_path / "there", "pt", SETS["real"], HEADER)
    assert [each.name for each in tmp_path.iterdir()] == ["there"]
