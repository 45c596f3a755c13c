"""Files that workers elsewhere send back to the results."""

from __future__ import annotations

import time

import pytest

from dcbench.results.artefacts import Artefacts
from dcbench.run.executors.mirror import FileChange, Mirror, take_in


def test_a_mirror_tells_what_has_changed_in_the_order_of_writing(tmp_path):
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    here = Artefacts(tmp_path / "here")
    mirror = Mirror(tmp_path / "there", {"sets/a": b"1", "checkpoints/b": b"2"})
    assert list(mirror.changes()) == []
    there = tmp_path / "there"
    (there / "checkpoints" / "b").unlink()
    for name, data in (("z", b"3"), ("c", b"4")):
        take_in(FileChange(f"sets/{name}", data), mirror.artefacts)
        time.sleep(0.01)
    (there / "sets" / ".z.tmp").touch()
    changes = list(mirror.changes())
    assert changes == [FileChange("sets/z", b"3"), FileChange("sets/c", b"4"), FileChange("checkpoints/b", None)]
    take_in(FileChange("checkpoints/b", b"2"), here)
    for change in changes:
        take_in(change, here)
    files = {path.relative_to(here.root).as_posix() for path in here.root.rglob("*") if path.is_file()}
    assert files == {"sets/z", "sets/c"}
    take_in(FileChange("sets/z", b"3"), mirror.artefacts)  # the same again is a change: it was made anew
    assert list(mirror.changes()) == [FileChange("sets/z", b"3")]


@pytest.mark.parametrize("path", ["../out", "/out", "sets/../../out"])
def test_files_from_workers_stay_in_the_results(tmp_path, path):
    (tmp_path / "r").mkdir()
    with pytest.raises(ValueError, match="is no file of the results"):
        take_in(FileChange(path, b""), Artefacts(tmp_path / "r"))
    assert not (tmp_path / "out").exists()
