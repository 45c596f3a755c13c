"""The leaderboard's commands, from a run to a verified row, as typed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import make_record

from dcbench.cli import main
from dcbench.results.records import sealed

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Type a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def go(*words):
        return CliRunner().invoke(main, [*words])

    return go


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The results that each test gets a copy of."""
    folder = tmp_path_factory.mktemp("made")
    words = f"run -d digits -m random --sets 2 --evals 2 --eval-network mlp --engine plain --results {folder}"
    assert CliRunner().invoke(main, words.split()).exit_code == 0
    return folder


@pytest.fixture
def results(made, tmp_path):
    shutil.copytree(made, tmp_path / "results")


def test_from_a_run_to_a_verified_row(typed, results, tmp_path):
    (tmp_path / "leaderboards").mkdir()
    (tmp_path / "leaderboards" / "rules.toml").write_text("sets = 3\nevals = 3\n")
    done = typed("leaderboard", "submit", "results", "--name", "mine", "--by", "Me", "--title", "Mine")
    assert done.exit_code == 0, done.output
    assert "4 records of 2 condensed sets" in done.output
    assert "code_url" in done.output
    lacks = "random: provisional, 2 of 3 sets; 2 of 3 networks a set."
    assert f"digits, 1 image per class, protocol dc, hard-labels: {lacks}" in done.output
    (tmp_path / "leaderboards" / "rules.toml").write_text('floor = "random"\nsets = 2\nevals = 2\n')
    done = typed(*"leaderboard verify leaderboards/submissions/mine --mark --engine plain".split())
    assert done.exit_code == 0, done.output
    assert "0 of 20 networks trained\n" in done.output
    assert "20 of 20 networks trained\n" in done.output
    assert "2 of 2 condensed sets evaluated anew; 0 of 1 comparisons" in done.output
    assert "verified" in done.output
    assert typed("leaderboard", "build").exit_code == 0
    page = (tmp_path / "leaderboards" / "tables" / "digits.md").read_text(encoding="utf-8")
    assert "✓ 0." in page
    assert typed("leaderboard", "check").exit_code == 0


def test_a_row_that_another_submission_has_is_named_and_nothing_is_written(typed, results, tmp_path):
    assert typed("leaderboard", "submit", "results", "--name", "first").exit_code == 0
    done = typed("leaderboard", "submit", "results", "--name", "second")
    assert done.exit_code == 2
    assert "first and second both have records of random on digits, ipc 1" in done.output
    assert [path.name for path in (tmp_path / "leaderboards" / "submissions").iterdir()] == ["first"]
    again = typed("leaderboard", "submit", "results", "--name", "first")
    assert again.exit_code == 0


def test_submitting_says_what_its_own_rows_lack_and_no_others(typed, results, tmp_path):
    board = tmp_path / "leaderboards"
    (board / "submissions" / "other").mkdir(parents=True)
    (board / "submissions" / "other" / "records.jsonl").write_text(make_record().to_json() + "\n")
    for needed, said in ((3, ["random: provisional, 2 of 3 sets; 2 of 3 networks a set."]), (2, [])):
        (board / "rules.toml").write_text(f"sets = {needed}\nevals = {needed}\n")
        done = typed("leaderboard", "submit", "results", "--name", "mine")
        found = [line.split(": ", 1)[1] for line in done.output.splitlines() if "provisional" in line]
        assert found == said
    (board / "rules.toml").write_text("set = 3\n")
    done = typed("leaderboard", "submit", "results", "--name", "mine")
    assert done.exit_code == 0
    assert "Warning: " in done.output
    assert "Next: dcbench leaderboard verify" in done.output


def test_a_tampered_submission_is_not_verified_and_gets_no_mark(typed, results, tmp_path):
    typed("leaderboard", "submit", "results", "--name", "mine")
    path = tmp_path / "leaderboards" / "submissions" / "mine" / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    better = [sealed(line | {"accuracy": round(0.97 * line["n_test"]) / line["n_test"]}) for line in lines]
    path.write_text("\n".join(better) + "\n")
    words = "leaderboard verify leaderboards/submissions/mine --mark --engine plain".split()
    done = typed(*words)
    assert done.exit_code == 1, done.output
    assert "NOT verified" in done.output
    assert "✗" in done.output
    assert not path.with_name("verification.json").exists()
    as_json = json.loads(typed(*words, "--json").stdout)
    assert as_json["ok"] is False
    assert as_json["problems"] == []
    path.write_text("".join(sealed(json.loads(line) | {"ipc": 2}) + "\n" for line in better))
    done = typed(*words)
    assert done.exit_code == 1
    assert "its condense key is not that of what it says was condensed" in done.output


def test_nothing_to_submit_or_a_bad_name_is_one_message(typed, results, tmp_path):
    done = typed("leaderboard", "submit", "results", "-m", "gradmatch")
    assert done.exit_code == 2
    assert "unknown method of the official records 'gradmatch'" in done.output
    assert "Known: random." in done.output
    done = typed("leaderboard", "submit", "results", "--name", "../elsewhere")
    assert done.exit_code == 2
    assert "cannot be a folder's name" in done.output
    assert not (tmp_path / "leaderboards").exists()


