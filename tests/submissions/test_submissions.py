"""Submissions: made from a run, described by a card, verified from the tensors, found out when tampered with."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import defaultdict
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_record
from running import carry_out, load_plugins, make_request
from safetensors import safe_open
from safetensors.torch import save_file
from scipy import stats

from dcbench.api import Dataset, Split, Splits
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.loaded_dataset import load_dataset
from dcbench.core.loss_watch import Diverged
from dcbench.core.split import ResidentSplit
from dcbench.engine.trained_networks import Training
from dcbench.evaluate import side_by_side
from dcbench.evaluate.protocols import PROTOCOLS, get_protocol
from dcbench.evaluate.trial import evaluate
from dcbench.leaderboard.board import read_leaderboard
from dcbench.leaderboard.report.data import leaderboard_data
from dcbench.leaderboard.report.tables import markdown
from dcbench.leaderboard.scores import rows
from dcbench.plugins import PluginInfo
from dcbench.results.checked_set import read_checked_set
from dcbench.results.network_file import load_network, save_network
from dcbench.results.records import CHECKSUM, RECORD_SCHEMA, Record, sealed
from dcbench.results.set_file import load_set, stated_sha256
from dcbench.results.set_header import content_sha256
from dcbench.results.store import RECORDS, Store, read_records
from dcbench.results.stored_pixels import stored_pixels
from dcbench.results.submission import (
    Card,
    MethodCard,
    Verification,
    read_submission,
    records_sha256,
    write_verification,
)
from dcbench.run.imported_sets import Claim, plan_imports
from dcbench.run.scheduler import Scheduler
from dcbench.submissions.comparison import ERROR_RATE, compare_with_stated
from dcbench.submissions.integrity import check_submission, record_problems
from dcbench.submissions.leakage import count_test_images
from dcbench.submissions.published import with_published_sets
from dcbench.submissions.submit import Selection, make_submission
from dcbench.submissions.verify import Verifier, load_datasets, sample_sets, verification
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import write_atomically

pytestmark = pytest.mark.usefixtures("short")

EVERYTHING = Selection()


class Hazy(Dataset):
    """Three classes of 6x6 blobs in so much noise that accuracies differ from network to network."""

    name = "hazy"

    def load(self, root: Path) -> Splits:
        generator = torch.Generator().manual_seed(1)

        def split(count):
            labels = torch.arange(3).repeat_interleave(count)
            images = torch.randint(0, 200, (len(labels), 1, 6, 6), generator=generator)
            for label in range(3):
                images[labels == label, :, 2 * label : 2 * label + 2] += 25
            return Split(images.to(torch.uint8), labels)

        return Splits(split(20), split(100), ("a", "b", "c"))


def with_hazy(plugins):
    plugins.datasets.add("hazy", Hazy, PluginInfo("hazy", "hazy", "tests", "0"))
    return plugins


@pytest.fixture
def plugins(plugins):
    return with_hazy(plugins)


@pytest.fixture
def hazy(tmp_path):
    return load_dataset(Hazy(), tmp_path)


@pytest.fixture
def run(run):
    return partial(run, datasets=("hazy",))


@pytest.fixture(scope="module")
def made(short, tmp_path_factory):
    """The results and the submission that each test gets a copy of."""
    folder, plugins = tmp_path_factory.mktemp("made"), with_hazy(load_plugins())
    words = {"datasets": ("hazy",), "sets": 2, "evals": 3, "eval_networks": ("linear", "dropout")}
    carry_out(make_request(folder, **words), plugins, folder / "results")
    make_submission(folder / "results", folder / "mine", EVERYTHING, "Mine", ("Me",), plugins)
    return folder


@pytest.fixture
def results(made, tmp_path):
    """Two sets of random images, three networks each, of two architectures."""
    return Path(shutil.copytree(made / "results", tmp_path / "results"))


@pytest.fixture
def folder(made, results, tmp_path):
    """The submission made of them."""
    return Path(shutil.copytree(made / "mine", tmp_path / "board" / "mine"))


@pytest.fixture
def verify(plugins, hazy):
    def go(folder, **changes):
        fields = {"evals": 8, "sample": None, "seed": 0, "progress": lambda done, total: None} | changes
        return Verifier(read_submission(folder), {"hazy": hazy}, plugins, **fields).run()

    return go


@pytest.fixture
def problems(hazy, plugins):
    """Say what does not fit together in a folder."""

    def go(folder):
        found, _ = check_submission(read_submission(folder), {"hazy": hazy}, plugins)
        return [f"{each.where}: {each.what}" for each in found]

    return go


@pytest.fixture
def judge(plugins, tmp_path):
    """Judge files of others, by the method 'theirs', and submit what comes of it."""

    def go(*paths):
        request = make_request(tmp_path, datasets=("hazy",), protocol=PROTOCOLS["dc"], evals=3)
        plan, _ = plan_imports(paths, Claim("theirs"), request, plugins)
        (tmp_path / "r").mkdir(exist_ok=True)
        assert not Scheduler(plan, plugins, Store(tmp_path / "r")).run().failures
        make_submission(tmp_path / "r", tmp_path / "board" / "theirs", EVERYTHING, "Theirs", ("They",), plugins)
        return tmp_path / "board" / "theirs"

    return go


def foreign_sets(count, seed=0, ipc=1):
    """Noise, as the authors' format has it."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat_interleave(ipc)
    return [[torch.randn(3 * ipc, 1, 6, 6, generator=generator), labels] for _ in range(count)]


def saved(path, sets):
    torch.save({"data": sets, "accs_all_exps": {}}, path)
    return path


def set_files(folder):
    return sorted((folder / "sets").glob("*.safetensors"))


def rewrite(folder, change):
    """Change every record of a folder, checksum and all: that is for accidents, and stops nobody."""
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines()
    records = [change({k: v for k, v in json.loads(line).items() if k != CHECKSUM}) for line in lines]
    path.write_text("".join(sealed(record) + "\n" for record in records))


