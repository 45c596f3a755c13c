"""The scripts that verify pull requests and publish the page, run as they are there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUBMISSIONS = Path("leaderboards") / "submissions"
WORKFLOWS = ROOT / ".github" / "workflows"
NAME = "digits-baselines"

# Stands in for dcbench: says how it was called, and what it was given to look at.
ECHO = """
import pathlib, sys
folder = pathlib.Path(sys.argv[3])
print("called with", *sys.argv[4:])
print("files", *sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
sys.stdout.flush()
sys.stdout.buffer.write((folder / "card.toml").read_bytes())
"""


def run(folder, *words, dcbench="-m dcbench"):
    environment = os.environ | {"DCBENCH": f"{sys.executable} {dcbench}"}
    return subprocess.run([*words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def git(folder, *words):
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    done = run(folder, "git", *identity, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with the scripts and the leaderboard of this one."""
    shutil.copytree(ROOT / "ci", tmp_path / "ci")
    shutil.copytree(ROOT / "leaderboards", tmp_path / "leaderboards")
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "echo.py").write_text(ECHO)
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    commit(tmp_path, "start")
    git(tmp_path, "switch", "--quiet", "--create", "theirs")
    return tmp_path


def commit(folder, message="theirs"):
    git(folder, "add", "--all", ".")
    git(folder, "commit", "--quiet", "-m", message)


def pull(folder, *more, dcbench="echo.py"):
    """Commit what was changed on the branch, and verify it from the main one."""
    commit(folder)
    git(folder, "switch", "--quiet", "main")
    done = run(folder, "bash", "ci/verify.sh", "main", "theirs", *more, dcbench=dcbench)
    assert not done.stderr
    assert len(done.stdout) <= 60_000
    return done


def touch(folder, name=NAME):
    """Change a submission in a way that nobody objects to."""
    with (folder / SUBMISSIONS / name / "card.toml").open("a") as card:
        card.write("# touched\n")


def assert_refused(done, path, why):
    assert done.returncode == 1, done.stdout
    line = next((line for line in done.stdout.splitlines() if line.startswith(f"    {path}: ")), "")
    assert why in line, done.stdout


def test_a_tampered_submission_of_a_pull_request_is_named_and_fails(repository):
    records = repository / SUBMISSIONS / NAME / "records.jsonl"
    records.write_text(records.read_text().replace('"eval_seed": 0,', '"eval_seed": 77,', 1))
    done = pull(repository, dcbench="-m dcbench")
    assert done.returncode == 1, done.stdout
    assert f"### `{NAME}`" in done.stdout
    assert "its key is not that of what it says was evaluated" in done.stdout
    assert "NOT verified" in done.stdout
    assert "**Not verified.**" in done.stdout
    assert str(repository) not in done.stdout


def test_a_submission_is_found_as_stated(repository):
    touch(repository)
    done = pull(repository)
    assert done.returncode == 0
    assert "Found as stated." in done.stdout


def test_a_verification_that_is_killed_says_so(repository):
    touch(repository)
    done = pull(repository, dcbench="-c 'import os; os.kill(os.getpid(), 9)'")
    assert done.returncode == 1
    assert "    ended with exit code -9\n\n**Not verified.**" in done.stdout


