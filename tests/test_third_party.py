"""Plugins of somebody else's: real packages, installed from their folders beside the built wheel."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from installed import Environment, build_wheel, run

SOURCES = Path(__file__).parent / "third_party"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """The wheel with a good package, a broken one, a mistyped one and one that changes its input."""
    folder = tmp_path_factory.mktemp("installed")
    made = Environment.create(folder, build_wheel(folder))
    made.install(*(SOURCES / name for name in ("first_images", "broken", "mistyped", "mutates")))
    return made


@pytest.fixture(scope="session")
def beside(environment, tmp_path_factory):
    """A folder with a package that takes the good one's name; only those who name the folder see it."""
    folder = tmp_path_factory.mktemp("beside")
    environment.install(SOURCES / "duplicate", target=folder)
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def dcbench(environment, tmp_path):
    return lambda line, **variables: environment.dcbench(*line.split(), cwd=tmp_path, **variables)


def test_it_is_the_wheel_that_is_tested(environment, tmp_path):
    where = run(environment.python, "-c", "import dcbench; print(dcbench.__file__)", cwd=tmp_path).stdout
    assert Path(where).is_relative_to(environment.folder)


def test_it_runs_beside_ours_and_its_rows_say_where_it_comes_from(dcbench, tmp_path):
    done = dcbench("run -m first-images -m random -d digits --budget quick --eval-network mlp --evals 1")
    assert done.returncode == 0, done.stderr
    assert "first_images" in done.stdout
    lines = (tmp_path / "results" / "records.jsonl").read_text().splitlines()
    (record,) = [each for each in map(json.loads, lines) if each["method"] == "first_images"]
    assert (record["plugin"], record["plugin_version"]) == ("dcbench-first-images", "1.2.3")


def test_broken_and_mistyped_ones_are_listed_with_why_and_stop_nobody_else(dcbench):
    rows = {row["plugin"]: row for row in json.loads(dcbench("plugin list --json").stdout)}
    assert rows["broken"]["distribution"] == "dcbench-broken"
    assert rows["broken"]["error"] == "ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    assert "unknown hook 'dcbench_register_method'" in rows["mistyped"]["error"]
    assert {name for name, row in rows.items() if row["error"]} == {"broken", "mistyped"}
    assert dcbench("run --method first_images --dry-run").returncode == 0


def test_checking_a_broken_one_says_why(dcbench):
    done = dcbench("plugin check dcbench-broken")
    assert done.returncode == 2
    assert "failed to load: ModuleNotFoundError: No module named 'nowhere_to_be_found'" in done.stderr


def test_suspects_can_be_left_out(dcbench):
    alone = json.loads(dcbench("--no-plugins plugin list --json").stdout)
    assert {row["plugin"] for row in alone if row["disabled"]} == {"first_images", "broken", "mistyped", "mutates"}
    named = json.loads(dcbench("plugin list --json", DCBENCH_DISABLE_PLUGINS="broken,dcbench-mistyped").stdout)
    assert {row["plugin"] for row in named if row["disabled"]} == {"broken", "mistyped"}
    assert not [row for row in named if row["error"]]


def test_a_name_taken_twice_is_an_error_that_names_both_packages(dcbench, beside):
    done = dcbench("run --dry-run", **beside)
    assert done.returncode == 2
    assert "'first_images' is registered twice" in done.stderr
    assert "dcbench-first-images" in done.stderr
    assert "dcbench-duplicate" in done.stderr


def test_one_of_two_with_the_same_name_can_be_disabled(dcbench, beside):
    assert "registered twice" in dcbench("plugin list", **beside).stdout
    assert dcbench("run --dry-run", DCBENCH_DISABLE_PLUGINS="dcbench-duplicate", **beside).returncode == 0


def test_the_good_one_keeps_the_contract(dcbench):
    done = dcbench("plugin check first-images")
    assert done.returncode == 0, done.stdout
    assert "✗" not in done.stdout


def test_the_one_that_changes_its_input_is_found_out(dcbench):
    done = dcbench("plugin check inverted --json")
    assert done.returncode == 1
    failed = {each["check"]: each for each in json.loads(done.stdout) if each["status"] == "failed"}
    assert list(failed) == ["leaves_its_inputs_alone"]
    assert failed["leaves_its_inputs_alone"]["found"] == "changed: task.train.images"


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("method", "run --method my-own-method -o steps=2 --dataset digits --budget quick"),
        ("dataset", "run --method random --budget quick --dataset my-own-dataset"),
        ("architecture", "run --method random --budget quick --dataset digits"),
    ],
)
def test_a_new_plugin_works_at_once(kind, line, environment, dcbench, tmp_path):
    name = f"my-own-{kind}"
    done = dcbench(f"plugin new {name} --kind {kind}")
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    environment.install(tmp_path / name, target=site)
    variables = {"PYTHONPATH": str(site)}
    tests = run(environment.python, "-m", "pytest", name, cwd=tmp_path, check=False, **variables)
    assert re.search(r"\d\d passed", tests.stdout), tests.stdout
    assert tests.returncode == 0
    network = f"{name}:width=4" if kind == "architecture" else "mlp"
    done = dcbench(f"{line} --eval-network {network} --evals 1", **variables)
    assert done.returncode == 0, done.stderr
    assert re.search(r"my_own_", done.stdout)
    assert f"my_own_{kind}" in dcbench("plugin list", **variables).stdout
