"""Whether what a submission states fits together: its card, records and condensed sets, and the data."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dcbench.core.condensed_set import CondensedSet
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.method import Method, Setting
from dcbench.core.spec import CondenseSpec, EvaluationSpec
from dcbench.core.split import ResidentSplit
from dcbench.evaluate.protocols import get_protocol
from dcbench.leaderboard.scores import competitor, official
from dcbench.plugins import Plugins
from dcbench.results.checked_set import CheckedSet, read_checked_set
from dcbench.results.records import IMPORTED, Record
from dcbench.results.store import RECORDS, latest, trial_key
from dcbench.results.submission import CARD, SETS, Submission, methods_of, misplaced
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
class SubmittedSet:
    """A condensed set of a submission, with the accuracies stated for it.

    Attributes:
        own: the set, as its file has it.
        records: of its trials.
    """

    own: CheckedSet
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
    submission: Submission, datasets: Mapping[str, LoadedDataset], plugins: Plugins
) -> tuple[list[Problem], list[SubmittedSet]]:
    """Check that records, condensed sets and data fit together.

    Args:
        submission: what was submitted.
        datasets: its data sets by name.
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
    problems += [Problem(_name(each), what) for each, what in row_problems(latest(stated), datasets, plugins)]
    by_set: dict[str, list[Record]] = defaultdict(list)
    for record in latest(stated):
        by_set[record.condense_key].append(record)
    units = []
    for key, records in sorted(by_set.items()):
        unit, found = _read_unit(submission, key, records, datasets)
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
        other = seen.setdefault(trial_key(record), record)
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
    submission: Submission, key: str, records: Sequence[Record], datasets: Mapping[str, LoadedDataset]
) -> tuple[SubmittedSet | None, list[Problem]]:
    """Read the set that some records are of, and compare the two."""
    first, path = records[0], submission.set_path(key)
    if path is None:
        return None, [Problem(_name(first), f"its condensed set is not in {SETS}/")]
    where = f"{SETS}/{path.name}"
    data = datasets[first.dataset]
    if first.dataset_sha256 != data.info.sha256:
        ours = data.info.sha256[:12]
        return None, [Problem(_name(first), f"its data {first.dataset_sha256[:12]} are not those here, {ours}")]
    try:
        own = read_checked_set(path, data)
    except DcbenchError as error:
        return None, [Problem(where, str(error).removeprefix(f"{path} ").rstrip("."))]
    problems = [Problem(where, what) for what in _set_problems(own, records, data)]
    return (None if problems else SubmittedSet(own, tuple(records))), problems


def _set_problems(own: CheckedSet, records: Sequence[Record], data: LoadedDataset) -> list[str]:
    """Say where a set is not what its records say."""
    condensed, origin, found = own.condensed, own.origin, []
    compared: dict[str, tuple[object, set[object]]] = {
        "hash": (condensed.sha256(), {record.set_sha256 for record in records}),
        "condense key": (own.spec.key(), {record.condense_key for record in records}),
        "track": (condensed.track, {record.track for record in records}),
        "plugin": (origin.distribution, {record.plugin for record in records}),
        "size in bytes": (condensed.storage_bytes, {record.storage_bytes for record in records}),
        "number of test images": (len(data.host_test.labels), {record.n_test for record in records}),
    }
    if origin.distribution == IMPORTED:  # of others `dcbench.submissions.claims` knows what the defaults are
        changed = {_listed(record.changed_options) for record in records}
        compared["list of options that are not defaults"] = (_listed(origin.changed_options), {*changed})
    for name, (ours, stated) in compared.items():
        if stated != {ours}:
            said = " and ".join(sorted(f"{each}" for each in stated))
            found.append(f"its {name} is {ours}, its records say {said}")
    for record in records:
        augmentation = get_protocol(record.protocol).augmentation(data.info)
        if record.augmentation not in (None, augmentation):
            found.append(f"its images are augmented by {augmentation!r}, not by {record.augmentation!r}")
            break
    leaked = count_test_images(condensed, data)
    if leaked:
        found.append(f"{leaked} of its images are test images")
    return found


def _listed(values: Iterable[object]) -> str:
    return ", ".join(str(each) for each in sorted(values)) or "none"  # type: ignore[type-var]


def _name(record: Record) -> str:
    """Return a record in words."""
    ipc = f"ipc {record.ipc}" if record.ipc is not None else "all"
    network = f" on {record.evaluation_network}" if record.evaluation_network else ""
    return (
        f"record {record.key[:12]} ({record.method}, {record.dataset}, {ipc}, seed {record.condense_seed}"
        f"{network}, seed {record.eval_seed})"
    )


NEAR = 0.5
"""An image is taken for a test image when it is this much nearer to one than to any training image."""

CHUNK = 2048