@pytest.mark.slow
def test_an_honest_submission_is_found_as_stated(repository):
    words = "run -d digits -m random --sets 2 --evals 3 --eval-network mlp --engine plain --results made --seed 0"
    name = "leaderboard submit made --name honest --into made-board/submissions"
    for typed in (words, name):
        done = run(repository, sys.executable, "-m", "dcbench", *typed.split())
        assert done.returncode == 0, done.stderr
    git(repository, "switch", "--quiet", "--create", "mine", "main")
    shutil.copytree(repository / "made-board" / "submissions" / "honest", repository / SUBMISSIONS / "honest")
    git(repository, "add", str(SUBMISSIONS))
    git(repository, "commit", "--quiet", "-m", "mine")
    git(repository, "switch", "--quiet", "main")
    # One of its two sets, as a sample of many rows would have it.
    done = run(repository, "bash", "ci/verify.sh", "main", "mine", "1", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 2 condensed sets evaluated anew; 0 of 1 comparisons" in done.stdout


def test_nothing_is_verified_where_nothing_is_submitted(repository):
    (repository / "README.md").write_text("other")
    done = pull(repository)
    assert (done.returncode, "None is changed." in done.stdout) == (0, True)


@pytest.mark.parametrize("name", ["verification.json", "Verification.JSON"])
def test_only_maintainers_mark_a_submission(repository, name):
    touch(repository)
    (repository / SUBMISSIONS / NAME / name).write_text("{}")
    done = pull(repository)
    assert_refused(done, SUBMISSIONS / NAME / name, "only maintainers write this mark")
    assert "called with" not in done.stdout


def test_a_changed_mark_is_refused_too_and_a_kept_or_removed_one_is_not(repository):
    git(repository, "switch", "--quiet", "main")
    for each in sorted((repository / SUBMISSIONS).iterdir()):
        (each / "verification.json").write_text("{}")
    commit(repository)
    git(repository, "switch", "--quiet", "theirs")
    git(repository, "reset", "--quiet", "--hard", "main")
    (repository / SUBMISSIONS / NAME / "verification.json").write_text('{"verified": {}}')
    (repository / SUBMISSIONS / "mnist-random" / "verification.json").unlink()
    touch(repository, "mnist-gradmatch")
    done = pull(repository)
    assert_refused(done, SUBMISSIONS / NAME / "verification.json", "only maintainers write this mark")
    assert done.stdout.count("called with") == 2


def test_nobody_knows_the_seed_beforehand_and_a_given_one_is_used(repository):
    touch(repository)
    done = pull(repository)
    seeds = [done, run(repository, "bash", "ci/verify.sh", "main", "theirs", dcbench="echo.py")]
    seeds = [re.search(r"Seed (\d+), 2 sets", each.stdout).group(1) for each in seeds]
    assert seeds[0] != seeds[1]
    assert f"called with --sample 2 --evals 10 --seed {seeds[0]}\n" in done.stdout
    command = next(line for line in done.stdout.splitlines() if line.startswith("    ci/verify.sh "))
    again = run(repository, "bash", *command.split(), dcbench="echo.py")
    assert again.stdout == done.stdout
    given = run(repository, "bash", "ci/verify.sh", "main", "theirs", "2", "17", dcbench="echo.py")
    assert "called with --sample 2 --evals 10 --seed 17\n" in given.stdout


def test_files_are_laid_out_as_they_were_committed_whatever_attributes_say(repository):
    # Refused where a pull request brings them; here the main branch has them, and the bytes are those committed.
    git(repository, "switch", "--quiet", "main")
    (repository / ".gitattributes").write_text("card.toml export-subst ident\n*.png export-ignore\n")
    commit(repository)
    git(repository, "switch", "--quiet", "theirs")
    git(repository, "reset", "--quiet", "--hard", "main")
    with (repository / SUBMISSIONS / NAME / "card.toml").open("a") as card:
        card.write("# $Format:%H$\n")
    done = pull(repository)
    assert done.returncode == 0
    assert "$Format:%H$" in done.stdout
    assert "gradmatch-ipc1.png" in done.stdout


@pytest.mark.parametrize(
    "path",
    [".gitattributes", "leaderboards/.gitattributes", f"{SUBMISSIONS}/{NAME}/sets/.gitattributes"],
)
def test_attributes_are_refused_wherever_they_are(repository, path):
    (repository / path).write_text("*.jsonl export-subst\n")
    assert_refused(pull(repository), path, "attributes rewrite files")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("more/records.jsonl", "no other folders"),
        ("sets/more/one.safetensors", "no other folders"),
        ("sets/records.jsonl", "no other folders"),
        (".hidden", "its name may hold"),
        ("--option", "its name may hold"),
        ("a b.png", "its name may hold"),
        ("sets/a;b.safetensors", "its name may hold"),
    ],
)
def test_files_that_a_submission_does_not_have_are_refused(repository, path, why):
    target = repository / SUBMISSIONS / NAME / path
    target.parent.mkdir(exist_ok=True)
    target.write_text("{}")
    done = pull(repository)
    assert_refused(done, SUBMISSIONS / NAME / path, why)
    assert "called with" not in done.stdout


def test_links_submodules_and_executables_are_refused(repository):
    folder = repository / SUBMISSIONS / NAME
    (folder / "link.png").symlink_to("/etc/hostname")
    (folder / "tool.png").write_text("#!/bin/sh\n")
    (folder / "tool.png").chmod(0o755)
    git(repository, "init", "--quiet", str(folder / "module"))
    (folder / "module" / "a").touch()
    commit(folder / "module")
    done = pull(repository)
    for name, kind in (("link.png", "a link"), ("tool.png", "executable"), ("module", "a submodule")):
        assert_refused(done, SUBMISSIONS / NAME / name, kind)
    assert "called with" not in done.stdout


def test_large_files_are_refused(repository):
    with (repository / SUBMISSIONS / NAME / "sets" / "large.safetensors").open("wb") as file:
        file.truncate(50_000_001)
    assert_refused(pull(repository), SUBMISSIONS / NAME / "sets" / "large.safetensors", "50,000,001 bytes")


