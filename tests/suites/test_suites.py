"""Suites: their files, the parts of them that are run and shown, and the comparison with published numbers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import types
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers import make_record
from scipy import stats

from dcbench.api import Architecture, hookimpl, option
from dcbench.cli import main
from dcbench.core.spec import QUICK
from dcbench.leaderboard.scores import Score
from dcbench.plugins import PluginInfo, Plugins
from dcbench.results.store import RECORDS, read_records
from dcbench.run.plan import make_plan
from dcbench.suites.comparison import Line, compare, our_error, published_error
from dcbench.suites.file import Published, load_suite
from dcbench.suites.records import suite_records
from dcbench.suites.selection import SuiteFilter, select
from dcbench.utils.errors import DcbenchError

OURS = (
    "architecture-search",
    "architecture-search-720",
    "distribution-matching-table",
    "eccv-2024-challenge",
    "gradient-matching-cross-architecture",
    "gradient-matching-table1",
    "random-and-coresets-dc",
    "random-and-coresets-dsa",
    "rded-table",
    "reproduction-48",
    "siamese-augmentation-table",
    "soft-labels-random",
    "trajectory-matching-table",
)

TINY = """
title = "Blobs"
source = "nobody"
datasets = ["tiny"]
methods = ["random", "means"]
ipcs = [1, 2]
networks = ["linear"]
eval_networks = ["linear", "dropout"]
sets = 2
evals = 3
fixed = ["means"]
fixed_evals = 4
protocol = "dc"
options = { "means.scale" = 2.0 }
published = "numbers.csv"
"""

NUMBERS = """dataset,ipc,method,matching_network,evaluation_network,mean,std,n_sets,n_evals,checked,selection
tiny,1,random,,linear,80.0,1.0,4,10,paper,best
tiny,2,random,,linear,90.0,,,,recalled,
"""


@pytest.fixture
def write(tmp_path):
    """Write a suite's files and return the path of the first."""

    def go(text=TINY, numbers=NUMBERS, name="blobs"):
        (tmp_path / "numbers.csv").write_text(numbers)
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return path

    return go


@pytest.fixture
def blobs(write):
    """The tiny suite, whole."""
    return select(load_suite(write()))


@pytest.fixture
def narrowed(blobs):
    """A part of the tiny suite."""
    return lambda **wanted: select(blobs.suite, SuiteFilter(**wanted))


@pytest.fixture
def dcbench(plugins, tmp_path, monkeypatch):
    """Run a command line in an empty folder, with the tests' plugins installed."""
    monkeypatch.setattr(Plugins, "load", classmethod(lambda cls, *args, **words: plugins))
    monkeypatch.chdir(tmp_path)

    def invoke(line):
        result = CliRunner().invoke(main, line.split(), terminal_width=200)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def random_record(**changes):
    """A record as the tiny suite's random selection would leave it."""
    fields = {
        "dataset": "tiny",
        "method": "random",
        "options": {},
        "matching_network": None,
        "evaluation_network": "linear",
    }
    return make_record(**(fields | changes))


def published(**changes):
    fields = {"dataset": "tiny", "ipc": 1, "method": "random", "evaluation_network": "linear", "mean": 80.0}
    return Published(**(fields | {"checked": "paper"} | changes))


# --- The suites that come along ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cells", "sets", "trials", "numbers"),
    [
        ("gradient-matching-table1", 4 * 3 * 4 + 4, 4 * 3 * 4 * 5 + 4, 4 * 3 * 4 * 5 * 20 + 4 * 5, 52),
        ("gradient-matching-cross-architecture", 6, 6 * 5, 6 * 5 * 6 * 20, 36),
        ("reproduction-48", 48, 48, 48 * 4 * 20, 12 + 15),
        ("siamese-augmentation-table", 5 * 3, 5 * 3 * 5, 5 * 3 * 5 * 20, 15),
        ("distribution-matching-table", 4 * 3, 4 * 3 * 5, 4 * 3 * 5 * 5, 9),
        ("trajectory-matching-table", 2 * 3, 2 * 3, 2 * 3 * 5, 6),
        ("random-and-coresets-dc", 5 * 3 * 5 + 5, 5 * 3 * 5 * 5 + 5, 5 * 3 * 5 * 5 * 20 + 5 * 5, 4 * 13 + 10),
        ("random-and-coresets-dsa", 5 * 3 * 5, 5 * 3 * 5 * 5, 5 * 3 * 5 * 5 * 5, 4),
        ("eccv-2024-challenge", 3, 3, 9, 2),
        ("soft-labels-random", 2 * 2 * 3, 2 * 2 * 3 * 3, 2 * 2 * 3 * 3 * 5, 6),
        ("rded-table", 2 * 3, 2 * 3 * 3, 2 * 3 * 3 * 3, 3),
        ("architecture-search", 2 * 4, 2 * (3 * 3 + 1), 2 * (3 * 3 + 1) * 48, 0),
        ("architecture-search-720", 4, 4, 4 * 720, 0),
    ],
)
def test_our_suites_are_whole_and_all_they_name_is_installed(plugins, name, cells, sets, trials, numbers):
    part = select(load_suite(plugins.suite_path(name)))
    comparison = compare(part, [], lambda: plugins)
    assert len(part.experiments()) == cells
    assert (comparison.sets, comparison.trials) == (sets, trials)
    assert len(comparison.lines) == cells * len(part.eval_networks)
    assert sum(line.published is not None for line in comparison.lines) == numbers


