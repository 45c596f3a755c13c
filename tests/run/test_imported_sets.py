"""Scoring sets made elsewhere: what is detected, what is asked for, and what the records say."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from dcbench_plugins.datasets.digits import Digits
from helpers import make_info, make_record, make_set
from running import SHORT
from safetensors import safe_open

import dcbench
from dcbench.cli import main
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.loaded_dataset import load_dataset
from dcbench.core.spec import BUDGETS, CondenseSpec
from dcbench.core.whitening import NAME, Whitening
from dcbench.evaluate.protocols import PROTOCOLS, get_protocol
from dcbench.evaluate.trial import evaluate
from dcbench.leaderboard.scores import rows
from dcbench.results.set_file import load_set, save_set
from dcbench.results.store import RECORDS, Store, read_records
from dcbench.run.imported_sets import Claim, claim_of, plan_imports, worse_than_guessing
from dcbench.run.scheduler import Scheduler
from dcbench.utils.errors import DcbenchError

GENERATOR = torch.Generator().manual_seed(0)
PIXELS = torch.rand(6, 1, 8, 8, generator=GENERATOR)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.fixture
def plan_of(plugins, request_for):
    """Plan to judge files on the tests' data set."""

    def plan(*paths, claim=None, **changes):
        changes = {"protocol": PROTOCOLS["dc"], "budget": BUDGETS["quick"], **changes}
        return plan_imports(paths, claim or Claim(), request_for(**changes), plugins)[0]

    return plan


@pytest.fixture
def judge(plugins, plan_of):
    """Judge files into a folder and return its records."""

    def go(folder, *paths, **changes):
        folder.mkdir(exist_ok=True)
        scheduler = Scheduler(plan_of(*paths, **changes), plugins, Store(folder))
        assert not scheduler.run().failures
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


CLAIMS = {
    "named": ({"data": [[PIXELS, LABELS]], "accs_all_exps": {}}, {"method": "theirs", "network": "linear"}),
    "unnamed": ({"data": [[PIXELS, LABELS]], "accs_all_exps": {}}, {}),
    "other statistics": ([PIXELS, LABELS], {"mean": (0.2,), "std": (0.4,)}),
    "grey, in order": (PIXELS.expand(6, 3, 8, 8).clone(), {"grey": True, "labels": "in-order", "pixels": "raw"}),
    "classes": ([PIXELS, torch.eye(3)[LABELS]], {"labels_are": "classes", "pixels": "zca"}),
    "logits": ([PIXELS, torch.eye(3)[LABELS]], {"labels_are": "logits", "pixels": "raw", "brings": {"lr": 0.1}}),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_records_keep_what_a_user_said_of_a_set(tmp_path, plan_of, kind):
    content, said = CLAIMS[kind]
    path = saved(tmp_path, content)
    (cell,) = plan_of(path, claim=Claim(**said)).cells
    about = {name: getattr(cell.spec, name) for name in ("method", "matching_network", "options")}
    brings, changed = cell.source.condensed.brings, [*cell.source.origin.changed_options]
    record = make_record(**about, brings=brings, changed_options=changed)
    (again,) = plan_of(path, claim=claim_of(record)).cells
    assert (again.spec, again.source.set_sha256) == (cell.spec, cell.source.set_sha256)


def test_sets_of_the_authors_format_become_one_row(tmp_path, judge, plugins):
    sets = [[PIXELS + number, LABELS] for number in range(3)]
    path = saved(tmp_path, {"data": sets, "accs_all_exps": {"ConvNet": [0.5]}})
    records = judge(tmp_path / "r", path, evals=2, claim=Claim(network="linear"))
    assert len(records) == 6
    assert len({record.condense_key for record in records}) == 3
    for record in records:
        assert (record.method, record.matching_network, record.ipc) == ("imported", "linear", 2)
        assert (record.changed_options, record.options["file"]) == (["file"], f"set.pt@{record.source_sha256[:8]}")
        assert (record.track, record.plugin, record.condense_seconds) == ("hard-label", "imported", None)
        assert record.source_sha256 == record.options["file_sha256"]
    (row,) = rows(records)
    assert (row.scores["linear"].sets, row.scores["linear"].trials) == (3, 6)
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
        ([PIXELS, LABELS], Claim(), r"does not say what its pixels are .*say raw .* normalised .* or zca"),
        ([PIXELS * 255, LABELS], Claim(pixels="raw"), r"raw pixels from .*\. They must lie in \[0, 1\]"),
        ([(PIXELS * 255).byte(), LABELS], Claim(pixels="normalised"), r"raw images: normalised contradicts"),
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
        ([PIXELS, LABELS], Claim(pixels="raw", method=" "), r"a name has at most 60 letters, digits"),
        ([PIXELS[:0], LABELS[:0]], Claim(pixels="raw"), r"has no images: a tensor of shape \(0, 1, 8, 8\)"),
        ([PIXELS.to(torch.complex64), LABELS], Claim(pixels="raw"), r"images of type complex64"),
        ([PIXELS.to_sparse(), LABELS], Claim(pixels="raw"), r"images of type float32 \(torch.sparse_coo\)"),
        ([PIXELS.to("meta"), LABELS], Claim(pixels="raw"), r"images of type float32|cannot be read"),
        ([PIXELS, LABELS.to(torch.complex64)], Claim(pixels="raw"), r"labels of type complex64"),
        (
            [PIXELS, LABELS],
            Claim(pixels="raw", labels=Path(__file__)),
            r"has labels of its own, .* images alone",
        ),
        ([PIXELS, LABELS], Claim(pixels="raw", method="random"), r"share a row with .* such as random_authors"),
    ],
)
def test_what_does_not_fit_or_is_not_said_is_an_error(tmp_path, judge, content, claim, message):
    with pytest.raises(DcbenchError, match=message):
        judge(tmp_path / "r", saved(tmp_path, content), claim=claim)
    assert not (tmp_path / "r" / RECORDS).exists()


