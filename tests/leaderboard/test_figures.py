"""Figures of records: which are drawn, and what is in them."""

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import make_record, make_set

from dcbench.cli import main
from dcbench.leaderboard.board import read_leaderboard
from dcbench.leaderboard.report.figures import _accuracies, _mosaic
from dcbench.results.set_file import save_set


@pytest.fixture
def results(tmp_path):
    """Two methods with a set of each size, one of which is gone, and all training images."""
    records = [
        make_record(method=method, ipc=ipc, accuracy=accuracy + seed / 100, condense_seed=seed, condense_key=key)
        for method, ipc, accuracy in [
            ("dm", 1, 0.5),
            ("dm", 10, 0.7),
            ("gradmatch", 1, 0.6),
            ("gradmatch", 10, 0.8),
        ]
        for seed in (0, 2)
        for key in [f"{method}{ipc}x{seed}".ljust(64, "0")]
    ]
    records.append(make_record(method="whole", ipc=None, matching_network=None, accuracy=0.9))
    (tmp_path / "records.jsonl").write_text("".join(record.to_json() + "\n" for record in records))
    for record in records:
        if record.condense_seed == 0 and record.condense_key[:4] != "dm1x":
            condensed = make_set(ipc=record.ipc or 1)
            header = {"set_sha256": condensed.sha256(), "classes": ["a", "b", "c"], "train_size": 99}
            header["normalisation"] = {"mean": [0.5], "std": [0.25], "zca": False}
            save_set(tmp_path / "sets" / f"set_{record.condense_key[:12]}.safetensors", condensed, header)
    return tmp_path


def test_the_command_writes_png_and_pdf_and_says_which_sets_are_not_there(results):
    done = CliRunner().invoke(main, ["show", str(results), "--out", str(results / "out")])
    assert done.exit_code == 0, done.output
    names = ["accuracy-made_up-dc-hard-label", "images-made_up-ipc1", "images-made_up-ipc10"]
    starts = {"png": b"\x89PNG", "pdf": b"%PDF"}
    assert {path.name for path in (results / "out").iterdir()} == {f"{a}.{b}" for a in names for b in starts}
    for path in (results / "out").iterdir():
        assert path.read_bytes().startswith(starts[path.suffix[1:]])
    (line,) = [line for line in done.output.splitlines() if line.startswith("not in")]
    assert line.endswith("made_up, ipc 1, dm, on convnet: its set is not in the folder")


def test_a_line_has_the_accuracies_and_their_intervals_and_all_images_lie_across(results):
    board = read_leaderboard(results)
    figure = _accuracies(board.rows[0].board, board.rows)
    (panel,) = figure.axes
    lines = {line.get_label(): line for line in panel.get_lines() if not line.get_label().startswith("_")}
    assert np.allclose(lines["dm, on convnet"].get_ydata(), [51, 71])
    assert np.allclose(lines["whole"].get_ydata(), 90)
    bars = [line.get_ydata() for line in panel.get_lines() if line.get_label().startswith("_")]
    intervals = [row.scores["convnet"].interval for row in board.rows if row.ipc]
    assert sorted(map(tuple, bars)) == sorted((100 * low, 100 * high) for low, high in intervals)


def test_a_class_has_its_column_also_where_a_set_lacks_another():
    pixels = np.stack([np.full((1, 16, 16), level, np.uint8) for level in (10, 20, 30)])
    mosaic = _mosaic(pixels, np.array([0, 2, 2]), 3)
    assert mosaic.shape == (2 * 17 - 1, 3 * 17 - 1, 3)
    assert [mosaic[0, left, 0] for left in (0, 17, 34)] == [10, 255, 20]
    assert mosaic[17, 34].tolist() == [30, 30, 30]