def rewrite_set(path, change, **header_changes):
    """Change the tensors or the header of a set, as one would who knows what else is to follow."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["dcbench"]) | header_changes
        tensors = change({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    header["content_sha256"] = content_sha256(
        header, {name: each.contiguous().numpy() for name, each in tensors.items()}
    )
    text = json.dumps(header, sort_keys=True)
    save_file({name: each.contiguous() for name, each in tensors.items()}, path, metadata={"dcbench": text})


# Making one


def test_a_submission_has_the_records_the_sets_and_a_card_and_nothing_else(folder, results):
    assert sorted(path.name for path in folder.iterdir()) == ["card.toml", "records.jsonl", "sets"]
    assert read_records(folder / "records.jsonl") == read_records(results / "records.jsonl")
    assert [path.name for path in set_files(folder)] == [path.name for path in set_files(results)]
    card = read_submission(folder).card
    assert (card.title, card.submitted_by) == ("Mine", ("Me",))
    assert [(each.name, each.track) for each in card.methods] == [("random", "hard-label")]
    assert card.methods[0].authors == ("The dcbench developers",)


def test_the_commands_of_a_card_make_the_trials_of_its_records(run, tmp_path, plugins):
    run(tmp_path / "results", methods=("random", "means"), ipcs=(1, 2), sets=2, evals=2)
    make_submission(tmp_path / "results", tmp_path / "it", EVERYTHING, "It", (), plugins)
    start = "-d hazy --protocol dc --ipc 1 --ipc 2 --eval-network linear"
    # The set of means does not depend on the seed, so there is one with all the networks.
    assert read_submission(tmp_path / "it").card.commands == (
        f"dcbench run -m means {start} --sets 1 --evals 4",
        f"dcbench run -m random {start} --sets 2 --evals 2",
    )


def test_a_coreset_is_submitted_by_its_indices_alone_and_is_the_same_set(folder, results, hazy):
    for made, kept in zip(set_files(results), set_files(folder), strict=True):
        with safe_open(kept, framework="pt") as file:
            assert sorted(file.keys()) == ["indices", "labels"]
        assert load_set(kept, hazy.train)[0].sha256() == load_set(made, hazy.train)[0].sha256()
        assert stored_pixels(kept, 10) == "its set is kept without its images"


def test_a_set_of_made_up_images_keeps_them(run, tmp_path, plugins):
    run(tmp_path / "results", methods=("means",))
    make_submission(tmp_path / "results", tmp_path / "it", EVERYTHING, "It", (), plugins)
    (made,), (kept,) = set_files(tmp_path / "results"), set_files(tmp_path / "it")
    assert made.read_bytes() == kept.read_bytes()


def test_a_set_that_several_seeds_have_is_not_submitted(results, tmp_path, plugins):
    records = read_records(results / "records.jsonl")
    digest = next(record.set_sha256 for record in records if record.condense_seed == 0)
    same = [record.model_copy(update={"set_sha256": digest}).to_json() + "\n" for record in records]
    (results / "records.jsonl").write_text("".join(same))
    with pytest.raises(DcbenchError, match="random on hazy, ipc 1: several seeds have the same set"):
        make_submission(results, tmp_path / "it", EVERYTHING, "It", (), plugins)
    assert not (tmp_path / "it").exists()


def test_quick_and_failed_records_stay_behind(run, results, tmp_path, plugins):
    with (results / "records.jsonl").open("a") as file:
        file.write(make_record(budget="quick").to_json() + "\n")
        file.write(make_record(status="failed", accuracy=None, track=None).to_json() + "\n")
    made = make_submission(results, tmp_path / "it", EVERYTHING, "It", (), plugins)
    assert {(each.status, each.budget) for each in made} == {("ok", "full")}


def test_only_what_is_asked_for_is_submitted(run, tmp_path, plugins):
    run(tmp_path / "results", methods=("random", "means"), ipcs=(1, 2))
    selection = Selection(methods=("means",), ipcs=(2,))
    made = make_submission(tmp_path / "results", tmp_path / "it", selection, "It", (), plugins)
    assert [(each.method, each.ipc) for each in made] == [("means", 2)]
    with pytest.raises(DcbenchError, match="unknown protocol of the official records 'dsa'"):
        make_submission(tmp_path / "results", tmp_path / "it", Selection(protocols=("dsa",)), "It", (), plugins)
    assert len(set_files(tmp_path / "it")) == 1


def test_nothing_to_submit_is_an_error_and_leaves_nothing(results, tmp_path, plugins):
    with pytest.raises(DcbenchError, match="unknown dataset of the official records 'other'"):
        make_submission(results, tmp_path / "it", Selection(datasets=("other",)), "It", (), plugins)
    set_files(results)[0].unlink()
    with pytest.raises(DcbenchError, match="but not the set"):
        make_submission(results, tmp_path / "it", EVERYTHING, "It", (), plugins)
    assert not (tmp_path / "it").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".it")]


def test_submitting_again_replaces_the_records_and_keeps_the_card(folder, run, results, plugins):
    card = (folder / "card.toml").read_text() + 'notes = ["Mind the gap."]\n'
    (folder / "card.toml").write_text(card.replace("[[methods]]", "", 0))
    (folder / "picture.png").write_bytes(b"png")
    (folder / "sets" / "notes.txt").write_text("how they were made")
    (folder / "verification.json").write_text("{}")
    run(results, sets=3, evals=3)
    make_submission(results, folder, EVERYTHING, "Ignored", (), plugins)
    assert len(set_files(folder)) == 3
    assert (folder / "card.toml").read_text() == card
    assert (folder / "picture.png").exists()
    assert (folder / "sets" / "notes.txt").exists()
    assert not (folder / "verification.json").exists()


@pytest.mark.parametrize("writes", range(4))
def test_submitting_that_is_interrupted_is_completed_by_the_same_command(
    results, tmp_path, plugins, monkeypatch, writes
):
    folder, left = tmp_path / "mine", [None] * writes

    def interrupted(path, data):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        write_atomically(path, data)

    with monkeypatch.context() as patch:
        patch.setattr("dcbench.submissions.submit.write_atomically", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_submission(results, folder, EVERYTHING, "Mine", (), plugins)
    made = make_submission(results, folder, EVERYTHING, "Mine", (), plugins)
    assert read_records(folder / RECORDS) == made
    assert len(set_files(folder)) == 2
    assert read_submission(folder).card.title == "Mine"


def test_a_folder_that_is_no_submission_is_left_alone(results, tmp_path, plugins):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").write_text("x")
    with pytest.raises(DcbenchError, match="is no submission"):
        make_submission(results, tmp_path / "home", EVERYTHING, "It", (), plugins)
    assert (tmp_path / "home" / "precious").read_text() == "x"


# Cards


def test_a_card_is_the_same_after_writing_and_reading(tmp_path):
    about = MethodCard(name="m", title='a "quoted" title', authors=("Ä", "B"), paper_url="https://example.org")
    card = Card(title="x", commands=("dcbench run -m m",), notes=("n",), methods=(about,))
    (tmp_path / "records.jsonl").write_text(make_record().to_json() + "\n")
    (tmp_path / "card.toml").write_text(card.to_toml(), encoding="utf-8")
    assert read_submission(tmp_path).card == card


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = 1", "title"),
        ("", "title"),
        ('title = "x"\nmethod = []', "method"),
        ('title = "x"\n[[methods]]\nname = "m"\npaper_url = "javascript:alert(1)"', "a link begins with"),
        ('title = "x"\n[[methods]]\nname = "m"\ncode_url = "file:///etc"', "a link begins with"),
        ('title = "x', "is not TOML"),
        ('titel = "x"', r"unknown key 'titel'\. Did you mean 'title'\?"),
        (
            'title = "x"\n[[methods]]\nname = "m"\npapr = "p"',
            r"key 'methods\.0\.papr': Extra inputs are not permitted",
        ),
        ('title = "x"\n[[methods]]\ntitle = "m"', r"key 'methods\.0\.name': Field required"),
        (f'title = "{"x" * 2**20}"', r"key 'title': String should have at most 500 characters.$"),
    ],
)
def test_a_card_that_says_something_else_is_refused_by_name(tmp_path, text, said):
    (tmp_path / "records.jsonl").write_text(make_record().to_json() + "\n")
    (tmp_path / "card.toml").write_text(text)
    with pytest.raises(DcbenchError, match=said) as error:
        read_submission(tmp_path)
    assert "card.toml" in str(error.value)


def test_a_verification_that_is_none_is_refused_by_name(tmp_path):
    (tmp_path / "records.jsonl").touch()
    (tmp_path / "verification.json").write_text("[" * 2**20)
    with pytest.raises(DcbenchError, match=r"verification\.json is not JSON: .{,300}$"):
        read_submission(tmp_path)


# Verifying one


@pytest.mark.parametrize("name", ["card.toml", "records.jsonl", "verification.json"])
def test_a_link_that_leads_out_of_a_submission_is_not_followed(folder, name):
    (folder / name).touch()
    linked(folder / name)
    with pytest.raises(DcbenchError, match=rf"{name} is a link: a submission has none"):
        read_submission(folder)


def test_a_link_in_the_place_of_a_set_is_not_followed(folder):
    linked(set_files(folder)[0])
    with pytest.raises(DcbenchError, match=r"safetensors is a link: a submission has none"):
        read_submission(folder)


def test_a_link_for_a_submission_is_refused_in_a_leaderboard(folder, tmp_path):
    (tmp_path / "board" / "submissions").mkdir(parents=True)
    (tmp_path / "board" / "submissions" / "mine").symlink_to(folder)
    with pytest.raises(DcbenchError, match="mine is a link: a submission has none"):
        read_leaderboard(tmp_path / "board")


@pytest.mark.parametrize("key", ["/../../../etc", "*", "[a-z]", "**/x"])
def test_what_a_record_calls_its_set_is_a_name_and_no_pattern(results, tmp_path, plugins, key):
    lines = (results / "records.jsonl").read_text().splitlines()
    forged = json.loads(lines[0]) | {"condense_key": key}
    (results / "records.jsonl").write_text(sealed(forged) + "\n")
    with pytest.raises(DcbenchError, match="but not the set"):
        make_submission(results, tmp_path / "made", Selection(), "title", (), plugins)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("text", ["a\\u001b[31mb", "a\\u202eb", "a\\u2028b", "a\\u0000b"])
def test_a_card_has_no_characters_that_cannot_be_seen(tmp_path, text):
    (tmp_path / "records.jsonl").touch()
    (tmp_path / "card.toml").write_text(f'title = "{text}"')
    with pytest.raises(DcbenchError, match=r"card\.toml: key 'title': String should match pattern") as error:
        read_submission(tmp_path)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "text", ["a = " + "9" * 5000, "a = " + "[" * 5000, "title = 'x'\n" * 2, "x" * 2**23, "title = '\x00'"]
)
def test_a_card_of_any_other_kind_is_refused_by_name(tmp_path, text):
    (tmp_path / "records.jsonl").touch()
    (tmp_path / "card.toml").write_text(text)
    with pytest.raises(DcbenchError, match=r"card\.toml is not TOML: "):
        read_submission(tmp_path)


def test_of_two_sets_of_one_key_the_one_that_the_records_are_of_is_submitted(run, tmp_path, plugins, monkeypatch):
    (tmp_path / "results").mkdir()
    run(tmp_path / "results" / "a")
    (first,) = (tmp_path / "results" / "a" / "sets").glob("*.safetensors")
    draw = ResidentSplit.draw_indices
    monkeypatch.setattr(ResidentSplit, "draw_indices", lambda *it: (draw(*it), draw(*it))[1])  # another draw
    run(tmp_path / "results" / "b")
    (second,) = (tmp_path / "results" / "b" / "sets").glob("*.safetensors")
    assert first.name == second.name
    make_submission(tmp_path / "results", tmp_path / "mine", EVERYTHING, "Mine", ("Me",), plugins)
    (record,) = read_records(tmp_path / "mine" / RECORDS)
    (kept,) = (tmp_path / "mine" / "sets").glob("*.safetensors")
    assert stated_sha256(kept) == record.set_sha256 == stated_sha256(second) != stated_sha256(first)
    first.write_bytes(b"damaged")
    make_submission(tmp_path / "results", tmp_path / "mine", EVERYTHING, "Mine", ("Me",), plugins)
    first.write_bytes(kept.read_bytes().replace(record.set_sha256.encode(), b"0" * 64))
    second.unlink()
    with pytest.raises(DcbenchError, match=rf"but not the set; {re.escape(str(first))} is another"):
        make_submission(tmp_path / "results", tmp_path / "mine", EVERYTHING, "Mine", ("Me",), plugins)


def test_an_honest_submission_is_verified(folder, verify):
    outcome = verify(folder)
    assert outcome.ok
    assert outcome.problems == []
    assert {each.network for each in outcome.comparisons} == {"linear", "dropout", ""}
    assert sorted(len(networks) for networks in outcome.verified.values()) == [2, 2]
    assert [len(each.keys) for each in outcome.comparisons] == [2, 2, 2]
    *each, mean = outcome.comparisons
    assert mean.stated == pytest.approx(np.mean([one.stated for one in each]))
    assert mean.found == pytest.approx(np.mean([one.found for one in each]))
    assert mean.tolerance < max(one.tolerance for one in each)


@pytest.fixture
def distilled(plugins, results, tmp_path, monkeypatch):
    """A submission whose networks a teacher taught."""
    monkeypatch.setitem(PROTOCOLS, "kd", replace(PROTOCOLS["kd"], epochs=10))
    kd = get_protocol("kd:teacher=linear", plugins.make_architecture)
    words = {"datasets": ("hazy",), "sets": 2, "evals": 3, "eval_networks": ("linear",)}
    carry_out(make_request(results, protocol=kd, **words), plugins, results)
    folder = tmp_path / "board" / "taught"
    make_submission(results, folder, EVERYTHING, "Mine", ("Me",), plugins)
    return folder


def test_networks_that_a_teacher_taught_are_verified_with_the_teacher_of_the_submission(
    distilled, verify, results, monkeypatch
):
    (teacher,) = (distilled / "networks").iterdir()
    assert teacher.read_bytes() == (results / "networks" / teacher.name).read_bytes()
    monkeypatch.setattr("dcbench.condense.trained_networks.train_from_recipe", None)  # it is not made anew
    assert verify(distilled).ok


def test_a_teacher_that_no_record_has_or_that_is_damaged_is_a_problem(distilled, verify):
    (teacher,) = (distilled / "networks").iterdir()
    rewrite(distilled, with_another_teacher)
    assert [problem.what for problem in verify(distilled).problems] == ["no record has this teacher"]
    teacher.write_bytes(teacher.read_bytes()[:-1])
    assert [problem.where for problem in verify(distilled).problems] == ["networks"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 0.25}, r"is another on the held-out training images than it says, 25\.0%"),
        ({"epochs": 31}, "is not the teacher of the records' protocol: 31 epochs"),
    ],
)
def test_a_teacher_that_is_not_what_it_says_is_refused(distilled, verify, change, message):
    (path,) = (distilled / "networks").iterdir()
    stored = load_network(path)
    epochs = change.get("epochs", 30)
    spec = stored.spec.model_copy(update={"recipe": stored.spec.recipe.model_copy(update={"epochs": epochs})})
    held_out = {epochs: change.get("accuracy", 0.5)}
    save_network(path, spec, Training({epochs: stored.read(30)}, stored.accuracy, held_out, stored.held_out))
    sha256 = load_network(path).sha256
    rewrite(
        distilled,
        lambda record: record | {"teacher": record["teacher"] and record["teacher"] | {"sha256": sha256}},
    )
    with pytest.raises(DcbenchError, match=message):
        verify(distilled)


@pytest.fixture
def without_teacher(distilled):
    shutil.rmtree(distilled / "networks")
    return distilled


def test_networks_that_a_teacher_taught_are_verified_with_the_teacher_made_anew(without_teacher, verify):
    outcome = verify(without_teacher)
    assert outcome.ok, outcome
    assert {each.what.split(", ")[-1] for each in outcome.comparisons} == {
        "protocol dc",
        "protocol kd:teacher=linear",
    }
    assert not (without_teacher / "networks").exists()


def with_another_teacher(record):
    return record | ({"teacher": record["teacher"] | {"sha256": "ab" * 32}} if record["teacher"] else {})


def test_another_teacher_than_that_of_the_records_is_named_with_the_command_that_makes_it(without_teacher, verify):
    rewrite(without_teacher, with_another_teacher)
    expected = (
        r"the teacher of kd:teacher=linear on hazy is abababababab in the records and [0-9a-f]{12} here, and the "
        r"submission does not have it\. "
        r"`dcbench run -m random -d hazy --protocol kd:teacher=linear --results DIR` makes it"
    )
    with pytest.raises(DcbenchError, match=expected):
        verify(without_teacher)


def test_a_teacher_that_cannot_be_made_is_named(without_teacher, verify, monkeypatch):
    def diverge(*_):
        raise Diverged("epoch 3")

    monkeypatch.setattr("dcbench.condense.trained_networks.train_from_recipe", diverge)
    with pytest.raises(
        DcbenchError,
        match=r"the teacher of kd:teacher=linear on hazy cannot be made here: .*epoch 3\. `dc",
    ):
        verify(without_teacher)


def test_records_that_do_not_say_which_teacher_taught_are_a_problem(distilled, verify):
    rewrite(distilled, lambda record: record | {"teacher": {}})
    problems = [problem.what for problem in verify(distilled).problems]
    assert "its records do not say which teacher the protocol kd:teacher=linear had" in problems


@pytest.fixture
def short_dsa(monkeypatch):
    """Train networks under dsa for a tenth of its epochs."""
    monkeypatch.setitem(PROTOCOLS, "dsa", replace(PROTOCOLS["dsa"], epochs=100))


@pytest.mark.usefixtures("short_dsa")
def test_what_a_measure_gave_is_a_row_of_its_own_and_is_verified(plugins, results, verify, tmp_path):
    asked = plugins.make_measure("adversarial:eps=2,images=0,steps=2")
    words = {"datasets": ("hazy",), "sets": 2, "evals": 3, "eval_networks": ("linear",), "measures": (asked,)}
    carry_out(make_request(results, **words), plugins, results)
    folder = tmp_path / "board" / "asked"
    make_submission(results, folder, Selection(measures=(str(asked),)), "Mine", ("Me",), plugins)
    (row,) = rows(read_submission(folder).records)
    assert (row.measure, row.main) == (str(asked), "pgd_accuracy")
    outcome = verify(folder)
    assert outcome.ok, outcome
    assert {each.what.split(", ")[-1].partition(":")[0] for each in outcome.comparisons} == {"adversarial"}
    (stated,) = {each.stated for each in outcome.comparisons}
    assert stated == pytest.approx(row.mean_over(["linear"]))


def test_a_set_judged_by_two_protocols_is_two_rows_and_each_is_verified(plugins, results, verify, tmp_path):
    words = {"datasets": ("hazy",), "sets": 2, "evals": 3, "eval_networks": ("linear",)}
    carry_out(make_request(results, protocol=PROTOCOLS["dsa"], **words), plugins, results)
    folder = tmp_path / "board" / "both"
    make_submission(results, folder, EVERYTHING, "Mine", ("Me",), plugins)
    assert {row.protocol: {*row.scores} for row in rows(read_submission(folder).records)} == {
        "dc": {"linear", "dropout"},
        "dsa": {"linear"},
    }
    outcome = verify(folder)
    assert outcome.ok, outcome
    assert {(each.what.split(", ")[-1], each.network) for each in outcome.comparisons} == {
        ("protocol dc", "linear"),
        ("protocol dc", "dropout"),
        ("protocol dc", ""),
        ("protocol dsa", "linear"),
    }
    # Its mark counts for both protocols, so both are tried where the set is chosen.
    outcome = verify(folder, sample=1)
    assert {each.what.split(", ")[-1] for each in outcome.comparisons} == {"protocol dc", "protocol dsa"}
    assert len({key for each in outcome.comparisons for key in each.keys}) == 1
    # One that is wrong under one protocol is verified under neither.
    rewrite(folder, lambda record: record | ({"accuracy": 1.0} if record["protocol"] == "dsa" else {}))
    outcome = verify(folder)
    assert not outcome.ok
    assert set(outcome.verified.values()) == {("dropout",)}


def test_the_sets_of_a_file_of_others_are_one_row_that_is_verified(judge, verify, tmp_path):
    folder = judge(saved(tmp_path / "a.pt", foreign_sets(3)))
    (row,) = rows(read_submission(folder).records)
    assert (row.method, row.options, row.scores["linear"].sets, row.scores["linear"].trials) == (
        "theirs",
        "",
        3,
        9,
    )
    outcome = verify(folder)
    assert outcome.problems == []
    assert [(each.stated_n, each.ok) for each in outcome.comparisons] == [(9, True)]


def test_several_files_of_others_are_one_row_that_is_verified(judge, verify, tmp_path):
    np.savez(tmp_path / "b.npz", images=np.full((3, 1, 6, 6), 9, dtype=np.uint8), labels=np.arange(3))
    folder = judge(saved(tmp_path / "a.pt", foreign_sets(2)), tmp_path / "b.npz")
    (row,) = rows(read_submission(folder).records)
    assert (row.options, row.scores["linear"].sets) == ("", 3)
    assert verify(folder).problems == []


@pytest.fixture
def published(judge, plugins, tmp_path):
    """A submission of what others publish, without their sets, and their file."""
    judge(saved(tmp_path / "a.pt", foreign_sets(2)))
    folder = tmp_path / "published"
    make_submission(tmp_path / "r", folder, EVERYTHING, "Theirs", ("I",), plugins, without_sets=True)
    return folder, tmp_path / "a.pt"


@pytest.fixture
def bring(hazy, tmp_path):
    """Read a submission with the files of others."""
    return lambda folder, *files: with_published_sets(
        read_submission(folder), files, {"hazy": hazy}, tmp_path / "brought"
    )


def test_sets_that_others_publish_stay_behind_and_are_verified_from_their_file(published, bring, hazy, plugins):
    folder, file = published
    assert sorted(path.name for path in folder.iterdir()) == ["card.toml", "records.jsonl"]
    (stated,) = read_submission(folder).card.files
    assert stated.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    brought = bring(folder, file.rename(file.with_name("renamed.pt")))
    problems, sets = check_submission(brought, {"hazy": hazy}, plugins)
    assert (problems, len(sets)) == ([], 2)


def test_a_file_of_others_that_is_needed_is_named_with_its_place(published, bring):
    folder, _ = published
    card = folder / "card.toml"
    card.write_text(card.read_text().replace('url = ""', 'url = "https://their.page/a.pt"'))
    with pytest.raises(DcbenchError, match=r"Name their files with --set; .* https://their\.page/a\.pt"):
        bring(folder)


def test_another_file_than_that_of_the_records_is_refused(published, bring, tmp_path):
    with pytest.raises(DcbenchError, match=r"b\.pt, [0-9a-f]{64}, is no file of which published needs sets"):
        bring(published[0], saved(tmp_path / "b.pt", foreign_sets(2, seed=1)))


def test_the_sets_of_a_file_are_those_of_the_records(published, bring, hazy, plugins):
    folder, file = published
    rewrite(folder, lambda record: record | {"set_sha256": "0" * 64})
    problems, _ = check_submission(bring(folder, file), {"hazy": hazy}, plugins)
    assert any("its hash is" in each.what for each in problems)


def test_only_sets_of_others_stay_behind(results, tmp_path, plugins):
    with pytest.raises(DcbenchError, match="dcbench made those of random"):
        make_submission(results, tmp_path / "new", EVERYTHING, "Mine", ("Me",), plugins, without_sets=True)


UNEVEN = {
    "hard labels": (torch.tensor([0, 0, 0, 1]), "per_class=0 to 3"),
    "soft labels": (torch.full((4, 3), 1 / 3), ""),
}


@pytest.mark.parametrize("kind", UNEVEN)
def test_a_set_of_others_whose_classes_have_not_as_many_images_each_is_verified(judge, verify, tmp_path, kind):
    labels, said = UNEVEN[kind]
    folder = judge(saved(tmp_path / "a.pt", [[torch.randn(4, 1, 6, 6), labels]]))
    (row,) = rows(read_submission(folder).records)
    assert (row.ipc, row.options) == (2, said)  # by its total, rounded up
    assert verify(folder).problems == []


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        ({"options": {}}, "its classes have 0 to 3 images each, and its row says as many"),
        ({"options": {"per_class": "1 to 3"}}, "its classes have 0 to 3 images each, and its row says 1 to 3"),
        ({"hidden": True}, "its classes have 0 to 3 images each, and its row says as many"),
        ({"ipc": 1}, "it counts as 2 images per class, and says 1"),
    ],
)
def test_how_many_images_a_class_has_is_as_a_set_says(judge, hazy, tmp_path, forged, said):
    (path,) = set_files(judge(saved(tmp_path / "a.pt", [[torch.randn(4, 1, 6, 6), UNEVEN["hard labels"][0]]])))
    own = read_checked_set(path, hazy)
    spec = own.spec.model_copy(update={name: value for name, value in forged.items() if name != "hidden"})
    shown = [] if "hidden" in forged else [name for name in ("per_class",) if name in spec.options]
    header = {"spec": spec.model_dump(mode="json"), "condense_key": spec.key()}
    rewrite_set(path, dict, **header, origin=asdict(own.origin) | {"changed_options": shown})
    with pytest.raises(DcbenchError, match=said):
        read_checked_set(path, hazy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"changed_options": []},
            "its list of options that are not defaults is per_class, its records say none",
        ),
        ({"plugin": "dcbench-suite"}, "its plugin is imported, its records say dcbench-suite"),
    ],
)
def test_no_row_hides_that_classes_have_not_as_many_images_each(judge, problems, tmp_path, change, said):
    folder = judge(saved(tmp_path / "a.pt", [[torch.randn(4, 1, 6, 6), UNEVEN["hard labels"][0]]]))
    restated(lambda record: change)(folder)
    assert any(said in each for each in problems(folder)), problems(folder)


def test_a_set_of_others_counts_once_and_no_network_on_it_is_chosen(judge, problems, tmp_path):
    (one, two, three) = foreign_sets(3)
    judge(saved(tmp_path / "a.pt", [one, two]))
    folder = judge(saved(tmp_path / "b.pt", [three, one]))  # later, so that nobody sees that it is there already
    (row,) = rows(read_submission(folder).records)
    assert row.scores["linear"].sets == 4
    found = problems(folder)
    assert found
    assert all("the same set counts more than once: " in each for each in found)
    restated(lambda record: {"eval_seed": record["eval_seed"] * 7})(folder)
    assert any(
        re.search(r": set \w{12} on linear: its networks have seeds 0, 7, 14", it) for it in problems(folder)
    )


@pytest.mark.parametrize("change", [{"plugin": "theirs"}, {"options": {"file_sha256": "", "set": 0}}])
def test_only_what_was_made_elsewhere_may_do_without_seeds(judge, problems, tmp_path, change):
    folder = judge(saved(tmp_path / "a.pt", foreign_sets(3)))
    restated(lambda record: {"options": {}, "condense_seed": record["condense_seed"] + 5} | change)(folder)
    said = problems(folder)
    assert any(re.search(r"its sets have seeds (5|5, 6, 7), not 0 to", each) for each in said), said


def test_what_was_made_elsewhere_is_never_the_same_whatever_the_seed(judge, problems, tmp_path):
    folder = judge(saved(tmp_path / "a.pt", foreign_sets(1)))
    restated(lambda record: {"seeded": False})(folder)
    said = problems(folder)
    assert any("nothing says that another seed would make the same" in each for each in said), said


def test_a_network_of_a_later_version_is_verified_and_one_of_another_is_refused(run, tmp_path, plugins, verify):
    run(tmp_path / "r", sets=2, evals=3, eval_networks=("second", "second@2"), networks=("second",))
    (network,) = {record.evaluation_network for record in read_records(tmp_path / "r" / RECORDS)}
    assert network == "second@2:width=6"
    folder = tmp_path / "board" / "mine"
    make_submission(tmp_path / "r", folder, EVERYTHING, "Mine", ("Me",), plugins)
    assert verify(folder).ok, verify(folder)
    restated(lambda record: {"evaluation_network": "second@3:width=6"})(folder)
    with pytest.raises(DcbenchError, match=r"'second@3:width=6' is of version 3, and version 2 is installed"):
        verify(folder)


def test_verifying_twice_gives_the_same_and_from_another_seed_something_else(folder, verify):
    first, again, other = verify(folder), verify(folder), verify(folder, seed=1)
    assert first == again
    assert [each.found for each in first.comparisons] != [each.found for each in other.comparisons]


def test_what_is_kept_is_not_trained_again_nor_taken_for_another_set(folder, verify, tmp_path, monkeypatch):
    trained = []
    original = evaluate
    monkeypatch.setattr(
        "dcbench.evaluate.side_by_side.evaluate", lambda *it: (trained.append(it[0].key()), original(*it))[1]
    )
    expected = verify(folder)
    networks = len(trained)
    assert networks == 2 * 2 * 8
    rewrite(folder, lambda record: {**{k: v for k, v in record.items() if k != "seeded"}, "schema": 1})
    for count in (5, 8, 8):  # more each time, as after an interruption
        outcome = verify(folder, evals=count, store=Store(tmp_path / "kept"))
    assert outcome == expected
    assert len(trained) == 2 * networks
    records = read_records(tmp_path / "kept" / RECORDS)
    assert [record.key for record in records] == [*dict.fromkeys(record.key for record in records)]
    assert {record.key for record in records} == set(trained)
    assert {record.schema_ for record in records} == {RECORD_SCHEMA}
    others = {"set_sha256": "0" * 64, "engine": "fast", "dcbench": "0.0.1", "augmentation": "flip"}
    for number, change in enumerate(others.items()):
        other = [record.model_copy(update=dict([change])) for record in records]
        (tmp_path / "kept" / RECORDS).write_text("".join(record.to_json() + "\n" for record in other))
        assert verify(folder, store=Store(tmp_path / "kept")) == expected
        assert len(trained) == (3 + number) * networks


def test_networks_are_trained_from_other_seeds_than_those_stated(folder, verify):
    outcome = verify(folder)
    assert any(each.stated != each.found for each in outcome.comparisons)


def test_a_sample_is_seeded_and_takes_as_many_sets_of_every_row(run, tmp_path, plugins, hazy, verify):
    run(tmp_path / "results", methods=("random", "means", "whole"), sets=3, evals=2)
    make_submission(tmp_path / "results", tmp_path / "it", EVERYTHING, "It", (), plugins)
    _, units = check_submission(read_submission(tmp_path / "it"), {"hazy": hazy}, plugins)

    def sampled(count, seed=0):
        return [unit.checked.spec for unit in sample_sets(units, count, seed)]

    assert sorted(spec.method for spec in sampled(1)) == ["means", "random", "whole"]
    assert [spec.method for spec in sampled(2)].count("random") == 2
    assert sampled(1) == sampled(1)
    assert any(sampled(1, seed) != sampled(1) for seed in range(1, 5))
    assert len(sampled(99)) == len(units) == 5
    outcome = verify(tmp_path / "it", sample=1)
    assert (outcome.evaluated, outcome.left_out) == (3, 2)


def test_a_network_that_fails_on_a_set_is_a_problem_and_the_others_are_compared(folder, verify, monkeypatch):
    def evaluate(spec, condensed, test, network, *rest):
        if network.name == "dropout" and spec.set_sha256 == first:
            raise Diverged("the loss is nan", 7)
        return original(spec, condensed, test, network, *rest)

    original = side_by_side.evaluate
    monkeypatch.setattr("dcbench.evaluate.side_by_side.evaluate", evaluate)
    first = read_submission(folder).records[0].set_sha256
    outcome = verify(folder)
    assert not outcome.ok
    (problem,) = outcome.problems
    assert problem.where.startswith("random, ipc 1, seed ")
    assert re.fullmatch(r"network 0 from seed \d+ of dropout failed: Diverged: the loss is nan", problem.what)
    assert {each.network: len(each.keys) for each in outcome.comparisons} == {"dropout": 1, "linear": 2, "": 1}


def test_memory_that_runs_out_is_no_fault_of_the_submission(folder, verify, monkeypatch):
    def evaluate(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("dcbench.evaluate.side_by_side.evaluate", evaluate)
    with pytest.raises(DcbenchError, match=r"network 0 from seed \d+ of \w+: memory ran out\."):
        verify(folder)


def test_accuracies_that_are_not_found_again_are_named(folder, verify):
    better = {"linear": {"accuracy": 0.96}, "dropout": {}}
    rewrite(folder, lambda record: record | better[record["evaluation_network"]])
    outcome = verify(folder)
    assert outcome.problems == []
    wrong = {(each.network, each.ok) for each in outcome.comparisons}
    assert ("linear", False) in wrong
    assert ("dropout", False) not in wrong
    assert not outcome.ok


TAMPERINGS = {
    "an accuracy between two whole numbers of images": (
        lambda folder: rewrite(folder, lambda record: record | {"accuracy": record["accuracy"] * 0.9 + 0.00123}),
        "is no whole number of its",
    ),
    "a record of another network": (
        lambda folder: rewrite(folder, lambda record: record | {"evaluation_network": "another"}),
        "its key is not that of what it says was evaluated",
    ),
    "a record of other options": (
        lambda folder: rewrite(folder, lambda record: record | {"condense_seed": record["condense_seed"] + 7}),
        "its condense key is not that of what it says was condensed",
    ),
    "a tensor that does not match its hash": (
        lambda folder: rewrite_set(set_files(folder)[0], lambda t: t | {"labels": t["labels"].flip(0)}),
        "do not match the hash",
    ),
    "a set that is not the records'": (
        lambda folder: shutil.copy(*set_files(folder)),
        "its condense key is",
    ),
    "another normalisation": (
        lambda folder: rewrite_set(
            set_files(folder)[0], lambda t: t, normalisation={"mean": [0.1], "std": [0.2], "zca": False}
        ),
        "is normalised by",
    ),
    "a missing set": (lambda folder: set_files(folder)[0].unlink(), "its condensed set is not in sets/"),
    "a set without records": (
        lambda folder: shutil.copy(set_files(folder)[0], folder / "sets" / "more.safetensors"),
        "sets/more.safetensors: no record is of this set",
    ),
    "other data": (
        lambda folder: rewrite(folder, lambda record: record | {"dataset_sha256": "0" * 64}),
        "are not those here",
    ),
    "a smaller test split": (lambda folder: rewrite(folder, halved), "its number of test images is"),
    "fewer bytes": (
        lambda folder: rewrite(folder, lambda record: record | {"storage_bytes": 1}),
        "its size in bytes is",
    ),
    "a card of another track": (
        lambda folder: (folder / "card.toml").write_text(
            (folder / "card.toml").read_text().replace("hard-label", "soft-label")
        ),
        "it describes random (soft-label); the records are of random (hard-label)",
    ),
    "no card": (lambda folder: (folder / "card.toml").unlink(), "card.toml: there is none"),
}


def linked(path):
    """Put a link in the place of a file that now lies outside of the submission."""
    path.rename(path.parents[2] / "elsewhere")
    path.symlink_to(path.parents[2] / "elsewhere")


def halved(record):
    return record | {"n_test": record["n_test"] * 2}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_tampering_is_caught_and_named(folder, problems, verify, tampering):
    assert problems(folder) == []
    tamper, said = TAMPERINGS[tampering]
    tamper(folder)
    assert any(said in problem for problem in problems(folder)), problems(folder)
    outcome = verify(folder)
    assert not outcome.ok
    assert outcome.comparisons == []  # nothing is evaluated that does not fit together


def resubmit(folder, hazy, change):
    """Forge a set throughout: its tensors, its hash in the header, and the records' hashes and keys."""
    path = set_files(folder)[0]
    condensed, header = load_set(path, hazy.train)
    forged = change(condensed)
    tensors = {"images": forged.images, "labels": forged.labels}
    rewrite_set(path, lambda _: tensors, set_sha256=forged.sha256())

    def follow(record):
        if record["condense_key"] != header["condense_key"]:
            return record
        record = record | {"set_sha256": forged.sha256(), "storage_bytes": forged.storage_bytes}
        return record | {"key": Record.model_validate(record).evaluation_spec().key()}

    rewrite(folder, follow)