def test_a_set_that_the_protocol_cannot_take_is_refused_before_any_work(tmp_path, plan_of, plugins):
    torch.save({"images": PIXELS, "labels": torch.eye(3)[LABELS] * 0.7 + 0.1}, tmp_path / "soft.pt")
    kd = get_protocol("kd:teacher=linear", plugins.make_architecture)
    with pytest.raises(DcbenchError, match="protocol kd:teacher=linear takes sets with hard labels"):
        plan_of(tmp_path / "soft.pt", claim=Claim(pixels="raw"), protocol=kd)


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
    white = whitening(tiny.train.images[members].float() / 255)
    path = saved(tmp_path, [white, tiny.train.labels[members]])
    seen = []
    monkeypatch.setattr(
        "dcbench.evaluate.side_by_side.evaluate",
        lambda spec, condensed, test, *rest: seen.append(test) or evaluate(spec, condensed, test, *rest),
    )
    hashes = []
    for pixels in ("zca", "normalised"):
        (record,) = judge(tmp_path / pixels, path, claim=Claim("mine", pixels=pixels))
        assert record.changed_options == ["pixels"]
        assert record.options.get("whitening") == (NAME if pixels == "zca" else None)
        hashes.append(record.set_sha256)
        (file,) = (tmp_path / pixels / "sets").glob("*.safetensors")
        condensed, header = load_set(file, tiny.train)
        assert condensed.zca == header["normalisation"]["zca"] == (pixels == "zca")
    assert len(set(hashes)) == 2
    assert torch.equal(seen[0].normalised(slice(None)), whitening(tiny.test.images.float() / 255))
    assert torch.equal(seen[1].normalised(slice(None)), tiny.test.normalised(slice(None)))


def test_an_uneven_set_counts_by_its_total(tmp_path, judge):
    content = [PIXELS[:4], torch.tensor([0, 0, 0, 1])]
    (record,) = judge(tmp_path / "r", saved(tmp_path, content), claim=Claim("mine", pixels="raw"))
    assert (record.method, record.ipc) == ("mine", 2)
    assert record.changed_options == ["per_class", "pixels"]
    assert record.options["per_class"] == "0 to 3"