def test_a_place_that_cannot_be_written_is_one_message(typed, results, tmp_path):
    (tmp_path / "file").write_text("")
    done = typed("leaderboard", "submit", "results", "--into", "file/submissions")
    assert done.exit_code == 2, done.output
    assert "file/submissions/random-digits/card.toml cannot be written: Not a directory." in done.output
    typed("leaderboard", "submit", "results", "--name", "mine")
    done = typed(*"leaderboard verify leaderboards/submissions/mine --keep file/kept".split())
    assert done.exit_code == 2, done.output
    assert "file/kept cannot be written: Not a directory. Choose another folder." in done.output


@pytest.mark.parametrize("step", ["os.replace", "pathlib.Path.unlink"])
def test_a_step_of_submitting_that_the_system_refuses_is_one_message(typed, results, tmp_path, monkeypatch, step):
    def refuse(*arguments, **named):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    words = ("leaderboard", "submit", "results", "--name", "mine")
    assert typed(*words).exit_code == 0
    monkeypatch.setattr(step, refuse)
    done = typed(*words)
    assert done.exit_code == 2, done.output
    assert re.search(r"submissions/mine/\S+ cannot be written: Read-only file system\.", done.output)
    assert [path.name for path in (tmp_path / "leaderboards" / "submissions").iterdir()] == ["mine"]


def test_submissions_of_data_that_are_not_installed_say_what_to_do(typed, tmp_path):
    (tmp_path / "records.jsonl").write_text(make_record(dataset="nowhere").to_json() + "\n")
    done = typed("leaderboard", "verify", ".")
    assert done.exit_code == 2
    assert "Say where the data set 'nowhere' is with --dataset" in done.output


def test_a_table_on_the_terminal_is_of_one_protocol_and_says_which(typed, tmp_path):
    records = [make_record(protocol=protocol, method=f"by_{protocol}") for protocol in ("dc", "dsa")]
    (tmp_path / "records.jsonl").write_text("".join(record.to_json() + "\n" for record in records))
    text = typed("leaderboard", "show", ".").output
    heads = [text.index(part) for part in ("protocol dc", "by_dc", "protocol dsa", "by_dsa")]
    assert heads == sorted(heads)


def test_every_format_has_the_number(typed, tmp_path):
    records = [
        make_record(accuracy=accuracy, condense_seed=seed, method="a_method")
        for seed, accuracy in enumerate((0.2, 0.423))
    ]
    (tmp_path / "records.jsonl").write_text("".join(record.to_json() + "\n" for record in records))
    for form in ("terminal", "markdown", "latex", "csv", "json"):
        done = typed("leaderboard", "show", ".", "--format", form)
        assert done.exit_code == 0, done.output
        assert ("0.3115" if form in ("csv", "json") else "31.1") in done.output.replace("31.2", "31.1")
    latex = typed("leaderboard", "show", ".", "--format", "latex").output
    assert latex.count("\\toprule") == latex.count("\\bottomrule") == 1
    assert "a\\_method" in latex
    assert "–" not in latex
    assert r"31.1 $\pm$ 15.8*" in latex.replace("31.2", "31.1")
    (table,) = json.loads(typed("leaderboard", "show", ".", "--json").output)
    (entry,) = table["entries"]
    assert (entry["rank"], entry["scores"]["convnet"]["sets"]) == ([1, 1], 2)


def test_show_takes_a_data_set_and_a_size(typed, tmp_path):
    records = [make_record(), make_record(dataset="another", ipc=10)]
    (tmp_path / "records.jsonl").write_text("".join(record.to_json() + "\n" for record in records))
    (table,) = json.loads(typed("leaderboard", "show", ".", "-d", "another", "--json").output)
    assert (table["dataset"], table["ipc"]) == ("another", 10)
    assert json.loads(typed("leaderboard", "show", ".", "--ipc", "5", "--json").output) == []
    alike = make_record(dataset="an_other").to_json() + "\n"
    (tmp_path / "alike").mkdir()
    (tmp_path / "alike" / "records.jsonl").write_text(alike)
    (table,) = json.loads(typed("leaderboard", "show", "alike", "-d", "an-other", "--json").output)
    assert table["dataset"] == "an_other"
    done = typed("leaderboard", "show", ".", "-d", "anothr")
    assert done.exit_code == 2
    assert "Did you mean 'another'" in done.output


@pytest.mark.parametrize("line", ["show", "check", "show --format json", "show --format csv"])
def test_tables_are_made_without_torch_and_pandas(line, dcbench_command):
    code = (
        "import sys; from dcbench.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as done: assert not done.code\n"
        "heavy = {'torch', 'torchvision', 'timm', 'sklearn', 'scipy.stats', 'pandas', 'dcbench_plugins'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    words = ["leaderboard", *line.split()]
    done = subprocess.run([dcbench_command[0], "-c", code, *words], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
