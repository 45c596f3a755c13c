"""What the documents say is so: their code runs, their commands parse, no hook is missing."""

from __future__ import annotations

import inspect
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from test_third_party import dcbench, install  # noqa: F401

from dcbench import api, hookspecs
from dcbench.cli import main
from dcbench.methods import Task

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "plugins" / "README.md").read_text()


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands():
    lines = "\n".join(blocks(README, "sh")).splitlines()
    return [line.split("#")[0].strip().split("uv run ")[-1] for line in lines if "dcbench " in line]


def test_no_number_is_still_to_be_filled_in():
    assert not re.findall(r"\b(?:[A-Z]+_\d+|WHOLE|TODO|XX+)\b", README)


@pytest.mark.parametrize("page", ["README.md", "plugins/README.md", "leaderboards/README.md"])
def test_every_link_leads_somewhere(page):
    text = (ROOT / page).read_text()
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        assert target.startswith("https://") or (ROOT / page).parent.joinpath(target).exists(), target


def test_the_readme_has_commands():
    assert len(commands()) >= 4


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_parses(command):
    name, *words = shlex.split(command)[1:]
    context = main.make_context("dcbench", [name, *words])
    sub = main.get_command(context, name)
    assert isinstance(sub.make_context(name, words, parent=context), click.Context)


def test_the_plugin_of_the_readme_works(dcbench, tmp_path):  # noqa: F811
    (code,) = blocks(README, "python")
    (text,) = blocks(README, "toml")
    project = tomllib.loads(text)["project"]
    ((entry_point, module),) = project["entry-points"]["dcbench"].items()
    folder = tmp_path / "site"
    install(folder, project["name"], project["version"], entry_point, module, code)
    done = dcbench(folder, *"run -m mean_image -d digits --eval-network mlp --evals 1".split())
    assert done.returncode == 0, done.stderr
    assert re.search(r"mean_image\s+[5-9]\d\.\d", done.stdout)


def test_the_guide_has_every_hook_with_its_arguments():
    for name in (name for name in vars(hookspecs) if name.startswith("dcbench_")):
        arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
        assert f"`{name}({arguments})`" in GUIDE


def test_the_guide_has_everything_a_task_gives():
    public = [name for name in [*Task.__dataclass_fields__, *vars(Task)] if not name.startswith("_")]
    for name in public:
        assert f"task.{name}" in GUIDE, name


def test_everything_in_the_api_is_documented():
    for name in api.__all__:
        assert (getattr(api, name).__doc__ or "").strip(), name
