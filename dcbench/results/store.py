"""A results folder: its records, beside the files of its condensed sets (see `dcbench.results.artefacts`).

::

    results/
      records.jsonl    one line per trial, appended
      .locks/KEY.lock  of a cell that a run is working on
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from dcbench.core.spec import CondenseSpec
from dcbench.results.artefacts import Artefacts
from dcbench.results.records import Record
from dcbench.utils.errors import DcbenchError, NewerFormat, newer_format
from dcbench.utils.files import make_folder, storing, sync_folder

RECORDS = "records.jsonl"

TrialKey = tuple[str, str | None, str, str, int | None]
"""Condense key, evaluation network, protocol, budget, evaluation seed."""


class Store(Artefacts):
    """A results folder, open for reading and appending. Several runs may have it open at once."""

    def __init__(self, root: Path) -> None:
        """Open the folder; it need not exist yet."""
        super().__init__(root)
        self._clear()
        self.refresh()

    def refresh(self) -> None:
        """Read what other runs have appended since."""
        path = self.root / RECORDS
        try:
            with path.open("rb") as file:
                self._read_on(file)
        except FileNotFoundError:
            self._clear()
        except OSError as error:
            raise unreadable(path, error) from None

    def _clear(self) -> None:
        self.records: list[Record] = []
        self._done: dict[TrialKey, Record] = {}
        self._newest: dict[str, Record] = {}
        self._inode = self._lines = self._offset = 0

    def _read_on(self, file: BinaryIO) -> None:
        """Read the lines that follow those that were read, or all lines where the file is another one."""
        about = os.fstat(file.fileno())
        if about.st_ino != self._inode or about.st_size < self._offset:
            self._clear()
        file.seek(self._offset)
        is_first, self._inode = not self._inode, about.st_ino
        records, lines, size = _read_lines(self.root / RECORDS, file, False, self._lines, is_first)
        self._lines, self._offset = self._lines + lines, self._offset + size
        for record in records:
            self._add(record)

    def _add(self, record: Record) -> None:
        self.records.append(record)
        if record.status == "ok":
            _keep_later(self._done, record)
            _keep_newest_set(self._newest, record)

    def find(self, condense_key: str, network: str, protocol: str, budget: str, eval_seed: int) -> Record | None:
        """Return the successful record of a trial on the set of its key that was made last, if there is one."""
        found = self._done.get((condense_key, network, protocol, budget, eval_seed))
        return found if found and found.set_sha256 == self._newest[condense_key].set_sha256 else None

    def append(self, record: Record) -> None:
        """Write a record, whole, before returning.

        Raises:
            StorageError: when it cannot be written.
        """
        path = self.root / RECORDS
        with storing(path), FileLock(self.root / f".{RECORDS}.lock"):
            new = not path.exists()
            with open(path, "ab+") as file:
                self._read_on(file)  # what others have written in between
                file.truncate(self._offset)  # which drops a last line that is torn
                file.seek(max(0, self._offset - 1))
                end = b"" if file.read(1) in (b"", b"\n") else b"\n"
                line = end + record.to_json().encode() + b"\n"
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
                self._lines, self._offset = self._lines + line.count(b"\n"), self._offset + len(line)
            if new:
                sync_folder(self.root)
        self._add(record)

    def lock_path(self, spec: CondenseSpec) -> Path:
        """Return the file by which a cell is locked."""
        return self.root / ".locks" / f"{spec.key()[:24]}.lock"

    def try_lock(self, spec: CondenseSpec) -> FileLock | None:
        """Lock a cell while a run works on it; return None if another run has it. A lock ends with its process.

        Raises:
            StorageError: when the lock cannot be written.
        """
        path = self.lock_path(spec)
        make_folder(path.parent)
        with storing(path):
            lock = FileLock(path)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                return None
        return lock


def trial_key(record: Record) -> TrialKey:
    """Return which trial a record is of. It is the same for a trial that was done again."""
    return (
        record.condense_key,
        record.evaluation_network,
        record.protocol,
        record.budget,
        record.eval_seed,
    )


def read_records(path: Path, strict: bool = True) -> list[Record]:
    """Read a file of records, which is left as it is. A last line torn by a kill is dropped with a warning.

    Args:
        path: the file.
        strict: raise for a line that is damaged. Without it, as for results, whose trials can be done again, all
            such lines are left out with one warning.

    Raises:
        DcbenchError: naming the file, when it cannot be read, and the line that is not a record.
    """
    try:
        with path.open("rb") as file:
            return _read_lines(path, file, strict)[0]
    except OSError as error:
        raise unreadable(path, error) from None


def _read_lines(
    path: Path, file: BinaryIO, strict: bool, number: int = 0, is_first: bool = True
) -> tuple[list[Record], int, int]:
    """Read the rest of a file of records, and warn of damaged lines.

    Args:
        path: of the file, for messages.
        file: open where the rest begins.
        strict: see `read_records`.
        number: of lines before the rest.
        is_first: warn of a torn last line, too. Later it is most likely a line that another run is writing.

    Returns:
        The records, the number of lines and their bytes. A torn last line is not among them, because it is read
        again: whoever writes it may not be done, or another run will drop it.
    """
    records: list[Record] = []
    damaged, lines, size, torn = [], 0, 0, False
    for line in file:
        place = number + lines + 1
        try:
            if line.strip():
                records.append(Record.from_json(line))
        except NewerFormat:
            raise newer_format(f"{path}, line {place},") from None
        except ValueError as error:
            torn = not line.endswith(b"\n")
            if strict and not torn:
                raise DcbenchError(f"{path}, line {place} is not a record: {error}.") from None
            if is_first or not torn:
                damaged.append(place)
        if not torn:
            lines, size = lines + line.endswith(b"\n"), size + len(line)
    if torn and is_first and len(damaged) == 1:
        warnings.warn(f"{path}: dropped its last line, which is torn.", stacklevel=2)
    elif damaged:
        warnings.warn(f"{path}: left out {_which(damaged)}; those trials are done again.", stacklevel=2)
    return records, lines, size


def unreadable(path: Path, error: OSError) -> DcbenchError:
    """Return the error for a file that the system cannot read."""
    return DcbenchError(f"{path} cannot be read: {error.strerror}.")


def _which(lines: Sequence[int]) -> str:
    """Name damaged lines, the first ten of many."""
    if len(lines) == 1:
        return f"line {lines[0]}, which is damaged"
    more = f" and {len(lines) - 10} more" if len(lines) > 10 else ""
    return f"lines {', '.join(map(str, lines[:10]))}{more}, which are damaged"


def latest(records: Iterable[Record]) -> list[Record]:
    """Return the successful records, for each trial the one that was started last.

    Where the condensed set of a key was made again with other bytes, the records of the former set are left out,
    because an average must be of one set. The result does not depend on the order of the records.
    """
    newest: dict[TrialKey, Record] = {}
    sets: dict[str, Record] = {}
    for record in records:
        if record.status == "ok":
            _keep_later(newest, record)
            _keep_newest_set(sets, record)
    kept = (record for record in newest.values() if record.set_sha256 == sets[record.condense_key].set_sha256)
    return sorted(kept, key=lambda record: (record.started_at, repr(trial_key(record))))


def _keep_later(newest: dict[TrialKey, Record], record: Record) -> None:
    """Put a record in the place of an earlier one of the same trial."""
    other = newest.setdefault(trial_key(record), record)
    if other is not record and _rank(other) < _rank(record):
        newest[trial_key(record)] = record


def _rank(record: Record) -> tuple[str, str]:
    """Return what is greatest for the record of a trial that counts: its start, then its text."""
    return record.started_at, record.to_json()


def _keep_newest_set(newest: dict[str, Record], record: Record) -> None:
    """Put a record in the place of one of the same key that was started earlier."""
    other = newest.setdefault(record.condense_key, record)
    if (other.started_at, str(other.set_sha256)) < (record.started_at, str(record.set_sha256)):
        newest[record.condense_key] = record