@pytest.mark.parametrize(
    "path",
    [
        "leaderboards/records.jsonl",
        "leaderboards/rules.toml",
        "leaderboards/more/records.jsonl",
        "leaderboards/tables/records.jsonl",
        "leaderboards/tables/more/index.html",
        "leaderboards/tables/other.html",
        "leaderboards/submissions/records.jsonl",
    ],
)
def test_what_belongs_to_no_submission_is_for_a_maintainer(repository, path):
    (repository / path).parent.mkdir(exist_ok=True)
    (repository / path).write_text("other")
    assert_refused(pull(repository), path, "a maintainer has to look at it")


def test_tables_come_with_a_submission_as_plain_files(repository):
    touch(repository)
    for name in ("digits.md", "other.md", "scores.csv", "index.html"):
        (repository / "leaderboards" / "tables" / name).write_text("made anew")
    done = pull(repository)
    assert done.returncode == 0
    git(repository, "switch", "--quiet", "theirs")
    (repository / "leaderboards" / "tables" / "digits.md").unlink()
    (repository / "leaderboards" / "tables" / "digits.md").symlink_to("/etc/hostname")
    assert_refused(pull(repository), "leaderboards/tables/digits.md", "a maintainer has to look at it")


def test_a_submission_that_lost_a_file_is_verified_as_it_is_now(repository):
    removed = sorted((repository / SUBMISSIONS / NAME / "sets").iterdir())[0]
    removed.unlink()
    done = pull(repository)
    assert f"### `{NAME}`" in done.stdout
    assert "called with" in done.stdout
    assert removed.name not in done.stdout
    done = run(repository, "bash", "ci/verify.sh", "main", "theirs")
    assert done.returncode == 1
    assert "NOT verified" in done.stdout


def test_a_renamed_submission_is_one_that_vanished_and_one_that_is_new(repository):
    (repository / SUBMISSIONS / NAME).rename(repository / SUBMISSIONS / "mine")
    (repository / SUBMISSIONS / "mine" / "verification.json").unlink()  # a mark, which only maintainers may bring
    done = pull(repository)
    assert_refused(done, SUBMISSIONS / NAME, "the submission is removed")
    assert "### `mine`" in done.stdout


def test_a_submission_replaced_by_a_link_is_refused(repository):
    shutil.rmtree(repository / SUBMISSIONS / NAME)
    (repository / SUBMISSIONS / NAME).symlink_to("mnist-random")
    done = pull(repository)
    assert_refused(done, SUBMISSIONS / NAME, "")
    assert "called with" not in done.stdout


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\n\n# Verified\n", r"a\n\n# Verified\n"),
        ('a"b', 'a"b'),
        ("a b", "a b"),
        ("```", "```"),
        ("zürich", r"z\xfcrich"),
        ("..a", "..a"),
        ("-seed", "-seed"),
        (b"\xff\xfe", r"\\xff\\xfe"),
    ],
)
def test_folders_whose_names_are_not_plain_are_refused_by_name(repository, name, shown):
    touch(repository)
    folder = os.path.join(os.fsencode(repository / SUBMISSIONS), os.fsencode(name))
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("the file system takes no such name")
    Path(os.fsdecode(folder), "card.toml").write_text("")
    done = pull(repository)
    assert_refused(done, f"{SUBMISSIONS}/{shown}/card.toml", "the folder's name may hold")
    assert "\n# Verified" not in done.stdout
    assert done.stdout.count("called with") == 1  # the other submission is looked at all the same


def test_no_text_of_a_submission_leaves_its_block(repository):
    text = "````\n## All is well\r## Here too\x85## And\u2028## here\n\x1b[31m@someone\u202e\n~~~\n\n</pre>\tend"
    (repository / SUBMISSIONS / NAME / "card.toml").write_bytes(text.encode() + b"\xff")
    done = pull(repository)
    assert done.returncode == 0
    told = done.stdout[done.stdout.index("    called with") :].removesuffix("Found as stated.\n\n")
    assert all(line.startswith("    ") for line in told.splitlines() if line)
    assert "    ````\n    ## All is well## Here too## And ## here\n    [31m@someone\n    ~~~\n" in told


def test_the_report_is_cut_where_a_comment_would_be_too_long(repository):
    for number in range(6):
        shutil.copytree(repository / SUBMISSIONS / "mnist-random", repository / SUBMISSIONS / f"long{number}")
        (repository / SUBMISSIONS / f"long{number}" / "verification.json").unlink()  # which maintainers add
        (repository / SUBMISSIONS / f"long{number}" / "card.toml").write_text("long line\n" * 100_000)
    done = pull(repository)
    assert done.returncode == 0
    assert "    ... and more\n\nFound as stated.\n\n### `long1`" in done.stdout
    assert done.stdout.endswith("The report is cut here: it would be longer than a comment may be.\n")
    assert len(done.stdout) > 50_000