@pytest.mark.parametrize(
    ("name", "key", "evaluated", "expected"),
    [
        ("table1", ("cifar10", 50, "gradmatch", "convnet"), "convnet", (0.539, 0.005, 5, "readme")),
        ("table1", ("mnist", 1, "random", None), "convnet", (0.649, 0.035, 5, "recalled")),
        ("table1", ("svhn", 10, "herding", "convnet"), "convnet", (0.505, 0.033, 5, "recalled")),
        ("table1", ("mnist", 1, "kcenter", "convnet"), "convnet", (0.893, 0.015, 5, "recalled")),
        ("table1", ("cifar10", None, "whole", None), "convnet", (0.848, 0.001, None, "citing")),
        ("cross-architecture", ("mnist", 1, "gradmatch", "mlp"), "lenet", (0.773, 0.058, 5, "recalled")),
        (
            "cross-architecture",
            ("mnist", 1, "gradmatch", "resnet18:downsampling=average,norm=batch"),
            "vgg11",
            (0.834, 0.024, 5, "recalled"),
        ),
    ],
)
def test_published_numbers_are_those_of_the_paper(plugins, name, key, evaluated, expected):
    part = select(load_suite(plugins.suite_path(f"gradient-matching-{name}")))
    number = part.published[key, evaluated]
    assert (number.mean, number.std, number.n_sets, number.checked) == expected


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("gradient-matching-table1", ("cifar10", 10, "kcenter", "convnet"), (0.147, 5, "citing", "unknown")),
        ("gradient-matching-table1", ("mnist", 1, "gradmatch", "convnet"), (0.917, 5, "readme", "last")),
        ("siamese-augmentation-table", ("svhn", 10, "dsa", "convnet"), (0.792, 5, "readme", "last")),
        ("siamese-augmentation-table", ("cifar100", 50, "dsa", "convnet"), (0.428, None, "citing", "unknown")),
        ("distribution-matching-table", ("cifar10", 1, "dm", "convnet"), (0.26, None, "citing", "last")),
        ("distribution-matching-table", ("svhn", 50, "dm", "convnet"), (0.826, None, "citing", "unknown")),
        ("trajectory-matching-table", ("cifar10", 10, "mtt", "convnet"), (0.654, None, "citing", "best")),
        ("random-and-coresets-dc", ("cifar10", 10, "random", None), (0.26, 5, "citing", "unknown")),
        ("random-and-coresets-dsa", ("cifar10", 10, "random", None), (0.31, None, "citing", "unknown")),
        ("eccv-2024-challenge", ("cifar100", 10, "dsa", "convnet"), (0.323, None, "readme", "last")),
        ("soft-labels-random", ("cifar10", 1, "random_soft", "convnet"), (0.211, None, "readme", "best")),
        ("soft-labels-random", ("cifar100", 50, "random_soft", "convnet"), (0.471, None, "readme", "best")),
        ("rded-table", ("cifar10", 10, "rded", "convnet:norm=batch"), (0.502, None, "citing", "best")),
    ],
)
def test_published_numbers_say_where_they_are_from_and_which_accuracy_they_are(plugins, name, key, expected):
    suite = select(load_suite(plugins.suite_path(name)))
    number = suite.published[key, suite.eval_networks[0]]
    assert (number.mean, number.n_sets, number.checked, number.selection) == expected


@pytest.mark.parametrize("name", OURS)
def test_methods_options_and_protocol_of_our_suites_fit_together(plugins, tmp_path, name):
    """On digits and with a small network, because other data sets have to be downloaded."""
    suite = load_suite(plugins.suite_path(name))
    here = {"datasets": ("digits",), "networks": ("linear",), "eval_networks": ("linear",), "sets": 1, "evals": 1}
    small = replace(suite, file=suite.file.model_copy(update=here), published=())
    cells = select(small).plan(plugins, torch.device("cpu"), tmp_path).cells
    planned = {(cell.spec.method, cell.spec.ipc) for cell in cells} - {("whole", None)}
    methods = {*suite.file.methods} - {"whole"}
    assert planned == {(method, ipc) for method in methods for ipc in suite.file.ipcs}


def test_k_center_of_dc_bench_stands_beside_no_method_of_ours(plugins):
    for name in OURS:
        numbers = select(load_suite(plugins.suite_path(name))).published
        assert not [key for (key, _), number in numbers.items() if key[2] == "kmeans" or number.mean == 0.4149]


def test_the_reproduction_trains_its_matching_networks_with_momentum_and_says_what_it_is_compared_with(plugins):
    part = select(load_suite(plugins.suite_path("reproduction-48")))
    assert part.suite.file.options == {"gradmatch.momentum_net": "0.5"}
    assert part.published[("svhn", 50, "gradmatch", "convnet"), "convnet"].mean == 0.823
    assert (("svhn", 50, "gradmatch", "mlp"), "convnet") not in part.published
    assert any("not available" in note for note in part.suite.file.notes)


