"""The files of a suite: what a paper's table takes to reproduce, and its numbers.

A suite is a TOML file; its name is the file's, without ``.toml``. Its lists multiply, as those of
`dcbench run` do::

    title = "Gradient matching, MNIST"
    source = "Zhao, Mopuri, Bilen, ICLR 2021, table 1"     # whose numbers they are
    notes = ["What a reader of the comparison has to know."]
    datasets = ["mnist"]
    methods = ["gradmatch", "whole"]
    ipcs = [1, 10]
    networks = ["convnet"]                                 # matched on
    eval_networks = ["convnet"]
    sets = 5                                               # condensed sets, each from its own seed
    evals = 20                                             # evaluation networks per set and architecture
    fixed = ["whole"]                                      # methods that ignore the seed
    fixed_evals = 5                                        # and evaluation networks for them, in all
    protocol = "dc"
    budget = "full"
    options = { "gradmatch.momentum_net" = 0.5 }           # as for -o
    published = "published.csv"                            # beside this file

``notes``, ``fixed``, ``fixed_evals``, ``budget``, ``options`` and ``published`` may be left out. The
published numbers are a CSV file with the columns of `Published`; columns with a default may be left out.

An architecture search has many evaluation networks, mostly from a grid, and says by what they are ranked::

    [grid]
    network = "convnet"
    options = { width = [32, 64], depth = [1, 2, 3] }      # their product, or of it
    sample = 4                                             # so many, drawn with
    seed = 0

    [truth]
    method = "whole"
    protocol = "dc:steps=1200"
    evals = 2
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dcbench.utils.errors import DcbenchError
from dcbench.utils.hashes import derive_seed
from dcbench.utils.text_files import mistake, read_text, read_toml


def _flat(options: Any) -> Any:
    """Spell options as users type them: TOML nests ``gradmatch.momentum_net`` where it is not quoted."""
    if not isinstance(options, dict):
        return options
    flat: dict[str, Any] = {}
    for key, value in options.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat |= {f"{key}.{name}".rstrip("."): each for name, each in inner.items()}
    return {key: _text(each) for key, each in flat.items()}


def _text(value: Any) -> str:
    """Return the value of an option as users type it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