def test_more_images_than_the_ipc_are_caught_though_all_hashes_agree(folder, hazy, problems):
    def doubled(condensed):
        return replace(
            condensed,
            images=condensed.images.repeat(2, 1, 1, 1),
            labels=condensed.labels.repeat(2),
            indices=None,
        )

    resubmit(folder, hazy, doubled)
    (problem,) = problems(folder)
    assert "expected exactly 1 images of every class" in problem


def test_test_images_in_a_set_are_caught_though_all_hashes_agree(folder, hazy, problems):
    def leaked(condensed):
        chosen = torch.stack([torch.nonzero(hazy.test.labels == label)[0, 0] for label in condensed.labels])
        return replace(condensed, images=hazy.test.normalised(chosen), indices=None)

    resubmit(folder, hazy, leaked)
    (problem,) = problems(folder)
    assert "of its images are test images" in problem


def test_images_in_another_space_are_found_out_by_their_accuracy(folder, hazy, verify, monkeypatch):
    monkeypatch.setattr(
        "dcbench.submissions.verify.Verifier._is_made_again", lambda *_: True
    )  # as of a method with a network
    # The header says what it should, but the images are in another space than the accuracies were stated for.
    resubmit(folder, hazy, lambda condensed: replace(condensed, images=condensed.images * -3 + 5, indices=None))
    rewrite(folder, lambda record: record | {"accuracy": 0.96})
    outcome = verify(folder)
    assert outcome.problems == []
    assert not outcome.ok