# --- Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("evals = 3\n", "eval = 3\n", "blobs.toml: unknown key 'eval'. Did you mean 'evals'?"),
        ("sets = 2\n", "", "blobs.toml: key 'sets': Field required"),
        ("sets = 2\n", f"sets = {'9' * 5000}\n", "blobs.toml is not TOML: Exceeds the limit"),
        ("sets = 2\n", f"sets = 0x{'f' * 5000}\n", "key 'sets'"),
        ("sets = 2\n", "sets = true\n", "key 'sets': Input should be a valid integer"),
        ("evals = 3\n", "evals = true\n", "key 'evals': Input should be a valid integer"),
        ("fixed_evals = 4", "fixed_evals = true", "key 'fixed_evals': Input should be a valid integer"),
        ("[1, 2]", "[true]", "key 'ipcs.0': Input should be a valid integer"),
        ("2.0", "2000-01-01", "key 'options': option 'scale' of method 'means'"),
        ("sets = 2\n", "sets = 0\n", "key 'sets': Input should be greater than or equal to 1"),
        ("ipcs = [1, 2]", "ipcs = []", "key 'ipcs'"),
        ('"tiny"]', '"tiny]', "blobs.toml is not TOML"),
        ('["tiny"]', '["tinny"]', "blobs.toml: key 'datasets': unknown dataset 'tinny'. Did you mean 'tiny'?"),
        ('"means"]', '"mean"]', "key 'methods': unknown method 'mean'. Did you mean 'means'?"),
        ('["linear"]', '["liner"]', "key 'networks': unknown network 'liner'. Did you mean 'linear'?"),
        ('"dropout"]', '"drop"]', "key 'eval_networks': unknown network 'drop'. Did you mean 'dropout'?"),
        ('"dc"', '"dcc"', "key 'protocol': unknown protocol 'dcc'. Did you mean 'dc'?"),
        ("sets = 2\n", 'sets = 2\nbudget = "ful"\n', "key 'budget': unknown budget 'ful'. Did you mean 'full'?"),
        ("means.scale", "means.scal", "key 'options': unknown option of method means 'scal'"),
        ("2.0", "-2.0", "key 'options': option 'scale' of method 'means'"),
        ("numbers.csv", "nowhere.csv", "nowhere.csv cannot be read: No such file"),
        ("numbers.csv", "../numbers.csv", "key 'published'"),
    ],
)
def test_a_mistake_in_a_suite_names_the_file_and_the_key(write, plugins, tmp_path, old, new, message):
    assert old in TINY
    path = write(TINY.replace(old, new, 1), NUMBERS.replace("tiny", "tinny") if "tinny" in new else NUMBERS)
    with pytest.raises(DcbenchError) as caught:
        select(load_suite(path)).plan(plugins, torch.device("cpu"), tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_sets", "n_set", "numbers.csv, line 2: unknown column 'n_set'. Did you mean 'n_sets'?"),
        ("90.0", "90 %", "numbers.csv, line 3: column 'mean': Input should be a valid number"),
        ("90.0", "190", "numbers.csv, line 3: column 'mean': Input should be less than or equal to 100"),
        ("90.0", "", "numbers.csv, line 3: column 'mean': Field required"),
        ("recalled", "believed", "numbers.csv, line 3: column 'checked'"),
        ("best", "first", "numbers.csv, line 2: column 'selection': Input should be 'last', 'best' or 'unknown'"),
        ("best", "best,7", "numbers.csv, line 2: unknown column 'a column too many'"),
        ("tiny,2", "tiny,3", "the number of tiny, 3, random, no network, linear, is of no experiment"),
        ("random,,", "random,linear,", "the number of tiny, 1, random, linear, linear, is of no experiment"),
        ("tiny,2", "tiny,1", "the number of tiny, 1, random, no network, linear, is there twice"),
        (",,linear", ",,liner", "the number of tiny, 1, random, no network, liner, is of no experiment"),
    ],
)
def test_a_mistake_in_the_numbers_names_the_file_and_the_place(write, old, new, message):
    assert old in NUMBERS
    with pytest.raises(DcbenchError) as caught:
        select(load_suite(write(numbers=NUMBERS.replace(old, new, 1))))
    assert message in str(caught.value)


def test_two_data_sets_of_one_name_are_refused(write, plugins, tmp_path):
    datasets = '["npz:x.npz", "npz:y/x.npz"]'
    text = TINY.replace('["tiny"]', datasets).replace("numbers.csv", "")
    with pytest.raises(DcbenchError) as caught:
        select(load_suite(write(text))).plan(plugins, torch.device("cpu"), tmp_path)
    message = "key 'datasets': npz:x.npz and npz:y/x.npz would both be recorded as "
    assert message in str(caught.value)
    same = select(load_suite(write(TINY.replace('["tiny"]', '["tiny", "tiny"]'))))
    assert same.datasets == ("tiny",)


def test_a_column_that_is_there_twice_is_refused(write):
    header, *lines = NUMBERS.split("\n")
    with pytest.raises(DcbenchError, match=r"numbers\.csv, line 1: a column is there twice"):
        load_suite(write(numbers="\n".join([header.replace("std", "mean"), *lines])))


def test_a_file_without_numbers_is_refused(write):
    with pytest.raises(DcbenchError, match=r"numbers\.csv has no numbers"):
        load_suite(write(numbers=NUMBERS.split("\n")[0]))


def test_options_may_be_nested_as_toml_has_it(write):
    nested = TINY.replace('{ "means.scale" = 2.0 }', "{ means.scale = 2.0, lr = 1 }")
    assert load_suite(write(nested)).file.options == {"means.scale": "2.0", "lr": "1"}


# --- Parts -------------------------------------------------------------------------------------------


def test_what_is_counted_is_what_is_planned(blobs, plugins, tmp_path):
    for choice in (
        SuiteFilter(),
        SuiteFilter(ipcs=(2,), evals=1),
        SuiteFilter(budget="quick", methods=("means",), seed=3),
    ):
        part = select(blobs.suite, choice)
        plan = part.plan(plugins, torch.device("cpu"), tmp_path)
        comparison = compare(part, [], lambda: plugins)
        assert len(plan.cells) == comparison.sets
        assert sum(len(cell.trials) for cell in plan.cells) == comparison.trials
        assert {(cell.spec.dataset, cell.spec.ipc, cell.spec.method) for cell in plan.cells} == {
            experiment.key[:3] for experiment in part.experiments()
        }


def test_a_method_that_ignores_the_seed_has_one_set_and_its_own_number_of_networks(blobs, plugins, tmp_path):
    plan = blobs.plan(plugins, torch.device("cpu"), tmp_path)
    (means,) = [cell for cell in plan.cells if (cell.spec.method, cell.spec.ipc) == ("means", 1)]
    assert [seed for network, seed in means.trials if network.name == "linear"] == [0, 1, 2, 3]
    assert means.spec.options == {"scale": 2.0}


