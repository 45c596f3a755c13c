"""A run as a whole: what it leaves, what it does again and what not, what happens when things fail."""

from __future__ import annotations

import gc
import types
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest
import tiny_plugin
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.architectures.mlp import MLP
from helpers import TIMES
from running import SHORT
from tiny_plugin import Means, Taught

from dcbench.api import hookimpl
from dcbench.evaluate.protocols import PROTOCOLS
from dcbench.leaderboard.scores import rows
from dcbench.plugins import PluginInfo
from dcbench.results import provenance
from dcbench.results.provenance import source_sha256
from dcbench.results.records import sealed
from dcbench.results.store import RECORDS, Store, latest, read_records
from dcbench.run.executors.processes import Processes
from dcbench.run.plan import make_plan
from dcbench.run.scheduler import Scheduler
from dcbench.utils.errors import NewerFormat

GRADMATCH = {
    "methods": ("gradmatch", "random", "herding", "whole"),
    "networks": ("convnet:depth=1,width=4",),
    "options": {"iterations": "2", "epochs": "1"},
}


def files(folder, pattern="*"):
    return {path.name: path.read_bytes() for path in (folder / "sets").glob(pattern)}


def test_every_trial_is_recorded_with_its_provenance(run, tmp_path):
    runner = run(tmp_path / "r", **GRADMATCH, ipcs=(2,), sets=2, evals=2, eval_networks=("linear", "mlp"))
    records = read_records(tmp_path / "r" / RECORDS)
    # gradmatch, random, herding: 2 sets x 2 networks x 2; whole: 1 set x 2 networks x 4
    assert len(records) == 3 * 8 + 8 == runner.outcome.evaluated
    assert len({record.key for record in records}) == len(records)
    record = next(record for record in records if record.method == "gradmatch")
    assert record.status == "ok"
    assert record.options["outer_loop"] == 1
    assert record.changed_options == ["iterations"]
    assert record.matching_network == "convnet:depth=1,width=4"
    assert (record.plugin, record.track, record.engine) == ("dcbench-suite", "hard-label", "plain")
    assert record.n_test == 30
    assert record.storage_bytes == 6 * 8 * 8 * 4 + 6 * 8
    assert record.condense_seconds > 0
    assert record.peak_memory_bytes > 1e6
    assert record.accuracy * 30 == pytest.approx(round(record.accuracy * 30))
    tests_own = sha256(Path(tiny_plugin.__file__).read_bytes()).hexdigest()
    convnet = source_sha256(type(runner.plan.cells[0].source.architecture))
    assert record.sources == {
        "matching_network": convnet,
        "evaluation_network": tests_own if record.evaluation_network == "linear" else source_sha256(MLP),
    }
    assert {"matching_network" in record.sources for record in records if record.method == "random"} == {False}
    mlp = next(record for record in records if record.evaluation_network == "mlp")
    assert mlp.packages == {"dcbench-suite": version("dcbench-suite")}


def test_a_run_leaves_a_set_its_cost_and_its_picture(run, tmp_path):
    run(tmp_path / "r")
    suffixes = sorted(name.split(".", 1)[1] for name in files(tmp_path / "r"))
    assert suffixes == ["cost.json", "png", "safetensors"]
    assert not list((tmp_path / "r").rglob("*.tmp"))


def test_the_same_spec_in_two_folders_gives_the_same_bytes(run, tmp_path):
    for folder in ("a", "b"):
        torch.manual_seed(hash(folder))
        run(tmp_path / folder, **GRADMATCH, evals=2)
    assert files(tmp_path / "a", "*.safetensors") == files(tmp_path / "b", "*.safetensors")
    assert files(tmp_path / "a", "*.png") == files(tmp_path / "b", "*.png")
    left, right = (
        [record.model_dump(exclude=TIMES) for record in read_records(tmp_path / folder / RECORDS)]
        for folder in ("a", "b")
    )
    assert left == right