Names = Annotated[tuple[str, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Percentage = Annotated[float, Field(ge=0, le=100)]
StrictCount = Annotated[Count, Field(strict=True)]
"""For TOML, which tells true from 1."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Grid(_Row):
    """Networks of one architecture: the product of the values of its options, or some of it.

    Attributes:
        network: the architecture's name.
        options: the values of each option.
        sample: how many networks are drawn, uniformly; None for all.
        seed: of the draw. A smaller sample is part of a larger one.
    """

    network: str
    options: Annotated[Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]], Field(min_length=1)]
    sample: StrictCount | None = None
    seed: Annotated[int, Field(strict=True)] = 0

    @property
    def size(self) -> int:
        """The number of networks of the product."""
        return math.prod(map(len, self.options.values()))

    def names(self) -> tuple[str, ...]:
        """Return the networks as users type them, in the order of the product."""
        texts = [[_text(each) for each in values] for values in self.options.values()]
        names = [
            f"{self.network}:" + ",".join(map("=".join, zip(self.options, values, strict=True)))
            for values in product(*texts)
        ]
        drawn = sorted(names, key=lambda name: derive_seed("grid", self.seed, name))[: self.sample]
        return tuple(name for name in names if name in {*drawn})

    @model_validator(mode="after")
    def _large_enough(self) -> Self:
        if self.sample and self.sample > self.size:
            raise ValueError(f"the grid has {self.size} networks, fewer than the sample of {self.sample}")
        return self


class Truth(_Row):
    """What the networks of an architecture search are ranked by: their accuracy when trained on another set.

    Attributes:
        method: makes the set, as a rule of all training images.
        protocol: by which they are trained.
        evals: how many of each architecture.
    """

    method: str
    protocol: str
    evals: StrictCount = 1


class SuiteFile(_Row):
    """What a suite's file says.

    Attributes:
        source: where the published numbers are from, or whose experiments these are.
        datasets, methods, ipcs, networks, eval_networks: as for `dcbench run`; the suite is their product.
        fixed: methods that ignore the seed and thus have one set. Those with a published number for all images
            need not be named. `dcbench suite list` counts by it; a run asks the methods themselves.
        fixed_evals: evaluation networks, in all, for methods that ignore the seed; ``sets * evals`` unless given,
            which for the whole training set is work without much use.
        options: method options, as ``option`` or ``method.option``, to values as users type them.
        grid: more evaluation networks; once read, they are among the others. Those of them that cannot take the
            images of a data set are left out on it.
        truth: by what an architecture search ranks the networks; None for a table of accuracies.
    """

    title: str = Field(min_length=1)
    source: str = Field(min_length=1)
    notes: tuple[str, ...] = ()
    datasets: Names
    methods: Names
    ipcs: Annotated[tuple[StrictCount, ...], Field(min_length=1)]
    networks: Names
    grid: Grid | None = None
    eval_networks: tuple[str, ...] = Field((), validate_default=True)
    truth: Truth | None = None
    sets: StrictCount
    evals: StrictCount
    fixed: tuple[str, ...] = ()
    fixed_evals: StrictCount | None = None
    protocol: str
    budget: str = "full"
    options: Annotated[Mapping[str, str], BeforeValidator(_flat)] = {}
    published: str = Field("", pattern=r"^([^/\\]+\.csv)?$")

    @field_validator("eval_networks")
    @classmethod
    def _with_grid(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "grid" not in info.data:  # it was refused
            return names
        grid = info.data["grid"]
        if not (names or grid):
            raise ValueError("there is no network, nor a grid of them")
        return names + (grid.names() if grid else ())


class Published(_Row):
    """One published number.

    Attributes:
        dataset, ipc, method, matching_network, evaluation_network: which; where the method does not depend on
            them, ``ipc`` and ``matching_network`` are None: in the file ``all``, and empty.
        mean, std: accuracy and its deviation over sets and networks, pooled: fractions here, in % in the file,
            where they are as printed.
        n_sets, n_evals: over how many condensed sets, and networks for each; None where that is not known.
        checked: how the number was come by: read in the ``paper``, in the authors' ``readme``, in a later paper
            ``citing`` it, or ``recalled``, which means that nobody has read it anywhere for this file.
        selection: which accuracy it is of those that were measured on the way: the ``last``, as ours is, or the
            ``best`` on the test split, which is higher by chance; else ``unknown``.
    """

    dataset: str
    ipc: Count | None
    method: str
    matching_network: str | None = None
    evaluation_network: str
    mean: Percentage
    std: Percentage | None = None
    n_sets: Count | None = None
    n_evals: Count | None = None
    checked: Literal["paper", "readme", "citing", "recalled"]
    selection: Literal["last", "best", "unknown"] = "unknown"

    @field_validator("ipc", mode="before")
    @classmethod
    def _size(cls, text: str) -> str | None:
        return None if text == "all" else text

    @field_validator("mean", "std", mode="after")
    @classmethod
    def _fraction(cls, value: float | None) -> float | None:
        # 64.9 / 100 has more digits than anybody printed.
        return None if value is None else round(value / 100, 6)


@dataclass(frozen=True)
class Suite:
    """A suite as its files have it, before anything is looked up: the TOML file and the numbers beside it."""

    path: Path
    file: SuiteFile
    published: tuple[Published, ...]

    @property
    def name(self) -> str:
        """The name users type."""
        return self.path.stem


def load_suite(path: Path) -> Suite:
    """Read a suite's files.

    Raises:
        DcbenchError: naming the file and the key, or the line and the column, of what is wrong.
    """
    file = read_toml(path, SuiteFile)
    return Suite(path, file, _read_published(path.with_name(file.published)) if file.published else ())


def summary(path: Path) -> str:
    """Return a suite's title, or why it cannot be used, because one broken file must not stop a list."""
    try:
        return load_suite(path).file.title
    except DcbenchError as error:
        return f"cannot be used: {error}"


def _read_published(path: Path) -> tuple[Published, ...]:
    lines = io.StringIO(read_text(path), newline="")
    reader = csv.DictReader(lines, strict=True, skipinitialspace=True, restkey="a column too many")
    try:
        columns = reader.fieldnames or ()
        if len({*columns}) < len(columns):
            raise DcbenchError(f"{path}, line 1: a column is there twice.")
        filled = ({name: value for name, value in row.items() if value} for row in reader)
        published = tuple(map(Published.model_validate, filled))
    except ValidationError as error:
        raise mistake(f"{path}, line {reader.line_num}", "column", Published, error) from None
    except csv.Error as error:
        raise DcbenchError(f"{path}, line {reader.line_num} is not CSV: {error}.") from None
    if not published:
        raise DcbenchError(f"{path} has no numbers.")
    return published