def test_our_own_sets_join_the_records_of_their_run(tmp_path, run, judge):
    made = run(tmp_path / "r", methods=("gradmatch",), options={"iterations": "1", "batch_real": "4"}, ipcs=(2,))
    (path,) = (tmp_path / "r" / "sets").glob("*.safetensors")
    (first,) = made.store.records
    # Elsewhere: another folder, without the records.
    (other,) = judge(tmp_path / "elsewhere", path, budget=BUDGETS["full"], protocol=SHORT)
    differs = {"eval_seconds", "started_at", "peak_memory_bytes"}
    assert other.model_dump(exclude=differs) == first.model_dump(exclude=differs)
    (copy,) = (tmp_path / "elsewhere" / "sets").glob("*.safetensors")
    assert copy.read_bytes() == path.read_bytes()
    # In the folder where it was made: only the new network's trial is added.
    more = judge(tmp_path / "r", path, budget=BUDGETS["full"], eval_networks=("linear", "mlp"))
    assert [record.evaluation_network for record in more] == ["linear", "mlp"]


def test_what_a_form_suggests_gives_way_to_what_the_user_says(tmp_path, judge):
    path = saved(tmp_path, {"data": [[PIXELS, LABELS]], "accs_all_exps": {}})
    (taken,) = judge(tmp_path / "taken", path, claim=Claim("mine"))
    (said,) = judge(tmp_path / "said", path, claim=Claim("mine", pixels="raw"))
    assert (taken.options["pixels"], taken.changed_options) == ("normalised", [])
    assert (said.options["pixels"], said.changed_options) == ("raw", ["pixels"])
    assert taken.set_sha256 != said.set_sha256


def test_sets_are_known_by_what_is_in_them(tmp_path, judge):
    first = saved(tmp_path, [PIXELS, LABELS], "a.pt")
    second = saved(tmp_path, [PIXELS + 1, LABELS], "b.pt")
    twin = tmp_path / "c.pt"
    twin.write_bytes(first.read_bytes())
    claim = Claim("mine", pixels="normalised")
    both = judge(tmp_path / "r", first, second, twin, claim=claim)
    assert len({record.condense_key for record in both}) == len(both) == 2
    assert judge(tmp_path / "r", second, claim=claim) == both
    assert judge(tmp_path / "r", twin, claim=claim) == both
    assert judge(tmp_path / "r", second, first, claim=claim) == both


def test_files_of_one_name_have_rows_of_their_own(tmp_path, judge):
    for name, images in (("d1", PIXELS), ("d2", PIXELS + 1)):
        (tmp_path / name).mkdir()
        saved(tmp_path / name, [images, LABELS], "images_best.pt")
    paths = [tmp_path / name / "images_best.pt" for name in ("d1", "d2")]
    records = judge(tmp_path / "r", *paths, claim=Claim(pixels="normalised"))
    assert len(rows(records)) == 2


