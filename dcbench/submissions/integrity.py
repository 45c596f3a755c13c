"""Whether the parts of a submission fit together: its card, its records, its condensed sets, and the data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dcbench.core.dataset_form import without_classes
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.method import Setting, dependencies_in
from dcbench.evaluate.protocols import get_protocol
from dcbench.leaderboard.scores import Competitor, by_row, competitor, official
from dcbench.plugins import Plugins
from dcbench.results.checked_set import CheckedSet, read_checked_set
from dcbench.results.network_file import read_networks
from dcbench.results.records import IMPORTED, Record
from dcbench.results.store import RECORDS, latest
from dcbench.results.submission import CARD, NETWORKS, SETS, Card, Submission, misplaced
from dcbench.run.continual import classes_of_steps
from dcbench.submissions.leakage import count_test_images
from dcbench.utils.errors import DcbenchError


@dataclass(frozen=True)
class Problem:
    """Something that is not as it must be: where, and what was expected and found."""

    where: str
    what: str


@dataclass(frozen=True)
class SubmittedSet:
    """A condensed set of a submission as its file has it, with the records of one protocol and measure."""

    checked: CheckedSet
    records: tuple[Record, ...]

    @property
    def key(self) -> str:
        """Its condense key."""
        return self.records[0].condense_key

    @property
    def protocol(self) -> str:
        """The name of the protocol."""
        return self.records[0].protocol

    @property
    def measure(self) -> str:
        """What was asked of the networks."""
        return self.records[0].measure

    @property
    def judged(self) -> tuple[str, str, str]:
        """Condense key, protocol and measure."""
        return self.key, self.protocol, self.measure

    @property
    def competitor(self) -> Competitor:
        """The row that it belongs to."""
        return competitor(self.records[0])

    @property
    def networks(self) -> list[str]:
        """Evaluation networks of its records, sorted."""
        return sorted({str(record.evaluation_network) for record in self.records})

    def stated(self, network: str) -> list[float]:
        """Return the main scores stated for a network."""
        return [r.value for r in self.records if r.evaluation_network == network and r.value is not None]


def sets_by_row(sets: Iterable[SubmittedSet]) -> list[list[SubmittedSet]]:
    """Return condensed sets in the rows that they are of, in the order of these."""
    rows: dict[Competitor, list[SubmittedSet]] = defaultdict(list)
    for each in sets:
        rows[each.competitor].append(each)
    return [row for _, row in sorted(rows.items(), key=lambda item: repr(item[0]))]


def check_submission(
    submission: Submission, datasets: Mapping[str, LoadedDataset], plugins: Plugins
) -> tuple[list[Problem], list[SubmittedSet]]:
    """Check that card, records, condensed sets, data and installed methods fit together.

    Returns:
        The problems, and the sets that can be evaluated.
    """
    stated = official(submission.records)
    counted = latest(stated)
    problems = [] if stated else [Problem("records", "there are none that may enter a table")]
    folder, sets_folder = submission.folder, submission.folder / SETS
    problems += [Problem(str(path.relative_to(folder)), what) for path, what in misplaced(folder)]
    if not (folder / RECORDS).read_bytes().endswith(b"\n"):
        problems.append(Problem(RECORDS, "its last line is torn"))
    problems += [Problem(CARD, what) for what in _card_problems(submission.card, stated)]
    problems += [Problem(_name(record), what) for record in stated for what in record_problems(record)]
    by_set: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in counted:
        by_set[record.condense_key, record.protocol, record.measure].append(record)
    for row in by_row(counted).values():
        what = [*_seed_problems(row), *_method_problems(row[0], datasets, plugins)]
        what += dict.fromkeys(each for record in row for each in order_problems(record, datasets))
        problems += [Problem(_name(row[0]), each) for each in what]
    sets = []
    for (key, *_), records in sorted(by_set.items()):
        read = _read_set(submission.set_path(key), records, datasets[records[0].dataset], plugins)
        if isinstance(read, SubmittedSet):
            sets.append(read)
        else:
            problems += read
    backed = {submission.set_path(key) for key, *_ in by_set}
    unbacked = sorted({*sets_folder.glob("*.safetensors")} - backed)
    problems += [Problem(f"{SETS}/{path.name}", "no record is of this set") for path in unbacked]
    teachers, errors = read_networks(folder)
    taught = {record.teacher.get("sha256") for record in stated}
    unnamed = [each.path.name for each in teachers if each.sha256 not in taught]
    problems += [Problem(f"{NETWORKS}/{name}", "no record has this teacher") for name in unnamed]
    return problems + [Problem(NETWORKS, str(error)) for error in errors.values()], sets


def record_problems(record: Record) -> list[str]:
    """Say what in a record contradicts the rest of it; nothing if it is consistent."""
    texts = [*vars(record).values(), *record.packages, *record.packages.values(), *record.sources.values()]
    names = [text for text in texts if isinstance(text, str)]
    problems = [f"the name {name!r} cannot be printed" for name in names if not name.isprintable()]
    if record.condense_key != record.condense_spec().key():
        problems.append("its condense key is not that of what it says was condensed")
    if record.key != record.evaluation_spec().key():
        problems.append("its key is not that of what it says was evaluated")
    right = (record.accuracy or 0) * record.n_test
    if abs(right - round(right)) > 1e-6 * record.n_test and not record.diverged:
        problems.append(f"its accuracy {record.accuracy} is no whole number of its {record.n_test} test images")
    return problems


def order_problems(record: Record, datasets: Mapping[str, LoadedDataset]) -> Iterator[str]:
    """Say where classes came in another order than that of the seed, or other classes were tested.

    Nobody may choose among orders.
    """
    if (steps := record.steps) is None:
        return
    info = datasets[steps.dataset].info
    rest, chosen = without_classes(steps.dataset)
    right = classes_of_steps(chosen or range(info.num_classes), steps.sizes[0], record.condense_seed)
    if list(steps.classes) != right[: len(steps.classes)]:
        yield f"its classes come in another order than that of seed {record.condense_seed}"
    seen = sorted(label for step in steps.classes for label in step)
    tested_rest, tested = without_classes(record.dataset)
    if (tested_rest, tested or [*range(info.num_classes)]) != (rest, seen):
        yield f"it was tested on {record.dataset}, not on the classes of its steps"
    if steps.dataset_sha256 != info.sha256:
        yield f"its steps are of other data, {steps.dataset_sha256[:12]}, than those here, {info.sha256[:12]}"


def _card_problems(card: Card | None, records: Sequence[Record]) -> Iterator[str]:
    """Compare the methods on the card with those of the records."""
    described = {f"{each.name} ({each.track})" for each in card.methods} if card else set()
    recorded = {f"{record.method} ({record.track})" for record in records}
    if card is None:
        yield "there is none"
    elif described != recorded:
        yield f"it describes {_listed(described)}; the records are of {_listed(recorded)}"


def _read_set(
    path: Path | None, records: Sequence[Record], data: LoadedDataset, plugins: Plugins
) -> SubmittedSet | list[Problem]:
    """Read the set that some records are of; return the problems where the two do not fit together."""
    name, stated, ours = _name(records[0]), records[0].dataset_sha256, data.info.sha256
    if path is None:
        return [Problem(name, f"its condensed set is not in {SETS}/")]
    if stated != ours:
        return [Problem(name, f"its data {stated[:12]} are not those here, {ours[:12]}")]
    try:
        checked = read_checked_set(path, data)
        problems = _set_problems(checked, records, data, plugins)
    except DcbenchError as error:
        problems = [str(error).removeprefix(f"{path} ").rstrip(".")]
    return [Problem(f"{SETS}/{path.name}", what) for what in problems] or SubmittedSet(checked, tuple(records))


def _set_problems(
    checked: CheckedSet, records: Sequence[Record], data: LoadedDataset, plugins: Plugins
) -> list[str]:
    """Say where a set is not what its records say."""
    condensed, origin = checked.condensed, checked.origin
    measure = plugins.make_measure(records[0].measure)
    compared: dict[str, tuple[object, set[object]]] = {
        "main score": (
            (measure.main, measure.unit, measure.lower_is_better),
            {(record.main, record.unit, record.lower_is_better) for record in records},
        ),
        "hash": (condensed.sha256(), {record.set_sha256 for record in records}),
        "condense key": (checked.spec.key(), {record.condense_key for record in records}),
        "track": (condensed.track, {record.track for record in records}),
        "plugin": (origin.distribution, {record.plugin for record in records}),
        "size in bytes": (condensed.storage_bytes, {record.storage_bytes for record in records}),
        "list of what it brings": (
            _listed(condensed.brings.items()),
            {_listed(r.brings.items()) for r in records},
        ),
        "number of test images": (len(data.host_test.labels), {record.n_test for record in records}),
    }
    if origin.distribution == IMPORTED:  # of a method that is installed, `_method_problems` knows the defaults
        changed = {_listed(record.changed_options) for record in records}
        compared["list of options that are not defaults"] = (_listed(origin.changed_options), {*changed})
    problems = [
        f"its {name} is {ours}, its records say {' and '.join(sorted(map(str, stated)))}"
        for name, (ours, stated) in compared.items()
        if stated != {ours}
    ]
    for record in records:
        protocol = get_protocol(record.protocol, plugins.make_architecture)
        augmentation, recipe = protocol.augmentation(data.info), protocol.recipe(data.info)
        if record.augmentation not in (None, augmentation):
            problems.append(f"its images are augmented by {augmentation!r}, not by {record.augmentation!r}")
            break
        if record.recipe != recipe:
            problems.append(f"it was evaluated by {record.recipe!r}, not by {recipe!r}")
            break
        if bool(protocol.teacher_for(data.info)) != bool(record.teacher):
            wrong = f"name a teacher that the protocol {protocol.name} does not have"
            missing = f"do not say which teacher the protocol {protocol.name} had"
            problems.append(f"its records {wrong if record.teacher else missing}")
            break
    if leaked := count_test_images(condensed, data):
        problems.append(f"{leaked} of its images are test images")
    return problems


def _listed(values: Iterable[object]) -> str:
    return ", ".join(str(each) for each in sorted(values)) or "none"  # type: ignore[type-var]


def _name(record: Record) -> str:
    """Return a record in words."""
    of = record.condense_spec().set_in_words
    return f"record {record.key[:12]} ({of}; {record.evaluation_network}, seed {record.eval_seed})"


def _seed_problems(row: Sequence[Record]) -> Iterator[str]:
    """Find seeds that are left out, and a set that counts more than once.

    Seeds must be 0, 1, …, because nobody may choose among them. Sets made elsewhere have no known seeds. Whether
    somebody chose the best of many sets in another way cannot be seen.
    """
    imported, set_seeds = row[0].imported, {record.condense_seed for record in row}
    if imported and not all(record.seeded for record in row):
        yield "its sets were made elsewhere, and nothing says that another seed would make the same"
    if not imported and sorted(set_seeds) != list(range(len(set_seeds))):
        yield f"its sets have seeds {_listed(set_seeds)}, not 0 to {len(set_seeds) - 1}"
    if has_repeated_sets(row):
        yield "the same set counts more than once: under several seeds, in several files, or in one several times"
    trials: dict[tuple[str, str | None], set[int]] = defaultdict(set)
    for record in row:
        of = f"set {str(record.set_sha256)[:12]}" if imported else f"seed {record.condense_seed}"
        trials[of, record.evaluation_network].add(record.eval_seed or 0)
    for (of, network), seeds in sorted(trials.items(), key=str):
        if sorted(seeds) != list(range(len(seeds))):
            yield f"{of} on {network}: its networks have seeds {_listed(seeds)}, not 0 to {len(seeds) - 1}"


def has_repeated_sets(row: Iterable[Record]) -> bool:
    """Say whether some of a row's condensed sets are the same; two orders may begin with the same classes."""
    by_key = {record.condense_key: record.set_sha256 for record in row if not record.steps}
    return len(set(by_key.values())) < len(by_key)


