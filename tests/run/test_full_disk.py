"""A full or read-only disk ends the run with one message; what was done is kept, and the same run goes on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import nullcontext

import depth
import pytest
from click.testing import CliRunner
from file_faults import Faults, disk_full
from running import SMALL, check_goes_on, outcome

from dcbench.cli import main
from dcbench.results.store import RECORDS, read_records
from dcbench.utils.errors import StorageError
from dcbench.utils.files import write_atomically

REASON = os.strerror(errno.ENOSPC)


def operations_of(run, folder):
    folder.mkdir()
    with Faults(folder).active() as faults:
        run(folder, **SMALL)
    return faults.operations


@pytest.mark.filterwarnings("ignore:.*its last line, which is torn")
# Every one takes six minutes.
@pytest.mark.parametrize("every", [pytest.param(2, marks=pytest.mark.slow) if depth.SLOW else 9])
def test_where_any_file_operation_fails_the_run_ends_and_goes_on_later(run, tmp_path, every_checkpoint, every):
    operations = operations_of(run, tmp_path / "whole")
    expected = outcome(tmp_path / "whole")
    for number, (operation, name) in list(enumerate(operations))[::every]:
        folder = tmp_path / f"{number}"
        folder.mkdir()
        # By nameless files filelock finds out what a file system can, and goes on; a lock may stay where it is.
        does_without = (operation, name) in (("open", ".locks"), ("open", "whole")) or (
            operation == "unlink" and name.endswith(".lock")
        )
        fails = pytest.raises(StorageError, match=rf"{folder}.* cannot be written: {REASON}\.$")
        with (
            Faults(folder, number, disk_full, midway=operation == "write").active(),
            nullcontext() if does_without else fails,
        ):
            run(folder, **SMALL)
        if (folder / RECORDS).exists():
            assert all(record.status == "ok" for record in read_records(folder / RECORDS))
        assert not (folder / "failures").exists()
        assert not list(folder.rglob("*.tmp"))
        check_goes_on(run, folder, expected)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT])
def test_the_reason_is_told_and_the_old_file_kept(tmp_path, monkeypatch, number):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def refuse(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=f"{path} cannot be written: {os.strerror(number)}"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounts a file system")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_ends_the_command_which_goes_on_when_there_is_room(small_disk, tmp_path, dcbench_command):
    words = "run -d digits -m random -m herding --ipc 1 --ipc 2 --sets 2 --evals 1 --budget quick --no-baselines"
    words += " --network mlp:width=8 --eval-network mlp:width=8 -o herding.epochs=1 --results"

    command = [*dcbench_command, *words.split(), str(small_disk / "r")]
    full = subprocess.run(command, capture_output=True, text=True)
    assert full.returncode == 2, full.stderr
    *_, message = full.stderr.strip().split("\n")
    assert message.startswith(f"Error: {small_disk}")
    assert f"cannot be written: {REASON}. What was done is kept in {small_disk / 'r'}" in message
    assert "run the same again to go on" in message
    assert "Traceback" not in full.stderr
    kept = [record.to_json() for record in read_records(small_disk / "r" / RECORDS)]
    assert all('"status": "ok"' in record for record in kept)
    assert kept

    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    for folder in (small_disk / "r", tmp_path / "elsewhere"):
        assert CliRunner().invoke(main, [*words.split(), str(folder)]).exit_code == 0
    assert outcome(small_disk / "r") == outcome(tmp_path / "elsewhere")
    assert [record.to_json() for record in read_records(small_disk / "r" / RECORDS)][: len(kept)] == kept


def test_a_disk_that_becomes_read_only_ends_the_run(small_disk, run):
    run(small_disk, **SMALL)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageError, match=f"cannot be written: {os.strerror(errno.EROFS)}"):
        run(small_disk, **{**SMALL, "evals": 3})
