"""Records: one JSON line for each evaluation of one condensed set by one network with one seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator
from pydantic_core import from_json

from dcbench.core.spec import ACCURACY, CondenseSpec, EvaluationSpec, Steps
from dcbench.utils.errors import newer_format

RECORD_SCHEMA: Literal[8] = 8
IMPORTED = "imported"
"""The plugin of a record whose set was made elsewhere."""
OF_ONE_SET = frozenset({"file_sha256", "set", "pixels"})
"""Options of such a record that identify its set and say how its file stores pixels, but not who made it."""
CHECKSUM = "checksum"
"""The key of a line's checksum, which is no field of a record. Lines have one from schema 3 on."""


class TeacherFacts(BaseModel):
    """What a record says of a teacher.

    Attributes:
        network, recipe: its architecture, and how it was trained.
        sha256: hash of its file's content.
        held_out_accuracy: on the images that it was not trained on; None where there are none.
        bytes: of its parameters and buffers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    recipe: str
    sha256: str
    held_out_accuracy: float | None = Field(ge=0, le=1)
    bytes: int = Field(ge=0, lt=2**63)


class Record(BaseModel):
    """One trial, or one failure.

    Attributes:
        schema_: version of this list of fields (``schema`` in JSON).
        status: ``ok`` or ``failed``; a failure never counts as done.
        error: what went wrong, else empty.
        key: evaluation key; the condense key where condensation failed.
        condense_key, set_sha256: which condensed set.
        dataset, dataset_sha256, ipc: ipc is None where the method does not depend on it.
        method, method_version, options: options are resolved, all of them.
        changed_options: names of those that are not the method's defaults in this setting.
        matching_network: None where the method does not depend on it.
        condense_seed, eval_seed: seeds of the set and of the network.
        seeded: whether another condense seed would give another set.
        steps: of a memory in continual learning; None for a set that was condensed at once. ``dataset`` then has
            the classes seen.
        evaluation_network, protocol, budget: how it was judged.
        augmentation: of the images that the evaluation network was trained on, as the protocol has it; empty for
            none, None where it is not known.
        recipe: what the protocol does on this data set, as in the evaluation key.
        engine: how it was computed, see `dcbench.engine.engine`.
        track: ``hard-label`` or ``soft-label``; never ranked together.
        measure: what was asked of the network, see `dcbench.core.measure`.
        main, unit, lower_is_better: which of its scores tables show, and how, as the measure has it.
        scores: by name, but for the next two.
        accuracy: fraction of the test split classified correctly after the last epoch; None where another measure
            was asked.
        balanced_accuracy: mean over the classes of the fraction classified correctly; None where the test classes
            are even, and before schema 7.
        diverged: in which epoch the training of the network diverged; empty if it did not. The accuracy is then
            that of the network at that time, an image counting as chance for which it has no prediction.
        n_test: images in the test split.
        condense_seconds, eval_seconds: wall time; the latter of training and of this measure alone.
        peak_memory_bytes: while condensing; on CUDA what was allocated there, else resident memory.
        networks_seconds: what the trained networks took that the method used, and the teacher of the protocol, in
            full, whoever made them; 0 for none.
        storage_bytes: of the condensed images and labels as tensors.
        brings: what the set brings with it beside these, see `CondensedSet.brings`.
        teacher: of a protocol that has one: the fields of `TeacherFacts`; else empty.
        plugin, plugin_version, source_sha256: the distribution that brought the method and its file's hash; for
            sets made elsewhere `IMPORTED`, nothing, and the hash of the set's file.
        sources: hashes of the files of code behind the ``matching_network``, the ``evaluation_network`` and the
            ``measure``, by these words, where they are known.
        packages: versions of what the evaluation network is made of, by the packages' names; torch's is ``torch``.
        device, torch, dcbench, git_sha, git_dirty, started_at: where, with what and when (UTC).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())

    schema_: Literal[1, 2, 3, 4, 5, 6, 7, 8] = Field(RECORD_SCHEMA, alias="schema")
    status: Literal["ok", "failed"]
    error: str = ""
    key: str
    condense_key: str
    set_sha256: str | None = None
    dataset: str
    dataset_sha256: str
    ipc: int | None
    method: str
    method_version: str
    options: dict[str, Any]
    changed_options: list[str]
    matching_network: str | None
    condense_seed: int
    seeded: bool = True
    steps: Steps | None = None
    evaluation_network: str | None = None
    protocol: str
    budget: str
    augmentation: str | None = None
    recipe: str = ""
    engine: str
    track: str | None = None
    eval_seed: int | None = None
    measure: str = ACCURACY
    main: str = ACCURACY
    unit: str = "%"
    lower_is_better: bool = False
    scores: dict[str, FiniteFloat] = {}
    accuracy: float | None = Field(None, ge=0, le=1)
    balanced_accuracy: float | None = Field(None, ge=0, le=1)
    diverged: str = ""
    n_test: int = Field(ge=0)
    condense_seconds: float | None = Field(None, ge=0, allow_inf_nan=False)
    networks_seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    eval_seconds: float | None = Field(None, ge=0, allow_inf_nan=False)
    peak_memory_bytes: int | None = Field(None, ge=0, lt=2**63)
    storage_bytes: int | None = Field(None, ge=0, lt=2**63)
    brings: dict[str, float] = {}
    teacher: dict[str, Any] = {}
    plugin: str
    plugin_version: str
    source_sha256: str
    sources: dict[str, str] = {}
    packages: dict[str, str] = {}
    device: str
    torch: str
    dcbench: str
    git_sha: str | None
    git_dirty: bool | None
    started_at: str

    @model_validator(mode="before")
    @classmethod
    def _from_first_schema(cls, fields: Any) -> Any:
        """Fill in what the first schema lacks: methods that ignored the seed then ignored the ipc, too."""
        if isinstance(fields, dict) and fields.get("schema") == 1 and "seeded" not in fields:
            return fields | {"seeded": fields.get("ipc") is not None}
        return fields

    @field_validator("teacher")
    @classmethod
    def _facts(cls, teacher: dict[str, Any]) -> dict[str, Any]:
        """Refuse what is not `TeacherFacts`."""
        return TeacherFacts.model_validate(teacher).model_dump() if teacher else {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Refuse a success that lacks what a success has."""
        needed = ("value", "evaluation_network", "track", "eval_seed", "set_sha256")
        missing = [name for name in needed if getattr(self, name) is None]
        if self.status == "ok" and missing:
            raise ValueError(f"a successful record must have {', '.join(missing)}")
        unknown = set(self.changed_options) - set(self.options)
        if unknown:
            raise ValueError(f"changed_options names {', '.join(sorted(unknown))}, not among the options")
        return self

    @property
    def imported(self) -> bool:
        """Whether the set was made elsewhere: its seed is then only its place in its file."""
        return self.plugin == IMPORTED and {*self.options} >= OF_ONE_SET

    @property
    def ranked_on(self) -> tuple[str, str]:
        """Name and hash of the data set whose tables it is for: in continual learning that of all classes."""
        of = self.steps or self
        return of.dataset, of.dataset_sha256

    @property
    def value(self) -> float | None:
        """The main score."""
        return self.scores.get(self.main, self.accuracy if self.main == ACCURACY else None)

    def condense_spec(self) -> CondenseSpec:
        """Return what was condensed, and how."""
        names = CondenseSpec.model_fields.keys() - {"seed"}
        return CondenseSpec(**{name: getattr(self, name) for name in names}, seed=self.condense_seed)

    def evaluation_spec(self) -> EvaluationSpec:
        """Return how the set of a successful record was evaluated."""
        names = EvaluationSpec.model_fields.keys() - {"seed"}
        return EvaluationSpec(**{name: getattr(self, name) for name in names}, seed=self.eval_seed or 0)

    def to_json(self) -> str:
        """Return the record and its checksum as one line of JSON, keys sorted, without the line's end."""
        unknown_then = {"augmentation", "sources", "packages"} if self.schema_ < 4 else set()
        unknown_then |= {"recipe"} if self.schema_ < 5 else set()
        unknown_then |= {"brings", "networks_seconds", "teacher"} if self.schema_ < 6 else set()
        unknown_then |= {"balanced_accuracy", "diverged"} if self.schema_ < 7 else set()
        of_measures = {"measure", "main", "unit", "lower_is_better", "scores"}
        unknown_then |= of_measures if self.schema_ < 8 else set()
        unknown_then |= set() if self.steps else {"steps"}
        fields = self.model_dump(mode="json", by_alias=True, exclude=unknown_then)
        return sealed(fields) if self.schema_ >= 3 else _canonical(fields)

    @classmethod
    def from_json(cls, line: bytes | str) -> Self:
        """Read a line that `to_json` made, with or without its end.

        A `ValueError` says what is wrong with a line that is no record or that has changed since. A line of a
        later schema whose checksum is right raises `NewerFormat`.
        """
        fields = from_json(line)
        if not isinstance(fields, dict):
            raise ValueError("it is no JSON object")
        checksum, schema = fields.pop(CHECKSUM, None), fields.get("schema")
        if isinstance(schema, int) and schema > RECORD_SCHEMA and checksum == checksum_of(fields):
            raise newer_format(f"a record of schema {schema}")
        try:
            record = cls.model_validate(fields)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise ValueError(f"{place} {problem['msg']}".strip()) from None
        if (checksum is not None or record.schema_ >= 3) and checksum != checksum_of(fields):
            raise ValueError("it does not have the checksum that it states")
        # One set of names for all records, because each would take two kilobytes.
        object.__setattr__(record, "__pydantic_fields_set__", _EVERY_FIELD)
        return record


_EVERY_FIELD = set(Record.model_fields)


def sealed(fields: Mapping[str, Any]) -> str:
    """Return a record's fields as a line of JSON with their checksum, which replaces one that is there."""
    bare = {name: value for name, value in fields.items() if name != CHECKSUM}
    return _canonical(bare | {CHECKSUM: checksum_of(bare)})


def checksum_of(fields: Mapping[str, Any]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the canonical JSON of a record's fields."""
    return hashlib.sha256(_canonical(fields).encode()).hexdigest()[:16]


_canonical: Callable[[Any], str] = json.JSONEncoder(sort_keys=True).encode
