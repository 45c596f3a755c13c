"""Records: one JSON line for each evaluation of one condensed set by one network with one seed."""

from __future__ import annotations

import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

RECORD_SCHEMA: Literal[2] = 2


class Record(BaseModel):
    """One trial, or one failure.

    Attributes:
        schema_: version of this list of fields (``schema`` in JSON). The first had no ``seeded``.
        status: ``ok`` or ``failed``; a failure never counts as done.
        error: what went wrong, else empty.
        key: evaluation key; the condense key where condensation failed.
        condense_key, set_sha256: which condensed set.
        dataset, dataset_sha256, ipc: ipc is None where the method does not depend on it.
        method, method_version, options: options are resolved, all of them.
        changed_options: names of those that are not the method's defaults in this setting.
        matching_network: None where the method does not depend on it.
        condense_seed, eval_seed: seeds.
        seeded: whether another condense seed would give another set.
        evaluation_network, protocol, budget: how it was judged.
        engine: how it was computed, see `dcbench.engine`.
        track: ``hard-label`` or ``soft-label``; never ranked together.
        accuracy: fraction of the test split classified correctly after the last epoch.
        n_test: images in the test split.
        condense_seconds, eval_seconds: wall time.
        peak_memory_bytes: while condensing; on CUDA what was allocated there, else resident memory.
        storage_bytes: of the condensed images and labels as tensors.
        plugin, plugin_version, source_sha256: the distribution that brought the method and its file's hash.
        device, torch, dcbench, git_sha, git_dirty, started_at: where, with what and when (UTC).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())

    schema_: Literal[1, 2] = Field(RECORD_SCHEMA, alias="schema")
    status: Literal["ok", "failed"]
    error: str = ""
    key: str
    condense_key: str
    set_sha256: str | None
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
    evaluation_network: str | None
    protocol: str
    budget: str
    engine: str
    track: str | None
    eval_seed: int | None
    accuracy: float | None = Field(ge=0, le=1)
    n_test: int = Field(ge=0)
    condense_seconds: float | None = Field(ge=0, allow_inf_nan=False)
    eval_seconds: float | None = Field(ge=0, allow_inf_nan=False)
    peak_memory_bytes: int | None = Field(ge=0, lt=2**63)
    storage_bytes: int | None = Field(ge=0, lt=2**63)
    plugin: str
    plugin_version: str
    source_sha256: str
    device: str
    torch: str
    dcbench: str
    git_sha: str | None
    git_dirty: bool | None
    started_at: str

    @model_validator(mode="before")
    @classmethod
    def _from_first_schema(cls, fields: Any) -> Any:
        """Fill in what the first schema lacks: then, methods that ignored the seed ignored the ipc, too."""
        if isinstance(fields, dict) and fields.get("schema") == 1 and "seeded" not in fields:
            return fields | {"seeded": fields.get("ipc") is not None}
        return fields

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Refuse a success that lacks what a success has."""
        needed = ("accuracy", "evaluation_network", "track", "eval_seed", "set_sha256")
        missing = [name for name in needed if getattr(self, name) is None]
        if self.status == "ok" and missing:
            raise ValueError(f"a successful record must have {', '.join(missing)}")
        unknown = set(self.changed_options) - set(self.options)
        if unknown:
            raise ValueError(f"changed_options names {', '.join(sorted(unknown))}, not among the options")
        return self

    def to_json(self) -> str:
        """Return the record as one line of JSON, keys sorted, without the line's end."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True)