def test_a_network_of_a_later_version_is_run_and_found_again_however_it_is_spelt(dcbench, write):
    text = TINY.replace('["linear"]', '["second"]').replace('"linear", "dropout"', '"second", "dropout"')
    text = text.replace('"means"', '"wanders"').replace('{ "means.scale" = 2.0 }', "{ steps = 1 }")
    write(text, NUMBERS.replace("linear", "second").replace("random,", "wanders,second"))
    for spelt in ("second", "second@2"):
        words = f"--ipc 1 --network {spelt} --eval-network {spelt}"
        ran = dcbench(f"suite run blobs.toml {words}")
        assert ran.exit_code == 0, ran.output
    assert "Everything was done already" in ran.stdout
    records = read_records(next(Path().rglob(RECORDS)))
    assert {record.matching_network for record in records} == {None, "second@2:width=8"}
    assert {record.evaluation_network for record in records} == {"second@2:width=8"}
    lines = json.loads(dcbench(f"suite show blobs.toml {words} --json").stdout)["lines"]
    assert [line for line in lines if line["published"] and line["ours"]], lines


def test_a_data_set_of_a_later_version_is_run_and_compared_under_its_name(write, plugins, tmp_path):
    later = type("Later", (plugins.datasets.get("tiny"),), {"name": "later", "version": "2"})
    plugins.datasets.add("later", later, PluginInfo("later", "later", "tests", "0"))
    path = write(TINY.replace('"tiny"', '"later"'), NUMBERS.replace("tiny", "later"))
    part = select(load_suite(path), SuiteFilter(datasets=("later",), ipcs=(1,)))
    assert {key[0] for key, _ in part.published} == {"later"}
    assert suite_records(part, [own := random_record(dataset="later@2")], lambda: plugins).records == [
        own.model_copy(update={"dataset": "later"})
    ]
    assert {cell.spec.dataset for cell in part.plan(plugins, torch.device("cpu"), tmp_path).cells} == {"later@2"}


def test_another_budget_brings_its_own_numbers_of_sets_and_networks(blobs, narrowed, plugins, tmp_path):
    quick = narrowed(budget="quick")
    assert (quick.sets, quick.evals) == (QUICK.sets, QUICK.evals) != (blobs.sets, blobs.evals)
    cells = quick.plan(plugins, torch.device("cpu"), tmp_path).cells
    # The suite's option goes before the method's for quick.
    assert {cell.spec.options["scale"] for cell in cells if cell.spec.method == "means"} == {2.0}
    assert not any(line.comparable for line in compare(quick, [], lambda: plugins).lines)
    assert narrowed(budget="quick", sets=7).sets == 7
    assert all(line.comparable for line in compare(narrowed(budget="full"), [], lambda: plugins).lines)


@pytest.mark.parametrize(
    ("given", "scale", "altered"),
    [({"scale": "3"}, 3.0, {"means"}), ({"means.scale": "3"}, 3.0, {"means"}), ({"scale": "2"}, 2.0, set())],
)
def test_options_of_the_user_go_before_the_suites(narrowed, given, scale, altered, plugins, tmp_path):
    part = narrowed(options=given, methods=("means",))
    assert {cell.spec.options["scale"] for cell in part.plan(plugins, torch.device("cpu"), tmp_path).cells} == {
        scale
    }
    records = [
        random_record(method="means", seeded=False, options={"scale": each}, changed_options=["scale"])
        for each in (2.0, 3.0)
    ]
    own = suite_records(part, records, lambda: plugins)
    assert [record.options["scale"] for record in own.records] == [scale]
    assert own.altered == altered


# --- Which records are a suite's own -----------------------------------------------------------------


def test_only_records_of_the_suites_own_making_count(blobs, plugins):
    own = random_record()
    others = [
        random_record(budget="quick"),
        random_record(protocol="dsa"),
        random_record(ipc=10),
        random_record(dataset="digits"),
        random_record(evaluation_network="mlp"),
        random_record(method_version="2", started_at="2024-01-01T00:00:00Z"),
        random_record(condense_seed=2),
        random_record(eval_seed=3),
        random_record(status="failed", accuracy=None),
        random_record(method="means", condense_seed=0, options={"scale": 1.0}),
        random_record(options={"file": "abc"}, changed_options=["file"]),
    ]
    assert suite_records(blobs, [*others, own], lambda: plugins).records == [own]


def test_records_of_the_suites_options_count(blobs, narrowed, plugins):
    means = random_record(
        method="means", seeded=False, options={"scale": 2.0}, changed_options=["scale"], eval_seed=3
    )
    assert suite_records(blobs, [means], lambda: plugins).records == [means]
    assert suite_records(narrowed(options={"scale": "3"}), [means], lambda: plugins).records == []


def test_options_that_depend_on_the_setting_may_be_whatever_they_were_resolved_to(plugins):
    part = select(load_suite(plugins.suite_path("gradient-matching-table1")))
    by_setting = {"outer_loop": 1, "inner_loop": 1, "lr_img": 0.1}
    resolved = plugins.method_class("gradmatch")().model_dump(mode="json") | by_setting
    record = make_record(dataset="mnist", options=resolved)
    tuned = make_record(dataset="mnist", options=resolved | {"lr_img": 1.0}, changed_options=["lr_img"])
    assert suite_records(part, [record, tuned], lambda: plugins).records == [record]


class Sized(Architecture):
    """One linear layer, for images of a size that is filled in."""

    name = "sized"
    side: int | None = option(None, "pixels")
    width: int = option(1, "of something")

    def resolve(self, info):
        return self.model_copy(update={"side": info.size[0]})

    def build(self, info):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, info.num_classes))


SIZED = TINY.replace('"linear", "dropout"', '"sized", "sized:width=2"').replace("numbers.csv", "")


def add_architectures(plugins, *classes):
    module = types.ModuleType(classes[0].name)
    module.dcbench_register_architectures = hookimpl(lambda: list(classes))
    plugins.add(module, PluginInfo(classes[0].name, classes[0].name, "tests", "0"))


@pytest.fixture
def sized(write, plugins):
    """The tiny suite, evaluated on networks that depend on the images, resolved."""
    add_architectures(plugins, Sized)
    return select(load_suite(write(SIZED)))