def test_a_network_that_draws_while_matching_changes_nothing(run, tmp_path):
    dropout = {"methods": ("gradmatch", "herding"), "networks": ("dropout",)}
    for state, folder in enumerate("ab"):
        torch.manual_seed(state)
        run(tmp_path / folder, **dropout, options={"iterations": "2", "epochs": "2"})
        assert torch.initial_seed() == state
    assert files(tmp_path / "a", "*.safetensors") == files(tmp_path / "b", "*.safetensors")


def test_another_seed_gives_another_set(run, tmp_path):
    run(tmp_path / "r", sets=2)
    assert len(set(files(tmp_path / "r", "*.safetensors").values())) == 2


def test_the_same_run_again_does_nothing(run, tmp_path, monkeypatch):
    run(tmp_path / "r", **GRADMATCH)
    monkeypatch.setattr("dcbench.condense.condensation.Condensation.make", None)
    monkeypatch.setattr("dcbench.evaluate.side_by_side.evaluate", None)
    before = (tmp_path / "r" / RECORDS).read_bytes()
    again = run(tmp_path / "r", **GRADMATCH)
    assert (again.cells, again.outcome.evaluated) == ([], 0)
    assert (tmp_path / "r" / RECORDS).read_bytes() == before


def test_another_network_condenses_nothing(run, tmp_path, monkeypatch):
    run(tmp_path / "r", **GRADMATCH)
    monkeypatch.setattr("dcbench.condense.condensation.Condensation.make", None)
    more = run(tmp_path / "r", **GRADMATCH, eval_networks=("linear", "mlp"))
    assert (more.outcome.condensed, more.outcome.evaluated) == (0, 4)


def test_more_sets_and_evaluations_add_to_what_is_there(run, tmp_path):
    run(tmp_path / "r", sets=1, evals=1)
    more = run(tmp_path / "r", sets=2, evals=2)
    assert (more.outcome.condensed, more.outcome.evaluated) == (1, 3)


def test_a_lost_set_is_made_again_only_when_it_is_needed(run, tmp_path):
    run(tmp_path / "r")
    (path,) = (tmp_path / "r" / "sets").glob("*.safetensors")
    original = path.read_bytes()
    path.unlink()
    assert run(tmp_path / "r").outcome.condensed == 0
    assert run(tmp_path / "r", evals=2).outcome.condensed == 1
    assert path.read_bytes() == original


def test_a_damaged_set_is_made_again(run, tmp_path):
    run(tmp_path / "r")
    (path,) = (tmp_path / "r" / "sets").glob("*.safetensors")
    original = path.read_bytes()
    path.write_bytes(original[:-4] + b"\x00\x00\x00\x01")
    with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
        again = run(tmp_path / "r", evals=2)
    assert (again.outcome.condensed, again.outcome.failures) == (1, [])
    assert path.read_bytes() == original


def test_a_set_made_again_with_other_bytes_is_evaluated_again_on_every_network(run, tmp_path, monkeypatch):
    run(tmp_path / "r", methods=("means",), evals=2)
    first = {record.set_sha256 for record in read_records(tmp_path / "r" / RECORDS)}
    (path,) = (tmp_path / "r" / "sets").glob("*.safetensors")
    path.unlink()
    original = Means.condense
    monkeypatch.setattr(
        Means, "condense", lambda self, task: replace(made := original(self, task), images=made.images + 1e-6)
    )
    again = run(tmp_path / "r", methods=("means",), eval_networks=("linear", "mlp"), evals=2)
    assert again.outcome.evaluated == 4
    current = {record.set_sha256 for record in latest(read_records(tmp_path / "r" / RECORDS))}
    assert len(current) == 1
    assert not current & first