def _method_problems(record: Record, datasets: Mapping[str, LoadedDataset], plugins: Plugins) -> Iterator[str]:
    """Compare the statements on a method with the method itself, where it is installed in the same version."""
    cls = plugins.methods.items.get(record.method)
    if cls is None or cls.version != record.method_version or record.dataset not in datasets:
        return
    data = datasets[record.dataset]
    counts = torch.bincount(data.host_train.labels, minlength=data.info.num_classes)
    setting = Setting(data.info, tuple(counts.tolist()), record.ipc or 1, record.matching_network or "")
    try:
        method = cls.configure(record.options)
        depends, changed = dependencies_in(method, setting), method.resolve(setting).changed_from_defaults(setting)
    except Exception as error:  # whatever a plugin may raise
        yield f"the method refuses its options: {error}"
        return
    given = {"seed": record.seeded, "ipc": record.ipc is not None, "network": record.matching_network is not None}
    if record.steps:  # whose seed draws the order of the classes, too
        del given["seed"]
    for name, is_given in given.items():
        if is_given != (name in depends):
            yield f"it says that the method {'takes' if is_given else 'ignores'} the {name}, which is not so"
    if sorted(changed) != sorted(record.changed_options):
        yield (
            f"it names {_listed(record.changed_options)} as options that are not the method's defaults; "
            f"they are {_listed(changed)}"
        )