def test_networks_that_are_resolved_for_the_images_are_recognised(sized, plugins, request_for):
    part = sized
    asked = ("sized", "sized:width=2", "sized:width=3")
    (cell,) = make_plan(request_for(eval_networks=asked), plugins).cells
    spelt = [str(network) for network, _ in cell.trials]
    assert spelt == ["sized:side=8", "sized:side=8,width=2", "sized:side=8,width=3"]
    comparison = compare(part, [random_record(evaluation_network=each) for each in spelt], lambda: plugins)
    scored = [line.evaluation_network for line in comparison.lines if line.score]
    assert scored == ["sized", "sized:width=2"]


def of_sides(*sides, **changes):
    """Records of the same trial, evaluated on the sized network with other options."""
    return [
        random_record(
            evaluation_network="sized" + f":side={side}" * (side is not None),
            accuracy=1 if side is None else side,
            **changes,
        )
        for side in sides
    ]


@pytest.mark.parametrize(
    ("sides", "mean"),
    [
        ((0.25,), None),  # not what the option takes: no network of ours
        ((0,), 0.0),
        ((0, 1), None),  # either may be what the images make of it
        ((None, 0), 1.0),  # the images left it as it is, so that the other is a user's
        ((0, None), 1.0),
    ],
)
def test_options_of_the_users_networks_are_not_mixed_into_the_suites(sized, sides, mean, plugins):
    wanted = SuiteFilter(methods=("random",), ipcs=(1,), eval_networks=("sized",), sets=1, evals=1)
    part = select(sized.suite, wanted)
    comparison = compare(part, of_sides(*sides), lambda: plugins)
    (line,) = comparison.lines
    assert (line.score and line.score.mean) == mean
    assert (comparison.trials_done, comparison.trials) == (int(mean is not None), 1)
    assert comparison.sets_done == comparison.trials_done


def test_what_was_made_of_a_network_is_said_and_what_cannot_be_told_is_left_out(sized, dcbench, tmp_path):
    records = of_sides(0, 1) + of_sides(0, dataset_sha256="a" * 64, started_at="2024-01-01T00:00:00Z")
    records.append(random_record(evaluation_network="sized:side=8,width=2"))
    made_up(tmp_path / "results", records)
    shown = " ".join(dcbench("suite show blobs.toml").stdout.split())
    assert "Left out: sized on tiny, recorded as sized:side=0 and as sized:side=1;" in shown
    assert "sized:width=2 on tiny: as recorded, sized:side=8,width=2." in shown
    assert "Left out: 1 records of other data" in shown
    assert "1 of 40 trials; 39 trials left" in shown
    data = json.loads(dcbench("suite show blobs.toml --json").stdout)
    assert data["spellings"][0]["found"] == ["sized:side=0", "sized:side=1"]
    assert [each["taken"] for each in data["spellings"]] == [None, "sized:side=8,width=2"]


def test_a_run_beside_a_users_own_networks_shows_the_suites(sized, dcbench, tmp_path):
    words = "blobs.toml --method random --ipc 1 --eval-network sized --sets 1 --evals 1"
    made_up(tmp_path / "results", of_sides(0))
    ran = dcbench(f"suite run {words}").stdout
    assert "1 of 1 trials; nothing left." in ran
    assert "as recorded, sized:side=8." in ran


def test_a_network_without_options_that_depend_on_the_images_is_spelt_as_it_is(plugins, blobs):
    class Loose(Architecture):
        """Takes None for an answer."""

        name = "loose"
        side: int | None = option(None, "pixels")

        def build(self, info):
            return torch.nn.Flatten()

    add_architectures(plugins, Loose)
    part = replace(blobs, eval_networks=("loose",))
    other = random_record(evaluation_network="loose:side=3")
    own = random_record(evaluation_network="loose")
    assert suite_records(part, [other], lambda: plugins).records == []
    assert suite_records(part, [other, own], lambda: plugins).records == [own]


def test_the_network_that_leaves_least_open_is_the_one_that_was_recorded(blobs, plugins):
    class Both(Sized):
        """Has two options that depend on the images."""

        name = "both"
        depth: int | None = option(None, "layers")

    add_architectures(plugins, Both)
    part = replace(blobs, eval_networks=("both", "both:depth=2"))
    (record,) = suite_records(
        part, [random_record(evaluation_network="both:depth=2,side=8")], lambda: plugins
    ).records
    assert record.evaluation_network == "both:depth=2"


def test_there_is_one_condensed_set_for_each_seed_though_options_were_resolved_otherwise_before(plugins):
    part = select(load_suite(plugins.suite_path("gradient-matching-table1")))
    wanted = SuiteFilter(datasets=("mnist",), methods=("gradmatch",), ipcs=(1,), sets=1, evals=1)
    part = select(part.suite, wanted)
    resolved = plugins.method_class("gradmatch")().model_dump(mode="json") | {"outer_loop": 1, "inner_loop": 1}
    old = make_record(dataset="mnist", options=resolved | {"lr_img": 1.0}, accuracy=0.1)
    new = make_record(
        dataset="mnist", options=resolved | {"lr_img": 0.1}, accuracy=0.9, started_at="2025-06-01T00:00:00Z"
    )
    for records in ([old, new], [new, old]):
        comparison = compare(part, records, lambda: plugins)
        assert comparison.lines[0].score == Score(0.9, None, None, 1, 1)
        assert (comparison.sets_done, comparison.trials_done, comparison.trials) == (1, 1, 1)


def test_trials_with_another_augmentation_than_the_newest_are_left_out(blobs, plugins):
    old = random_record(augmentation="flip", started_at="1")
    new = random_record(eval_seed=1, augmentation="", started_at="2")
    assert suite_records(blobs, [old, new], lambda: plugins).records == [new]


