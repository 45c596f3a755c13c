"""What `dcbench doctor` looks at, and what it says of everything that can be wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import tiny_plugin
import torch
from click.testing import CliRunner
from running import SMALL

from dcbench.cli import diagnosis, main
from dcbench.cli.diagnosis import Finding, examine
from dcbench.plugins import PluginInfo
from dcbench.results.store import RECORDS

SECTIONS = ["Installation", "Disk", "Devices", "Plugins", "Results", "Data"]


@pytest.fixture
def look(plugins, tmp_path):
    """Look at this machine with the tests' plugin."""

    def go(data=tmp_path / "data", results=tmp_path / "r"):
        return [*examine(lambda: plugins, data, results)]

    return go


def of(findings, subject):
    """Return the one finding about something."""
    (found,) = (each for each in findings if each.subject == subject)
    return found


def not_fine(findings, *sections):
    return [each for each in findings if each.status != "fine" and each.section in sections]


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def test_a_machine_that_is_whole(look, run, tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", lambda *_: pytest.fail("a download"))
    run(tmp_path / "r", **SMALL)
    before = contents(tmp_path)
    findings = look()
    assert list(dict.fromkeys(each.section for each in findings)) == SECTIONS
    assert not [each for each in findings if each.status == "wrong"]
    assert f"torch {version('torch')}" in of(findings, "packages").result
    assert of(findings, "digits").result == "whole: 10 classes of 1x8x8"
    assert of(findings, "mnist").result.startswith("not here")
    assert of(findings, "records").result == "4"
    assert of(findings, "condensed sets").result == "2, 2 of them whole"
    networks = "2, 2 of them whole, which take 0.0 MiB: dcbench networks list"
    assert of(findings, "trained networks").result == networks
    assert contents(tmp_path) == before


def test_the_command_prints_it_and_ends_with_0_or_1(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    words = ["doctor", "--data-root", str(tmp_path / "data")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "Nothing is wrong." in done.output
    assert not list(tmp_path.iterdir())
    Path("results").touch()
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert any(line.startswith("✗  results          results is not a folder") for line in lines)
    assert "                    → Choose another folder with --results." in lines
    assert "1 to repair, marked ✗." in lines
    assert max(len(line) for line in lines if str(tmp_path) not in line and "/" not in line) <= 80


def test_json_has_the_same(tmp_path):
    done = CliRunner().invoke(main, ["doctor", "--json", "--results", str(tmp_path), "--data-root", str(tmp_path)])
    assert done.exit_code == 0
    findings = [Finding(**each) for each in json.loads(done.output)]
    assert list(dict.fromkeys(each.section for each in findings)) == [
        each for each in SECTIONS if each != "Results"
    ]


# Installation


def pretending(monkeypatch, **versions):
    def pretended(name):
        found = versions.get(name.replace("-", "_"), "as it is")
        if found is None:
            raise PackageNotFoundError(name)
        return version(name) if found == "as it is" else found

    monkeypatch.setattr(diagnosis, "version", pretended)


@pytest.mark.parametrize(
    ("versions", "subject", "result", "remedy"),
    [
        ({"torch": "1.0"}, "torch", "is 1.0, not >=", "pip install 'torch>="),
        ({"timm": None}, "timm", "is missing", "pip install 'timm>="),
        ({"dcbench": "0.3"}, "dcbench of PyPI", "0.3, an unrelated package", "pip uninstall dcbench"),
    ],
)
def test_what_is_installed_and_does_not_fit(look, monkeypatch, versions, subject, result, remedy):
    pretending(monkeypatch, **versions)
    (finding,) = not_fine(look(), "Installation")
    assert finding.status == "wrong"
    assert finding.subject == subject
    assert finding.result.startswith(result)
    assert finding.remedy.startswith(remedy)


def test_code_that_is_there_without_being_installed(look, monkeypatch):
    def fail(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(diagnosis, "requires", fail)
    (finding,) = not_fine(look(), "Installation")
    assert finding.status == "wrong"
    assert finding.remedy == "pip install dcbench-suite"


def test_an_extra_that_is_not_installed_is_not_wrong(look, monkeypatch):
    pretending(monkeypatch, ray=None)
    findings = look()
    assert not not_fine(findings, "Installation")
    assert "ray" not in of(findings, "packages").result


def test_a_torchvision_of_another_torch(look, monkeypatch):
    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(diagnosis.importlib, "import_module", fail)
    (finding,) = not_fine(look(), "Devices")
    assert finding.result == "cannot be imported: operator torchvision::nms does not exist"
    assert "released together" in finding.remedy


# Devices


@pytest.mark.parametrize(
    ("target", "value", "missing"),
    [("shutil.which", lambda name: None, "a C++ compiler"), ("sysconfig.get_path", lambda name: "no", "headers")],
)
def test_without_a_compiler_it_is_said_what_that_means(look, monkeypatch, target, value, missing):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(target, value)
    (compiler,) = not_fine(look(), "Devices")
    assert compiler.status == "note"
    assert missing in compiler.remedy


@pytest.mark.skipif(torch.cuda.is_available(), reason="pretends that there is no GPU, or another")
@pytest.mark.parametrize("built", [None, "12.9"])
def test_a_gpu_that_torch_is_not_built_for(look, monkeypatch, tmp_path, built):
    monkeypatch.setattr(diagnosis, "DRIVER", tmp_path)
    monkeypatch.setattr(torch.version, "cuda", built)
    (finding,) = not_fine(look(), "Devices")
    assert finding.status == "wrong"
    assert finding.result.endswith("without CUDA" if built is None else "for CUDA 12.9")


def test_a_gpu_that_fails_is_named_and_one_that_works_described(look, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**30, 4 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A Card")
    zeros = torch.zeros

    def on(size, device):
        if device.index == 1:
            raise RuntimeError("CUDA error: out of memory\nand advice")
        return zeros(size)

    monkeypatch.setattr(torch, "zeros", on)
    findings = look()
    assert of(findings, "cuda:0").result == "A Card, 3.0 GiB of 4.0 GiB free"
    assert of(findings, "cuda:1").status == "wrong"
    assert of(findings, "cuda:1").result == "cannot be used: CUDA error: out of memory"


# Plugins


def test_plugins_that_failed_or_are_disabled(look, plugins):
    plugins.infos.append(PluginInfo("broken", "m", "dcbench-broken", "1.2", error="ImportError: no such thing"))
    plugins.infos.append(PluginInfo("asleep", "m", "dcbench-asleep", "1", disabled="DCBENCH_DISABLE_PLUGINS"))
    broken, asleep = not_fine(look(), "Plugins")
    assert broken.status == "wrong"
    assert broken.result == "of dcbench-broken 1.2 failed to load: ImportError: no such thing"
    assert "pip uninstall dcbench-broken" in broken.remedy
    assert "DCBENCH_DISABLE_PLUGINS=broken" in broken.remedy
    assert asleep.result == "of dcbench-asleep 1 is disabled by DCBENCH_DISABLE_PLUGINS"
    assert asleep.status == "note"


# Data


HERE = {"is_here": lambda self, root: True}


def fails(self, root):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("changes", "result", "status"),
    [
        ({}, "does not say whether it has to be downloaded", "fine"),
        (HERE, "can be read: 3 classes of 1x8x8", "fine"),
        ({"is_here": lambda self, root: False}, "not here: the first run that needs it downloads it", "fine"),
        ({**HERE, "sha256": "0" * 64}, "dataset 'tiny' is damaged, or not the", "wrong"),
        ({"is_here": fails}, "its is_here fails: ZeroDivisionError", "wrong"),
        ({**HERE, "load": fails}, "dataset 'tiny' cannot be used: ZeroDivisionError", "wrong"),
    ],
)
def test_a_data_set_is_whole_or_damaged_or_not_here(look, monkeypatch, changes, result, status):
    for name, value in changes.items():
        monkeypatch.setattr(tiny_plugin.Tiny, name, value)
    finding = of(look(), "tiny")
    assert finding.result.startswith(result)
    assert finding.status == status
    assert bool(finding.remedy) == (status == "wrong")


# Results


def test_damage_in_results_is_named_file_by_file(look, run, tmp_path):
    folder = tmp_path / "r"
    run(folder, **SMALL)
    lines = (folder / RECORDS).read_bytes().splitlines(keepends=True)
    (folder / RECORDS).write_bytes(lines[0] + lines[1].replace(b"tiny", b"tony") + b"".join(lines[2:]))
    damaged, _ = sorted((folder / "sets").glob("*.safetensors"))
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    network = next((folder / "networks").glob("*.safetensors"))
    network.write_bytes(data)
    findings = look()
    wrong = [each for each in findings if each.status == "wrong"]
    assert [each.subject for each in wrong] == ["records", "condensed set", "trained network"]
    assert "damaged line 2;" in wrong[0].result
    assert wrong[1].result.startswith(str(damaged))
    assert wrong[2].result.startswith(str(network))
    assert of(findings, "condensed sets").result == "2, 1 of them whole"
    assert of(findings, "trained networks").result.startswith("2, 1 of them whole, ")
    # The remedies work.
    assert [each.remedy[:11] for each in wrong] == ["Remove what", "Remove it, ", "`dcbench ne"]
    (folder / RECORDS).write_bytes(b"".join(lines[:1] + lines[2:]))
    damaged.unlink()
    network.unlink()
    run(folder, **SMALL)
    run(folder, force=True, **SMALL)
    assert not [each for each in look() if each.status == "wrong"]


def test_records_that_are_a_folder_are_named(look, tmp_path):
    (tmp_path / "r" / RECORDS).mkdir(parents=True)
    assert of(look(), "records").status == "wrong"


@pytest.mark.parametrize(("free", "status"), [(2**20, "wrong"), (2**30, "note"), (2**40, "fine")])
def test_a_disk_that_is_nearly_full(look, monkeypatch, free, status):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**41, 0, free))
    findings = look()
    assert {of(findings, "data root").status, of(findings, "results").status} == {status}


def test_a_folder_that_cannot_be_written_to_is_said(look, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    finding = of(look(), "results")
    assert finding.status == "note"
    assert finding.result.endswith("cannot be written to")
    assert "--results" in finding.remedy


def test_a_folder_that_cannot_be_reached_is_said(look, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    finding = of(look(), "results")
    assert finding.status == "wrong"
    assert finding.result.endswith("cannot be reached: Permission denied")


def test_without_a_package_that_the_rest_needs_the_installation_is_looked_at(monkeypatch, tmp_path):
    pretending(monkeypatch, safetensors=None)
    monkeypatch.setitem(sys.modules, "dcbench.results.provenance", None)
    done = CliRunner().invoke(main, ["doctor", "--json", "--results", str(tmp_path)])
    assert done.exit_code == 1
    wrong = [each["subject"] for each in json.loads(done.output) if each["status"] == "wrong"]
    assert wrong == ["safetensors", "imports"]


def test_findings_are_printed_as_they_come(tmp_path, monkeypatch):
    """The installation and the disks are told before torch is imported."""
    code = (
        "import sys; from dcbench.cli import main; doctor = sys.modules['dcbench.cli.doctor']\n"
        "told = doctor._print\n"
        "def checked(finding, is_first):\n"
        "    assert finding.section not in ('Installation', 'Disk') or 'torch' not in sys.modules\n"
        "    told(finding, is_first)\n"
        "    if finding.section == 'Disk' and finding.subject == 'results': sys.exit()\n"
        "doctor._print = checked\n"
        "main(['doctor'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "of disk free" in done.stdout
