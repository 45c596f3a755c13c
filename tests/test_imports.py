"""Scoring sets made elsewhere: what is detected, what is asked for, and what the records say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from dcbench.budgets import BUDGETS
from dcbench.cli import main
from dcbench.condensed import load_set
from dcbench.errors import DcbenchError
from dcbench.evaluate import evaluate
from dcbench.imports import Claim, ImportRequest, plan_imports
from dcbench.protocols import get_protocol
from dcbench.runner import Runner
from dcbench.store import RECORDS, Store, read_records
from dcbench.whitening import Whitening

GENERATOR = torch.Generator().manual_seed(0)
PIXELS = torch.rand(6, 1, 8, 8, generator=GENERATOR)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.fixture
def request_of(tmp_path):
    """Make a request to judge files on the tests' data set."""

    def make(*paths, **changes):
        fields = {
            "paths": paths,
            "dataset": "tiny",
            "eval_networks": ("linear",),
            "claim": Claim(),
            "protocol": get_protocol("dc"),
            "budget": BUDGETS["quick"],
            "evals": 1,
            "seed": 0,
            "device": torch.device("cpu"),
            "data_root": tmp_path,
        }
        return ImportRequest(**(fields | changes))

    return make


@pytest.fixture
def judge(plugins, request_of):
    """Judge files into a folder and return its records."""

    def go(folder, *paths, **changes):
        folder.mkdir(exist_ok=True)
        plan, _ = plan_imports(request_of(*paths, **changes), plugins)
        runner = Runner(plan, plugins, Store(folder))
        assert not runner.run().failures
        return read_records(folder / RECORDS)

    return go


def kept(folder):
    """The condensed images in a results folder."""
    (path,) = (folder / "sets").glob("*.safetensors")
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("images")


def saved(folder, content, name="set.pt"):
    torch.save(content, folder / name)
    return folder / name


def test_sets_of_the_authors_format_become_one_row(tmp_path, judge, plugins):
    sets = [[PIXELS + number, LABELS] for number in range(3)]
    path = saved(tmp_path, {"data": sets, "accs_all_exps": {"ConvNet": [0.5]}})
    records = judge(tmp_path / "r", path, evals=2, claim=Claim(network="linear"))
    assert len(records) == 6
    assert len({record.condense_key for record in records}) == 3
    for record in records:
        assert (record.method, record.matching_network, record.ipc) == ("imported", "linear", 2)
        assert (record.changed_options, record.options["file"]) == (["file"], "set.pt")
        assert (record.track, record.plugin, record.condense_seconds) == ("hard-label", "imported", None)
        assert record.source_sha256 == record.options["file_sha256"]
    again = judge(tmp_path / "r", path, evals=2, claim=Claim(network="linear"))
    assert again == records


def test_normalised_images_are_kept_as_they_are(tmp_path, judge):
    judge(tmp_path / "r", saved(tmp_path, [PIXELS, LABELS]), claim=Claim(pixels="normalised"))
    assert torch.equal(kept(tmp_path / "r"), PIXELS)


@pytest.mark.parametrize("layout", ["N C H W", "N H W C", "N H W"])
@pytest.mark.parametrize("integers", [False, True])
def test_raw_images_are_normalised(tmp_path, judge, tiny, layout, integers):
    images = {"N C H W": PIXELS, "N H W C": PIXELS.permute(0, 2, 3, 1), "N H W": PIXELS[:, 0]}[layout]
    if integers:
        np.savez(tmp_path / "set.npz", images=(images * 255).round().byte().numpy(), labels=LABELS.numpy())
        judge(tmp_path / "r", tmp_path / "set.npz")
    else:
        judge(tmp_path / "r", saved(tmp_path, [images, LABELS]), claim=Claim(pixels="raw"))
    expected = (PIXELS - tiny.info.mean[0]) / tiny.info.std[0]
    tolerance = 0.51 / 255 / tiny.info.std[0] if integers else 1e-5
    assert (kept(tmp_path / "r") - expected).abs().max() < tolerance


