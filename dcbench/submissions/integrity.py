"""Whether what a submission states fits together: its card, records and condensed sets, and the data."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcbench.core.spec import CondenseSpec, EvaluationSpec
from dcbench.evaluate.protocols import get_protocol
from dcbench.leaderboard.scores import competitor, official
from dcbench.plugins import Plugins
from dcbench.results.checked_set import OwnSet, read_own_set
from dcbench.results.records import IMPORTED, Record
from dcbench.results.store import RECORDS, latest, trial_of
from dcbench.results.submission import CARD, SETS, Submission, methods_of, misplaced
from dcbench.run.cells import Bench
from dcbench.submissions.claims import row_problems
from dcbench.submissions.leakage import count_test_images
from dcbench.utils.errors import DcbenchError

_WORD = r"[^\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff<>|`\\\[\]]+"
COMMIT = re.compile("[0-9a-f]{7,64}")
SHA256 = re.compile("[0-9a-f]{64}")
PLAIN = re.compile(f"{_WORD}( {_WORD})*")
"""Words of printable characters that mean nothing to Markdown's tables or HTML, a space between each."""


@dataclass(frozen=True)
class Problem:
    """Something that is not as it must be: where, and what was expected and found."""

    where: str
    what: str


@dataclass(frozen=True)
class Unit:
    """A condensed set of a submission, with the accuracies stated for it.

    Attributes:
        own: the set, as its file has it.
        records: of its trials.
    """

    own: OwnSet
    records: tuple[Record, ...]

    @property
    def competitor(self) -> tuple[str, ...]:
        """The row that it belongs to."""
        return competitor(self.records[0])

    @property
    def networks(self) -> list[str]:
        """Evaluation networks of its records, sorted."""
        return sorted({str(record.evaluation_network) for record in self.records})

    def stated(self, network: str) -> list[float]:
        """Return the accuracies stated for a network."""
        return [r.accuracy for r in self.records if r.evaluation_network == network and r.accuracy is not None]


def check_submission(
    submission: Submission, benches: Mapping[str, Bench], plugins: Plugins
) -> tuple[list[Problem], list[Unit]]:
    """Check that records, condensed sets and data fit together.

    Args:
        submission: what was submitted.
        benches: its data sets by name.
        plugins: whose methods are known, so that what records say of them can be checked.

    Returns:
        The problems, and the sets that can be evaluated.
    """
    stated = official(submission.records)
    problems = [] if stated else [Problem("records", "there are none that may enter a table")]
    problems += _folder_problems(submission.folder) + _card_problems(submission, stated)
    for record in stated:
        problems += [Problem(_name(record), what) for what in record_problems(record)]
    problems += _contradictions(stated)
    problems += [Problem(_name(each), what) for each, what in row_problems(latest(stated), benches, plugins)]
    by_set: dict[str, list[Record]] = defaultdict(list)
    for record in latest(stated):
        by_set[record.condense_key].append(record)
    units = []
    for key, records in sorted(by_set.items()):
        unit, found = _read_unit(submission, key, records, benches)
        problems += found
        units += [unit] if unit else []
    backed = {submission.set_path(key) for key in by_set}
    for path in sorted((submission.folder / SETS).glob("*.safetensors")):
        if path not in backed:
            problems.append(Problem(f"{SETS}/{path.name}", "no record is of this set"))
    return problems, units


def _folder_problems(folder: Path) -> list[Problem]:
    """Find what has no place in a submission, and a torn last line."""
    problems = [Problem(str(path.relative_to(folder)), what) for path, what in misplaced(folder)]
    if not (folder / RECORDS).read_bytes().endswith(b"\n"):
        problems.append(Problem(RECORDS, "its last line is torn"))
    return problems


def record_problems(record: Record) -> list[str]:
    """Say what in a record contradicts the rest of it; nothing if it is consistent."""
    names: tuple[str | None, ...]
    names = (record.dataset, record.method, record.method_version, record.matching_network, record.device)
    names += (record.evaluation_network, record.engine, record.plugin, record.torch, record.dcbench)
    names += (*record.packages, *record.packages.values())
    said = [f"{name!r} is no plain name" for name in names if name and not PLAIN.fullmatch(name)]
    if record.git_sha is not None and not COMMIT.fullmatch(record.git_sha):
        said.append(f"{record.git_sha!r} is no commit")
    said += [
        f"{part} {digest!r} is no source"
        for part, digest in record.sources.items()
        if not _is_source(part, digest)
    ]
    condensation = CondenseSpec(
        dataset=record.dataset,
        dataset_sha256=record.dataset_sha256,
        method=record.method,
        method_version=record.method_version,
        options=record.options,
        ipc=record.ipc,
        matching_network=record.matching_network,
        seed=record.condense_seed,
    )
    if record.condense_key != condensation.key():
        said.append("its condense key is not that of what it says was condensed")
    evaluation = EvaluationSpec(
        set_sha256=str(record.set_sha256),
        dataset=record.dataset,
        dataset_sha256=record.dataset_sha256,
        evaluation_network=str(record.evaluation_network),
        protocol=record.protocol,
        budget=record.budget,
        seed=record.eval_seed or 0,
    )
    if record.key != evaluation.key():
        said.append("its key is not that of what it says was evaluated")
    right = (record.accuracy or 0) * record.n_test
    if abs(right - round(right)) > 1e-6 * record.n_test:
        said.append(f"its accuracy {record.accuracy} is no whole number of its {record.n_test} test images")
    return said