def forged(path, tmp_path, images=None, **changes):
    """A copy of a set of ours whose header or images say something else, and whose hashes are right."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["dcbench"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    condensed = CondensedSet(tensors["images"] if images is None else images, tensors["labels"])
    header["spec"] |= changes.pop("spec", {})
    if "condense_key" not in changes:
        header["condense_key"] = CondenseSpec(**header["spec"]).key()
    header |= {"set_sha256": condensed.sha256(), **changes}
    save_set(tmp_path / "forged.safetensors", condensed, header)
    return tmp_path / "forged.safetensors"


def test_another_set_of_the_same_spec_is_not_taken_for_ours(tmp_path, run, judge):
    run(tmp_path / "r", methods=("means",))
    (path,) = (tmp_path / "r" / "sets").glob("*.safetensors")
    other = forged(path, tmp_path, images=torch.zeros(3, 1, 8, 8))
    before = path.read_bytes()
    with pytest.raises(DcbenchError, match="is another set of the same spec: choose another results folder"):
        judge(tmp_path / "r", other, budget=BUDGETS["full"])
    assert path.read_bytes() == before
    (record,) = judge(tmp_path / "elsewhere", other, budget=BUDGETS["full"])
    assert record.set_sha256 == make_set(images=torch.zeros(3, 1, 8, 8)).sha256()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spec": {"dataset": "cifar10"}}, "was made from cifar10"),
        ({"spec": {"ipc": 50}}, "is not what it says: expected exactly 50 images of every class"),
        ({"condense_key": "0" * 64}, "says another key than its spec has"),
        ({"normalisation": {"mean": [0.1], "std": [0.2], "zca": False}}, r"is normalised by \(0\.1,\)"),
        ({"normalisation": [1]}, "cannot be read as a condensed set"),
        ({"origin": {"distribution": 5}}, "does not say where it comes from"),
        (
            {"origin": {"distribution": "", "version": "", "source_sha256": "", "changed_options": ["no"]}},
            "names changed options that it does not have",
        ),
    ],
)
def test_a_header_that_does_not_hold_is_refused(tmp_path, run, judge, changes, message):
    run(tmp_path / "r")
    (path,) = (tmp_path / "r" / "sets").glob("*.safetensors")
    with pytest.raises(DcbenchError, match=message):
        judge(tmp_path / "e", forged(path, tmp_path, **changes))
    assert not (tmp_path / "e" / RECORDS).exists()


def test_committed_sets_of_old_are_known_by_their_records(judge, tmp_path):
    folder = Path(__file__).parents[2] / "leaderboards" / "submissions" / "digits-baselines"
    (path,) = (folder / "sets").glob("digits_ipc10_gradmatch_convnet_seed0_*.safetensors")
    (record,) = judge(tmp_path / "r", path, datasets=("digits",), eval_networks=("mlp",))
    assert (record.method, record.changed_options, record.plugin) == ("gradmatch", ["iterations"], "dcbench-suite")


def test_our_own_set_of_other_data_is_refused(tmp_path, run, judge, plugins):
    run(tmp_path / "r")
    (path,) = (tmp_path / "r" / "sets").glob("*.safetensors")
    with pytest.raises(DcbenchError, match=r"was made from tiny \w{12}, not from digits \w{12}"):
        judge(tmp_path / "e", path, datasets=("digits",), eval_networks=("mlp",))
    with pytest.raises(DcbenchError, match="is a dcbench set: it says who made it"):
        judge(tmp_path / "e", path, claim=Claim(pixels="raw"))


def test_force_judges_again(tmp_path, plugins, plan_of):
    path = saved(tmp_path, [PIXELS, LABELS])
    plan = plan_of(path, claim=Claim(pixels="raw"))
    (tmp_path / "r").mkdir()
    for _ in range(2):
        assert Scheduler(plan, plugins, Store(tmp_path / "r"), force=True).run().evaluated == 1
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
    assert "file=set.pt@" in done.output
    as_json = CliRunner().invoke(main, ["evaluate", *words, "--results", str(tmp_path / "r"), "--json"])
    assert [row["method"] for row in json.loads(as_json.stdout)] == ["imported"]


def test_the_command_refuses_in_one_message(tmp_path):
    path = saved(tmp_path, [torch.randn(10, 1, 8, 8), torch.arange(10)])
    done = CliRunner().invoke(main, ["evaluate", str(path), "-d", "digits", "--results", str(tmp_path / "r")])
    assert (done.exit_code, done.output.count("Error")) == (2, 1)
    assert "say raw" in done.output
    both = CliRunner().invoke(main, ["evaluate", str(path), "-d", "digits", "--raw", "--zca"])
    assert (both.exit_code, "images are either raw or zca" in both.output) == (2, True)
    two = ["evaluate", str(path), str(path), "-d", "digits", "--labels", str(path)]
    assert "are for a single file of images" in CliRunner().invoke(main, two).output
    assert not (tmp_path / "r").exists()


def test_the_rate_of_a_file_is_used_and_recorded(tmp_path, judge):
    claim = Claim("theirs", pixels="raw")
    path = saved(tmp_path, {"images": PIXELS, "labels": LABELS, "lr": torch.tensor(0.02)})
    (record,) = judge(tmp_path / "r", path, claim=claim)
    assert record.brings == {"lr": 0.02}
    assert record.options["lr"] == 0.02
    images = saved(tmp_path, PIXELS, "images_best.pt")
    saved(tmp_path, LABELS, "labels_best.pt")
    saved(tmp_path, torch.tensor(0.02), "lr_best.pt")
    (beside,) = judge(tmp_path / "beside", images, claim=claim)
    assert (beside.set_sha256, beside.brings) == (record.set_sha256, record.brings)
    (other,) = judge(tmp_path / "other", images, claim=Claim("theirs", pixels="raw", brings={"lr": 0.5}))
    assert other.brings == {"lr": 0.5}


def test_rows_show_what_was_said_of_labels_and_pixels(tmp_path, judge):
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    said = partial(Claim, "theirs")
    claim = said(pixels="raw", labels_are="logits")
    (soft,) = judge(tmp_path / "a", saved(tmp_path, (PIXELS, logits)), claim=claim)
    assert (soft.track, soft.brings) == ("soft-label", {"temperature": 1.0})
    assert soft.changed_options == ["pixels", "temperature"]
    (first,) = judge(tmp_path / "b", saved(tmp_path, PIXELS), claim=said(pixels="raw", labels="in-order"))
    pair = saved(tmp_path, (PIXELS, LABELS))
    (second,) = judge(tmp_path / "c", pair, claim=said(pixels="raw"))
    assert first.set_sha256 == second.set_sha256
    assert (first.changed_options, second.changed_options) == (["labels", "pixels"], ["pixels"])
    assert not {"lr", "grey", "mean", "std", "labels", "labels_are"} & second.options.keys()
    (other,) = judge(tmp_path / "d", pair, claim=said(mean=(0.4,), std=(0.3,)))
    assert (other.options["pixels"], other.changed_options) == ("normalised", ["mean", "std"])


def test_what_a_file_holds_beside_is_named(tmp_path, plan_of):
    path = saved(tmp_path, {"images": PIXELS, "labels": LABELS, "epochs": 300, "args": {}})
    with pytest.warns(UserWarning, match=r"set\.pt also has epochs, args, which is not used"):
        plan_of(path, claim=Claim(pixels="raw"))


@pytest.mark.parametrize(("accuracy", "told"), [(0.008, True), (0.0095, False), (0.3, False)])
def test_worse_than_guessing_is_told_with_the_likely_reason(accuracy, told):
    info = make_info(classes=100)
    options = {"file_sha256": "f", "set": 0, "pixels": "raw"}
    fields = {"plugin": "imported", "options": options, "n_test": 10_000, "dataset": info.name}
    records = [make_record(accuracy=accuracy, eval_seed=seed, **fields) for seed in range(3)]
    expected = (
        f"convnet has {100 * accuracy:.3g} % on made_up, and guessing has 1 %. Likely the labels are in another"
    )
    assert [expected in text for text in worse_than_guessing(records, info)] == [True] * told
    assert not worse_than_guessing([record.model_copy(update={"plugin": "p"}) for record in records], info)


def test_permuted_labels_are_told_after_a_run(tmp_path):
    digits = load_dataset(Digits(), tmp_path)
    images, labels = digits.train.images[:300], digits.train.labels[:300]
    with pytest.warns(UserWarning, match=r"mlp has .* % on digits, and guessing has 10 %\. Likely the labels"):
        dcbench.evaluate(
            images,
            (labels + 3) % 10,
            dataset="digits",
            networks=["mlp"],
            evals=1,
            budget="quick",
            results=tmp_path / "r",
            progress=False,
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--raw"], "learning rate that was learned with it: 0.02\n"),
        (["--raw", "--lr", "0.5"], "learned with it: 0.02; --lr 0.5 is used instead"),
        (["--mean", "0.3"], "--mean and --std go together"),
        (["--mean", "0.3,x", "--std", "1"], "mean and std must be numbers"),
        (["--raw", "--labels", "in-order"], "has labels of its own"),
        (["--raw", "--labels-are", "probabilities"], "'probabilities' is not one of 'logits', 'classes'"),
    ],
)
def test_what_the_command_says_of_rates_and_words(tmp_path, words, said):
    path = saved(tmp_path, {"images": torch.rand(10, 1, 8, 8), "labels": torch.arange(10), "lr": 0.02})
    done = CliRunner().invoke(main, ["evaluate", str(path), "-d", "digits", "--dry-run", *words])
    assert said in done.output
    assert done.exit_code in (0, 2)
