"""Condensed sets that others publish: a submission has their records, and who verifies it brings their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dcbench.condense.condensation import header
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.formats.foreign import read_foreign
from dcbench.leaderboard.scores import official
from dcbench.results.artefacts import Artefacts
from dcbench.results.set_file import save_set
from dcbench.results.submission import Submission
from dcbench.run.imported_sets import claim_of, imported_set
from dcbench.utils.errors import DcbenchError


def with_published_sets(
    submission: Submission, files: Sequence[Path], datasets: Mapping[str, LoadedDataset], folder: Path
) -> Submission:
    """Return a submission with the sets that others publish, made from their files.

    Args:
        files: as ``dcbench evaluate`` reads them; each is found by its hash, whatever its name.
        datasets: those of the submission by name.
        folder: where the sets are written.

    Raises:
        DcbenchError: for a file that the card does not name, or that has other sets than the records are of; and
            where one that the card names is needed, saying where it is.
    """
    published = {each.sha256: each for each in submission.card.files} if submission.card else {}
    missing = {
        record.condense_key: record
        for record in official(submission.records)
        if record.source_sha256 in published and submission.set_path(record.condense_key) is None
    }
    if files and not missing:
        raise DcbenchError(f"{submission.name} has all its sets, and needs no file.")
    submission = replace(submission, brought=folder)
    for path in files:
        found = ""
        for record in missing.values():
            data, claim = datasets[record.dataset], claim_of(record)
            file = read_foreign(path, data.info, claim)
            found = file.sha256
            if record.source_sha256 != found:
                continue
            if record.condense_seed not in range(len(file.sets)):
                raise DcbenchError(f"{path} has {len(file.sets)} sets, none of number {record.condense_seed}.")
            spec, source = imported_set(file, record.condense_seed, claim, data)
            stated = header(spec, source.condensed, data.train, source.origin)
            save_set(Artefacts(folder).set_path(record.condense_spec()), source.condensed, stated)
        if found not in published:
            raise DcbenchError(f"{path}, {found}, is no file of which {submission.name} needs sets.")
    lacking = {each.source_sha256 for key, each in missing.items() if submission.set_path(key) is None}
    if lacking:
        about = [
            f"{each.url} ({each.licence}; SHA-256 {digest})"
            for digest, each in published.items()
            if digest in lacking
        ]
        raise DcbenchError(
            f"{submission.name} has records of sets that others publish, and not the sets. Name their files with "
            f"--set; by its card, these are {'; '.join(about)}."
        )
    return submission
