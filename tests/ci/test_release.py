"""What a release needs: one version everywhere, and distributions that work when they are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import dcbench

ROOT = Path(__file__).parents[2]
FILES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "ci", "dcbench", "plugins")


@pytest.fixture
def project(tmp_path):
    """A copy of what is released, whose changelog says that it is out."""
    for name in FILES:
        path = ROOT / name
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, tmp_path / name)
    changelog = (ROOT / "CHANGELOG.md").read_text().replace(" (unreleased)", "", 1)
    (tmp_path / "CHANGELOG.md").write_text(changelog)
    return tmp_path


def release(project, tag):
    words = ["bash", "ci/release.sh", tag, "dist"]
    return subprocess.run(words, cwd=project, capture_output=True, text=True, timeout=300)


def test_version_changelog_and_citation_are_in_step():
    (newest,) = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")][:1]
    assert newest.removeprefix("## ").split()[0] == dcbench.__version__
    assert f"\nversion: {dcbench.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize(
    ("tag", "file", "old", "new", "said"),
    [
        ("v9.9.9", "README.md", "", "", "tag 9.9.9"),
        (f"v{dcbench.__version__}", "CHANGELOG.md", "## 0", "## 7.0.0\n\n## 0", "changelog 7.0.0"),
        (
            f"v{dcbench.__version__}",
            "CHANGELOG.md",
            f"## {dcbench.__version__}",
            f"## {dcbench.__version__} (unreleased)",
            f"changelog {dcbench.__version__} (unreleased)",
        ),
        (f"v{dcbench.__version__}", "CITATION.cff", "\nversion: ", "\nversion: 7", "citation 7"),
    ],
    ids=["tag", "changelog", "unreleased", "citation"],
)
def test_what_is_not_in_step_is_not_released(project, tag, file, old, new, said):
    path = project / file
    path.write_text(path.read_text().replace(old, new, 1))
    done = release(project, tag)
    assert done.returncode == 1
    assert f"The code is of version {dcbench.__version__}, and this is not: {said}" in done.stderr
    assert not (project / "dist").exists()


@pytest.mark.slow
def test_a_release_is_built_and_can_be_installed(project):
    done = release(project, f"v{dcbench.__version__}")
    assert done.returncode == 0, done.stderr
    made = sorted(path.name for path in (project / "dist").glob("dcbench_suite-*"))
    assert [name.removeprefix(f"dcbench_suite-{dcbench.__version__}") for name in made] == [
        "-py3-none-any.whl",
        ".tar.gz",
    ]
