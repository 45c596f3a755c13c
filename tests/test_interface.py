"""The Python interface as a user has it: in a script and in a notebook."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_plugin
import torch
from dcbench_plugins.datasets.digits import Digits
from dcbench_plugins.methods.random import Random
from torch import nn

import dcbench.interface
import dcbench.plugins
from dcbench.api import CondensedSet, Method, option
from dcbench.results.store import RECORDS, read_records
from dcbench.run.objects import built_by

QUICK = {"budget": "quick", "networks": ["linear"], "evals": 1, "progress": False}


@pytest.fixture(autouse=True)
def tiny_is_installed(plugins, monkeypatch, tmp_path):
    """Let the tests' plugin be installed, and the results be in a folder of the test's."""
    monkeypatch.setattr(dcbench.plugins.Plugins, "load", classmethod(lambda cls: plugins))
    monkeypatch.chdir(tmp_path)


class Brighter(Method):
    """The first images of each class, brighter."""

    name = "brighter"
    depends_on = frozenset({"ipc"})
    by: float = option(0.5, "how much is added, in normalised units")

    def condense(self, task):
        chosen = [members[: task.ipc] for members in task.train.class_indices]
        images = torch.cat([task.train.normalised(members).cpu() for members in chosen])
        return CondensedSet(images + self.by, task.synthetic_labels().cpu())


class TwoLayers(nn.Module):
    def __init__(self, info):
        super().__init__()
        pixels = info.channels * info.size[0] * info.size[1]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 8), nn.ReLU(), nn.Linear(8, info.num_classes))

    def forward(self, images):
        return self.layers(images)


def one_layer():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def test_importing_it_imports_nothing_heavy():
    heavy = "{'torch', 'pandas', 'pydantic', 'pluggy', 'click'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"import sys, dcbench; assert not {heavy}; dcbench.run"], check=True)


@pytest.mark.parametrize(
    "first", ["dcbench.run", "import dcbench.run.plan as plan; dcbench.run", "from dcbench import run"]
)
def test_a_folder_is_also_the_function_of_its_name_whatever_is_imported_first(first):
    code = f"import inspect, dcbench; {first}; assert 'dataset' in inspect.signature(dcbench.run).parameters"
    subprocess.run(
        [sys.executable, "-c", f"{code}; from dcbench import condense, load_set; import dcbench.run"], check=True
    )
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = dcbench.runn


def test_a_run_gives_trials_and_tables_and_is_found_done_again():
    words = {"methods": ["means", "random"], "dataset": "tiny", "ipc": [1, 2], "sets": 2, "baselines": False}
    results = dcbench.run(**words, **QUICK)
    trials = results.trials()
    assert len(trials) == 8
    assert set(trials["method"]) == {"means", "random"}
    table = results.table(dataset="tiny", ipc=2)
    assert list(table.columns) == ["matched on", "linear", "mean", "low", "high", "n"]
    assert [name.partition(" ")[0] for name in sorted(table.index)] == ["means", "random"]
    mine = trials[(trials["method"] == "random") & (trials["ipc"] == 2)]["accuracy"].mean()
    assert table.loc["random", "linear"] == pytest.approx(mine)
    before = Path("results", RECORDS).read_bytes()
    dcbench.run(**words, **QUICK)
    assert Path("results", RECORDS).read_bytes() == before
    with pytest.raises(dcbench.DcbenchError, match=r"2 tables are of that kind: name one of dataset=.tiny.,"):
        results.table(dataset="tiny")


def test_a_condensed_set_is_made_once_saved_drawn_and_evaluated():
    words = {"dataset": "tiny", "ipc": 2, "progress": False}
    condensed = dcbench.condense("means", options={"scale": 2.0}, **words)
    assert condensed.images.shape == (6, 1, 8, 8)
    assert condensed.labels.tolist() == [0, 0, 1, 1, 2, 2]
    made = condensed.path.stat().st_mtime_ns
    assert dcbench.condense("means", options={"scale": "2"}, **words).path.stat().st_mtime_ns == made
    condensed.save("copy.safetensors")
    again = dcbench.load_set("copy.safetensors")
    assert torch.equal(again.images, condensed.images)
    assert again.header["spec"]["options"]["scale"] == 2.0
    assert condensed.picture().size[0] > 100
    score = dcbench.evaluate(condensed, dataset="tiny", **QUICK)
    (record,) = read_records(Path("results", RECORDS))
    assert (record.method, record.set_sha256) == ("means", condensed.set.sha256())
    assert score.table().loc["means (scale=2.0)", "linear"] == record.accuracy


@pytest.mark.parametrize("as_array", [False, True])
def test_tensors_and_arrays_are_evaluated_under_a_name(as_array):
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(3).repeat(2)
    if as_array:
        images, labels = images.numpy(), labels.numpy()
    results = dcbench.evaluate(images, labels, dataset="tiny", normalised=True, method="mine", **QUICK)
    assert list(results.table().index) == ["mine (pixels=normalised)"]


def test_uint8_is_raw():
    images = np.zeros((3, 1, 8, 8), dtype=np.uint8)
    assert len(dcbench.evaluate(images, np.arange(3), dataset="tiny", **QUICK).records) == 1


def test_objects_serve_in_place_of_names():
    words = QUICK | {"networks": [TwoLayers, one_layer, "linear"]}
    results = dcbench.run([Brighter(by=0.1), Brighter(by=2.0)], tiny_plugin.Tiny(), **words)
    table = results.table()
    assert [name.partition("@")[0] for name in table.columns[1:4]] == ["linear", "one_layer", "two_layers"]
    assert [re.sub("@[0-9a-f]{8}", "", name) for name in sorted(table.index)] == [
        "brighter (by=0.1)",
        "brighter (by=2.0)",
    ]
    assert set(results.trials()["plugin"]) == {"unregistered"}
    condensed = dcbench.condense(Brighter(by=0.1), tiny_plugin.Tiny(), progress=False)
    assert condensed.set.sha256() in set(results.trials()["set_sha256"])


def test_a_network_that_is_written_anew_is_another_network():
    def network(units):
        def mine(info):
            return nn.Sequential(nn.Flatten(), nn.Linear(64, units), nn.ReLU(), nn.Linear(units, info.num_classes))

        return mine

    images, labels = torch.randn(3, 1, 8, 8), torch.arange(3)
    names = set()
    for units in (2, 3, 2):
        words = QUICK | {"networks": network(units)}
        results = dcbench.evaluate(images, labels, dataset="tiny", normalised=True, **words)
        names |= {record.evaluation_network for record in results.records}
    assert len(names) == 2
    assert len(read_records(Path("results", RECORDS))) == 2


def test_code_that_is_edited_is_other_code_also_in_what_it_uses():
    def base(width):
        return type("Base", (nn.Module,), {"width": width, "__module__": __name__})

    versions = {
        str(built_by(build))
        for build in (
            partial(one_layer, 1),
            partial(one_layer, 2),
            type("Net", (base(1),), {"__module__": __name__}),
            type("Net", (base(2),), {"__module__": __name__}),
        )
    }
    assert len(versions) == 4
    helpers = (lambda self: 1, lambda self: 2)
    first, edited = (type("Mine", (Brighter,), {"name": "mine", "helper": helper}) for helper in helpers)
    paths = {dcbench.condense(each(), "tiny", progress=False).path for each in (first, edited, first)}
    assert len(paths) == 2


def test_a_changed_set_is_not_taken_for_its_file():
    condensed = dcbench.condense("means", "tiny", progress=False)
    condensed.images.add_(1.0)
    with pytest.raises(dcbench.DcbenchError, match="was changed since it was made"):
        dcbench.evaluate(condensed, dataset="tiny", **QUICK)
    with pytest.raises(dcbench.DcbenchError, match="was changed since it was made"):
        condensed.save("x.safetensors")
    with pytest.raises(dcbench.DcbenchError, match="give none beside it"):
        dcbench.evaluate(condensed, Y, dataset="tiny", **QUICK)


def test_objects_go_to_other_processes():
    words = QUICK | {"networks": [TwoLayers, "mlp"]}
    results = dcbench.run(Random(), Digits(), jobs=2, threads=1, baselines=False, sets=2, **words)
    assert len(results.records) == 4


def test_what_fails_is_warned_of_and_the_rest_is_there():
    with pytest.warns(UserWarning, match="failed: fails on tiny, ipc 1: "):
        results = dcbench.run(["fails", "random"], "tiny", baselines=False, **QUICK)
    assert [record.method for record in results.records] == ["random"]
    assert [record.method for record in results.failures] == ["fails"]
    with pytest.raises(dcbench.DcbenchError, match="fails on tiny"):
        dcbench.condense("fails", "tiny", progress=False)


X, Y = torch.zeros(3, 1, 8, 8), torch.arange(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dcbench.run("randon", "tiny"), "Did you mean 'random'?"),
        (lambda: dcbench.run("random", "tinny"), "unknown dataset 'tinny'"),
        (lambda: dcbench.run("random", "tiny", networks="linnear"), "unknown network 'linnear'"),
        (lambda: dcbench.run("random", "tiny", networks=3), "what builds a module"),
        (lambda: dcbench.run("random", "tiny", networks=nn.Linear(2, 2)), "each trial trains a fresh one"),
        (lambda: dcbench.run([], "tiny"), "methods is empty"),
        (lambda: dcbench.run("random", "tiny", options=[1]), "options must be a dictionary"),
        (
            lambda: dcbench.run(Brighter(), "tiny", options={"by": 1}),
            "options are for methods that are given by name",
        ),
        (lambda: dcbench.run("random", "tiny", budget=3), "budget must be a name"),
        (lambda: dcbench.run("random", "tiny", results=3), "3 is no path"),
        (lambda: dcbench.run("random", "tiny", checkpoint_every="x"), "checkpoint_every must be a number"),
        (lambda: dcbench.condense("random", "tiny", ["a"]), "ipc must be a whole number"),
        (
            lambda: dcbench.condense("herding", "tiny", matching_network=["mlp", "linear"]),
            "condense makes one set",
        ),
        (lambda: dcbench.evaluate([], dataset="tiny"), "images are missing"),
        (lambda: dcbench.evaluate(X, Y, dataset="tiny", raw=True, method=3), "method must be a name"),
        (lambda: dcbench.run("means", "tiny", options={"scal": 1}), "Did you mean 'scale'?"),
        (lambda: dcbench.run("means", "tiny", options={"scale": "x"}), "option 'scale'"),
        (lambda: dcbench.run("random", "tiny", device="tpu"), "device 'tpu'"),
        (lambda: dcbench.run("random", "tiny", device="cuda:77"), "device 'cuda:77' is not there"),
        (lambda: dcbench.run("random", "tiny", 0), "ipc must be a whole number of at least 1"),
        (lambda: dcbench.run("random", "tiny", ipc="2"), "ipc must be a whole number of at least 1"),
        (lambda: dcbench.run("random", "tiny", evals=-1), "evals must be a whole number of at least 1"),
        (lambda: dcbench.run("random", "tiny", sets=1.5), "sets must be a whole number of at least 1"),
        (lambda: dcbench.run("random", "tiny", seed=-1), "seed must be a whole number of at least 0"),
        (lambda: dcbench.run("random", "tiny", jobs=0), "jobs must be a whole number of at least 1"),
        (lambda: dcbench.run("random", "tiny", result="r"), "Did you mean 'results'?"),
        (lambda: dcbench.run("random", "tiny", protocol="dcc"), "unknown protocol 'dcc'"),
        (lambda: dcbench.run("random", "tiny", results="a file"), "a file"),
        (
            lambda: dcbench.run(type("Mine", (Brighter,), {"name": "random"})(), "tiny"),
            "is the name of an installed",
        ),
        (lambda: dcbench.evaluate(X, dataset="tiny", normalised=True), "labels are missing"),
        (lambda: dcbench.evaluate(X, Y, dataset="tiny"), "does not say what its pixels are"),
        (lambda: dcbench.evaluate(X, Y, dataset="tiny", raw=True, zca=True), "images are either raw or zca"),
        (lambda: dcbench.evaluate(X[:2], Y, dataset="tiny", raw=True), "found (2, 1, 8, 8) and (3,)"),
        (lambda: dcbench.evaluate(X[0], Y, dataset="tiny", raw=True), "found (1, 8, 8) and (3,)"),
        (lambda: dcbench.evaluate(X[..., 1:], Y, dataset="tiny", raw=True), "images of 1x8x7"),
        (lambda: dcbench.evaluate(X.long(), Y, dataset="tiny", raw=True), "images of type int64"),
        (lambda: dcbench.evaluate(X, Y + 0.5, dataset="tiny", raw=True), "not whole numbers"),
        (lambda: dcbench.evaluate(X, Y + 9, dataset="tiny", raw=True), "labels must lie in 0..2"),
        (lambda: dcbench.evaluate(X / 0, Y, dataset="tiny", normalised=True), "finite"),
        (lambda: dcbench.evaluate("x", "y", dataset="tiny"), "x"),
        (lambda: dcbench.evaluate(object(), Y, dataset="tiny"), "must be tensors or arrays"),
        (lambda: dcbench.load_set("a file"), "a file cannot be read"),
        (lambda: dcbench.leaderboard("nowhere"), "nowhere is not a folder"),
    ],
)
def test_a_mistake_is_one_error_and_leaves_nothing(call, message):
    Path("a file").write_text("")
    with pytest.raises(dcbench.DcbenchError) as raised:
        call()
    assert message in str(raised.value)
    assert not Path("results", RECORDS).exists()


def test_global_state_is_as_before(monkeypatch):
    torch.set_num_threads(1)
    torch.manual_seed(7)
    before, filters, show = torch.get_rng_state(), list(warnings.filters), warnings.showwarning
    dcbench.run("random", "tiny", threads=2, baselines=False, **QUICK | {"progress": True})
    monkeypatch.setattr("dcbench.run.cell_runner.evaluate_all", interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"Kept in results: 0 new records\. Run the same"):
        dcbench.run("means", "tiny", threads=2, baselines=False, **QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (1, True)
    assert (list(warnings.filters), warnings.showwarning) == (filters, show)
    monkeypatch.undo()


def interrupt(*_):
    raise KeyboardInterrupt


def test_two_runs_at_once_in_one_process_are_refused_and_nothing_is_lost(monkeypatch):
    begun, go_on, errors = threading.Event(), threading.Event(), []

    def wait(self, task):
        begun.set()
        assert go_on.wait(500)
        return original(self, task)

    original = Brighter.condense
    monkeypatch.setattr(Brighter, "condense", wait)
    first = threading.Thread(target=lambda: dcbench.run(Brighter(), "tiny", **QUICK))
    first.start()
    assert begun.wait(500)
    try:
        dcbench.run("random", "tiny", **QUICK)
    except dcbench.DcbenchError as error:
        errors.append(str(error))
    go_on.set()
    first.join()
    assert errors == ["a run is under way in this process: wait for it, or start another process."]
    assert len(read_records(Path("results", RECORDS))) == 1
    assert not dcbench.interface._running.locked()
    dcbench.run("random", "tiny", baselines=False, **QUICK)


def test_the_leaderboard_is_a_table_of_what_was_submitted():
    folder = Path(__file__).parent.parent / "leaderboards"
    board = dcbench.leaderboard(folder)
    table = board.table(dataset="digits", ipc=1)
    assert {"gradmatch", "random", "whole"} <= set(table.index)
    assert 0.8 < table.loc["gradmatch", "convnet"] < 0.95
    augmented = board.table(dataset="digits", ipc=1, protocol="dsa")
    assert augmented.loc["gradmatch", "convnet"] > table.loc["gradmatch", "convnet"]
    with pytest.raises(dcbench.DcbenchError, match=r"0 tables are of that kind: name one of .*protocol='dsa'"):
        board.table(dataset="digits", ipc=1, protocol="dca")


CELLS = (
    "import dcbench\n"
    "results = dcbench.run(methods=['random'], dataset='digits', budget='quick', networks=['mlp'], evals=1)",
    "results.table(dataset='digits', ipc=1)",
    "from torch import nn\n"
    "class Mine(nn.Module):\n"
    "    def __init__(self, info):\n"
    "        super().__init__()\n"
    "        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, info.num_classes))\n"
    "    def forward(self, x):\n"
    "        return self.net(x)\n",
    "condensed = dcbench.condense('random', dataset='digits', ipc=1, progress=False)\n"
    "score = dcbench.evaluate(condensed, dataset='digits', networks=[Mine], evals=1, budget='quick')\n"
    "score.table()",
    "condensed.picture()",
)


@pytest.mark.slow
def test_a_notebook_runs_and_shows_tables_bars_and_the_picture(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    table, score, picture = (notebook.cells[index].outputs[-1]["data"] for index in (1, 3, 4))
    assert "random" in table["text/html"]
    assert "mine@" in score["text/html"]
    assert "image/png" in picture
    assert not any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", ()))
