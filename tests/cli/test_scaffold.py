"""`dcbench plugin new`: what it writes works at once, and what it cannot write it leaves alone."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import types

import pytest

from dcbench.cli.check_subject import find_subject
from dcbench.cli.plugin import KINDS
from dcbench.cli.scaffold import component_name, write_plugin
from dcbench.plugins import PluginInfo, Plugins
from dcbench.utils.errors import DcbenchError


@pytest.fixture(scope="module")
def installed():
    return Plugins.load()


# Names that collide with what the module imports, with Python's own, and with nothing.
AWKWARD = ("none", "task", "tensor", "path", "torch", "exception", "x2", "method")


@pytest.mark.parametrize(
    ("kind", "name"), [*((kind, "my-own") for kind in KINDS), *(("method", name) for name in AWKWARD)]
)
def test_what_is_written_keeps_the_contract_whatever_its_name(kind, name, installed, tmp_path):
    component = component_name(name, kind, installed)
    written = write_plugin(component, kind, tmp_path / name)
    assert all(path.is_file() for path in written)
    module = types.ModuleType(f"dcbench_{component}")
    exec((tmp_path / name / f"dcbench_{component}.py").read_text(), vars(module))
    plugins = Plugins()
    plugins.add(module, PluginInfo(component, module.__name__, "my-package", "0.1.0"))
    assert not plugins.infos[0].error
    failed = [each for each in find_subject(plugins, name, None, {}).run() if not each.ok]
    assert not failed


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_package_with_an_entry_point_a_readme_and_a_test(kind, tmp_path):
    write_plugin("my_own", kind, tmp_path / "my-own")
    project = tomllib.loads((tmp_path / "my-own" / "pyproject.toml").read_text())["project"]
    assert project["name"] == "dcbench-my-own"
    assert project["entry-points"]["dcbench"] == {"my_own": "dcbench_my_own"}
    readme = (tmp_path / "my-own" / "README.md").read_text()
    assert "dcbench plugin check my_own" in readme
    assert "dcbench run" in readme
    assert f"{kind.upper()}_CHECKS" in (tmp_path / "my-own" / "tests" / "test_contract.py").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_linted_and_imports_nothing_of_the_core_but_the_api(kind, tmp_path):
    write_plugin("my_own", kind, tmp_path / "my-own")
    source = tmp_path / "my-own" / "dcbench_my_own.py"
    imported = {
        node.module for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.ImportFrom)
    }
    assert {name for name in imported if name.startswith("dcbench")} == {"dcbench.api"}
    rules = ["--isolated", "--line-length", "100", "--select", "E,F,W,B,UP,SIM,D1", "--ignore", "D100,D103"]
    done = subprocess.run([sys.executable, "-m", "ruff", "check", *rules, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path):
    folder = tmp_path / "my-own"
    folder.mkdir()
    with pytest.raises(DcbenchError, match="already exists and was not changed"):
        write_plugin("my_own", "method", folder)
    assert os.listdir(tmp_path) == ["my-own"]
    assert not os.listdir(folder)


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", fail)
    with pytest.raises(DcbenchError, match="cannot be written: No space left on device"):
        write_plugin("my_own", "method", tmp_path / "my-own")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("My Method", "method", r"not a valid name for a plugin.*Try 'my-method'"),
        ("2fast", "method", "Try 'fast'"),
        ("my--method", "method", "Try 'my-method'"),
        ("../x", "method", "Try 'x'"),
        ("", "method", "'' is not a valid name"),
        ("random", "method", "dcbench-suite already has a method named 'random'"),
        ("fashion-mnist", "dataset", "already has a dataset named 'fashion_mnist'"),
    ],
)
def test_a_name_that_will_not_do_is_a_message(name, kind, message, installed):
    with pytest.raises(DcbenchError, match=message):
        component_name(name, kind, installed)


def test_a_name_of_another_kind_may_be_taken(installed):
    assert component_name("random", "dataset", installed) == "random"
