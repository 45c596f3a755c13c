"""Making a submission from the results of a run: only what may enter a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from dcbench.leaderboard.board import refuse_shared_rows
from dcbench.leaderboard.scores import by_row, drop_other_augmentations, find_records, official
from dcbench.plugins import Plugins
from dcbench.results.network_file import read_networks
from dcbench.results.records import Record
from dcbench.results.set_file import stated_sha256, without_images
from dcbench.results.store import RECORDS, latest
from dcbench.results.submission import (
    CARD,
    NETWORKS,
    SETS,
    SUBMISSIONS,
    VERIFICATION,
    Card,
    MethodCard,
    PublishedFile,
    Submission,
    find_submissions,
)
from dcbench.submissions.integrity import has_repeated_sets
from dcbench.utils.errors import DcbenchError, find_name
from dcbench.utils.files import remove, write_atomically

LARGEST_TEACHER = 2_000_000
"""Bytes up to which the file of a teacher goes with a submission."""


@dataclass(frozen=True)
class Selection:
    """Which records of a run to submit; an empty field selects all. Sets of any size always go with them."""

    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    ipcs: tuple[int, ...] = ()
    protocols: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()

    def of(self, records: Iterable[Record]) -> list[Record]:
        """Return the official records that are asked for, one for each trial, in a fixed order.

        Raises:
            DcbenchError: for a name that no official record is of, with the nearest one.
        """
        found = drop_other_augmentations(latest(official(records)))
        if not found:
            return []
        asked = {
            "dataset": self.datasets,
            "method": self.methods,
            "protocol": self.protocols,
            "measure": self.measures,
        }
        for kind, names in asked.items():
            of = {id(each): each.ranked_on[0] if kind == "dataset" else getattr(each, kind) for each in found}
            here = {*of.values()}
            wanted = {find_name(f"{kind} of the official records", name, here) for name in names} or here
            found = [record for record in found if of[id(record)] in wanted]
        kept = [record for record in found if not (self.ipcs and record.ipc) or record.ipc in self.ipcs]
        return sorted(kept, key=lambda record: (record.started_at, record.key, record.condense_key))


def make_submission(
    results: Path,
    target: Path,
    selection: Selection,
    title: str,
    submitted_by: tuple[str, ...],
    plugins: Plugins,
    without_sets: bool = False,
) -> list[Record]:
    """Make a submission's folder from the results of a run.

    A coreset is kept by its indices alone, so that no images of a data set are passed on. A small teacher goes
    along, because its recipe gives another network on another machine. The card is filled in as far as installed
    plugins know. The folder is written in place, because Git keeps the earlier state. After an interruption, the
    same command completes it.

    Args:
        target: the submission's folder. One that exists gets the new records and sets in the place of its old
            ones. It keeps its card and other files, but not its verification, which was of other records.
        without_sets: whether the sets are of others and stay behind. The card then has their files' hashes.

    Returns:
        The records submitted.

    Raises:
        DcbenchError: when there is nothing to submit, a condensed set is missing, damaged or not of others,
            another submission has one of the rows already, or the folder is there and is no submission. Nothing
            is written then.
        StorageError: when it cannot be written.
    """
    records = selection.of(find_records(results))
    if not records:
        raise DcbenchError(f"{results} has no such records that may enter a table: quick and failed ones may not.")
    for who, row in by_row(records).items():
        if not row[0].imported and has_repeated_sets(row):
            raise DcbenchError(
                f"{who.method} on {who.dataset}, ipc {who.ipc}: several seeds have the same set, which "
                "counts once. Let its dependencies(setting) leave out 'seed' and run it again, or name others."
            )
    if target.parent.name == SUBMISSIONS and target.parent.is_dir():
        there = find_submissions(target.parent.parent)
        others = [(each, official(each.records)) for each in there if each.folder.resolve() != target.resolve()]
        refuse_shared_rows([*others, (Submission(target, tuple(records)), records)])
    if target.exists() and not ((target / RECORDS).exists() or (target / CARD).exists()):
        raise DcbenchError(f"{target} is there already, and is no submission: it has no {RECORDS}.")
    if without_sets and (own := sorted({record.method for record in records if not record.imported})):
        raise DcbenchError(
            f"only sets made elsewhere may stay behind, and dcbench made those of {', '.join(own)}."
        )
    paths = [] if without_sets else _sets(results, records)
    for path in paths:  # a damaged set is found before anything is written
        without_images(path)
    if not (target / CARD).exists():
        card = draft_card(records, title, submitted_by, plugins, without_sets)
        write_atomically(target / CARD, card.to_toml().encode())
    remove(target / VERIFICATION)
    for path in paths:
        write_atomically(target / SETS / path.name, without_images(path))
    write_atomically(target / RECORDS, "".join(record.to_json() + "\n" for record in records).encode())
    teachers = _teachers(results, records)
    for path in teachers:
        write_atomically(target / NETWORKS / path.name, path.read_bytes())
    kept = {target / path.parent.name / path.name for path in (*paths, *teachers)}
    for old in {*target.glob("*/*.safetensors")} - kept:
        remove(old)
    return records


def draft_card(
    records: Iterable[Record],
    title: str,
    submitted_by: tuple[str, ...],
    plugins: Plugins,
    without_sets: bool = False,
) -> Card:
    """Return a card with what records and installed plugins say."""
    records, cards = list(records), []
    for name, record in sorted({record.method: record for record in records}.items()):
        cls = plugins.methods.items.get(name)
        summary, paper = (cls.summary().rstrip("."), cls.citation) if cls else ("", "")
        # Those of a paper stand in its citation.
        authors = () if paper else _authors(record.plugin)
        cards.append(MethodCard(name=name, title=summary, authors=authors, paper=paper, track=str(record.track)))
    hashes = sorted({record.source_sha256 for record in records}) if without_sets else ()
    files = tuple(PublishedFile(sha256=each) for each in hashes)
    return Card(
        title=title, submitted_by=submitted_by, commands=commands(records), methods=tuple(cards), files=files
    )


def _authors(distribution: str) -> tuple[str, ...]:
    """Return the authors that an installed distribution states."""
    try:
        stated = metadata(distribution)
    except PackageNotFoundError:
        return ()
    named = [*(stated.get_all("Author") or ()), *(stated.get_all("Author-email") or ())]
    return tuple(dict.fromkeys(each.split(" <")[0].strip('" ') for text in named for each in text.split(", ")))


def commands(records: Iterable[Record]) -> tuple[str, ...]:
    """Return commands that make the trials of such records; methods that were run alike share one."""
    runs: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in records:
        if not record.imported:
            step = record.steps.sizes[0] if record.steps else None
            what = (record.ranked_on, step, record.protocol, record.method, record.matching_network)
            runs[*what, tuple(record.changed_options)].append(record)
    methods: dict[tuple[str, str], set[str]] = defaultdict(set)
    for some in runs.values():
        methods["continual" if some[0].steps else "run", _arguments(some)].add(some[0].method)
    return tuple(
        " ".join([f"dcbench {command}", *(f"-m {name}" for name in sorted(named)), arguments])
        for (command, arguments), named in sorted(methods.items(), key=lambda each: each[0][::-1])
    )


def _arguments(records: Sequence[Record]) -> str:
    """Return the arguments of a command that makes the trials of a method with the same options."""
    one = records[0]
    words = [f"-d {one.ranked_on[0]}", *(f"-o {name}={one.options[name]}" for name in sorted(one.changed_options))]
    named = {
        "--protocol": "protocol",
        "--ipc": "ipc",
        "--network": "matching_network",
        "--eval-network": "evaluation_network",
    }
    for flag, name in named.items():
        words += [f"{flag} {value}" for value in sorted({getattr(each, name) for each in records} - {None})]
    if one.steps:
        words.append(f"--steps {max(len(each.steps.classes) for each in records if each.steps)}")
    several = "--orders" if one.steps else "--sets"
    words.append(f"{several} {len({each.condense_seed for each in records})}")
    return " ".join([*words, f"--evals {1 + max(each.eval_seed or 0 for each in records)}"])


def _states(path: Path) -> str:
    """Return the hash that the file of a set states; empty for one that is damaged."""
    try:
        return stated_sha256(path)
    except DcbenchError:
        return ""


def _teachers(results: Path, records: Iterable[Record]) -> list[Path]:
    """Return the files of the teachers of some records that are there and small."""
    wanted = {record.teacher["sha256"] for record in records if record.teacher}
    folders = results.rglob(NETWORKS) if wanted else ()
    stored = [each for folder in folders for each in read_networks(folder.parent)[0]]
    found = {each.sha256: each.path for each in stored if each.path.stat().st_size <= LARGEST_TEACHER}
    return [path for digest, path in sorted(found.items()) if digest in wanted]


def _sets(results: Path, records: Iterable[Record]) -> list[Path]:
    """Return the files of the condensed sets of some records; one that is missing is a `DcbenchError`."""
    paths, kept = [], sorted(results.rglob(f"{SETS}/*.safetensors"))
    for key, digest in sorted({record.condense_key: record.set_sha256 for record in records}.items()):
        # The key is not part of the glob pattern, because a record may state any text.
        named = [path for path in kept if path.name.endswith(f"_{key[:12]}.safetensors")]
        # The set may have been made again in another folder, and one of the two may be damaged.
        found = [path for path in named if _states(path) == digest]
        if not found:
            other = f"; {named[0]} is another, made before or since, or is damaged" if named else ""
            raise DcbenchError(f"{results} has records of the condensed set {key[:12]}, but not the set{other}.")
        paths.append(found[0])
    return paths