@pytest.mark.parametrize("deviations", [(0.03, 0.03), (0.01, 0.04)])
def test_chance_alone_fails_a_submission_as_rarely_as_it_says(folder, hazy, plugins, deviations):
    _, units = check_submission(read_submission(folder), {"hazy": hazy}, plugins)
    draw = torch.Generator().manual_seed(0)
    failed, times = 0, 500
    for _ in range(times):
        made, found = [], {}
        for unit, deviation in zip(units, deviations, strict=True):
            stated = 0.5 + deviation * torch.randn(len(unit.records), generator=draw)
            pairs = zip(unit.records, stated.tolist(), strict=True)
            changed = (record.model_copy(update={"accuracy": accuracy}) for record, accuracy in pairs)
            made.append(replace(unit, records=tuple(changed)))
            for network in unit.networks:
                anew = 0.5 + deviation * torch.randn(3, generator=draw)
                found[unit.key, unit.protocol, network] = anew.tolist()
        failed += not all(each.ok for each in compare_with_stated(made, found))
    assert failed <= times * ERROR_RATE + 3 * (times * ERROR_RATE) ** 0.5


# Cheating ----------------------------------------------------------------------------------------------


def restated(change):
    """Return a tampering that changes records and makes their keys those of what they then say."""

    def tamper(folder):
        def follow(record):
            record = record | change(record)
            stated = Record.model_validate(record)
            return record | {"condense_key": stated.condense_spec().key(), "key": stated.evaluation_spec().key()}

        rewrite(folder, follow)

    return tamper


