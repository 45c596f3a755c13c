"""From a condensed set made anywhere to the cells of a run: brought to normalised space, kept, evaluated."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dcbench.condense.condensation import header
from dcbench.core import whitening
from dcbench.core.architecture import Architecture, fit
from dcbench.core.condensed_set import CondensedSet, Origin, SetTraits
from dcbench.core.dataset import Dataset, DatasetInfo
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.spec import CondenseSpec
from dcbench.core.split import ResidentSplit
from dcbench.core.trained_network import NetworkSpec
from dcbench.formats.conversion import to_condensed
from dcbench.formats.foreign import IN_ORDER, ForeignFile, Statement, read_foreign
from dcbench.formats.labels import LabelsAre
from dcbench.plugins import Plugins
from dcbench.results.artefacts import Artefacts, Cost, cost_beside, write_cost_beside
from dcbench.results.checked_set import read_checked_set, size_of_imported, unevenness
from dcbench.results.records import IMPORTED, Record
from dcbench.results.set_file import save_set
from dcbench.run.cells import Cell, Plan
from dcbench.run.objects import architecture_of, dataset_of
from dcbench.run.plan import Outline, Request, load_named, unique
from dcbench.utils.errors import DcbenchError

UNNAMED = "imported"
"""The method of sets whose source nobody names; their file's name stands beside it."""
METHOD = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}"
"""What a source may be called."""


@dataclass(frozen=True)
class ImportedSet:
    """A condensed set that was made elsewhere, and its cost if it is known. It only has to be kept."""

    condensed: CondensedSet
    origin: Origin
    cost: Cost | None = None

    @property
    def traits(self) -> SetTraits:
        """What the set is."""
        return self.condensed.traits

    def networks(self, *_: object) -> list[NetworkSpec]:
        """Return none."""
        return []

    @cached_property
    def set_sha256(self) -> str:
        """Hash of the set."""
        return self.condensed.sha256()

    def make(self, spec: CondenseSpec, train: ResidentSplit, artefacts: Artefacts, *_: object) -> CondensedSet:
        """Keep the set; see `dcbench.run.cells.SetSource`."""
        if self.cost:
            write_cost_beside(artefacts.set_path(spec), self.cost)
        save_set(artefacts.set_path(spec), self.condensed, header(spec, self.condensed, train, self.origin))
        return self.condensed


@dataclass(frozen=True)
class Claim(Statement):
    """A `Statement`, and also who made the sets, and the network that they were matched on."""

    method: str | None = None
    network: str | None = None


def make_claim(
    *,
    method: str | None,
    matched_on: str | None,
    normalised: bool,
    raw: bool,
    zca: bool,
    mean: Sequence[float | str] | None,
    std: Sequence[float | str] | None,
    grey: bool,
    labels: str | Path | None,
    labels_are: LabelsAre | None,
    lr: float | None,
    temperature: float | None,
    factor: int | None,
) -> Claim:
    """Return what a user says, given as the options of `dcbench evaluate` of these names.

    Raises:
        DcbenchError: for words that contradict each other, or a value that cannot be.
    """
    for name, text in (("method", method), ("matched_on", matched_on)):
        if not isinstance(text, str | None):
            raise DcbenchError(f"{name} must be a name, not {text!r}.")
    words = (("normalised", normalised), ("raw", raw), ("zca", zca))
    pixels: list[Any] = [name for name, given in words if given]
    if len(pixels) > 1:
        raise DcbenchError(f"images are either {' or '.join(pixels)}: say one.")
    if (mean is None) != (std is None):
        raise DcbenchError("--mean and --std go together: give both.")
    if labels_are not in (None, "logits", "classes"):
        raise DcbenchError(f"labels are logits or classes, not {labels_are!r}.")
    return Claim(
        method,
        matched_on,
        pixels=pixels[0] if pixels else None,
        mean=_numbers(mean),
        std=_numbers(std),
        grey=grey,
        labels=labels if labels is None or labels == IN_ORDER else Path(labels),
        labels_are=labels_are,
        brings=_brings({"lr": lr, "temperature": temperature, "factor": factor}),
    )


def _numbers(given: Sequence[float | str] | None) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in given or ())
    except (TypeError, ValueError):
        raise DcbenchError(f"mean and std must be numbers, one for each channel, not {given!r}.") from None


