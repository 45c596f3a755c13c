"""What the observers write, read again by the trackers' own readers."""

from __future__ import annotations

import io
import json
import struct
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from running import make_request

from dcbench.api import Observer
from dcbench.evaluate.protocols import PROTOCOLS
from dcbench.run.plan import make_plan
from dcbench.run.session import Execution, carry_out
from dcbench.utils.errors import DcbenchError

LOSSES = [(1, 1.0), (2, 1.0), (3, 1.0)]


@pytest.fixture
def observed(plugins, tmp_path):
    """Run a method that reports losses before observers; return its set's name and the two records."""

    def go(*observe, options=None):
        changes = {"options": {"steps": "3", **(options or {})}, "protocol": replace(PROTOCOLS["dc"], epochs=2)}
        plan = make_plan(make_request(tmp_path, methods=("wanders",), evals=2, **changes), plugins)
        done = carry_out(
            plan, plugins, Execution(engine="plain", results=tmp_path / "r", observe=observe), progress=False
        )
        return done.store.set_path(plan.cells[0].spec).stem, done.store.records

    return go


def picture_of(tmp_path, name):
    return np.asarray(Image.open(tmp_path / "r" / "sets" / f"{name}.png").convert("RGB"))


def test_tensorboard_reads_losses_picture_and_accuracies(observed, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    name, records = observed("tensorboard")
    events = EventAccumulator(str(tmp_path / "r" / "tensorboard" / name)).Reload()
    assert [(each.step, each.value) for each in events.Scalars("loss")] == LOSSES
    accuracies = [(each.step, each.value) for each in events.Scalars("accuracy/linear")]
    assert accuracies == [(record.eval_seed, pytest.approx(record.accuracy)) for record in records]
    (mean,) = events.Scalars("mean_accuracy/linear")
    assert (mean.step, mean.value) == (2, pytest.approx(sum(record.accuracy for record in records) / 2))
    (image,) = events.Images("set")
    shown = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    np.testing.assert_array_equal(shown, picture_of(tmp_path, name))
    (spec,) = events.Tensors("spec/text_summary")
    assert b"| method | wanders |" in spec.tensor_proto.string_val[0]


def leveldb_log(data, position=7):
    """Yield the entries of a log in LevelDB's format, which stands after the package's own header of 7 bytes."""
    entry = b""
    while position < len(data):
        if (rest := 32768 - position % 32768) < 7:  # no place for the head of a part: the block is padded
            position += rest
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        entry += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield entry
            entry = b""


@pytest.mark.slow
def test_wandb_keeps_losses_picture_and_accuracies_offline(observed, tmp_path, monkeypatch):
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    name, records = observed("wandb:project=mine")
    (path,) = (tmp_path / "r" / "wandb").glob("offline-run-*/*.wandb")
    kept, until = [], time.monotonic() + 60
    while not any(each.HasField("exit") for each in kept) and time.monotonic() < until:
        time.sleep(0.2)  # wandb's own process writes it
        kept = [Record.FromString(each) for each in leveldb_log(path.read_bytes())]
    run = next(each.run for each in kept if each.HasField("run"))
    assert (run.project, run.display_name, run.run_group) == ("mine", name, "r")
    assert {each.key: json.loads(each.value_json) for each in run.config.update}["method"] == "wanders"
    rows = [
        {each.key or each.nested_key[0]: json.loads(each.value_json) for each in one.history.item}
        for one in kept
        if one.HasField("history")
    ]
    assert [(row["iteration"], row["loss"]) for row in rows if "loss" in row] == LOSSES
    accuracies = [(row["network"], row["accuracy/linear"]) for row in rows if "accuracy/linear" in row]
    assert accuracies == [(record.eval_seed, record.accuracy) for record in records]
    assert [row["network"] for row in rows if "mean_accuracy/linear" in row] == [2]
    (image,) = path.parent.glob("files/media/images/*.png")
    np.testing.assert_array_equal(np.asarray(Image.open(image).convert("RGB")), picture_of(tmp_path, name))
    (left,) = [each.exit.exit_code for each in kept if each.HasField("exit")]
    assert left == 0


@pytest.mark.slow
def test_mlflow_has_losses_picture_and_accuracies_in_its_store(observed, tmp_path, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # its database takes half a minute to make
    uri = f"file:{tmp_path / 'store'}"
    name, records = observed(f"mlflow:uri={uri},experiment=mine")
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert (run.info.run_name, run.info.status) == (name, "FINISHED")
    assert run.data.params["method"] == "wanders"
    assert run.data.params["steps"] == "3"
    history = {
        metric: sorted((each.step, each.value) for each in client.get_metric_history(run.info.run_id, metric))
        for metric in run.data.metrics
    }
    assert history["loss"] == LOSSES
    assert history["accuracy/linear"] == [(record.eval_seed, record.accuracy) for record in records]
    picture = client.download_artifacts(run.info.run_id, f"{name}.png")
    np.testing.assert_array_equal(np.asarray(Image.open(picture).convert("RGB")), picture_of(tmp_path, name))


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_without_its_package_a_run_does_not_begin_and_names_the_extra(name, observed, tmp_path, monkeypatch):
    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DcbenchError, match=rf"'{name}' needs a package: pip install 'dcbench-suite\[{name}\]'"):
        observed(name)
    assert not [*tmp_path.glob("r/sets")]


class Told(Observer):
    """Notes what it is told; fails where it is asked to."""

    name = "told"
    fails: bool = False

    def start(self, results):
        notes.clear()

    def open(self, name, facts):
        notes.append(("open", facts["method"]))
        return name

    def log(self, run, name, value, step):
        assert not self.fails
        notes.append((name, step))

    def show(self, run, picture):
        notes.append(("show", picture.stem == run))

    def close(self, run, status):
        notes.append(("close", status))


notes: list[tuple[str, object]] = []


def test_an_observer_is_told_in_order_and_of_what_is_left_to_do(observed):
    observed(Told(), Told())  # an equal one is the same
    evaluated = [("show", True), ("accuracy/linear", 0), ("accuracy/linear", 1), ("mean_accuracy/linear", 2)]
    losses = [("loss", 1), ("loss", 2), ("loss", 3)]
    assert notes == [("open", "wanders"), *losses, *evaluated, ("close", "done")]
    observed(Told())
    assert notes == []


def test_a_failure_ends_the_run_of_the_tracker_as_failed(observed):
    observed(Told(), options={"nan_at": "2"})
    assert notes == [("open", "wanders"), ("loss", 1), ("close", "failed")]


def test_an_observer_that_fails_is_named_and_does_no_harm(observed):
    with pytest.warns(UserWarning, match="told:fails=True failed as an observer and is no longer called"):
        _, records = observed(Told(fails=True))
    assert [record.status for record in records] == ["ok", "ok"]