CHEATING = {
    "chosen seeds of networks": (
        restated(lambda record: {"eval_seed": record["eval_seed"] * 7}),
        "its networks have seeds 0, 7, 14, not 0 to 2",
    ),
    "chosen sets": (
        restated(lambda record: {"condense_seed": record["condense_seed"] + 5}),
        "its sets have seeds 5, 6, not 0 to 1",
    ),
    "one set under several seeds": (
        restated(lambda record: {"set_sha256": "0" * 64}),
        "the same set counts more than once: under several seeds",
    ),
    "a method said to ignore the seed": (
        restated(lambda record: {"seeded": False}),
        "it says that the method ignores the seed, which is not so",
    ),
    "options passed off as defaults": (
        restated(lambda record: {"method": "means", "seeded": False, "options": {"scale": 0.5}}),
        "it names none as options that are not the method's defaults; they are scale",
    ),
    "a name that cannot be seen": (
        restated(lambda record: {"packages": {"a\u202eb": "1"}}),
        r"the name 'a\u202eb' cannot be printed",
    ),
    "another augmentation": (
        restated(lambda record: {"augmentation": "crop"}),
        "its images are augmented by '', not by 'crop'",
    ),
    "another recipe": (
        restated(lambda record: {"recipe": "3000 epochs"}),
        "it was evaluated by '3000 epochs', not by ''",
    ),
    "another plugin": (
        restated(lambda record: {"plugin": "theirs"}),
        "its plugin is dcbench-suite, its records say theirs",
    ),
    "more records within": (
        lambda folder: shutil.copytree(folder, folder / "nested"),
        "nested: it has no place in a submission",
    ),
    "a torn last line": (
        lambda folder: (folder / "records.jsonl").write_text((folder / "records.jsonl").read_text()[:-1]),
        "its last line is torn",
    ),
}