def test_data_of_another_version_are_left_out_and_counted(blobs, plugins):
    old = [random_record(eval_seed=seed, dataset_sha256="a" * 64, accuracy=0.1) for seed in (0, 1)]
    new = random_record(started_at="2025-06-01T00:00:00Z", accuracy=0.9)
    comparison = compare(blobs, [new, *old], lambda: plugins)
    assert comparison.lines[0].score == Score(0.9, None, None, 1, 1)
    assert (comparison.trials_done, comparison.own.other_data) == (1, 2)


# --- The comparison ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "std", "expected"),
    [
        (Score(0.7, 0.04, 0.03, 4, 80, error=0.02), 0.01, 0.02),
        (Score(0.7, 0.0, 0.16, 4, 16, error=0.01), 0.01, 0.04),  # at least 0.16 / sqrt 16
        (Score(0.7, None, 0.16, 1, 16), 0.03, 0.05),  # sqrt(0.03^2 + (0.16 / sqrt 16)^2)
        (Score(0.7, None, None, 1, 1), 0.03, 0.03),
        (Score(0.7, None, 0.16, 1, 16), None, None),
        (Score(0.7, None, 0.16, 1, 16, error=0.04), None, 0.04),  # a method that ignores the seed
    ],
)
def test_the_error_of_our_mean(score, std, expected):
    assert our_error(score, std) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"std": 2.0, "n_sets": 5}, math.sqrt(0.01**2 + 0.001**2 / 12)),
        ({"std": 2.0}, math.sqrt(0.02**2 + 0.001**2 / 12)),
        ({"std": 0.0}, math.sqrt(0.0005**2 + 0.001**2 / 12)),
        ({}, None),
    ],
)
def test_the_error_of_a_published_mean(changes, expected):
    error = published_error(published(**changes))
    assert error == (expected if expected is None else pytest.approx(expected))


def test_without_a_published_deviation_there_is_no_z():
    score = Score(0.76, 0.06, 0.01, 4, 16)
    line = Line(("tiny", 1, "random", None), "linear", score, published(), comparable=True, seeded=True)
    assert line.difference == pytest.approx(-0.04)
    assert (line.uncertainty, line.z) == (None, None)


def test_z_is_the_difference_over_both_errors():
    # ours 0.76 +- 0.03, published 0.80 +- 0.08 / 2: -0.04 / 0.05, but for the rounding
    score, number = Score(0.76, 0.06, None, 4, 4, error=0.03), published(std=8.0, n_sets=5)
    line = Line(("tiny", 1, "random", None), "linear", score, number, comparable=True, seeded=True)
    assert line.difference == pytest.approx(-0.04)
    assert line.z == pytest.approx(-0.8, abs=1e-4)
    # Welch's degrees of freedom: 0.05^4 / (0.03^4 / 3 + 0.04^4 / 4) = 6.86
    assert line.p == pytest.approx(2 * stats.t.sf(0.8, 6.86), abs=1e-3)
    altered = Line(line.key, "linear", score, number, comparable=False, seeded=True)
    assert (altered.difference, altered.uncertainty, altered.z, altered.p) == (None,) * 4


# --- The command -------------------------------------------------------------------------------------


def test_help_imports_neither_torch_nor_a_plugin(dcbench_command):
    code = (
        "import sys; from dcbench.cli import main\n"
        "try: main(['suite', 'run', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'pydantic', 'rich', 'pluggy', 'dcbench_plugins'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([dcbench_command[0], "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--dataset" in done.stdout


def test_a_suite_is_run_in_part_then_resumed_then_whole(dcbench, write, tmp_path):
    write(TINY.replace('"linear", "dropout"', '"linear"'))
    first = dcbench("suite run blobs.toml --ipc 1 --method random --evals 1")
    assert first.exit_code == 0, first.output
    assert "Done: 2 of 2 condensed sets, 2 of 2 trials; nothing left." in first.stdout
    left = dcbench("suite run blobs.toml --ipc 1 --method random --dry-run")
    assert "To do: 0 of 2 condensations, 4 evaluations" in left.stdout
    shown = dcbench("suite show blobs.toml").stdout
    assert "Done: 2 of 6 condensed sets, 2 of 20 trials; 18 trials left." in shown

    kept = read_records(tmp_path / "results" / RECORDS)
    whole = dcbench("suite run blobs.toml")
    assert "Done: 6 of 6 condensed sets, 20 of 20 trials; nothing left." in whole.stdout
    records = read_records(tmp_path / "results" / RECORDS)
    assert records[:2] == kept
    assert len(records) == 20
    assert "Everything was done already" in dcbench("suite run blobs.toml").stdout


def test_a_run_and_a_show_of_the_same_words_say_the_same(dcbench, write, tmp_path):
    write()
    words = "blobs.toml --method random --eval-network linear --sets 3 --evals 2 --seed 5"
    ran = json.loads(dcbench(f"suite run {words} --json").stdout)
    assert json.loads(dcbench(f"suite show {words} --json").stdout) == ran
    line = ran["lines"][0]
    accuracies = {
        (record.condense_seed, record.eval_seed): record.accuracy
        for record in read_records(tmp_path / "results" / RECORDS)
        if record.ipc == 1
    }
    assert sorted(accuracies) == [(seed, each) for seed in (5, 6, 7) for each in (5, 6)]
    assert line["ours"]["mean"] == pytest.approx(sum(accuracies.values()) / 6)
    assert line["published"] == {
        "mean": 0.8,
        "std": 0.01,
        "n_sets": 4,
        "n_evals": 10,
        "checked": "paper",
        "selection": "best",
    }
    assert line["difference"] == pytest.approx(line["ours"]["mean"] - 0.8)
    assert line["z"] == pytest.approx(line["difference"] / line["uncertainty"])
    assert dcbench("suite show blobs.toml --json").exit_code == 0


def made_up(folder, records):
    folder.mkdir()
    (folder / RECORDS).write_text("".join(record.to_json() + "\n" for record in records))


def test_show_works_from_records_alone(dcbench, write, tmp_path, monkeypatch):
    monkeypatch.setattr("tiny_plugin.Tiny.load", lambda self, root: pytest.fail("the data set was loaded"))
    write()
    accuracies = {(0, 0): 0.70, (0, 1): 0.74, (1, 0): 0.76, (1, 1): 0.80}
    made_up(
        tmp_path / "results",
        [
            random_record(condense_seed=seed, eval_seed=each, accuracy=accuracy)
            for (seed, each), accuracy in accuracies.items()
        ],
    )
    shown = dcbench("suite show blobs.toml --eval-network linear").stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    # set means 0.72 and 0.78: deviation 0.0424, or 0.0374 without the 0.0283 within; -5 points over
    # hypot(4.24 / sqrt 2, hypot(1 / sqrt 3, 0.029)) = 3.06
    assert "1 random 75.0 (3.7/2.8) 2x2 80.0 ± 1.0 best -5.0 -1.6 0.34" in lines
    assert "2 random – – (90.0) – – –" in lines
    assert any("from memory" in line for line in lines)
    assert lines[-1] == "Done: 2 of 6 condensed sets, 4 of 20 trials; 16 trials left."


def test_a_number_that_was_read_is_not_shown_as_recalled(dcbench, write):
    write()
    shown = dcbench("suite show blobs.toml --ipc 1").stdout
    assert "80.0 ± 1.0" in shown
    assert "(80.0" not in shown
    assert "from memory" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--budget quick", "Budget quick: not comparable with the published numbers."),
        ("-o means.scale=3", "means: with other options than the suite's, thus not compared"),
    ],
)
def test_what_is_not_the_suites_is_not_compared(dcbench, write, words, said):
    write(numbers=NUMBERS + "tiny,1,means,,linear,70.0,1.0,5,20,paper,\n")
    shown = dcbench(f"suite run blobs.toml {words} --ipc 1 --eval-network linear --evals 2 --sets 1")
    assert said in shown.stdout
    words += " --ipc 1 --eval-network linear --evals 2 --sets 1 --json"
    lines = {
        line["method"]: line for line in json.loads(dcbench(f"suite show blobs.toml {words}").stdout)["lines"]
    }
    assert lines["means"]["ours"] is not None
    assert lines["means"]["z"] is None
    assert (lines["random"]["z"] is None) == ("quick" in words)