@pytest.mark.parametrize(
    ("content", "claim", "message"),
    [
        ([PIXELS, LABELS], Claim(), r"does not say what its pixels are .*say --raw .* --normalised .* or --zca"),
        ([PIXELS * 255, LABELS], Claim(pixels="raw"), r"raw pixels from .* must lie in \[0, 1\]"),
        (
            {"data": [[PIXELS, LABELS]], "accs_all_exps": {}},
            Claim(pixels="raw"),
            r"normalised images: --raw contra",
        ),
        ([(PIXELS * 255).byte(), LABELS], Claim(pixels="normalised"), r"raw images: --normalised contradicts"),
        ([PIXELS[..., :7], LABELS], Claim(pixels="raw"), r"images of 1x8x7, tiny has 1x8x8"),
        ([PIXELS, LABELS + 1], Claim(pixels="raw"), r"no condensed set of tiny: labels must lie in 0\.\.2"),
        ([PIXELS, LABELS + 0.5], Claim(pixels="raw"), r"labels that are not whole numbers"),
        ([PIXELS, LABELS[:5]], Claim(pixels="raw"), r"labels of shape \(5,\); expected \(6,\) or \(6, 3\)"),
        ([PIXELS, torch.ones(6, 3)], Claim(pixels="raw"), r"soft labels that are no probabilities"),
        ([PIXELS * torch.nan, LABELS], Claim(pixels="normalised"), r"images must be finite"),
        (
            [PIXELS, LABELS],
            Claim(pixels="raw", network="liner"),
            r"unknown network 'liner'. Did you mean 'linear'",
        ),
        ([PIXELS, LABELS], Claim(pixels="raw", method="random"), r"share a row with .* such as random_authors"),
    ],
)
def test_what_does_not_fit_or_is_not_said_is_an_error(tmp_path, judge, content, claim, message):
    with pytest.raises(DcbenchError, match=message):
        judge(tmp_path / "r", saved(tmp_path, content), claim=claim)
    assert not (tmp_path / "r" / RECORDS).exists()


@pytest.mark.parametrize(
    ("labels", "track"),
    [
        (torch.full((6, 3), 1 / 3), "soft-label"),
        (torch.eye(3)[LABELS], "hard-label"),
        (LABELS.double().unsqueeze(1), "hard-label"),
    ],
)
def test_soft_labels_are_recorded_as_such(tmp_path, judge, labels, track):
    (record,) = judge(tmp_path / "r", saved(tmp_path, [PIXELS, labels]), claim=Claim(pixels="raw"))
    assert record.track == track


def test_whitened_sets_are_tested_in_whitened_space(tmp_path, judge, tiny, monkeypatch):
    whitening = Whitening.fit(tiny.train)
    members = torch.cat([indices[:2] for indices in tiny.train.class_indices])
    white = whitening(tiny.train.normalised(members))
    path = saved(tmp_path, [white, tiny.train.labels[members]])
    seen = []
    monkeypatch.setattr(
        "dcbench.runner.evaluate",
        lambda spec, condensed, test, *rest: seen.append(test) or evaluate(spec, condensed, test, *rest),
    )
    hashes = []
    for pixels in ("zca", "normalised"):
        (record,) = judge(tmp_path / pixels, path, claim=Claim("mine", pixels=pixels))
        assert record.changed_options == (["pixels"] if pixels == "zca" else [])
        hashes.append(record.set_sha256)
        (file,) = (tmp_path / pixels / "sets").glob("*.safetensors")
        condensed, header = load_set(file, tiny.train)
        assert condensed.zca == header["normalisation"]["zca"] == (pixels == "zca")
    assert len(set(hashes)) == 2
    plain = tiny.test.normalised(slice(None))
    assert torch.equal(seen[0].normalised(slice(None)), whitening(plain))
    assert torch.equal(seen[1].normalised(slice(None)), plain)


