"""Architecture searches: grids of networks, and how well small sets rank them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import make_record
from scipy import stats

from dcbench.cli import main
from dcbench.plugins import Plugins
from dcbench.suites.file import Grid, load_suite
from dcbench.suites.search import search
from dcbench.suites.selection import SuiteFilter, select
from dcbench.utils.errors import DcbenchError

SEARCH = """
title = "Blobs"
source = "nobody"
datasets = ["tiny"]
methods = ["random", "whole"]
ipcs = [1]
networks = ["linear"]
sets = 2
evals = 1
fixed = ["whole"]
fixed_evals = 1
protocol = "dc:steps=2"

[grid]
network = "convnet"
options = { width = [2], depth = [1, 4], pooling = ["max", "none"] }

[truth]
method = "whole"
protocol = "dc:steps=4"
evals = 2
"""
WIDTHS = range(4, 16)


@pytest.fixture
def write(tmp_path):
    def go(text=SEARCH):
        path = tmp_path / "blobs.toml"
        path.write_text(text)
        return path

    return go


@pytest.fixture
def made(write):
    """A search over widths, without records."""
    text = SEARCH.replace("width = [2], depth = [1, 4]", f"width = {[*WIDTHS]}, depth = [1]")
    return select(load_suite(write(text.replace('["max", "none"]', '["none"]'))))


def records(accuracies, method="random", **changes):
    """A record for each width, as the search would leave it; networks are spelt as records have them."""
    fields = {"dataset": "tiny", "method": method, "options": {}, "matching_network": None, "eval_seconds": 2.0}
    fields |= {"protocol": "dc:steps=2"} | ({"ipc": None, "seeded": False} if method == "whole" else {"ipc": 1})
    names = (f"convnet:depth=1,pooling=none,width={width}" for width in WIDTHS)
    return [
        make_record(**(fields | {"evaluation_network": name, "accuracy": float(accuracy)} | changes))
        for name, accuracy in zip(names, accuracies, strict=True)
    ]


def test_correlations_are_scipys_for_each_set_by_itself(made, plugins):
    generator = np.random.default_rng(0)
    truth = generator.integers(16, size=(2, 12)) / 16
    sets = generator.integers(16, size=(2, 12)) / 16
    given = [
        record
        for seed in (0, 1)
        for record in records(truth[seed], "whole", protocol="dc:steps=4", eval_seed=seed)
    ]
    given += [record for seed in (0, 1) for record in records(sets[seed], condense_seed=seed)]
    given += records(truth[0], "whole")
    (tiny,) = search(made, given, lambda: plugins).datasets
    mean = truth.mean(axis=0)
    assert list(tiny.truth.values()) == pytest.approx(sorted_by_name(mean))
    again, random, early = tiny.rankings
    assert [each.key[2] for each in tiny.rankings] == ["whole", "random", "whole"]
    assert [each.protocol for each in tiny.rankings] == ["dc:steps=4", "dc:steps=2", "dc:steps=2"]
    assert again.overall.kendall.value == pytest.approx(stats.kendalltau(truth[0], truth[1]).statistic)
    assert early.overall.spearman.value == pytest.approx(stats.spearmanr(mean, truth[0]).statistic)
    expected = np.mean([stats.spearmanr(mean, one).statistic for one in sets])
    assert random.overall.spearman.value == pytest.approx(expected)
    assert random.chosen == pytest.approx(np.mean([mean[one == one.max()].mean() for one in sets]))
    assert (random.sample, random.seconds, random.overall.networks) == ("2x1", 24.0, 12)
    assert random.best.networks == (mean >= np.sort(mean)[-2]).sum()


def sorted_by_name(values):
    order = sorted(range(len(WIDTHS)), key=lambda place: f"width={WIDTHS[place]}")
    return [values[place] for place in order]


def test_a_network_counts_where_all_sets_and_the_truth_have_it(made, plugins):
    rising = np.linspace(0.1, 0.9, 12)
    given = records(rising, "whole", protocol="dc:steps=4")[:11]
    given += [*records(rising), *records(rising, condense_seed=1)[1:]]
    (tiny,) = search(made, given, lambda: plugins).datasets
    (random,) = tiny.rankings
    assert random.overall.networks == len(random.found) == 10
    assert random.overall.kendall.value == pytest.approx(1)
    assert search(made, records(rising), lambda: plugins).datasets == ()


def test_a_smaller_sample_is_part_of_a_larger_one_and_another_seed_draws_others():
    options = {"width": [32, 64, 128, 256], "depth": [1, 2, 3, 4], "norm": ["none", "batch"]}
    few, more, every = (Grid(network="convnet", options=options, sample=count).names() for count in (5, 20, None))
    assert (len(few), len(more), len(every)) == (5, 20, 32)
    assert {*few} < {*more} < {*every}
    assert every[:2] == ("convnet:width=32,depth=1,norm=none", "convnet:width=32,depth=1,norm=batch")
    assert few != Grid(network="convnet", options=options, sample=5, seed=1).names()


def test_the_papers_grid_has_720_networks(plugins):
    file = load_suite(plugins.suite_path("architecture-search-720")).file
    networks = {str(plugins.make_architecture(name)) for name in file.eval_networks}
    assert len(networks) == file.grid.size == 720
    assert "convnet" in networks


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('network = "convnet"\n', 'network = "convnt"\n', "key 'eval_networks': unknown network 'convnt'"),
        ("width = [2]", "widht = [2]", "key 'eval_networks': unknown option of network convnet 'widht'"),
        ("width = [2]", "width = []", "key 'grid.options.width'"),
        ('"none"] }', '"none"] }\nsample = 9', "key 'grid': the grid has 4 networks, fewer than the sample of 9"),
        ('"none"] }', '"none"] }\nsample = 0', "key 'grid.sample'"),
        ('method = "whole"', 'method = "wole"', "key 'truth': unknown method 'wole'. Did you mean 'whole'?"),
        ("dc:steps=4", "dc:steps=none", "key 'truth': protocol dc:steps=none: write dc:steps=NUMBER."),
    ],
)
def test_a_mistake_in_a_search_names_the_file_and_the_key(write, plugins, tmp_path, old, new, message):
    assert old in SEARCH
    with pytest.raises(DcbenchError) as caught:
        select(load_suite(write(SEARCH.replace(old, new)))).plan(plugins, torch.device("cpu"), tmp_path)
    assert f"blobs.toml: {message}" in str(caught.value)


def test_a_grid_of_which_no_network_can_take_the_images_is_refused(write, plugins, tmp_path):
    text = SEARCH.replace('depth = [1, 4], pooling = ["max", "none"]', 'depth = [4], pooling = ["max"]')
    with pytest.raises(DcbenchError, match=r"4 poolings leave nothing of images of 8x8 pixels \(tiny\)"):
        select(load_suite(write(text))).plan(plugins, torch.device("cpu"), tmp_path)


def test_a_suite_without_networks_is_refused(write):
    text = SEARCH[: SEARCH.index("[grid]")]
    with pytest.raises(DcbenchError, match="key 'eval_networks': there is no network, nor a grid of them"):
        load_suite(write(text))


def test_a_search_runs_its_truth_first_and_leaves_out_by_name_what_cannot_take_the_images(
    write, plugins, tmp_path, monkeypatch
):
    monkeypatch.setattr(Plugins, "load", classmethod(lambda cls, *args, **words: plugins))
    monkeypatch.chdir(tmp_path)
    write()

    def dcbench(line):
        result = CliRunner().invoke(main, line.split(), terminal_width=200)
        assert not result.exception or isinstance(result.exception, SystemExit), result.exception
        return result

    planned = json.loads(dcbench("suite run blobs.toml --dry-run --json").stdout)
    trials = [(row["method"], row["protocol"], row["trials"]) for row in planned]
    random = ("random", "dc:steps=2", "3")
    assert trials == [("whole", "dc:steps=4", "6"), random, random, ("whole", "dc:steps=2", "3")]
    ran = dcbench("suite run blobs.toml --results r")
    assert ran.exit_code == 0, ran.output
    left = (
        "1 of 4 evaluation networks cannot take the images, and are left out: convnet:depth=4,pooling=max,width=2."
    )
    assert ran.stderr.count(left) == 1
    shown = dcbench("suite show blobs.toml --results r").stdout
    assert "tiny: 3 of 4 networks" in shown
    assert "whole (truth, another seed)" in shown
    assert "Done: 6 of at most 8 trials under dc:steps=4, 9 of at most 12 trials under dc:steps=2." in shown
    (data,) = json.loads(dcbench("suite show blobs.toml --results r --json").stdout)["datasets"]
    assert [(each["method"], each["ipc"], each["protocol"]) for each in data["rankings"]] == [
        ("whole", None, "dc:steps=4"), ("random", 1, "dc:steps=2"), ("whole", None, "dc:steps=2"),
    ]  # fmt: skip
    assert len(data["rankings"][1]["found"]) == 3
    assert "Everything was done already" in dcbench("suite run blobs.toml --results r").stdout


def test_a_part_of_a_search_is_ranked_by_the_whole_truth(made):
    part = select(made.suite, SuiteFilter(methods=("random",), evals=3))
    assert (part.truth.methods, part.truth.evals, part.truth.suite.file.protocol) == (("whole",), 2, "dc:steps=4")
    assert part.truth.trials == 2 * len(WIDTHS)