def _brings(given: Mapping[str, float | None]) -> dict[str, float]:
    """Return what a user says that sets bring with them, as `CondensedSet.brings`; refuse what cannot be."""
    stated = {name: value for name, value in given.items() if value is not None and (name, value) != ("factor", 1)}
    for name, value in stated.items():
        wanted = int if name == "factor" else int | float
        if isinstance(value, bool) or not isinstance(value, wanted) or not 0 < value < math.inf:
            raise DcbenchError(f"{name} must be a {'whole ' * (name == 'factor')}number above 0, not {value!r}.")
    return {name: value if name == "factor" else float(value) for name, value in stated.items()}


def check_named(
    paths: Sequence[Path | ForeignFile], claim: Claim, request: Request, plugins: Plugins
) -> tuple[Dataset, list[Architecture], Architecture | None]:
    """Find all that a request to evaluate sets names, before any data is read.

    Returns:
        The data set, the evaluation networks, and the network that the sets were matched on, if it is named.
    """
    method = claim.method
    if method is not None and not re.fullmatch(METHOD, method):
        raise DcbenchError(f"method {method!r}: a name has at most 60 letters, digits, '-', '_', '.', '+'.")
    if isinstance(claim.labels, Path) and len(paths) > 1:
        raise DcbenchError("labels in a file of their own are for a single file of images.")
    if method is not None and method in plugins.methods:
        raise DcbenchError(
            f"method {method}: the sets would share a row with those that the installed {method!r} makes. "
            f"Give them a name of their own, such as {method}_authors."
        )
    for path in paths:
        if isinstance(path, Path) and not path.exists():
            raise DcbenchError(f"{path} cannot be read: No such file or directory.")
    dataset = dataset_of(request.datasets[0], plugins)
    networks = [architecture_of(each, plugins) for each in request.eval_networks]
    matched = plugins.make_architecture(claim.network) if claim.network else None
    return dataset, networks, matched


def outline_imports(
    paths: Sequence[Path | ForeignFile], claim: Claim, request: Request, plugins: Plugins
) -> list[Outline]:
    """Return what is planned for files of which only the names are looked at, because the data set is not here."""
    dataset, networks, _ = check_named(paths, claim, request, plugins)
    name, trials = dataset.record_name(), request.evals * len(networks)
    one = Outline(name, "?", claim.method or UNNAMED, claim.network, 0, trials, request.protocol.name)
    return [one] * len(paths)


def plan_imports(
    paths: Sequence[Path | ForeignFile], claim: Claim, request: Request, plugins: Plugins
) -> tuple[Plan, list[ForeignFile]]:
    """Read condensed sets, check that everything fits, and make a cell of each.

    Args:
        paths: files or folders: ours, or of a form that `dcbench.formats.foreign` knows; or what was read of one.
        claim: what the files do not say.
        request: how to judge, on its one data set.
        plugins: what is installed.

    Returns:
        The plan, and the foreign files among the paths.

    Raises:
        DcbenchError: when a file does not fit, and for whatever else cannot be served, before any work.
    """
    dataset, networks, matched = check_named(paths, claim, request, plugins)
    data = load_named(dataset, plugins, request.data_root, request.device)
    if matched:
        claim = replace(claim, network=str(fit(matched, data.info)))
    fitting = unique(fit(network, data.info) for network in networks)
    trials = tuple((each, request.seed + number) for each in fitting for number in range(request.evals))
    cells: dict[str, Cell] = {}  # each set once: ours by their spec, others by what is in them
    files: list[ForeignFile] = []
    for path in paths:
        if isinstance(path, Path) and path.suffix == ".safetensors" and _is_ours(path):
            if claim != Claim():
                raise DcbenchError(f"{path} is a dcbench set: it says who made it and what its pixels are.")
            own = read_checked_set(path, data)
            # The cell is that of the run that made the set, so that its records join that run's.
            source = ImportedSet(own.condensed, own.origin, cost_beside(path))
            cells.setdefault(own.spec.key(), Cell(own.spec, source, data, trials))
            continue
        file = path if isinstance(path, ForeignFile) else read_foreign(path, data.info, claim)
        files.append(file)
        if unused := ", ".join(name for name in file.unused if name not in claim.brings):
            warnings.warn(f"{file.path} also has {unused}, which is not used.", stacklevel=2)
        for number in range(len(file.sets)):
            spec, source = imported_set(file, number, claim, data)
            cells.setdefault(source.set_sha256, Cell(spec, source, data, trials))
    plan = Plan(tuple(cells.values()), request.protocol, request.budget, request.device, request.measures)
    return plan, files


