"""The documents are true: their code runs, their commands parse, and no hook, check or folder is missing."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from installed import run

from dcbench import api, hookspecs
from dcbench.checks import ARCHITECTURE_CHECKS, DATASET_CHECKS, MEASURE_CHECKS, METHOD_CHECKS
from dcbench.cli import main
from dcbench.cli.check_subject import find_subject
from dcbench.core.method import Task
from dcbench.core.spec import BUDGETS
from dcbench.plugins import PluginInfo, Plugins
from dcbench.suites.file import load_suite
from dcbench.suites.selection import select

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


WORDS = [
    "condensed set",
    "ipc",
    "matched on",
    "evaluation network",
    "trial",
    "cell",
    "protocol",
    "track",
    "gap",
    "verified",
]


def test_the_readme_explains_ten_words():
    glossary = README.partition("### Ten words")[2].partition("\n## ")[0]
    assert re.findall(r"^\| \*\*(.+?)\*\*", glossary, flags=re.MULTILINE) == WORDS


def test_the_readme_has_every_folder():
    folders = [path.parent.name for path in (ROOT / "dcbench").glob("*/__init__.py")]
    assert sorted(re.findall(r"^\| `(\w+)/` \|", README, flags=re.MULTILINE)) == sorted(folders)


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_parses(command):
    name, *words = shlex.split(command)[1:]
    context = main.make_context("dcbench", [name, *words])
    sub = main.get_command(context, name)
    assert isinstance(sub.make_context(name, words, parent=context), click.Context)


def test_the_plugin_of_the_readme_works_and_keeps_the_contract(dcbench_command, tmp_path):
    (code,) = (block for block in blocks(README, "python") if "@hookimpl" in block)
    (text,) = blocks(README, "toml")
    project = tomllib.loads(text)["project"]
    ((entry_point, module),) = project["entry-points"]["dcbench"].items()
    # As an installer lays it out: the module, and the metadata that names its entry point.
    folder = tmp_path / "site"
    metadata = folder / f"{module}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    name_and_version = f"Name: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\n{name_and_version}")
    (metadata / "entry_points.txt").write_text(f"[dcbench]\n{entry_point} = {module}\n")
    (folder / f"{module}.py").write_text(code)
    for line, found in (
        ("plugin check mean-image", "0 failed"),
        ("run -m mean_image -d digits --eval-network mlp --evals 1 --budget quick", r"mean_image\s+[5-9]\d\.\d"),
    ):
        done = run(*dcbench_command, *line.split(), cwd=tmp_path, check=False, PYTHONPATH=str(folder))
        assert done.returncode == 0, done.stderr + done.stdout
        assert re.search(found, done.stdout)


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


# --- The guide's code --------------------------------------------------------------------------------

PLUGIN_BLOCKS = [block for block in blocks(GUIDE, "python") if "@hookimpl" in block]
(TEST_BLOCK,) = [block for block in blocks(GUIDE, "python") if "METHOD_CHECKS" in block]


def as_module(code, name):
    module = types.ModuleType(name)
    module.__file__ = f"/somewhere/{name}.py"
    exec(compile(code, name, "exec"), vars(module))
    return module


@pytest.mark.parametrize("code", PLUGIN_BLOCKS, ids=range(len(PLUGIN_BLOCKS)))
def test_every_plugin_of_the_guide_works_and_keeps_the_contract(code):
    plugins = Plugins()
    plugins.add(as_module(code, "guide"), PluginInfo("guide", "guide", "guide", "1"))
    (info,) = plugins.infos
    assert not info.error
    for kind, name in (each.split(" ", 1) for each in info.provides):
        if kind == "suite":
            continue
        kind = {"network": "architecture"}.get(kind, kind)
        failed = [each for each in find_subject(plugins, name, kind, {}).run() if not each.ok]
        assert not failed, failed


def test_the_guide_shows_every_hook_with_code():
    shown = {name for code in PLUGIN_BLOCKS for name in re.findall(r"def (dcbench_\w+)", code)}
    assert shown == {name for name in vars(hookspecs) if name.startswith("dcbench_")}


def test_the_observers_of_the_guide_are_called(run_observed):
    assert "condense random on tiny, ipc 1: done" in run_observed.stdout
    assert re.search(r"random on mlp: accuracy \d\.\d+", run_observed.stdout)


@pytest.fixture
def run_observed(run, plugins, tmp_path, capsys):
    (code,) = [code for code in PLUGIN_BLOCKS if "dcbench_record_added" in code]
    plugins.add(as_module(code, "observer"), PluginInfo("observer", "observer", "guide", "1"))
    run(tmp_path / "results", methods=("random",), eval_networks=("mlp",), budget=BUDGETS["quick"])
    return types.SimpleNamespace(stdout="".join(capsys.readouterr()))


def test_the_guide_s_test_of_an_author_runs_every_check(monkeypatch):
    (code,) = [code for code in PLUGIN_BLOCKS if "class MyMethod" in code]
    monkeypatch.setitem(sys.modules, "my_module", as_module(code, "my_module"))
    test = as_module(TEST_BLOCK, "test_contract").test_contract
    (mark,) = [mark for mark in test.pytestmark if mark.name == "parametrize"]
    assert mark.args[1] == METHOD_CHECKS
    for check in mark.args[1]:
        test(check)


def test_the_suite_of_the_guide_can_be_used(plugins, tmp_path):
    (code,) = [code for code in PLUGIN_BLOCKS if "class MyMethod" in code]
    plugins.add(as_module(code, "my_module"), PluginInfo("my_method", "my_module", "guide", "1"))
    (text,) = [block for block in blocks(GUIDE, "toml") if "eval_networks" in block]
    (table,) = blocks(GUIDE, "csv")
    (tmp_path / "my_suite.toml").write_text(text)
    (tmp_path / "mine.csv").write_text(table)
    part = select(load_suite(tmp_path / "my_suite.toml"))
    assert len(part.experiments()) == 4
    planned = part.suite.file.options
    assert planned == {"my_method.steps": "50"}


@pytest.mark.parametrize("checks", [METHOD_CHECKS, DATASET_CHECKS, ARCHITECTURE_CHECKS, MEASURE_CHECKS])
def test_the_guide_has_every_check(checks):
    for check in checks:
        assert f"`{check.__name__}`" in GUIDE, check.__name__


def test_every_command_of_the_guide_parses():
    lines = [line.split("#")[0].strip() for line in "\n".join(blocks(GUIDE, "sh")).splitlines()]
    words = [shlex.split(line) for line in lines if line.startswith("dcbench ")]
    assert len(words) >= 6
    for _, *line in words:
        context = main.make_context("dcbench", list(line))
        command, rest = main, [*context._protected_args, *context.args]
        while isinstance(command, click.Group):
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, list(rest), parent=context)
            rest = [*context._protected_args, *context.args]


@pytest.mark.slow
def test_the_python_example_of_the_readme_runs(tmp_path, monkeypatch):
    (code,) = (block for block in blocks(README, "python") if "import dcbench\n" in block)
    monkeypatch.chdir(tmp_path)
    shown = {}
    exec(code, shown)
    assert set(shown["results"].table(dataset="digits", ipc=1).index.str.split(" ").str[0]) == {
        "herding@2",
        "random",
    }
    assert shown["condensed"].images.shape == (10, 1, 8, 8)
    assert len(shown["score"].records) == 5


def test_the_hours_of_the_reproduction_are_those_of_the_records(monkeypatch):
    monkeypatch.chdir(ROOT)
    (command,) = (each for each in commands() if each.endswith("--hours"))
    printed = CliRunner().invoke(main, shlex.split(command)[1:]).output
    assert printed.count("\n") == 2 + 12
    assert f"```\n\n{printed}\n" in README


def test_no_committed_mean_is_as_far_from_a_paper_as_the_readme_rules_out():
    lines = []
    for name in ("gradient-matching-cross-architecture", "random-and-coresets-dc", "siamese-augmentation-table"):
        words = ["suite", "show", name, "--results", str(ROOT / "leaderboards"), "--json"]
        lines += json.loads(CliRunner().invoke(main, words).stdout)["lines"]
    apart = [line["z"] for line in lines if line["z"] is not None]
    assert len(apart) == 9
    assert (round(min(apart), 1), round(max(apart), 1)) == (-1.2, 1.1)
