"""`dcbench networks`: what is there, and removing it."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner
from running import SMALL, sets

from dcbench.cli import main
from dcbench.results.artefacts import cost_beside
from dcbench.results.network_file import load_network
from dcbench.results.store import Store


@pytest.fixture
def results(run, tmp_path):
    """Results of two recipes, of two networks and of one."""
    run(tmp_path, **SMALL)
    run(tmp_path, **{**SMALL, "methods": ("taught",), "options": {"epochs": "3", "networks": "1"}})
    return tmp_path


def networks(*words):
    return CliRunner().invoke(main, ["networks", *map(str, words)])


def listed(results):
    done = networks("list", "--results", results, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def paths(results):
    return sorted((results / "networks").glob("*"))


def test_each_recipe_has_a_row(results):
    first, second = sorted(listed(results), key=lambda row: row["recipe"])
    assert (first["network"], first["dataset"], first["networks"]) == ("linear", "tiny", 2)
    assert first["recipe"].startswith("1 epoch, batch 16, SGD 0.05, momentum 0.9")
    assert second["recipe"].startswith("3 epochs")
    files = [path for path in paths(results) if path.suffix == ".safetensors"]
    whole = [each for each in map(load_network, files) if each.spec.recipe.epochs == 1]
    assert first["accuracy"] == pytest.approx(sum(each.accuracy for each in whole) / 2)
    assert first["held_out_accuracy"] == pytest.approx(sum(each.held_out_accuracy[1] for each in whole) / 2)
    assert first["seconds"] == pytest.approx(sum(cost_beside(each.path).seconds for each in whole), abs=1e-3)
    assert first["key"] == next(each.spec.key() for each in whole if each.spec.number == 0)
    shown = networks("list", "--results", results).output
    assert all(row["key"][:12] in shown for row in (first, second))


def test_a_folder_without_networks_has_none(tmp_path):
    assert listed(tmp_path / "none") == []
    assert networks("list", "--results", tmp_path / "none").exit_code == 0


def test_a_damaged_network_is_left_out_and_named(results):
    damaged = next(path for path in paths(results) if path.suffix == ".safetensors")
    damaged.write_bytes(b"no")
    done = networks("list", "--results", results)
    assert done.exit_code == 0
    assert f"Left out: {damaged} cannot be read as a trained network" in done.stderr


def test_damaged_networks_are_removed_when_asked_for(results):
    damaged = next(path for path in paths(results) if path.suffix == ".safetensors")
    damaged.write_bytes(b"no")
    assert networks("remove", "--yes", "--results", results).exit_code == 2
    assert networks("remove", "--damaged", "--yes", "--results", results).exit_code == 0
    assert damaged not in paths(results)
    assert len(paths(results)) == 4  # the others, with their costs
    assert "no damaged networks" in networks("remove", "--damaged", "--yes", "--results", results).stdout


def test_networks_of_a_recipe_are_removed_once_the_user_agrees(results, run):
    before, kept = paths(results), sets(results)
    key = next(row["key"] for row in listed(results) if row["networks"] == 2)
    words = ["networks", "remove", key[:6], "--results", str(results)]
    refused = CliRunner().invoke(main, words, input="n\n")
    assert refused.exit_code == 1
    said, asked = refused.output.splitlines()[:2]
    assert re.fullmatch(r"2 of linear on tiny, 1 epoch, .*, seed 0: 0\.0 MiB, \d\.\d s to train again\.", said)
    assert asked.startswith("Remove them? [y/N]")
    assert paths(results) == before
    assert CliRunner().invoke(main, words, input="y\n").exit_code == 0
    assert [row["networks"] for row in listed(results)] == [1]
    assert len(paths(results)) == 2
    run(results, **SMALL, force=True)  # which trains them again
    assert (paths(results), sets(results)) == (before, kept)


def test_without_asking_several_recipes_are_removed(results):
    keys = [row["key"] for row in listed(results)]
    assert networks("remove", *keys, "--yes", "--results", results).exit_code == 0
    assert paths(results) == []


def test_a_key_that_no_recipe_has_is_refused_and_nothing_removed(results):
    before = paths(results)
    done = networks("remove", listed(results)[0]["key"], "zz", "--yes", "--results", results)
    assert done.exit_code == 2
    assert f"{results} has no networks of key 'zz': dcbench networks list." in done.stderr
    assert paths(results) == before


def test_an_empty_key_does_not_name_them_all(results):
    done = networks("remove", "", "--yes", "--results", results)
    assert done.exit_code == 2
    assert len(listed(results)) == 2


def test_nothing_is_removed_while_a_run_is_working(results):
    before = paths(results)
    lock = Store(results).try_lock("0" * 64)
    done = networks("remove", listed(results)[0]["key"], "--yes", "--results", results)
    assert done.exit_code == 2
    assert f"a run is working in {results} and may need them: wait until it has ended." in done.stderr
    assert paths(results) == before
    lock.release()  # whose file stays, as of a run that was killed
    assert networks("remove", listed(results)[0]["key"], "--yes", "--results", results).exit_code == 0
    assert len(paths(results)) < len(before)