@pytest.mark.parametrize("cheat", CHEATING)
def test_cheating_is_caught_and_named(folder, problems, cheat):
    tamper, said = CHEATING[cheat]
    tamper(folder)
    assert any(said in problem for problem in problems(folder)), problems(folder)


def test_a_stated_deviation_buys_no_tolerance(folder, verify, hazy, plugins):
    honest = verify(folder)
    # Wild accuracies of the same networks, with a high mean.
    wild = {0: 1.0, 1: 1.0, 2: 0.4}
    rewrite(folder, lambda record: record | {"accuracy": wild[record["eval_seed"]]})
    outcome = verify(folder)
    assert [each.tolerance for each in outcome.comparisons] == [each.tolerance for each in honest.comparisons]
    assert not outcome.ok


def test_slightly_changed_test_images_are_test_images(folder, hazy):
    chosen = torch.tensor([0, 100, 200])
    near = hazy.test.normalised(chosen) + 0.02 * torch.randn(
        3, 1, 6, 6, generator=torch.Generator().manual_seed(0)
    )
    labels = torch.arange(3)
    assert count_test_images(CondensedSet(near, labels), hazy) == 3
    whitened = hazy.test_split(zca=True).normalised(chosen)
    # Which takes long, and is fitted once.
    assert hazy.train_split(zca=True).whitening is hazy.test_split(zca=True).whitening
    assert count_test_images(CondensedSet(whitened, labels, zca=True), hazy) == 3
    assert count_test_images(CondensedSet(hazy.train.normalised(chosen[:1]), labels[:1]), hazy) == 0
    means = torch.stack([hazy.train.normalised(members).mean(0) for members in hazy.train.class_indices])
    assert count_test_images(CondensedSet(means, labels), hazy) == 0