def test_an_uneven_set_counts_by_its_total(tmp_path, judge):
    content = [PIXELS[:4], torch.tensor([0, 0, 0, 1])]
    (record,) = judge(tmp_path / "r", saved(tmp_path, content), claim=Claim("mine", pixels="raw"))
    assert (record.method, record.ipc, record.changed_options) == ("mine", 2, [])


def test_our_own_sets_join_the_records_of_their_run(tmp_path, run, judge):
    made = run(tmp_path / "r", methods=("gradmatch",), options={"iterations": "1", "batch_real": "4"}, ipcs=(2,))
    (path,) = (tmp_path / "r" / "sets").glob("*.safetensors")
    (first,) = made.store.records
    # Elsewhere: another folder, without the records.
    (other,) = judge(tmp_path / "elsewhere", path, budget=BUDGETS["full"])
    differs = {"eval_seconds", "started_at", "peak_memory_bytes"}
    assert other.model_dump(exclude=differs) == first.model_dump(exclude=differs)
    (copy,) = (tmp_path / "elsewhere" / "sets").glob("*.safetensors")
    assert copy.read_bytes() == path.read_bytes()
    # In the folder where it was made: only the new network's trial is added.
    more = judge(tmp_path / "r", path, budget=BUDGETS["full"], eval_networks=("linear", "mlp"))
    assert [record.evaluation_network for record in more] == ["linear", "mlp"]


def test_our_own_set_of_other_data_is_refused(tmp_path, run, judge, plugins):
    run(tmp_path / "r")
    (path,) = (tmp_path / "r" / "sets").glob("*.safetensors")
    with pytest.raises(DcbenchError, match=r"was made from tiny \w{12}, not from digits \w{12}"):
        judge(tmp_path / "e", path, dataset="digits", eval_networks=("mlp",))
    with pytest.raises(DcbenchError, match="is a dcbench set, which says itself"):
        judge(tmp_path / "e", path, claim=Claim(pixels="raw"))


def test_force_judges_again(tmp_path, plugins, request_of):
    path = saved(tmp_path, [PIXELS, LABELS])
    plan, _ = plan_imports(request_of(path, claim=Claim(pixels="raw")), plugins)
    (tmp_path / "r").mkdir()
    for _ in range(2):
        assert Runner(plan, plugins, Store(tmp_path / "r"), force=True).run().evaluated == 1
    first, second = read_records(tmp_path / "r" / RECORDS)
    assert first.accuracy == second.accuracy


def test_the_command_shows_what_the_file_states(tmp_path):
    images = torch.randn(10, 1, 8, 8, generator=GENERATOR)
    path = saved(tmp_path, {"data": [[images, torch.arange(10)]], "accs_all_exps": {"MLP": [0.25, 0.75]}})
    words = [str(path), "-d", "digits", "--eval-network", "mlp", "--evals", "1", "--budget", "quick"]
    done = CliRunner().invoke(main, ["evaluate", *words, "--results", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    assert "1 set, the first of 10x1x8x8" in done.output
    assert "MLP 50.00 (n=2)" in done.output
    assert "file=set.pt" in done.output
    as_json = CliRunner().invoke(main, ["evaluate", *words, "--results", str(tmp_path / "r"), "--json"])
    assert [row["method"] for row in json.loads(as_json.stdout)] == ["imported"]


def test_the_command_refuses_in_one_message(tmp_path):
    path = saved(tmp_path, [torch.randn(10, 1, 8, 8), torch.arange(10)])
    done = CliRunner().invoke(main, ["evaluate", str(path), "-d", "digits", "--results", str(tmp_path / "r")])
    assert (done.exit_code, done.output.count("Error")) == (2, 1)
    assert "say --raw" in done.output
    assert not (tmp_path / "r").exists()
