"""The scripts that verify pull requests and publish the page, run as they are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUBMISSIONS = Path("leaderboards") / "submissions"


def run(folder, *words):
    environment = os.environ | {"DCBENCH": f"{sys.executable} -m dcbench"}
    return subprocess.run([*words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def git(folder, *words):
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    done = run(folder, "git", *identity, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with the scripts and the leaderboard of this one."""
    shutil.copytree(ROOT / "ci", tmp_path / "ci")
    shutil.copytree(ROOT / "leaderboards", tmp_path / "leaderboards")
    shutil.copy(ROOT / "README.md", tmp_path)
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "start")
    return tmp_path


def test_a_tampered_submission_of_a_pull_request_is_named_and_fails(repository):
    name = sorted((repository / SUBMISSIONS).iterdir())[0].name
    git(repository, "switch", "--quiet", "--create", "theirs")
    records = repository / SUBMISSIONS / name / "records.jsonl"
    records.write_text(records.read_text().replace('"eval_seed": 0,', '"eval_seed": 77,', 1))
    git(repository, "commit", "--quiet", "--all", "-m", "better")
    git(repository, "switch", "--quiet", "main")
    done = run(repository, "bash", "ci/verify.sh", "main", "theirs")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"### {name}" in done.stdout
    assert "its key is not that of what it says was evaluated" in done.stdout
    assert "NOT verified" in done.stdout
    assert str(repository) not in done.stdout


def test_nothing_is_verified_where_nothing_is_submitted(repository):
    git(repository, "switch", "--quiet", "--create", "theirs")
    (repository / "README.md").write_text("other")
    git(repository, "commit", "--quiet", "--all", "-m", "words")
    done = run(repository, "bash", "ci/verify.sh", "main", "theirs")
    assert (done.returncode, "None is changed." in done.stdout) == (0, True)


def test_the_page_and_the_tables_are_laid_out_for_publishing(repository):
    done = run(repository, "bash", "ci/page.sh", "site")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (repository / "leaderboards" / "tables").iterdir()}
    assert {path.name for path in (repository / "site").iterdir()} == names
    assert "index.html" in names


@pytest.mark.parametrize(
    "workflow", sorted((ROOT / ".github" / "workflows").iterdir()), ids=lambda path: path.name
)
def test_workflows_call_scripts_that_are_there(workflow):
    text = workflow.read_text()
    called = [word for word in text.split() if word.startswith(("ci/", ".ci/"))]
    assert called or workflow.name == "comment.yml"
    for script in called:
        assert os.access(ROOT / script, os.X_OK), script