def _is_source(part: str, digest: str) -> bool:
    return part in ("matching_network", "evaluation_network") and bool(SHA256.fullmatch(digest))


def _contradictions(records: Sequence[Record]) -> list[Problem]:
    """Find trials that are stated twice, with different outcomes."""
    seen: dict[object, Record] = {}
    problems = []
    for record in records:
        other = seen.setdefault(trial_of(record), record)
        if (other.accuracy, other.set_sha256) != (record.accuracy, record.set_sha256):
            what = f"the same trial is stated twice, with accuracies {other.accuracy} and {record.accuracy}"
            problems.append(Problem(_name(record), what))
    return problems


def _card_problems(submission: Submission, records: Sequence[Record]) -> list[Problem]:
    """Compare the card with the records."""
    card, methods = submission.card, methods_of(records)
    if card is None:
        return [Problem(CARD, "there is none")]
    said = []
    for name in methods:
        about = card.method(name)
        tracks = sorted({str(record.track) for record in records if record.method == name})
        if about is None:
            said.append(f"it says nothing of the method {name!r}")
        elif [about.track] != tracks:
            said.append(f"it puts {name!r} on the track {about.track!r}, its records on {' and '.join(tracks)}")
    said += [
        f"it speaks of {each.name!r}, of which there is no record"
        for each in card.methods
        if each.name not in methods
    ]
    return [Problem(CARD, what) for what in said]


def _read_unit(
    submission: Submission, key: str, records: Sequence[Record], benches: Mapping[str, Bench]
) -> tuple[Unit | None, list[Problem]]:
    """Read the set that some records are of, and compare the two."""
    first, path = records[0], submission.set_path(key)
    if path is None:
        return None, [Problem(_name(first), f"its condensed set is not in {SETS}/")]
    where = f"{SETS}/{path.name}"
    bench = benches[first.dataset]
    if first.dataset_sha256 != bench.info.sha256:
        ours = bench.info.sha256[:12]
        return None, [Problem(_name(first), f"its data {first.dataset_sha256[:12]} are not those here, {ours}")]
    try:
        own = read_own_set(path, bench)
    except DcbenchError as error:
        return None, [Problem(where, str(error).removeprefix(f"{path} ").rstrip("."))]
    problems = [Problem(where, what) for what in _set_problems(own, records, bench)]
    return (None if problems else Unit(own, tuple(records))), problems


def _set_problems(own: OwnSet, records: Sequence[Record], bench: Bench) -> list[str]:
    """Say where a set is not what its records say."""
    condensed, origin, found = own.condensed, own.origin, []
    compared: dict[str, tuple[object, set[object]]] = {
        "hash": (condensed.sha256(), {record.set_sha256 for record in records}),
        "condense key": (own.spec.key(), {record.condense_key for record in records}),
        "track": (condensed.track, {record.track for record in records}),
        "plugin": (origin.distribution, {record.plugin for record in records}),
        "size in bytes": (condensed.storage_bytes, {record.storage_bytes for record in records}),
        "number of test images": (len(bench.data.test.labels), {record.n_test for record in records}),
    }
    if origin.distribution == IMPORTED:  # of others `dcbench.submissions.claims` knows what the defaults are
        changed = {_listed(record.changed_options) for record in records}
        compared["list of options that are not defaults"] = (_listed(origin.changed_options), {*changed})
    for name, (ours, stated) in compared.items():
        if stated != {ours}:
            said = " and ".join(sorted(f"{each}" for each in stated))
            found.append(f"its {name} is {ours}, its records say {said}")
    for record in records:
        augmentation = get_protocol(record.protocol).augmentation(bench.info)
        if record.augmentation not in (None, augmentation):
            found.append(f"its images are augmented by {augmentation!r}, not by {record.augmentation!r}")
            break
    leaked = count_test_images(condensed, bench)
    if leaked:
        found.append(f"{leaked} of its images are test images")
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _name(record: Record) -> str:
    """Return a record in words."""
    ipc = f"ipc {record.ipc}" if record.ipc is not None else "all"
    network = f" on {record.evaluation_network}" if record.evaluation_network else ""
    return (
        f"record {record.key[:12]} ({record.method}, {record.dataset}, {ipc}, seed {record.condense_seed}"
        f"{network}, seed {record.eval_seed})"
    )