def test_a_random_choice_that_was_not_random_is_found_out(folder, hazy, verify):
    def chosen(condensed):
        other = torch.stack([members[7] for members in hazy.train.class_indices])
        return CondensedSet(hazy.train.normalised(other), hazy.train.labels[other])

    resubmit(folder, hazy, chosen)
    problems = verify(folder).problems
    assert {problem.what for problem in problems} == {"its method, run again, makes another set"}
    assert problems[0].where.startswith("random, ipc 1, seed ")


@pytest.fixture(scope="module")
def digits_apart():
    """Digits with a part of the training images left out, and these."""
    data = load_dataset(load_plugins().make_dataset("digits"), Path())
    order = torch.randperm(len(data.host_train.labels), generator=torch.Generator().manual_seed(0))
    out, kept = order[:200], order[200:].sort().values
    train = Split(data.host_train.images[kept], data.host_train.labels[kept])
    return (
        replace(data, host_train=train),
        data.train_split(zca=False).normalised(out),
        data.host_train.labels[out],
    )


@pytest.mark.parametrize(
    ("share", "noise", "least", "most"),
    [(0.65, 0.0, 16, 20), (1.0, 0.3, 16, 20), (0.0, 0.0, 0, 1), (0.0, 0.3, 0, 1)],
    ids=["mixed with training images", "in noise", "others", "others in noise"],
)
def test_sets_that_hold_test_images_are_found_and_others_are_not(digits_apart, share, noise, least, most):
    data, others, labels = digits_apart
    draw, found = torch.Generator().manual_seed(1), 0
    test, members = data.test_split(zca=False), data.test_split(zca=False).class_indices
    for start in range(0, 200, 10):
        alike = torch.stack(
            [
                members[label][torch.randint(len(members[label]), (), generator=draw)]
                for label in labels[start : start + 10]
            ]
        )
        images = share * test.normalised(alike) + (1 - share) * others[start : start + 10]
        images += noise * torch.randn(images.shape, generator=draw)
        found += count_test_images(CondensedSet(images, torch.zeros(10, dtype=torch.int64)), data) > 0
    assert least <= found <= most


