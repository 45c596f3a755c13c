"""The command line as a user meets it: processes of their own where that matters."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time

import pytest
import tiny_plugin
import torch
from click.testing import CliRunner

from dcbench.checks import METHOD_CHECKS
from dcbench.cli import main
from dcbench.plugins import PluginInfo, Plugins
from dcbench.results.store import RECORDS, read_records

SMALL = "--dataset digits --budget quick --evals 1 --eval-network mlp"


@pytest.fixture
def dcbench(tmp_path, monkeypatch):
    """Run a command line in an empty folder; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def invoke(line):
        result = CliRunner().invoke(main, line.split(), terminal_width=200)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def test_help_imports_neither_torch_nor_a_plugin(dcbench_command):
    code = (
        "import sys; from dcbench.cli import main\n"
        "try: main(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'pydantic', 'rich', 'pluggy', 'dcbench_plugins'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([dcbench_command[0], "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--eval-network" in done.stdout


def test_a_run_ends_with_a_table_and_says_where_everything_is(dcbench, tmp_path):
    result = dcbench(f"run {SMALL} --method random --ipc 1 --ipc 2")
    assert result.exit_code == 0
    assert re.search(r"random\s.*\d\d\.\d", result.stdout)
    for path in re.findall(r"Picture: (\S+)", result.stdout):
        assert (tmp_path / path).read_bytes().startswith(b"\x89PNG")
    assert result.stdout.count("Picture:") == 2
    assert len(read_records(tmp_path / "results" / RECORDS)) == 2
    again = dcbench(f"run {SMALL} --method random --ipc 1 --ipc 2")
    assert "Everything was done already" in again.stdout


def test_a_run_as_json(dcbench):
    result = dcbench(f"run {SMALL} --method random --json")
    (row,) = json.loads(result.stdout)
    assert (row["method"], row["dataset"], row["ipc"], row["budget"]) == ("random", "digits", 1, "quick")
    assert 0 < row["scores"]["mlp"]["mean"] < 1
    assert row["scores"]["mlp"]["between_std"] is None


def test_a_dry_run_shows_what_is_done_and_does_nothing(dcbench, tmp_path):
    before = dcbench(f"run {SMALL} --method random --sets 2 --dry-run")
    assert "To do: 2 of 2 condensations, 2 evaluations" in before.stdout
    assert not (tmp_path / "results").exists()
    dcbench(f"run {SMALL} --method random")
    after = dcbench(f"run {SMALL} --method random --sets 2 --dry-run")
    assert "To do: 1 of 2 condensations, 1 evaluation." in after.stdout


def test_a_dry_run_names_the_networks_that_have_to_be_trained(dcbench):
    line = (
        f"run {SMALL} -m herding -m el2n -m random --network mlp -o epochs=1 --protocol kd:teacher=mlp --dry-run"
    )
    before = dcbench(line).stdout
    recipe = "mlp on digits: 1 epoch, batch 256, SGD 0.01, momentum 0.9, weight decay 0.0005, seed 0"
    assert f"To train: 2 of 2 {recipe}\n" in before  # of el2n, the first of which serves herding
    assert "To train: 1 of 1 mlp on digits: 30 epochs, batch 64" in before
    dcbench(f"run {SMALL} -m herding --network mlp -o epochs=1")
    assert f"To train: 1 of 2 {recipe}\n" in dcbench(line).stdout
    assert "To train" not in dcbench(f"run {SMALL} -m herding --network mlp -o epochs=1 --dry-run").stdout


def test_the_budget_is_full_once_a_data_set_is_named(dcbench):
    assert "Budget: full" in dcbench("run --dataset digits --method random --dry-run").stdout
    assert "Budget: quick" in dcbench("run --method random --dry-run").stdout


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run --method gradmach", "unknown method 'gradmach'. Did you mean 'gradmatch'?"),
        ("run --dataset digit", "unknown dataset 'digit'. Did you mean 'digits'?"),
        ("run --network convent", "unknown network 'convent'. Did you mean 'convnet'?"),
        ("run --eval-network lenet5", "unknown network 'lenet5'. Did you mean 'lenet'?"),
        ("run --protocol dcc", "unknown protocol 'dcc'. Did you mean 'dc'?"),
        ("run --budget quik", "unknown budget 'quik'. Did you mean 'quick'?"),
        ("run --device gpu", "unknown device 'gpu'"),
        ("run -m gradmatch -o lr_imgs=1", "Did you mean 'lr_img'?"),
        ("run -m gradmatch -o lr_img=abc", "got 'abc'"),
        ("run -m gradmatch -o lr_img", "written NAME=VALUE"),
        ("run -m gradmatch -o iterations=0", "greater than or equal to 1"),
        ("run --ipc 0", "0 is not in the range x>=1"),
        ("run --ipc -3", "-3 is not in the range x>=1"),
        ("run --ipc ten", "'ten' is not a valid integer"),
        ("run --sets 0", "0 is not in the range"),
        ("run -m random --ipc 1000", "ipc 1000 is more than digits has to choose from"),
        ("describe gradmach", "Did you mean 'gradmatch'?"),
        ("leaderboard build nowhere", "'nowhere' does not exist"),
        ("frobnicate", "No such command 'frobnicate'"),
    ],
)
def test_a_mistake_gets_one_message_and_exit_code_2(dcbench, tmp_path, line, message):
    result = dcbench(line)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_data_that_are_not_there_and_cannot_be_had(dcbench, tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    result = dcbench(f"run --dataset cifar10 --data-root {tmp_path}/data")
    assert result.exit_code == 2
    assert f"dataset 'cifar10' is not whole in {tmp_path}/data and could not be downloaded there" in result.stderr
    assert "as the data root, or in DCBENCH_DATA" in result.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("blocked", ["a file", "no permission"])
def test_results_that_cannot_be_written(dcbench, tmp_path, blocked):
    folder = tmp_path / "results"
    if blocked == "a file":
        folder.write_text("")
    elif os.geteuid() == 0:
        folder = "/proc/results"  # root may write anywhere but here
    else:
        folder.mkdir(mode=0o500)
    result = dcbench(f"run {SMALL} --method random --results {folder}")
    assert result.exit_code == 2
    assert f"{folder} cannot be written: " in result.stderr
    assert "Choose another folder." in result.stderr


def test_a_damaged_record_is_named_and_left_alone_and_its_trial_done_again(dcbench, tmp_path):
    dcbench(f"run {SMALL} --method random")
    path = tmp_path / "results" / RECORDS
    (accuracy,) = re.findall('"accuracy": ([0-9.]+)', path.read_text())
    path.write_text(path.read_text().replace(f'"accuracy": {accuracy}', '"accuracy": 0.99'))
    before = path.read_text()
    result = dcbench(f"run {SMALL} --method random")
    assert result.exit_code == 0
    assert re.search(
        r"records.jsonl: left out damaged line 1.*those trials are done again", result.stderr, re.DOTALL
    )
    assert path.read_text().startswith(before)
    assert path.read_text()[len(before) :].count(f'"accuracy": {accuracy}') == 1


def test_a_failure_gives_exit_code_1_and_the_rest_is_done(dcbench, monkeypatch, tmp_path):
    from dcbench_plugins.methods.random import Random

    def broken(self, task):
        raise RuntimeError("no luck")

    monkeypatch.setattr(Random, "condense", broken)
    result = dcbench(f"run {SMALL} --method random --method herding -o epochs=0")
    assert result.exit_code == 1
    assert "Failed: random on digits, ipc 1: RuntimeError: no luck" in result.stderr
    assert re.search(r"herding.*\d\d\.\d", result.stdout)
    statuses = [record.status for record in read_records(tmp_path / "results" / RECORDS)]
    assert sorted(statuses) == ["failed", "ok"]


def test_ctrl_c_keeps_what_is_recorded_and_the_same_command_goes_on(dcbench_command, dcbench, tmp_path):
    line = f"run {SMALL} --method random --results"
    words = [*line.split(), "a", "--evals", "400"]
    process = subprocess.Popen([*dcbench_command, *words], stderr=subprocess.PIPE, text=True)
    path = tmp_path / "a" / RECORDS
    while process.poll() is None and not (path.exists() and path.stat().st_size > 2500):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    kept = len(read_records(path))
    assert f"Interrupted. Kept in a: {kept} new records. Run the same again to go on:\n" in stderr
    assert 0 < kept < 400

    for folder in "ab":
        assert dcbench(f"{line} {folder} --evals {kept + 2}").exit_code == 0
    interrupted, whole = (
        {record.key: record.accuracy for record in read_records(tmp_path / folder / RECORDS)} for folder in "ab"
    )
    assert interrupted == whole
    assert len(whole) == kept + 2


@pytest.mark.parametrize("moment", ["loading plugins", "loading data"])
def test_ctrl_c_before_anything_is_done(dcbench, tmp_path, monkeypatch, moment):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    target = {"loading plugins": "dcbench.plugins.entry_points", "loading data": "dcbench.run.plan.load_dataset"}
    monkeypatch.setattr(target[moment], interrupted)
    result = dcbench(f"run {SMALL} --method random")
    assert result.exit_code == 130
    assert result.stderr.strip() == "Interrupted."
    assert not list(tmp_path.iterdir())


def test_list_and_describe(dcbench):
    names = {(row["kind"], row["name"]) for row in json.loads(dcbench("list --json").stdout)}
    expected = {("methods", "gradmatch"), ("datasets", "cifar10"), ("architectures", "lenet"), ("protocols", "dc")}
    assert expected <= names
    only = json.loads(dcbench("list methods --json").stdout)
    assert {row["kind"] for row in only} == {"methods"}
    text = dcbench("describe gradmatch").stdout
    assert "ICLR 2021" in text
    assert "iterations  (int, default: 1000)" in text
    assert max(map(len, text.splitlines())) <= 120
    assert "         teacher  mlp\n" in dcbench("describe kd:teacher=mlp").stdout
    assert json.loads(dcbench("describe kd:teacher=mlp --json").stdout)[0]["teacher"] == "mlp"
    (facts,) = json.loads(dcbench("describe dc --json").stdout)
    assert (facts["kind"], facts["epochs"], facts["lr"]) == ("protocol", 300, 0.01)


def planned(result):
    return [row["method"] for row in json.loads(result.stdout)]


def test_a_method_is_compared_with_the_baselines_unless_a_data_set_is_named(dcbench):
    line = "run --method gradmatch --dry-run --json"
    assert planned(dcbench(line)) == ["gradmatch", "random", "herding", "whole"]
    assert planned(dcbench(f"{line} --no-baselines")) == ["gradmatch"]
    assert planned(dcbench(f"{line} -d digits")) == ["gradmatch"]
    assert planned(dcbench(f"{line} -d digits --baselines --method whole")) == [
        *("gradmatch", "whole"),
        *("random", "herding"),
    ]


def test_an_option_without_a_prefix_is_not_for_baselines_that_are_not_named(dcbench):
    assert "unknown option of gradmatch 'epochs'" in dcbench("run -m gradmatch -o epochs=1 --dry-run").stderr
    assert dcbench("run -m gradmatch -o herding.epochs=1 --dry-run").exit_code == 0
    assert dcbench("run -m gradmatch -m herding -o epochs=1 --dry-run").exit_code == 0


def test_an_option_that_is_given_twice_is_refused(dcbench):
    result = dcbench("run -m gradmatch -o iterations=1 -o iterations=2 --dry-run")
    assert (result.exit_code, "option 'iterations' is given twice" in result.stderr) == (2, True)


def test_baselines_that_are_not_installed_are_not_asked_for(dcbench, monkeypatch):
    monkeypatch.setenv("DCBENCH_DISABLE_PLUGINS", "herding")
    assert planned(dcbench("run --method gradmatch --dry-run --json")) == ["gradmatch", "random", "whole"]


def test_a_hyphen_in_a_name_is_read_as_an_underscore(dcbench):
    (described,) = json.loads(dcbench("describe fashion-mnist --json").stdout)
    assert described["name"] == "fashion_mnist"


@pytest.mark.parametrize("line", ["--no-plugins list methods --json", "list methods --no-plugins --json"])
def test_another_s_plugins_can_be_left_out_on_either_side_of_the_command(line, dcbench, monkeypatch):
    own = Plugins.load.__func__
    asked = []
    monkeypatch.setattr(
        Plugins, "load", classmethod(lambda cls, *args, **words: asked.append(words) or own(cls, *args, **words))
    )
    assert dcbench(line).exit_code == 0
    assert asked == [{"own_only": True, "suites_only": False}]
    dcbench("list methods")
    assert asked[1] == {"own_only": False, "suites_only": False}


def test_plugins_are_listed_for_people(dcbench, monkeypatch):
    monkeypatch.setenv("DCBENCH_DISABLE_PLUGINS", "mlp")
    text = dcbench("plugin list").stdout
    assert re.search(r"mlp +dcbench-suite \S+ +disabled +– ", text)
    assert re.search(r"torchvision_datasets +dcbench-suite \S+ +loaded +dataset mnist, fashion_mnist, ", text)
    assert "Disabled by DCBENCH_DISABLE_PLUGINS." in text


def test_a_plugin_is_checked(dcbench, tmp_path):
    passed = dcbench("plugin check random")
    assert passed.exit_code == 0
    assert passed.stdout.startswith("method random, from dcbench-suite ")
    assert "✓ The same task gives the same images and labels, byte for byte." in passed.stdout
    gpu = torch.cuda.is_available()
    counts = (len(METHOD_CHECKS), "") if gpu else (len(METHOD_CHECKS) - 1, ", 1 not tried here")
    assert passed.stdout.endswith("{} passed, 0 failed{}.\n".format(*counts))
    rows = json.loads(dcbench("plugin check random --json").stdout)
    assert {row["status"] for row in rows} == ({"passed"} if gpu else {"passed", "not tried"})


def test_a_failed_check_says_what_was_found_and_what_to_do(dcbench, tmp_path, monkeypatch):
    plugins = Plugins.load()
    plugins.add(tiny_plugin, PluginInfo("tiny", "tiny_plugin", "tests", "0"))
    monkeypatch.setattr(Plugins, "load", classmethod(lambda cls, *args, **words: plugins))
    failed = dcbench("plugin check fails")
    assert failed.exit_code == 1
    assert "✗ It condenses 28 images" in failed.stdout
    assert re.search(
        r"check: +condenses\n +found: +at 1 images per class: RuntimeError: nothing works\n", failed.stdout
    )
    assert re.search(r"to do: +start at .*tiny_plugin.py:\d+, in condense\n", failed.stdout)
    assert re.search(r"\d+ passed, 1 failed, \d+ cannot be tried until others pass[.,]", failed.stdout)


def test_data_that_are_not_there_are_looked_for_in_the_data_folder_that_is_named(dcbench, tmp_path):
    result = dcbench(f"plugin check cifar10 --data-root {tmp_path}/data")
    assert result.exit_code == 2
    assert f"{tmp_path}/data" in result.stderr


def test_a_new_plugin_is_written_and_what_to_do_next_is_said(dcbench, tmp_path):
    result = dcbench("plugin new my-own --into made")
    assert result.exit_code == 0
    assert "pip install -e ./made/my-own" in result.stdout
    assert "dcbench run --method my_own" in result.stdout
    assert (tmp_path / "made" / "my-own" / "dcbench_my_own.py").exists()
    again = dcbench("plugin new my-own --into made")
    assert again.exit_code == 2
    assert "already exists" in again.stderr


def test_plugins_are_listed_with_their_distribution(dcbench):
    rows = json.loads(dcbench("plugin list --json").stdout)
    (gradmatch,) = [row for row in rows if row["plugin"] == "gradmatch"]
    assert (gradmatch["distribution"], gradmatch["provides"]) == ("dcbench-suite", "method gradmatch")


def test_leaderboard_build_check_and_show(dcbench, tmp_path):
    dcbench("run --dataset digits --evals 1 --eval-network mlp --method random")
    dcbench("run --dataset digits --evals 1 --eval-network mlp --method random --budget quick")
    assert dcbench("leaderboard check results").exit_code == 1
    built = dcbench("leaderboard build results")
    assert "wrote results/tables/digits.md" in built.stdout
    assert "results has no rules.toml" in built.stdout
    assert "dcbench leaderboard submit results" in built.stdout
    assert "left out 1 of 2 records" in built.stdout
    assert dcbench("leaderboard check results").exit_code == 0
    shown = json.loads(dcbench("leaderboard show results --json").stdout)
    assert {row["budget"] for row in shown} == {"full", "quick"}
    page = tmp_path / "results" / "tables" / "digits.md"
    page.write_text(page.read_text().replace("random", "mine"))
    tampered = dcbench("leaderboard check results")
    assert tampered.exit_code == 1
    assert "tables/digits.md is not what the records give" in tampered.stderr
    assert dcbench("leaderboard show results --dataset digit").exit_code == 2


def test_a_dry_run_plans_for_data_that_are_not_here_and_downloads_nothing(dcbench, tmp_path):
    absent = f"--dry-run --data-root {tmp_path / 'data'}"
    words = "-m random -m whole -m gradmatch --network lenet --eval-network mlp --sets 2 --evals 3"
    result = dcbench(f"run -d digits -d cifar10:classes=0+1 {words} {absent}")
    assert result.exit_code == 0
    for line in ("1 +random +– +0 +[?] +3 +[?]", "1 +random +– +1 +[?] +3 +[?]", "all +whole +– +0 +[?] +6 +[?]"):
        assert re.search(rf"cifar10:classes=0\+1 +{line}", result.stdout)
    assert len(re.findall("cifar10:classes=0\\+1 +1 +gradmatch +lenet", result.stdout)) == 2
    assert "To do: 10 of 10 condensations, 36 evaluations" in result.stdout
    assert "cifar10:classes=0+1 is not here, and --dry-run downloads nothing" in result.stdout
    assert "digits is not here" not in result.stdout
    (tmp_path / "theirs.pt").touch()
    theirs = dcbench(f"evaluate {tmp_path / 'theirs.pt'} -d cifar10 --eval-network mlp --evals 3 {absent}")
    assert re.search(r"cifar10 +[?] +imported +– +0 +[?] +3 +[?]", theirs.stdout)
    suite = dcbench(f"suite run reproduction-48 --dataset mnist --ipc 1 --network mlp {absent}")
    assert (suite.exit_code, "mnist is not here" in suite.stdout) == (0, True)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run --eval-network resnet50", "Did you mean 'timm:resnet50' or 'torchvision:resnet50'?"),
        ("run --network resnt18", "Did you mean 'resnet18'?"),
        ("run -d my_set.npz,title=mine", "Did you mean 'npz:my_set.npz,title=mine'?"),
        ("run -d pictures", "Did you mean 'folder:pictures'?"),
        ("run -d tables", "Did you mean 'hf:tables'?"),
        ("run -d someone/something", "Did you mean 'hf:someone/something'?"),
        ("plugin check my_method", "`pip install -e FOLDER` installs the plugin"),
        ("run --ipc 1,0", "Invalid value for '--ipc': 0 is not in the range x>=1."),
    ],
)
def test_a_message_names_what_was_meant(line, message, dcbench, tmp_path):
    (tmp_path / "pictures" / "train").mkdir(parents=True)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "train-0.parquet").write_bytes(b"")
    result = dcbench(line)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_sizes_may_have_commas_between(dcbench):
    result = dcbench("run -m random -d digits --ipc 10,1 --ipc 2 --eval-network mlp --evals 1 --dry-run")
    assert re.findall(r"digits +(\d+) +random", result.stdout) == ["1", "2", "10"]
    assert "To do: 3 of 3 condensations, 3 evaluations." in result.stdout


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run -d cifar10 -m radom", "unknown method 'radom'"),
        ("run -d cifar10 -m random -o lr=1", "unknown option of random 'lr'"),
        ("run -d cifar10:classes=0+0 -m random", "two classes at least"),
        ("run -d cifar10 -m random --eval-network mpl", "unknown network 'mpl'"),
        ("evaluate no_such_file.pt -d cifar10", "no_such_file.pt cannot be read: No such file"),
        ("evaluate no_such_file.pt -d cifar10 --eval-network mpl", "no_such_file.pt cannot be read: No such file"),
    ],
)
def test_a_mistake_is_found_before_data_are_looked_for(line, message, dcbench, tmp_path):
    result = dcbench(f"{line} --dry-run --data-root {tmp_path / 'data'}")
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_a_dry_run_estimates_the_time_by_what_was_measured_here(dcbench):
    dry = f"run {SMALL} --method random --ipc 1 --ipc 2 --sets 3 --dry-run"
    unknown = "Time: unknown, because nothing of the kind was measured on this machine"
    assert f"{unknown} (6 condensations and 6 evaluations)" in dcbench(dry).stdout
    dcbench(f"run {SMALL} --method random")
    found = re.search(
        r"Time: about 0:00:\d\d \((0:\S+) to (0:\S+), the least and the most .*", dcbench(dry).stdout
    )
    assert found
    assert "Not counted: 3 condensations and 3 evaluations, never measured here" in found[0]
    dcbench(f"run {SMALL} --method random --ipc 1 --ipc 2 --sets 3")
    assert "Time:" not in dcbench(dry).stdout


def test_a_dry_run_names_a_data_set_that_cannot_say_whether_it_is_here(dcbench, monkeypatch):
    from dcbench_plugins.datasets.digits import Digits

    monkeypatch.setattr(Digits, "is_here", lambda self, root: {}["no"])
    result = dcbench("run --dry-run")
    assert (result.exit_code, result.stderr) == (2, "Error: dataset digits: its is_here fails: KeyError: 'no'\n")
