"""A results folder: its records, beside the files of its condensed sets (see `dcbench.results.artefacts`)."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from dcbench.core.spec import ACCURACY
from dcbench.results.artefacts import Artefacts
from dcbench.results.records import Record
from dcbench.utils.errors import DcbenchError, NewerFormat, newer_format
from dcbench.utils.files import storing, sync_folder

RECORDS = "records.jsonl"

TrialKey = tuple[str, str | None, str, str, int | None, str]
"""Condense key, evaluation network, protocol, budget, evaluation seed, measure."""


class Store(Artefacts):
    """A results folder, open for reading and appending. Several runs may have it open at once."""

    def __init__(self, root: Path) -> None:
        """Open the folder; it need not exist yet."""
        super().__init__(root)
        self._clear()
        self.refresh()

    def _clear(self) -> None:
        self.records: list[Record] = []
        self._trials: dict[TrialKey, Record] = {}
        self._sets: dict[str, Record] = {}
        self._state: tuple[int, ...] = ()

    def refresh(self) -> None:
        """Read what another run has appended, or all records anew if their file has changed in another way."""
        path = self.root / RECORDS
        try:
            state = _state(path.stat())
        except FileNotFoundError:
            return self._clear()
        except OSError as error:
            raise unreadable(path, error) from None
        if state != self._state:
            start = self._state[1] if self._state and _has_grown(path, self._state, state) else 0
            records = read_records(path, strict=False, start=start, end=state[1])
            if not start:
                self._clear()
            self._state = state
            for record in records:
                self._add(record)

    def _add(self, record: Record) -> None:
        self.records.append(record)
        _keep(self._trials, self._sets, record)

    def find(
        self,
        condense_key: str,
        network: str,
        protocol: str,
        budget: str,
        eval_seed: int,
        measure: str = ACCURACY,
    ) -> Record | None:
        """Return the successful record of a trial on the set of its key that was made last, if there is one."""
        record = self._trials.get((condense_key, network, protocol, budget, eval_seed, measure))
        return record if record and record.set_sha256 == self._sets[condense_key].set_sha256 else None

    def append(self, record: Record) -> None:
        """Write a record, whole, before returning. Raises `StorageError` when it cannot be written."""
        path = self.root / RECORDS
        with storing(path), FileLock(self.root / f".{RECORDS}.lock"):
            self.refresh()
            with open(path, "ab+") as file:
                file.write(_end_last_line(file) + record.to_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if not self._state:
                sync_folder(self.root)
            self._state = _state(path.stat())
        self._add(record)


def _state(about: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file does."""
    return about.st_ino, about.st_size, about.st_mtime_ns


def _has_grown(path: Path, before: tuple[int, ...], now: tuple[int, ...]) -> bool:
    """Say whether a file of whole lines has only become longer."""
    if before[0] != now[0] or not 0 < before[1] < now[1]:
        return False
    with path.open("rb") as file:
        file.seek(before[1] - 1)
        return file.read(1) == b"\n"


def _end_last_line(file: BinaryIO) -> bytes:
    """Drop a last line that a kill has torn; return the end of line that a whole one lacks, or nothing."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
    if file.read(1) in (b"", b"\n"):
        return b""
    file.seek(0)
    *_, last = file
    try:
        Record.from_json(last)
    except ValueError:
        file.truncate(file.seek(-len(last), os.SEEK_END))
        return b""
    return b"\n"


def read_records(path: Path, strict: bool = True, start: int = 0, end: float = math.inf) -> list[Record]:
    """Read a file of records. A last line that a kill has torn is left out with a warning.

    Args:
        path: the file.
        strict: raise a `DcbenchError` that names a damaged line. Without it, as for results, whose trials can be
            done again, damaged lines are left out with one warning.
        start, end: where the lines to be read begin: bytes, the second excluded.
    """
    records: list[Record] = []
    damaged, torn, place = [], False, 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                begins, place = place, place + len(line)
                if not start <= begins < end:
                    continue
                try:
                    if line.strip():
                        records.append(Record.from_json(line))
                except NewerFormat:
                    raise newer_format(f"{path}, line {number},") from None
                except ValueError as error:
                    torn = not line.endswith(b"\n")
                    if strict and not torn:
                        raise DcbenchError(f"{path}, line {number} is not a record: {error}.") from None
                    damaged.append(number)
    except OSError as error:
        raise unreadable(path, error) from None
    if torn and len(damaged) == 1:
        warnings.warn(f"{path}: dropped its last line, which is torn.", stacklevel=2)
    elif damaged:
        which = "s" * (len(damaged) > 1) + f" {', '.join(map(str, damaged[:10]))}" + ", …" * (len(damaged) > 10)
        warnings.warn(f"{path}: left out damaged line{which}; those trials are done again.", stacklevel=2)
    return records


def unreadable(path: Path, error: OSError) -> DcbenchError:
    """Return the error for a file that the system cannot read."""
    return DcbenchError(f"{path} cannot be read: {error.strerror}.")


def latest(records: Iterable[Record]) -> list[Record]:
    """Return the successful records, for each trial the one that was started last.

    Where the condensed set of a key was made again with other bytes, the records of the former set are left out,
    because an average must be of one set. The result does not depend on the order of the records.
    """
    trials: dict[TrialKey, Record] = {}
    sets: dict[str, Record] = {}
    for record in records:
        _keep(trials, sets, record)
    kept = (record for record in trials.values() if record.set_sha256 == sets[record.condense_key].set_sha256)
    return sorted(kept, key=lambda record: (record.started_at, repr(_trial_key(record))))


def _keep(trials: dict[TrialKey, Record], sets: dict[str, Record], record: Record) -> None:
    """Keep a successful record if it is the last one of its trial, and if its set is the last one of its key."""
    if record.status != "ok":
        return
    key = _trial_key(record)
    other = trials.get(key)
    if other is None or (other.started_at, other.to_json()) < (record.started_at, record.to_json()):
        trials[key] = record
    newest = sets.setdefault(record.condense_key, record)
    if (newest.started_at, str(newest.set_sha256)) < (record.started_at, str(record.set_sha256)):
        sets[record.condense_key] = record


def _trial_key(record: Record) -> TrialKey:
    """Return which trial a record is of. It is the same for a trial that was done again."""
    judged = record.evaluation_network, record.protocol, record.budget, record.eval_seed, record.measure
    return record.condense_key, *judged
