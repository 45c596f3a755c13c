"""Submissions: a folder of a leaderboard, with records, the condensed sets behind them, and a card.

::

    leaderboards/submissions/NAME/
      records.jsonl        one line per trained network
      sets/*.safetensors   the condensed sets, but for those that others publish
      networks/*           the teachers of the records, where they are small
      card.toml            what cannot be known from the records: who, which paper, which code
      verification.json    what a re-evaluation found, once there was one
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dcbench.core.spec import ACCURACY
from dcbench.results.records import Record
from dcbench.results.store import RECORDS, read_records
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import write_atomically
from dcbench.utils.text_files import checked, read_text, read_toml

CARD = "card.toml"
VERIFICATION = "verification.json"
SETS = "sets"
NETWORKS = "networks"
SUBMISSIONS = "submissions"

Line = Annotated[
    str,
    Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$"),
]
"""Text on one line, without characters that move, hide or reverse the text beside it."""


def _is_link(value: str) -> str:
    """Refuse links that lead to no page, or run as a script."""
    if value and not value.startswith(("https://", "http://")):
        raise ValueError("a link begins with https:// or http://")
    return value


Link = Annotated[Line, AfterValidator(_is_link)]
"""The address of a page, or empty."""


class PublishedFile(BaseModel):
    """What a card says of a file with condensed sets that others publish, and that the submission does not have.

    Attributes:
        sha256: hash of the file; of images and labels in two files, that of the one followed by the other.
        url: where it is, at one commit of its repository, so that it stays as it is.
        licence: under which it is published there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    url: Link = ""
    licence: Line = ""


class MethodCard(BaseModel):
    """What a card says of one method of the records: links are empty where there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Line
    title: Line = ""
    authors: tuple[Line, ...] = ()
    paper: Line = ""
    paper_url: Link = ""
    code_url: Link = ""
    track: Line = "hard-label"


class Card(BaseModel):
    """What stands in ``card.toml``: ``commands`` as typed, ``notes`` for readers of its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Line
    submitted_by: tuple[Line, ...] = ()
    commands: tuple[Line, ...] = ()
    notes: tuple[Line, ...] = ()
    methods: tuple[MethodCard, ...] = ()
    files: tuple[PublishedFile, ...] = ()

    def method(self, name: str) -> MethodCard | None:
        """Return what it says of a method."""
        return next((each for each in self.methods if each.name == name), None)

    def to_toml(self) -> str:
        """Return the card's file."""
        stated = self.model_dump(mode="json", exclude=None if self.files else {"files"})
        return tomli_w.dumps(stated, multiline_strings=False)


class Found(BaseModel):
    """What networks trained anew on one condensed set gave.

    Attributes:
        condense_key, protocol, measure: the set, how it was evaluated, and what was asked.
        network: evaluation network; empty for the mean over all of them.
        mean, networks: accuracy as a fraction, or another main score, over how many networks.
        tolerance: how far the stated mean over the row's sets may be above that found, as a fraction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    condense_key: str
    protocol: Line
    network: Line
    mean: float
    networks: int
    tolerance: float
    measure: Line = ACCURACY


class Verification(BaseModel):
    """What stands in ``verification.json``: which stated accuracies were found again.

    Attributes:
        dcbench: version that verified.
        records_sha256: hash of the records that were verified; others are not.
        seed, evals: of the sample and the networks trained; how many for each set and architecture.
        verified: evaluation networks by condense key.
        found: what the networks trained anew gave; none for a file of an earlier version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dcbench: Annotated[str, Field(pattern=r"^[0-9A-Za-z.+!-]{1,60}$")]
    records_sha256: str
    seed: int
    evals: int
    verified: dict[str, tuple[Line, ...]]
    found: tuple[Found, ...] = ()


@dataclass(frozen=True)
class Submission:
    """A folder with records in it.

    Attributes:
        folder: where it is.
        records: all of its records.
        card: None where there is none, as in the results of a run.
        verification: None where there is none for just these records.
        brought: another folder with sets of its records, which whoever verifies has brought.
    """

    folder: Path
    records: tuple[Record, ...]
    card: Card | None = None
    verification: Verification | None = None
    brought: Path | None = None

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    def set_path(self, condense_key: str) -> Path | None:
        """Return the file of a condensed set, or None where it is neither in the folder nor brought."""
        ending = f"_{condense_key[:12]}.safetensors"
        folders = [self.folder, self.brought] if self.brought else [self.folder]
        paths = (path for folder in folders for path in sorted(folder.glob(f"{SETS}/*")))
        return next((path for path in paths if path.name.endswith(ending)), None)


def find_submissions(folder: Path) -> tuple[Submission, ...]:
    """Read the submissions of a leaderboard; of another folder, such as results, all folders with records."""
    board = (folder / SUBMISSIONS).is_dir()
    found = (folder / SUBMISSIONS).glob(f"*/{RECORDS}") if board else folder.rglob(RECORDS)
    return tuple(read_submission(path.parent, strict=board) for path in sorted(found))


def read_submission(folder: Path, strict: bool = True) -> Submission:
    """Read the records, the card and the verification of a folder.

    Args:
        folder: of a submission, or the results of a run. A `DcbenchError` names a file in it that cannot be read,
            or a link in a submission.
        strict: refuse damaged records, also of a folder that has no card; see `read_records`.
    """
    _refuse_links(folder)
    records = read_records(folder / RECORDS, strict or (folder / CARD).exists())
    card = read_toml(path, Card) if (path := folder / CARD).exists() else None
    verification = None
    if (path := folder / VERIFICATION).exists():
        verification = checked(path, Verification, lambda: json.loads(read_text(path)))
        if verification.records_sha256 != records_sha256(folder):
            verification = None  # of other records than these
    return Submission(folder, tuple(records), card, verification)


def _refuse_links(folder: Path) -> None:
    """Refuse links in a submission, which others may have sent; the results of a run may have some."""
    in_leaderboard = folder.parent.name == SUBMISSIONS
    if in_leaderboard or (folder / CARD).exists() or (folder / CARD).is_symlink():
        for path in ([folder] if in_leaderboard else []) + sorted(folder.rglob("*")):
            if path.is_symlink():
                raise DcbenchError(f"{path} is a link: a submission has none.")


def misplaced(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield what must not be in a submission, and why: folders, more records, what is no file."""
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if not (path.is_file() or path.is_dir()):
            yield path, "it is neither a file nor a folder"
        elif (path.is_dir() and str(place) not in (SETS, NETWORKS)) or (
            path.name == RECORDS and len(place.parts) > 1
        ):
            yield path, "it has no place in a submission"


def records_sha256(folder: Path) -> str:
    """Return the hash of a folder's records."""
    return hashlib.sha256((folder / RECORDS).read_bytes()).hexdigest()


def write_verification(folder: Path, verification: Verification) -> Path:
    """Write what a re-evaluation found; return where."""
    text = json.dumps(verification.model_dump(mode="json"), indent=1, sort_keys=True)
    write_atomically(folder / VERIFICATION, f"{text}\n".encode())
    return folder / VERIFICATION
