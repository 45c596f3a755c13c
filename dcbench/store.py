"""A results folder: records, condensed sets, pictures and checkpoints.

::

    results/
      records.jsonl              one line per trial, appended
      sets/NAME.safetensors      a condensed set; a function of its spec, byte for byte
      sets/NAME.cost.json        what it took to make
      sets/NAME.png              its picture
      checkpoints/KEY.safetensors  the state of unfinished condensations
      failures/KEY.txt           the tracebacks of what failed
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock
from pydantic import ValidationError

from dcbench.errors import DcbenchError
from dcbench.files import slug, write_atomically
from dcbench.records import Record
from dcbench.specs import CondenseSpec

RECORDS = "records.jsonl"


@dataclass(frozen=True)
class Cost:
    """What a condensed set took to make: seconds of wall time, the peak memory in bytes, and the engine's name."""

    seconds: float
    peak_memory_bytes: int
    engine: str = "plain"


class Store:
    """A results folder, open for reading and appending."""

    def __init__(self, root: Path) -> None:
        """Open the folder; it need not exist yet."""
        self.root = root
        self.records = read_records(root / RECORDS) if (root / RECORDS).exists() else []
        self._done = {trial_of(record): record for record in latest(self.records)}

    def find(self, condense_key: str, network: str, protocol: str, budget: str, eval_seed: int) -> Record | None:
        """Return the successful record of a trial, if there is one."""
        return self._done.get((condense_key, network, protocol, budget, eval_seed))

    def append(self, record: Record) -> None:
        """Write a record, whole, before returning."""
        with FileLock(self.root / f".{RECORDS}.lock"), open(self.root / RECORDS, "ab+") as file:
            _mend_last_line(file)
            file.write(record.to_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.records.append(record)
        if record.status == "ok":
            self._done[trial_of(record)] = record

    def set_path(self, spec: CondenseSpec) -> Path:
        """Return where the condensed set of a spec is or would be."""
        ipc = f"ipc{spec.ipc}" if spec.ipc is not None else "all"
        parts = (spec.dataset, ipc, spec.method, spec.matching_network, f"seed{spec.seed}")
        readable = "_".join(slug(part) for part in parts if part)
        return self.root / "sets" / f"{readable}_{spec.key()[:12]}.safetensors"

    def picture_path(self, spec: CondenseSpec) -> Path:
        """Return where the picture of a spec's condensed set is or would be."""
        return self.set_path(spec).with_suffix(".png")

    def checkpoint_path(self, spec: CondenseSpec) -> Path:
        """Return where the state of a spec's unfinished condensation is or would be."""
        return self.root / "checkpoints" / f"{spec.key()[:24]}.safetensors"

    def write_cost(self, spec: CondenseSpec, cost: Cost) -> None:
        """Write what a condensed set took to make."""
        write_atomically(_cost_path(self.set_path(spec)), (json.dumps(asdict(cost)) + "\n").encode())

    def read_cost(self, spec: CondenseSpec) -> Cost | None:
        """Return what a condensed set took to make, or None where that is not known."""
        return cost_beside(self.set_path(spec))

    def write_traceback(self, key: str, text: str) -> Path:
        """Keep the traceback of a failure, for the method's author; return where."""
        path = self.root / "failures" / f"{key[:24]}.txt"
        write_atomically(path, text.encode())
        return path


def cost_beside(path: Path) -> Cost | None:
    """Return what the condensed set in a file took to make, or None where that is not known."""
    try:
        return Cost(**json.loads(_cost_path(path).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _cost_path(path: Path) -> Path:
    return path.with_suffix(".cost.json")


def _mend_last_line(file: BinaryIO) -> None:
    """Make a file of records end with a line's end, dropping a last line that is torn."""
    if file.seek(0, os.SEEK_END) == 0:
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    *_, last = file.read().split(b"\n")
    try:
        Record.model_validate_json(last)
    except ValidationError:
        file.truncate(file.tell() - len(last))
    else:
        file.write(b"\n")


def trial_of(record: Record) -> tuple[str, str | None, str, str, int | None]:
    """Return which trial a record is of, whatever came out: the same for a trial that was done again."""
    return (
        record.condense_key,
        record.evaluation_network,
        record.protocol,
        record.budget,
        record.eval_seed,
    )


def read_records(path: Path) -> list[Record]:
    """Read a file of records. A last line torn by a kill is dropped with a warning.

    Raises:
        DcbenchError: naming the file and the line, for anything else that is not a record.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DcbenchError(f"{path} cannot be read: {error.strerror}.") from None
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            if number == len(lines):
                warnings.warn(f"{path}: dropped its last line, which is torn.", stacklevel=2)
                continue
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"])
            message = f"{place} {problem['msg']}".strip()
            raise DcbenchError(f"{path}, line {number} is not a record: {message}.") from None
    return records


def latest(records: Iterable[Record]) -> list[Record]:
    """Return the successful records, one for each trial: the one that was started last.

    The outcome does not depend on the order of the records.
    """
    ordered = sorted(
        (record for record in records if record.status == "ok"),
        key=lambda record: (record.started_at, record.to_json()),
    )
    return list({trial_of(record): record for record in ordered}.values())