def test_several_networks_make_a_matrix(dcbench, tmp_path):
    cell = {"dataset": "mnist", "matching_network": "mlp", "accuracy": 0.6}
    options = Plugins.load().method_class("gradmatch")().model_dump(mode="json")
    made_up(
        tmp_path / "results",
        [
            make_record(**cell, options=options, evaluation_network="lenet", condense_seed=seed, eval_seed=each)
            for seed in (0, 1)
            for each in (0, 1)
        ],
    )
    shown = dcbench("suite show gradient-matching-cross-architecture").stdout
    rows = [line.split() for line in shown.splitlines()]
    first = next(index for index, row in enumerate(rows) if row[:1] == ["mlp"])
    assert rows[first] == ["mlp", "–", "–", "60.0", "–", "–", "–", "2x2"]
    assert rows[first + 1] == ["(70.5)", "(63.9)", "(77.3)", "(70.9)", "(53.2)", "(80.9)"]
    # no deviation between our sets: -17.3 / hypot(5.8 / sqrt 4, 0.029)
    assert rows[first + 2] == ["-6.0"]
    assert "beneath it the published number (last), and z" in shown
    assert "Done: 2 of 30 condensed sets, 4 of 3,600 trials; 3,596 trials left." in shown
    one = dcbench("suite show gradient-matching-cross-architecture --network mlp --eval-network lenet").stdout
    assert "60.0 (0.0/0.0)" in one


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("suite show blob.toml", "blob.toml cannot be read: No such file"),
        ("suite show reproduction-84", "unknown suite 'reproduction-84'. Did you mean 'reproduction-48'?"),
        ("suite run blobs.toml --dataset tinny", "unknown dataset of suite blobs 'tinny'. Did you mean 'tiny'?"),
        ("suite run blobs.toml --dataset digits", "unknown dataset of suite blobs 'digits'. Known: tiny."),
        ("suite run blobs.toml --ipc 10", "unknown ipc of suite blobs '10'. Did you mean '1'? Known: 1, 2."),
        ("suite show blobs.toml --method mean", "unknown method of suite blobs 'mean'. Did you mean 'means'?"),
        ("suite show blobs.toml --network mlp", "unknown matching network of suite blobs 'mlp'. Known: linear."),
        ("suite show blobs.toml --eval-network drop", "Did you mean 'dropout'?"),
        (
            "suite show blobs.toml --eval-network mlp:widht=3",
            "unknown evaluation network of suite blobs 'mlp:widht=3'. Known: dropout, linear.",
        ),
        ("suite run blobs.toml --budget quik", "unknown budget 'quik'. Did you mean 'quick'?"),
        ("suite run blobs.toml -o means.scal=1", "Did you mean 'scale'?"),
        ("suite run blobs.toml -o means.scale=1,2", "should be a valid number"),
        ("suite run blobs.toml -o scale", "written NAME=VALUE"),
        ("suite run blobs.toml --device gpu", "unknown device 'gpu'"),
        ("suite run blobs.toml --sets 0", "0 is not in the range"),
        ("describe reproduction-84", "Did you mean 'reproduction-48'?"),
    ],
)
def test_a_mistake_gets_one_message_and_exit_code_2(dcbench, write, tmp_path, line, message):
    write()
    result = dcbench(line)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("table1 --dataset fashion_mnist --ipc 1", "table1 --dataset fashion-mnist --ipc 1"),
        (
            "cross-architecture --network resnet18:downsampling=average,norm=batch",
            "cross-architecture --network resnet18:norm=batch,downsampling=average",
        ),
    ],
)
def test_a_part_is_chosen_by_what_names_mean_not_by_how_they_are_spelt(dcbench, line, other):
    shown = [dcbench(f"suite show gradient-matching-{words} --json") for words in (line, other)]
    assert [each.exit_code for each in shown] == [0, 0], shown[1].stderr
    assert shown[0].stdout == shown[1].stdout
    assert shown[0].stdout != dcbench("suite show gradient-matching-" + line.split()[0] + " --json").stdout


