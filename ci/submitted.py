"""Verify what a commit submits to the leaderboard, and refuse what a submitter may not change.

The commit is data and nothing else: its trees and blobs are read as Git keeps them. It is neither checked out nor
archived, since both honour attributes that the commit itself may set, and those rewrite files.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

LEADERBOARD = "leaderboards"
SUBMISSIONS = "leaderboards/submissions"
PLAIN = re.compile(r"(?![.-])[A-Za-z0-9.=+_@,-]{1,200}")
TABLE = re.compile(r"leaderboards/tables/(index\.html|scores\.csv|[A-Za-z0-9=+_][A-Za-z0-9.=+_-]*\.md)")
FILE = "100644"
MISSING = "000000"
MOST_BYTES = 50_000_000
MOST_CHARACTERS = 60_000  # a comment on GitHub has room for 65,536
MOST_OF_ONE = 15_000  # so that one submission leaves room for what is said of the next


@dataclass(frozen=True)
class Entry:
    """A file of a commit, or one that a commit changes.

    Attributes:
        path: in the repository; bytes that are no UTF-8 are written out.
        mode: as Git writes it; `MISSING` for a file that the commit removes.
        blob: object that holds its content.
        size: in bytes; 0 where it is not known.
    """

    path: str
    mode: str
    blob: str
    size: int = 0

    @property
    def name(self) -> str:
        """Last component of the path, in lower case: not every file system tells the two apart."""
        return self.path.rpartition("/")[2].lower()


class Refused(Exception):
    """What is submitted cannot be compared with its base at all."""


class Report:
    """Markdown on standard output, written as it comes so that a run that is stopped leaves what it found."""

    def __init__(self) -> None:
        """Begin with all of the room."""
        self._room = MOST_CHARACTERS
        self._note = "\nThe report is cut here: it would be longer than a comment may be.\n"

    def say(self, text: str) -> None:
        """Write a paragraph, or as much of it as there is room for."""
        if self._room == 0:
            return
        text = f"{text}\n\n"
        if len(text) > self._room - len(self._note):
            text = text[: self._room - len(self._note)] + self._note
            self._room = 0
        else:
            self._room -= len(text)
        sys.stdout.write(text)
        sys.stdout.flush()

    def quote(self, text: str) -> None:
        """Write what may come from a submitter: a block that its text can neither end nor leave."""
        self.say("\n".join(f"    {line}" for line in printable(text).split("\n")))


def printable(text: str) -> str:
    """Return a text without what would not be seen, or would move or reverse what is."""
    text = re.sub("[\u2028\u2029]", " ", text.expandtabs(4))
    return "".join(c for c in text if c == "\n" or unicodedata.category(c)[0] != "C")


def escaped(path: str) -> str:
    """Return a path on one line, whatever is in it."""
    text = path.encode("unicode_escape").decode("ascii")
    return text if len(text) <= 300 else f"{text[:300]}..."


def git(*words: str) -> bytes:
    """Return what Git prints.

    Raises:
        Refused: when it fails.
    """
    done = subprocess.run(["git", *words], capture_output=True)
    if done.returncode:
        raise Refused(f"git {words[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def commit(name: str) -> str:
    """Return the hash of a commit."""
    return git("rev-parse", "--verify", f"{name}^{{commit}}").decode().strip()


def common_ancestor(base: str, head: str) -> str:
    """Return the commit from which a pull request departs.

    Raises:
        Refused: when there are none or several, so that what it changes depends on how it is merged.
    """
    done = subprocess.run(["git", "merge-base", "--all", base, head], capture_output=True, text=True)
    found = done.stdout.split()
    if len(found) != 1:
        raise Refused(f"{len(found)} common ancestors with the base instead of one: rebase onto it.")
    return found[0]


def changes(start: str, head: str) -> list[Entry]:
    """Return every path that differs, removed ones too; a renamed file is removed and added."""
    # The plumbing command: it heeds no configuration, and .gitmodules cannot hide anything from it.
    fields = git("diff-tree", "-r", "-z", "--no-renames", "--ignore-submodules=none", start, head).split(b"\0")
    found = []
    for state, path in zip(fields[0::2], fields[1::2], strict=False):
        _, mode, _, blob, _ = state.decode().split(" ")
        found.append(Entry(path.decode(errors="backslashreplace"), mode, blob))
    return found


def files(head: str, name: str) -> list[Entry]:
    """Return all that a commit has in the folder of a submission."""
    listed = git("ls-tree", "-r", "-z", "-l", "--full-tree", head, "--", f"{SUBMISSIONS}/{name}/")
    found = []
    for line in listed.split(b"\0")[:-1]:
        about, path = line.split(b"\t", 1)
        mode, _, blob, size = about.decode().split()
        found.append(Entry(path.decode(errors="backslashreplace"), mode, blob, int(size) if size != "-" else 0))
    return found


def submission_of(path: str) -> str | None:
    """Return the name of the submission to which a path belongs, if it does and the name is plain."""
    parts = path.split("/")
    inside = len(parts) > 3 and "/".join(parts[:2]) == SUBMISSIONS
    return parts[2] if inside and PLAIN.fullmatch(parts[2]) else None


def objection_to_change(entry: Entry) -> str | None:
    """Return why a pull request may not change a path, or None."""
    removed = entry.mode == MISSING
    if entry.name == "verification.json" and not removed:
        return "only maintainers write this mark, once they have verified the submission"
    if entry.name == ".gitattributes" and not removed:
        return "attributes rewrite files when they are checked out"
    if not entry.path.startswith(f"{LEADERBOARD}/") and entry.path != LEADERBOARD:
        return None  # code and words, which their reviewers read
    if submission_of(entry.path):
        return None  # its folder is looked at as a whole
    if entry.path.startswith(f"{SUBMISSIONS}/") and entry.path.count("/") > 2:
        return "the folder's name may hold letters, digits and .=+_@,- alone, and begins with neither . nor -"
    if TABLE.fullmatch(entry.path) and (removed or entry.mode == FILE):
        return None  # made anew from the records wherever it counts
    return "belongs to no submission: a maintainer has to look at it"


def objection_to_file(entry: Entry) -> str | None:
    """Return why a submission may not have a file, or None."""
    inside = entry.path.split("/")[3:]
    if entry.mode != FILE:
        kind = {"120000": "a link", "160000": "a submodule", "100755": "executable"}.get(entry.mode, entry.mode)
        return f"it is {kind}: only plain files are taken"
    if entry.name == ".gitattributes":
        return "attributes rewrite files when they are checked out"
    if not all(PLAIN.fullmatch(part) for part in inside):
        return "its name may hold letters, digits and .=+_@,- alone, and begins with neither . nor -"
    # Records in a deeper folder would enter the tables as a submission that nobody looked at.
    if len(inside) > 1 and not (len(inside) == 2 and inside[0] == "sets" and inside[1].endswith(".safetensors")):
        return "a submission has files, and sets/*.safetensors, and no other folders"
    if entry.size > MOST_BYTES:
        return f"it has {entry.size:,} bytes: {MOST_BYTES:,} are taken"
    return None


def same_folder(one: str, other: str, name: str) -> bool:
    """Return whether two commits have the same submission of a name, or both have none."""
    listed = [git("ls-tree", "-z", "--full-tree", each, "--", f"{SUBMISSIONS}/{name}") for each in (one, other)]
    return listed[0] == listed[1]


def lay_out(entries: list[Entry], target: Path) -> None:
    """Write the files of a submission, byte for byte as they were committed."""
    for entry in entries:
        path = target.joinpath(*entry.path.split("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(git("cat-file", "blob", entry.blob))


def verify(name: str, scratch: Path, sample: int, seed: int, report: Report) -> bool:
    """Verify a submission that is laid out, and quote what was said; return whether it was found as stated."""
    words = [*shlex.split(os.environ.get("DCBENCH", "uv run dcbench")), "leaderboard", "verify"]
    words += [str(scratch / SUBMISSIONS / name), "--sample", str(sample), "--evals", "10", "--seed", str(seed)]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout
        said = process.stdout.read(4 * MOST_OF_ONE)
        while process.stdout.read(1 << 16):
            pass  # it would wait for ever for somebody to read it
    text = said.decode(errors="replace").replace(f"{scratch}/", "").strip("\n")
    if len(text) > MOST_OF_ONE:
        text = f"{text[:MOST_OF_ONE]}\n... and more"
    if process.returncode not in (0, 1):  # it did not come to a verdict
        text = f"{text}\nended with exit code {process.returncode}".strip()
    report.quote(text)
    return process.returncode == 0


def look(base: str, head: str, sample: int, seed: int, report: Report) -> bool:
    """Report on all that a commit changes; return whether nothing is wrong with it.

    Raises:
        Refused: when it cannot be told what it changes.
    """
    base, head = commit(base), commit(head)
    start = common_ancestor(base, head)
    changed = changes(start, head)
    objections = {entry.path: why for entry in changed if (why := objection_to_change(entry))}
    names = sorted({name for entry in changed if (name := submission_of(entry.path))})
    if not objections and not names:
        report.say("None is changed.")
        return True
    report.say(f"Commit {head}, with the code of {base}. Seed {seed}, {sample} sets of each row.")
    report.quote(f"ci/verify.sh {base} {head} {sample} {seed}")

    taken: dict[str, list[Entry]] = {}
    for name in names:
        entries, folder = files(head, name), f"{SUBMISSIONS}/{name}"
        wrong = {entry.path: why for entry in entries if (why := objection_to_file(entry))}
        if not entries:
            wrong[folder] = "the submission is removed: a maintainer has to look at it"
        if not same_folder(start, base, name):
            # Merging would mix the two, and what comes out was verified by nobody.
            wrong[folder] = "the base has changed this submission since: rebase onto it"
        objections = wrong | objections
        if not any(path == folder or path.startswith(f"{folder}/") for path in objections):
            taken[name] = entries
    if objections:
        report.say("### Refused")
        report.quote("\n".join(f"{escaped(path)}: {why}" for path, why in sorted(objections.items())))
    if len(taken) < len(names):
        report.say("Submissions with refused files are not evaluated.")

    good = not objections
    for name, entries in taken.items():
        report.say(f"### `{name}`")
        with tempfile.TemporaryDirectory() as scratch:
            lay_out(entries, Path(scratch))
            found = verify(name, Path(scratch), sample, seed, report)
        report.say("Found as stated." if found else "**Not verified.**")
        good = good and found
    return good


def main() -> int:
    """Return the exit code: 1 where something is refused or not found as stated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("head", help="the commit that submits")
    parser.add_argument("--sample", type=int, required=True, help="condensed sets to evaluate of each row")
    parser.add_argument("--seed", type=int, required=True, help="of the sample and of the networks")
    given = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    report = Report()
    report.say("## Verification of submissions")
    try:
        return 0 if look(given.base, given.head, given.sample, given.seed, report) else 1
    except Refused as refused:
        report.quote(str(refused))
        return 1


if __name__ == "__main__":
    sys.exit(main())