def count_test_images(condensed: CondensedSet, data: LoadedDataset) -> int:
    """Count the images of a set that are far nearer to a test image than to any training image.

    Distances are Euclidean, in the space of the set. It finds copies, and copies with little changes; it is no
    proof that a method has not seen the test split.
    """
    if condensed.indices is not None:  # training images, which was checked
        return 0
    images = condensed.images.to(data.device).flatten(1)
    test, train = data.test_split(condensed.zca), data.train_split(condensed.zca)
    to_test, to_train = (_nearest(images, split) for split in (test, train))
    return int((to_test < NEAR * to_train).sum())


def _nearest(images: Tensor, split: ResidentSplit) -> Tensor:
    """Return the distance of each image to the nearest of a split: shape (n,)."""
    nearest = torch.full((len(images),), torch.inf, device=images.device)
    for start in range(0, len(split), CHUNK):  # a whole split in float32 may be gigabytes
        batch = split.normalised(slice(start, start + CHUNK)).flatten(1)
        nearest = torch.minimum(nearest, torch.cdist(images, batch).min(1).values)
    return nearest


def row_problems(
    records: Sequence[Record], datasets: Mapping[str, LoadedDataset], plugins: Plugins
) -> list[tuple[Record, str]]:
    """Say which claims cannot be, with a record that makes them.

    Seeds are to be 0, 1, …, so that nobody chooses among them; where a method takes the seed, other seeds give
    other sets; and what is said of a method that is installed, in the same version, is what it says itself.
    Sets made elsewhere have no seeds that are known, but no set is to count twice.
    Whether somebody took the best of many sets by other ways cannot be seen.

    Args:
        records: successful, one for each trial.
        datasets: data sets by name.
        plugins: what is installed.
    """
    by_row: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        by_row[competitor(record)].append(record)
    said = []
    for row in by_row.values():
        said += [(row[0], what) for what in (*_seed_problems(row), *_method_problems(row[0], datasets, plugins))]
    return said


def _seed_problems(row: Sequence[Record]) -> Iterator[str]:
    """Find seeds that are left out, and the same set under several seeds, or in several files."""
    imported = row[0].imported
    if imported:
        if not all(record.seeded for record in row):
            yield "its sets were made elsewhere, and nothing says that another seed would make the same"
        by_key = {record.condense_key: record.set_sha256 for record in row}
        if len(set(by_key.values())) < len(by_key):
            yield "the same set counts more than once: it is in several files, or in one several times"
    else:
        by_seed = {record.condense_seed: record.set_sha256 for record in row}
        if sorted(by_seed) != list(range(len(by_seed))):
            yield f"its sets have seeds {_listed(by_seed)}, not 0 to {len(by_seed) - 1}"
        if len(set(by_seed.values())) < len(by_seed):
            yield "the same set stands under several seeds"
    trials: dict[tuple[str, str | None], set[int]] = defaultdict(set)
    for record in row:
        of = f"set {str(record.set_sha256)[:12]}" if imported else f"seed {record.condense_seed}"
        trials[of, record.evaluation_network].add(record.eval_seed or 0)
    for (of, network), seeds in sorted(trials.items(), key=str):
        if sorted(seeds) != list(range(len(seeds))):
            yield f"{of} on {network}: its networks have seeds {_listed(seeds)}, not 0 to {len(seeds) - 1}"


def _method_problems(record: Record, datasets: Mapping[str, LoadedDataset], plugins: Plugins) -> Iterator[str]:
    """Compare claims with the method itself, where just that is installed."""
    cls = plugins.methods.items.get(record.method)
    if cls is None or cls.version != record.method_version or record.dataset not in datasets:
        return
    try:
        method = cls.configure(record.options)
        changed = _changed_options(method, record, datasets[record.dataset])
    except DcbenchError as error:
        yield f"the method refuses its options: {error}"
        return
    except Exception as error:  # whatever a plugin may raise
        yield f"the method fails on its options: {type(error).__name__}: {error}"
        return
    depends = method.dependencies()
    if record.seeded != ("seed" in depends):
        yield f"it says that the method {'takes' if record.seeded else 'ignores'} the seed, which is not so"
    if ("ipc" in depends) != (record.ipc is not None):
        yield f"its ipc is {record.ipc}, and the method {'ignores' if record.ipc else 'needs'} one"
    if ("network" in depends) != (record.matching_network is not None):
        network = record.matching_network
        yield f"its matching network is {network}, and the method {'ignores' if network else 'needs'} one"
    if changed != sorted(record.changed_options):
        yield (
            f"it names {_listed(record.changed_options) or 'none'} as options that are not the method's defaults; "
            f"they are {_listed(changed) or 'none'}"
        )


def _changed_options(method: Method, record: Record, data: LoadedDataset) -> list[str]:
    """Return the names of the options that are not the method's defaults in the record's setting, sorted."""
    counts = torch.bincount(data.host_train.labels, minlength=data.info.num_classes)
    setting = Setting(data.info, tuple(counts.tolist()), record.ipc or 1, record.matching_network or "")
    return sorted(method.resolve(setting).changed_from_defaults(setting))