def test_data_that_cannot_be_had_are_named_with_the_part_that_can_be_run(dcbench, write, tmp_path, monkeypatch):
    def absent(self, root):
        raise DcbenchError(f"dataset 'digits' is not in {root}.")

    monkeypatch.setattr("dcbench_plugins.datasets.digits.Digits.load", absent)
    write(TINY.replace('["tiny"]', '["digits", "tiny"]'))
    result = dcbench(f"suite run blobs.toml --data-root {tmp_path}/data")
    assert result.exit_code == 2
    assert f"dataset 'digits' is not in {tmp_path}/data." in result.stderr
    assert "what can be run here is the part with --dataset tiny." in result.stderr
    assert dcbench("suite run blobs.toml --dataset tiny --dry-run").exit_code == 0
    alone = dcbench("suite run blobs.toml --dataset digits")
    assert "the part with" not in alone.stderr


# --- Suites of plugins -------------------------------------------------------------------------------


def add_suites(plugins, *paths, distribution="third-party"):
    plugin = types.ModuleType("third_module")
    plugin.dcbench_register_suites = hookimpl(lambda: list(paths))
    plugins.add(plugin, PluginInfo("third", "third_module", distribution, "1.0"))


def test_suites_are_listed_with_their_size_and_where_they_come_from(dcbench, plugins, write):
    add_suites(plugins, write())
    rows = {row["name"]: row for row in json.loads(dcbench("suite list --json").stdout)}
    assert set(rows) == {*OURS, "blobs"}
    expected = {
        "name": "blobs",
        "title": "Blobs",
        "settings": "4",
        "sets": "6",
        "trials": "40",
        "from": "third-party",
    }
    assert rows["blobs"] == expected
    assert rows["reproduction-48"]["settings"] == "48"
    listed = {row["name"]: row for row in json.loads(dcbench("list suites --json").stdout)}
    assert listed["blobs"]["summary"] == "Blobs"
    (facts,) = json.loads(dcbench("describe blobs --json").stdout)
    assert (facts["kind"], facts["datasets"], facts["method_options"]) == ("suite", "tiny", "means.scale=2.0")
    assert dcbench("suite show blobs").exit_code == 0
    assert "suite blobs" in dcbench("plugin list").stdout


@pytest.mark.parametrize("fault", ["no such file", "not TOML"])
def test_a_broken_file_stops_nothing_that_does_not_need_it(dcbench, plugins, write, tmp_path, fault):
    add_suites(plugins, tmp_path / "nowhere.toml" if fault == "no such file" else write("title = "))
    rows = {row["name"]: row for row in json.loads(dcbench("suite list --json").stdout)}
    (broken,) = set(rows) - set(OURS)
    assert "cannot be used" in rows[broken]["title"]
    assert rows["reproduction-48"]["sets"] == "48"
    assert dcbench("list").exit_code == 0
    assert dcbench("describe reproduction-48").exit_code == 0
    assert dcbench("suite show reproduction-48").exit_code == 0
    assert (
        dcbench("run --dataset tiny --method random --network linear --eval-network linear --dry-run").exit_code
        == 0
    )
    result = dcbench(f"suite show {broken}")
    assert result.exit_code == 2
    assert f"{broken}.toml" in result.stderr


def test_a_name_registered_twice_is_an_error_that_names_both(plugins, tmp_path):
    add_suites(plugins, tmp_path / "mine.toml", distribution="first-package")
    with pytest.raises(DcbenchError, match=r"suite 'mine' is registered twice.*first-package.*second-package"):
        add_suites(plugins, tmp_path / "again" / "mine.toml", distribution="second-package")


@pytest.mark.parametrize("given", ["mine.toml", Path("mine.json"), None])
def test_what_is_not_the_path_of_a_suite_is_an_error_of_the_plugin(given):
    plugins = Plugins()
    add_suites(plugins, given)
    (listed,) = plugins.infos
    assert "which is not the Path of a .toml file" in listed.error
    assert not list(plugins.suites)


# --- What a command imports --------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["suite list", "suite show gradient-matching-table1"])
def test_suites_are_listed_and_shown_without_torch(dcbench_command, tmp_path, line):
    code = (
        "import sys; from dcbench.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as done: assert not done.code\n"
        "heavy = {'torch', 'torchvision', 'timm', 'sklearn', 'scipy.stats', 'pandas'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    words = [dcbench_command[0], "-c", code, *line.split(), "--no-plugins"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("source", "value", "loaded"),
    [
        ("def dcbench_register_suites(): ...", "theirs", True),
        ("from theirs_too import *", "theirs", True),
        ("def dcbench_register_methods(): ...", "theirs", False),
        ("def dcbench_register_methods(): ...", "theirs:plugin", True),  # an object of any class
        ("", "nowhere", True),  # its error is then said
    ],
)
def test_only_plugins_that_may_provide_suites_are_imported_for_them(tmp_path, monkeypatch, source, value, loaded):
    (tmp_path / "theirs.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("theirs", value, "dcbench")
    monkeypatch.setattr("dcbench.plugins.entry_points", lambda group: [point])
    added = []
    monkeypatch.setattr(Plugins, "add_entry_point", lambda self, point: added.append(point))
    Plugins.load(suites_only=True)
    assert added == [point] * loaded
    assert "theirs" not in sys.modules
