"""A plugin of somebody else's, found by the command through its entry point."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "third_party" / "first_images"


def install(folder, name, version, entry_point, module, text):
    """Lay out a folder as an installer would: the module, and the metadata that names its entry point."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[dcbench]\n{entry_point} = {module}\n")
    (folder / f"{module}.py").write_text(text)


@pytest.fixture
def first_images(tmp_path):
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    ((entry_point, module),) = project["entry-points"]["dcbench"].items()
    folder = tmp_path / "site"
    text = (SOURCE / f"{module}.py").read_text()
    install(folder, project["name"], project["version"], entry_point, module, text)
    return folder


@pytest.fixture
def dcbench(dcbench_command, tmp_path):
    def invoke(folder, *words):
        environment = os.environ | {"PYTHONPATH": str(folder)}
        return subprocess.run(
            [*dcbench_command, *words], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300
        )

    return invoke


def test_it_runs_beside_ours_and_its_rows_say_where_it_comes_from(first_images, dcbench, tmp_path):
    words = "run --method first_images --method random --dataset digits --eval-network mlp --evals 1".split()
    done = dcbench(first_images, *words)
    assert done.returncode == 0, done.stderr
    assert "first_images" in done.stdout
    lines = (tmp_path / "results" / "records.jsonl").read_text().splitlines()
    (record,) = [each for each in map(json.loads, lines) if each["method"] == "first_images"]
    assert (record["plugin"], record["plugin_version"]) == ("dcbench-first-images", "1.2.3")


def test_a_broken_one_is_listed_and_stops_nobody_else(first_images, dcbench):
    install(first_images, "dcbench-broken", "0.1", "broken", "dcbench_broken", "import nowhere_to_be_found\n")
    done = dcbench(first_images, "plugin", "list", "--json")
    (broken,) = [row for row in json.loads(done.stdout) if row["error"]]
    assert broken["distribution"] == "dcbench-broken"
    assert broken["error"] == "ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    assert dcbench(first_images, "run", "--method", "first_images", "--dry-run").returncode == 0


def test_a_name_taken_twice_is_an_error_that_names_both_packages(first_images, dcbench):
    text = (first_images / "dcbench_first_images.py").read_text()
    install(first_images, "dcbench-copy", "0.1", "copy", "dcbench_copy", text)
    done = dcbench(first_images, "run", "--dry-run")
    assert done.returncode == 2
    assert "'first_images' is registered twice" in done.stderr
    assert "dcbench-first-images" in done.stderr
    assert "dcbench-copy" in done.stderr
    assert dcbench(first_images, "plugin", "list").returncode == 0