def test_a_user_says_where_files_are_and_a_submission_does_not(folder, plugins, tmp_path):
    rewrite(folder, lambda record: record | {"dataset": "npz:/dev/zero"})
    with pytest.raises(DcbenchError, match="Say where the data set"):
        load_datasets(read_submission(folder), (), plugins, tmp_path, torch.device("cpu"))


def test_the_form_of_a_data_set_is_for_a_submission_to_say(folder, plugins, tmp_path):
    rewrite(folder, lambda record: record | {"dataset": "digits:classes=3+7"})
    loaded = load_datasets(read_submission(folder), (), plugins, tmp_path, torch.device("cpu"))
    assert loaded["digits:classes=3+7"].info.class_names == ("3", "7")


def test_a_row_is_of_one_submission(folder, tmp_path):
    board = tmp_path / "whole board"
    for name in ("one", "two"):
        shutil.copytree(folder, board / "submissions" / name)
    with pytest.raises(DcbenchError, match=r"one and two both have records of random on hazy, ipc 1"):
        read_leaderboard(board)
    shutil.rmtree(board / "submissions" / "two")
    # What is not a submission's own file of records is not read.
    shutil.copytree(folder, board / "submissions" / "one" / "deeper")
    shutil.copytree(folder, board / "elsewhere")
    assert len(read_leaderboard(board).submissions) == 1


# Marks


def test_rows_carry_the_mark_of_just_these_records(folder, verify, plugins, hazy):
    board = read_leaderboard(folder.parent)
    assert board.mark(board.rows[0]) is None
    verifier = Verifier(read_submission(folder), {"hazy": hazy}, plugins, 8, 1, 0, lambda done, total: None)
    outcome = verifier.run()
    write_verification(folder, verification(verifier, outcome))
    board = read_leaderboard(folder.parent)
    mark = board.mark(board.rows[0])
    assert re.search(r"\(±\d+\.\d, 1 of 2 sets", mark)
    assert board.tables[0].entries[0].found is None
    rewrite(folder, lambda record: record | {"accuracy": 0.96})
    board = read_leaderboard(folder.parent)
    assert board.mark(board.rows[0]) is None


def test_a_verified_row_is_ranked_by_what_was_found_and_shows_it_beside_the_stated_mean(folder, plugins, hazy):
    verifier = Verifier(read_submission(folder), {"hazy": hazy}, plugins, 8, None, 0, lambda done, total: None)
    outcome = verifier.run()
    write_verification(folder, verification(verifier, outcome))
    board = read_leaderboard(folder.parent)
    (table,) = board.tables
    (entry,) = table.entries
    *_, mean = outcome.comparisons
    assert (entry.mean, entry.found.mean) == pytest.approx((mean.stated, mean.found))
    by_set = defaultdict(list)
    for (key, *_), accuracies in outcome.accuracies.items():
        by_set[key].append(np.mean(accuracies))
    means = [np.mean(each) for each in by_set.values()]
    assert entry.found.error == pytest.approx(stats.sem(means))
    assert f"{100 * entry.found.mean:.1f}<br>" in markdown(table, board)
    assert leaderboard_data(board)[0]["entries"][0]["found"][0] == entry.found.mean


def test_what_is_stated_too_low_is_no_reason_to_refuse(folder, verify):
    rewrite(folder, lambda record: record | {"accuracy": 0.04})
    assert verify(folder).ok
    rewrite(folder, lambda record: record | {"accuracy": 0.96})
    assert not verify(folder).ok


@pytest.mark.usefixtures("short_dsa")
def test_a_mark_is_not_that_of_the_same_sets_under_another_protocol(plugins, results, verify, hazy, tmp_path):
    words = {"datasets": ("hazy",), "sets": 2, "evals": 3, "eval_networks": ("linear",)}
    carry_out(make_request(results, protocol=PROTOCOLS["dsa"], **words), plugins, results)
    board = tmp_path / "whole board"
    for protocol in ("dc", "dsa"):
        make_submission(results, tmp_path / protocol, EVERYTHING, "Mine", ("Me",), plugins)
        folder = Path(shutil.copytree(tmp_path / protocol, board / "submissions" / protocol))
        lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["protocol"] == protocol]
        (folder / "records.jsonl").write_text("".join(kept))
    folder = board / "submissions" / "dc"
    verifier = Verifier(read_submission(folder), {"hazy": hazy}, plugins, 8, None, 0, lambda done, total: None)
    write_verification(folder, verification(verifier, verifier.run()))
    read = read_leaderboard(board)
    assert {row.protocol: read.mark(row) is not None for row in read.rows} == {"dc": True, "dsa": False}
    assert {row.protocol: read.submission(row).name for row in read.rows} == {"dc": "dc", "dsa": "dsa"}


def test_a_verification_is_the_same_after_writing_and_reading(folder):
    key = read_records(folder / "records.jsonl")[0].condense_key
    made = Verification(
        dcbench="9", records_sha256=records_sha256(folder), seed=0, evals=3, verified={key: ("linear",)}
    )
    write_verification(folder, made)
    assert read_submission(folder).verification == made
    (folder / "verification.json").write_text("{}")
    with pytest.raises(DcbenchError, match=r"verification\.json"):
        read_submission(folder)


def test_the_records_of_a_run_have_no_problems(results):
    for record in read_records(results / "records.jsonl"):
        assert record_problems(record) == []