def imported_set(
    file: ForeignFile, number: int, claim: Claim, data: LoadedDataset
) -> tuple[CondenseSpec, ImportedSet]:
    """Return one of the sets of a foreign file with its spec; a `DcbenchError` says what does not fit."""
    condensed = to_condensed(file.sets[number], data, claim, file.path)
    options, shown = _foreign_options(file, number, condensed, data.info, claim)
    spec = CondenseSpec(
        dataset=data.info.name,
        dataset_sha256=data.info.sha256,
        method=claim.method or UNNAMED,
        method_version="1",
        options=options,
        ipc=size_of_imported(condensed, data.info),
        matching_network=claim.network,
        seed=number,
    )
    return spec, ImportedSet(condensed, Origin(IMPORTED, "", file.sha256, shown))


def claim_of(record: Record) -> Claim:
    """Return what a user said of the set that a record is of, as the record's options keep it."""
    kept = record.options
    return Claim(
        None if record.method == UNNAMED else record.method,
        record.matching_network,
        pixels=kept.get("pixels") if "pixels" in record.changed_options else None,
        mean=tuple(kept.get("mean", ())),
        std=tuple(kept.get("std", ())),
        grey=kept.get("grey", False),
        labels=kept.get("labels"),
        labels_are=kept.get("labels_are"),
        brings=dict(record.brings),
    )


def worse_than_guessing(records: Iterable[Record], info: DatasetInfo) -> list[str]:
    """Return a sentence for each network that does worse than guessing on sets made elsewhere, with the reason.

    Worse is by more than chance explains, and by more than a class that is rarer than others.
    """
    found: dict[tuple[str, str | None], list[Record]] = {}
    for record in records:
        if record.imported and record.dataset == info.name and record.accuracy is not None:
            found.setdefault((record.method, record.evaluation_network), []).append(record)
    guessing, told = 1 / info.num_classes, []
    classes = ", ".join(f"{label} {name}" for label, name in enumerate(info.class_names[:5]))
    for (method, network), theirs in found.items():
        accuracy = sum(record.accuracy or 0 for record in theirs) / len(theirs)
        chance = math.sqrt(guessing * (1 - guessing) / max(1, theirs[0].n_test))
        if accuracy < min(0.85 * guessing, guessing - 2 * chance):
            told.append(
                f"{method}: {network} has {100 * accuracy:.3g} % on {info.name}, and guessing has "
                f"{100 * guessing:.3g} %. Likely the labels are in another order than its classes ({classes}, …), "
                "or the images are of other data."
            )
    return told


def _is_ours(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return "dcbench" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False  # the reader of foreign files says what is wrong


def _foreign_options(
    file: ForeignFile, number: int, condensed: CondensedSet, info: DatasetInfo, claim: Claim
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what is known of a foreign set, and which of that its row shows.

    A row shows the file where nobody is named, the user's word for the pixels, which may be wrong, and if some
    classes have more images than others. `OF_ONE_SET` of `dcbench.results.records` do not tell rows apart.
    """
    options: dict[str, Any] = {
        "file_sha256": file.sha256,
        "set": number,
        "pixels": claim.pixels or ("normalised" if claim.mean else file.sets[number].pixels),
    }
    shown = []
    if claim.method is None:  # a row with a name is the same whatever its files are called
        options["file"] = f"{file.path.resolve().name}@{file.sha256[:8]}"
        shown.append("file")
    if claim.pixels and not file.sets[number].certain:
        shown.append("pixels")
    said: dict[str, Any] = {"mean": [*claim.mean], "std": [*claim.std], "grey": claim.grey}
    if claim.labels_are != "logits":  # which the temperature says
        said["labels_are"] = claim.labels_are
    if file.sets[number].labels is None:
        said["labels"] = IN_ORDER
    options |= {name: value for name, value in said.items() if value}
    shown += [name for name, value in said.items() if value]
    if condensed.zca:
        options["whitening"] = whitening.NAME
    options |= condensed.brings
    shown += condensed.brings.keys() - {"lr"}  # which differs from set to set
    if uneven := unevenness(condensed, info):
        options["per_class"] = uneven
        shown.append("per_class")
    return options, tuple(sorted(shown))