def test_a_submission_that_merging_would_mix_with_another_is_refused(repository):
    touch(repository)
    commit(repository)
    git(repository, "switch", "--quiet", "main")
    (repository / SUBMISSIONS / NAME / "gradmatch-ipc1.png").unlink()
    commit(repository, "ours")
    git(repository, "switch", "--quiet", "theirs")
    (repository / "README.md").write_text("other")
    assert_refused(pull(repository), SUBMISSIONS / NAME, "the base has changed this submission since")


def test_what_has_nothing_in_common_with_the_base_is_refused(repository):
    git(repository, "checkout", "--quiet", "--orphan", "other")
    git(repository, "commit", "--quiet", "-m", "other start")
    git(repository, "branch", "--quiet", "--force", "theirs")
    git(repository, "switch", "--quiet", "theirs")
    touch(repository)
    done = pull(repository)
    assert done.returncode == 1
    assert "    0 common ancestors with the base" in done.stdout


def test_the_page_and_the_tables_are_laid_out_for_publishing(repository):
    done = run(repository, "bash", "ci/page.sh", "site")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (repository / "leaderboards" / "tables").iterdir()}
    assert {path.name for path in (repository / "site").iterdir()} == names
    assert "index.html" in names


@pytest.mark.parametrize("workflow", sorted(WORKFLOWS.iterdir()), ids=lambda path: path.name)
def test_workflows_call_scripts_that_are_there(workflow):
    called = [word for word in workflow.read_text().split() if word.startswith(("ci/", ".ci/"))]
    assert called
    for script in called:
        assert os.access(ROOT / script, os.X_OK), script


def workflow(name):
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((WORKFLOWS / name).read_text())


def test_pull_requests_are_judged_by_the_main_branch_and_only_the_job_without_their_data_may_write():
    read = workflow("submissions.yml")
    assert read[True] == {"pull_request_target": {"branches": ["main"], "paths": ["leaderboards/**"]}}  # "on"
    assert read["permissions"] == {}
    verify, comment = read["jobs"]["verify"], read["jobs"]["comment"]
    assert verify["permissions"] == {"contents": "read"}
    checkouts = [step for step in verify["steps"] if "checkout" in step.get("uses", "")]
    assert [step["with"] for step in checkouts] == [
        {"ref": "main", "fetch-depth": 0, "persist-credentials": False}
    ]
    assert comment["permissions"] == {"pull-requests": "write"}
    assert (comment["needs"], comment["if"]) == ("verify", "always()")
    assert not any("checkout" in step.get("uses", "") for step in comment["steps"])
    (posting,) = (step for step in comment["steps"] if "run" in step)
    assert posting["env"]["RESULT"] == "${{ needs.verify.result }}"
    assert posting["env"]["NUMBER"] == "${{ github.event.pull_request.number }}"
    commands = [step["run"] for job in (verify, comment) for step in job["steps"] if "run" in step]
    assert "ci/verify.sh HEAD FETCH_HEAD > report.md" in commands
    assert not any("${{" in command for command in commands)  # an expression in a script is pasted into it


@pytest.mark.parametrize(
    ("result", "verdict"),
    [("success", "**Passed:**"), ("failure", "**Not verified:**"), ("cancelled", "**No verdict**")],
)
@pytest.mark.parametrize("report", ["**Passed:** whatever it says\n", None])
def test_the_verdict_in_the_pull_request_is_how_the_run_ended(tmp_path, monkeypatch, result, verdict, report):
    (posting,) = (step for step in workflow("submissions.yml")["jobs"]["comment"]["steps"] if "run" in step)
    (tmp_path / "gh").write_text('#!/bin/sh\necho "$@"\ncat "$5"\n')
    (tmp_path / "gh").chmod(0o755)
    if report:
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / "report.md").write_text(report)
    variables = {"NUMBER": "7", "COMMIT": "abc", "RESULT": result, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = run(tmp_path, "bash", "-e", "-c", posting["run"])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "pr comment 7 --body-file comment.md"
    assert lines[1].startswith(verdict)
    assert "abc" in lines[1]
    assert lines[2:] == (["", report.strip()] if report else [])


@pytest.mark.parametrize("name", ["tests.yml", "submissions.yml", "page.yml", "release.yml"])
def test_no_job_that_reads_what_others_wrote_keeps_a_token_or_may_write(name):
    read = workflow(name)
    for job in read["jobs"].values():
        checkouts = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)
        assert not checkouts or job.get("permissions", read["permissions"]) == {"contents": "read"}