def test_a_set_of_a_newer_dcbench_ends_the_run_and_stays(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dcbench.results.set_file.FORMAT", "dcbench-set/4")
        run(tmp_path / "r", methods=("means",))
    (path,) = (tmp_path / "r" / "sets").glob("*.safetensors")
    before = path.read_bytes()
    message = r"\.safetensors, a dcbench-set/4, is of a newer dcbench: upgrade this one, or use other results\.$"
    for executor in (None, Processes(1, 1)):
        with pytest.raises(NewerFormat, match=message) as raised:
            run(tmp_path / "r", methods=("means",), evals=2, executor=executor)
        assert str(raised.value).count("upgrade") == 1
    assert path.read_bytes() == before


def test_one_network_on_a_set_made_again_leaves_no_row_of_two_sets(run, tmp_path, monkeypatch):
    run(tmp_path / "r", methods=("means",), eval_networks=("linear", "mlp"), evals=2)
    original = Means.condense
    monkeypatch.setattr(
        Means, "condense", lambda self, task: replace(made := original(self, task), images=made.images + 1e-6)
    )
    run(tmp_path / "r", methods=("means",), eval_networks=("linear",), force=True)
    (row,) = rows(read_records(tmp_path / "r" / RECORDS))
    assert {network: score.trials for network, score in row.scores.items()} == {"linear": 1}
    again = run(tmp_path / "r", methods=("means",), eval_networks=("linear", "mlp"), evals=2)
    assert (again.outcome.condensed, again.outcome.evaluated) == (0, 3)
    (row,) = rows(read_records(tmp_path / "r" / RECORDS))
    assert {network: score.trials for network, score in row.scores.items()} == {"linear": 2, "mlp": 2}


def test_force_does_not_go_on_from_a_checkpoint(run, tmp_path, monkeypatch):
    seen = []

    def condense(self, task):
        seen.append(task.checkpoint.load())
        task.checkpoint.offer(lambda: {"x": torch.zeros(1)})
        if len(seen) == 1:
            raise KeyboardInterrupt
        return original(self, task)

    original = Means.condense
    monkeypatch.setattr("dcbench.condense.checkpoint.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(Means, "condense", condense)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "r", methods=("means",))
    run(tmp_path / "r", methods=("means",), force=True)
    assert seen == [None, None]


def test_results_of_other_code_are_used_with_a_warning(run, tmp_path, monkeypatch):
    run(tmp_path / "r")
    monkeypatch.setattr("dcbench.run.plan.source_sha256", lambda cls: "edited")
    with pytest.warns(UserWarning, match="code of random has changed"):
        run(tmp_path / "r")


@pytest.mark.parametrize("edited", ["linear", "convnet:depth=1,width=4"])
def test_so_are_results_of_other_code_of_a_network(run, tmp_path, monkeypatch, edited):
    """Of each alone: the evaluation network, the matching network."""
    asked = GRADMATCH | {"methods": ("gradmatch",), "options": {"iterations": "1"}}
    run(tmp_path / "r", **asked)
    (record,) = read_records(tmp_path / "r" / RECORDS)
    part = next(part for part in record.sources if getattr(record, part) == edited)
    now = provenance.sources
    monkeypatch.setattr("dcbench.run.scheduler.sources", lambda *of: now(*of) | {part: "edited"})
    with pytest.warns(UserWarning, match=f"code of {edited} has changed") as said:
        assert run(tmp_path / "r", **asked).outcome.evaluated == 0
    assert len(said) == 1


def edit(monkeypatch, *edited):
    """Let the files of some classes be others than they were."""
    now = provenance.source_sha256

    def source_sha256(cls):
        return "e" * 64 if cls in edited else now(cls)

    for module in ("run.plan", "results.provenance"):
        monkeypatch.setattr(f"dcbench.{module}.source_sha256", source_sha256)


@pytest.mark.parametrize(
    ("edited", "said"),
    [(Means, "the code of means has changed"), (ConvNet, "the code of convnet:depth=1,width=4 has changed")],
)
def test_a_set_of_other_code_is_used_with_a_warning_and_its_records_say_what_made_it(
    run, tmp_path, monkeypatch, edited, said
):
    method = "means" if edited is Means else "herding"
    asked = {"methods": (method,), "networks": ("convnet:depth=1,width=4",)}
    made_by = provenance.source_sha256(type(run(tmp_path / "r", **asked).plan.cells[0].source.method))
    edit(monkeypatch, edited)
    with pytest.warns(UserWarning, match=said):
        later = run(tmp_path / "r", **asked, eval_networks=("mlp",))
    assert (later.outcome.condensed, later.outcome.evaluated) == (0, 1)
    first, second = read_records(tmp_path / "r" / RECORDS)
    assert second.source_sha256 == first.source_sha256 == made_by
    assert second.sources.get("matching_network") == first.sources.get("matching_network")
    assert second.sources["evaluation_network"] == provenance.source_sha256(MLP)


def test_work_that_was_begun_with_other_code_of_its_network_begins_anew(run, tmp_path, monkeypatch):
    asked = {"methods": ("gradmatch",), "networks": ("convnet:depth=1,width=4",), "options": {"iterations": "3"}}
    monkeypatch.setattr("dcbench.condense.checkpoint.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("dcbench.condense.checkpoint.WORTH", 0)
    with monkeypatch.context() as patch:
        patch.setattr("dcbench.condense.condensation.save_set", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "r", **asked)
    edit(monkeypatch, ConvNet)
    with pytest.warns(UserWarning, match="was saved by other code of the method or its network"):
        run(tmp_path / "r", **asked)


def interrupt(*_):
    raise KeyboardInterrupt


def test_results_of_another_version_of_a_package_behind_the_network_are_used_with_a_warning(
    run, tmp_path, monkeypatch
):
    asked = {"eval_networks": ("timm:resnet18,resize=0",)}
    run(tmp_path / "r", **asked)
    assert read_records(tmp_path / "r" / RECORDS)[0].packages["timm"] == version("timm")
    monkeypatch.setattr("dcbench.results.provenance._installed", lambda name: "0.0.1")
    with pytest.warns(UserWarning, match="the code of timm:resnet18.*, which is timm's, has changed") as said:
        assert run(tmp_path / "r", **asked).outcome.evaluated == 0
    assert len(said) == 1


def test_trials_with_another_augmentation_are_done_again(run, tmp_path, monkeypatch):
    run(tmp_path / "r")
    (first,) = read_records(tmp_path / "r" / RECORDS)
    assert first.augmentation == ""
    monkeypatch.setitem(PROTOCOLS["dc"].augmentations, "tiny", "crop")
    assert run(tmp_path / "r").outcome.evaluated == 1
    assert run(tmp_path / "r").outcome.evaluated == 0
    (kept,) = latest(read_records(tmp_path / "r" / RECORDS))
    assert (kept.key, kept.augmentation) == (first.key, "crop")


def test_records_that_do_not_know_the_code_of_a_network_are_used_without_a_word(run, tmp_path, recwarn):
    run(tmp_path / "r")
    path = tmp_path / "r" / RECORDS
    (record,) = read_records(path)
    old = record.model_dump(by_alias=True, exclude={"augmentation", "recipe", "sources", "packages"}) | {
        "schema": 3
    }
    path.write_text(sealed(old) + "\n")
    assert run(tmp_path / "r").outcome.evaluated == 0
    assert not [str(warning.message) for warning in recwarn]


def test_force_does_everything_again(run, tmp_path):
    run(tmp_path / "r")
    again = run(tmp_path / "r", force=True)
    assert (again.outcome.condensed, again.outcome.evaluated) == (1, 1)
    assert len({record.accuracy for record in read_records(tmp_path / "r" / RECORDS)}) == 1


def test_a_method_that_forgets_to_return_its_set_is_told_so(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Means, "condense", lambda self, task: None)
    runner = run(tmp_path / "r", methods=("means",))
    (failure,) = runner.outcome.failures
    assert failure.error == "ValueError: means returned NoneType, not a CondensedSet"


@pytest.mark.parametrize(
    ("method", "options", "error"),
    [
        ("fails", {}, "RuntimeError: nothing works"),
        ("shorts", {}, "ValueError: expected exactly 1 images of every class, found [0, 1, 1]"),
        ("shorts", {"nan": "true"}, "ValueError: images must be finite, found NaN or infinity"),
        ("nothing", {}, "ValueError: there are no images"),
    ],
)
def test_a_failing_method_is_recorded_and_the_others_go_on(run, tmp_path, method, options, error):
    runner = run(tmp_path / "r", methods=(method, "random"), options=options)
    (failure,) = runner.outcome.failures
    assert (failure.status, failure.error, failure.accuracy) == ("failed", error, None)
    assert runner.outcome.evaluated == 1
    assert not [name for name in files(tmp_path / "r") if method in name and name.endswith("safetensors")]
    (trace,) = (tmp_path / "r" / "failures").iterdir()
    assert "Traceback" in trace.read_text()
    assert error in trace.read_text()
    again = run(tmp_path / "r", methods=(method, "random"), options=options)
    assert (len(again.outcome.failures), again.outcome.evaluated) == (1, 0)


def test_a_failing_evaluation_is_recorded_and_the_others_go_on(run, tmp_path, monkeypatch):
    import dcbench.evaluate.side_by_side

    original = dcbench.evaluate.side_by_side.evaluate

    def sometimes(spec, *arguments):
        if spec.evaluation_network == "mlp":
            raise RuntimeError("out of luck")
        return original(spec, *arguments)

    monkeypatch.setattr("dcbench.evaluate.side_by_side.evaluate", sometimes)
    outcome = run(tmp_path / "r", eval_networks=("mlp", "linear")).outcome
    assert [failure.evaluation_network for failure in outcome.failures] == ["mlp"]
    assert outcome.evaluated == 1
    monkeypatch.setattr("dcbench.evaluate.side_by_side.evaluate", original)
    assert run(tmp_path / "r", eval_networks=("mlp", "linear")).outcome.evaluated == 1


def test_observers_are_told_of_every_record_and_a_broken_one_does_no_harm(plugins, request_for, tmp_path):
    observer, told, moments = types.ModuleType("observer"), [], []
    observer.dcbench_record_added = hookimpl(lambda record: told.append(record))
    observer.dcbench_progress = hookimpl(lambda progress: moments.append(progress))
    broken = types.ModuleType("broken")
    broken.dcbench_record_added = hookimpl(lambda record: 1 / 0)
    plugins.add(broken, PluginInfo("broken", "broken", "tests", "0"))
    plugins.add(observer, PluginInfo("observer", "observer", "tests", "0"))
    (tmp_path / "r").mkdir()
    scheduler = Scheduler(make_plan(request_for(evals=3), plugins), plugins, Store(tmp_path / "r"))
    with pytest.warns(UserWarning, match="ZeroDivisionError"):
        scheduler.run()
    assert told == scheduler.store.records
    assert len(told) == 3
    condensing = [(moment.done, moment.total) for moment in moments if moment.phase == "condense"]
    assert condensing == [(0, 0), (1, 1)]  # also of a method that tells none
    last = moments[-1]
    assert (last.phase, last.done, last.total, last.run_done + 1) == (
        "evaluate",
        SHORT.epochs,
        SHORT.epochs,
        last.run_total,
    )
    assert [moment.pieces_left for moment in moments if moment.phase == "evaluate" and moment.done == 0] == [
        3,
        2,
        1,
    ]


def reachable(start):
    """Return every object that can be reached from one through references, code and types aside."""
    seen, queue = {}, [start]
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType | types.FunctionType.__class__):
            continue
        seen[id(thing)] = thing
        if isinstance(thing, types.FunctionType):
            queue += [cell.cell_contents for cell in thing.__closure__ or ()]
            queue += [*(thing.__defaults__ or ())]
        else:
            queue += gc.get_referents(thing)
    return list(seen.values())


def test_the_test_split_cannot_be_reached_from_a_task(run, plugins, tmp_path, monkeypatch):
    tasks = []
    condense = Taught.condense
    monkeypatch.setattr(
        Taught, "condense", lambda self, task: tasks.append(reachable(task)) or condense(self, task)
    )
    runner = run(tmp_path / "r", methods=("taught",))
    (things,) = tasks
    data = runner.plan.cells[0].data
    tensors = [thing for thing in things if isinstance(thing, torch.Tensor)]
    assert any(tensor is data.train.images for tensor in tensors)
    held_out = {data.host_test.images.data_ptr(), data.host_test.labels.data_ptr()}
    assert not held_out & {tensor.data_ptr() for tensor in tensors if tensor.device.type == "cpu"}
