"""From a condensed set made anywhere to the cells of a run: brought to normalised space, kept, evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dcbench.architectures import Architecture, fit
from dcbench.budgets import Budget
from dcbench.cells import Bench, Cell, Plan
from dcbench.condense import header
from dcbench.condensed import CondensedSet, Origin, check_set, load_set, save_set
from dcbench.data import ResidentSplit
from dcbench.datasets import DatasetInfo
from dcbench.errors import DcbenchError
from dcbench.foreign import ForeignFile, ForeignSet, Pixels, read_foreign
from dcbench.plan import load_bench, unique
from dcbench.plugins import Plugins
from dcbench.protocols import EvaluationProtocol
from dcbench.specs import CondenseSpec
from dcbench.store import Cost, Store, cost_beside

UNNAMED = "imported"
"""The method of sets whose maker nobody names; their file's name stands beside it."""


@dataclass(frozen=True)
class ImportedSet:
    """A condensed set that was made elsewhere: making it is keeping it in the results.

    Attributes:
        condensed: the set, in the data set's normalised space.
        origin: where it comes from.
        cost: what it took to make, where that is known.
    """

    condensed: CondensedSet
    origin: Origin
    cost: Cost | None = None

    def make(
        self,
        spec: CondenseSpec,
        train: ResidentSplit,
        store: Store,
        progress: Callable[[int, int], None],
        afresh: bool = False,
    ) -> CondensedSet:
        """Keep the set; see `dcbench.cells.Maker`."""
        if self.cost:
            store.write_cost(spec, self.cost)
        save_set(store.set_path(spec), self.condensed, header(spec, self.condensed, train, self.origin))
        return self.condensed


@dataclass(frozen=True)
class Claim:
    """What a user says of files that do not say it themselves.

    Attributes:
        method: who made the sets, as a row is to be named; None for nobody in particular.
        network: canonical name of the network they were matched on, if any.
        pixels: what the images' values are.
        labels: the file with the labels, where the sets' file has the images alone.
    """

    method: str | None = None
    network: str | None = None
    pixels: Pixels | None = None
    labels: Path | None = None


@dataclass(frozen=True)
class ImportRequest:
    """Which sets to judge, and how.

    Attributes:
        paths: files or folders: ours, or of a form that `dcbench.foreign` knows.
        dataset, eval_networks: as users spell them.
        claim: what the files do not say.
        protocol, budget: how to judge.
        evals: networks per set and architecture, with seeds ``seed``, ``seed + 1``, …
        seed: the first seed.
        device: where to compute.
        data_root: where data sets are.
    """

    paths: tuple[Path, ...]
    dataset: str
    eval_networks: tuple[str, ...]
    claim: Claim
    protocol: EvaluationProtocol
    budget: Budget
    evals: int
    seed: int
    device: torch.device
    data_root: Path


def plan_imports(request: ImportRequest, plugins: Plugins) -> tuple[Plan, list[ForeignFile]]:
    """Read all sets, check that everything fits, and list the cells.

    Returns:
        The plan, and the foreign files among the paths.

    Raises:
        DcbenchError: for whatever cannot be served, before any work.
    """
    claim, method = request.claim, request.claim.method
    if method and method in plugins.methods:
        raise DcbenchError(
            f"--method {method}: the sets would share a row with those that the installed {method!r} makes. "
            f"Give them a name of their own, such as {method}_authors."
        )
    dataset = plugins.make_dataset(request.dataset)
    networks = [plugins.make_architecture(text) for text in request.eval_networks]
    matched = plugins.make_architecture(claim.network) if claim.network else None
    bench = load_bench(dataset, plugins, request.data_root, request.device)
    if matched:
        claim = replace(claim, network=str(fit(matched, bench.info)))
    fitting = unique(fit(network, bench.info) for network in networks)
    trials = tuple((each, request.seed + number) for each in fitting for number in range(request.evals))
    cells, files = import_cells(request.paths, bench, claim, trials)
    return Plan(tuple(cells), request.protocol, request.budget, request.device), files


def import_cells(
    paths: Sequence[Path], bench: Bench, claim: Claim, trials: tuple[tuple[Architecture, int], ...]
) -> tuple[list[Cell], list[ForeignFile]]:
    """Read condensed sets and make a cell of each.

    Args:
        paths: files or folders: ours, or of a form that `dcbench.foreign` knows.
        bench: the data set they are judged on.
        claim: what the files do not say.
        trials: evaluation networks with their seeds.

    Returns:
        The cells, and the foreign files among the paths.

    Raises:
        DcbenchError: when a file cannot be read, does not fit the data set, or leaves open what its values are.
    """
    cells: list[Cell] = []
    files: list[ForeignFile] = []
    for path in paths:
        if path.suffix == ".safetensors" and _is_ours(path):
            cells.append(_own_cell(path, bench, claim, trials))
            continue
        file = read_foreign(path, bench.info, claim.labels)
        files.append(file)
        for number, each in enumerate(file.sets):
            condensed = to_condensed(each, bench, claim.pixels, path)
            spec = _foreign_spec(file, number, condensed, bench.info, claim, seed=len(cells))
            named = ("file",) if claim.method is None else ()
            origin = Origin("imported", "", file.sha256, (*named, "pixels") if condensed.zca else named)
            cells.append(Cell(spec, ImportedSet(condensed, origin), bench, trials))
    return list({cell.spec.key(): cell for cell in cells}.values()), files


def _is_ours(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return "dcbench" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False  # the reader of foreign files says what is wrong


def _own_cell(path: Path, bench: Bench, claim: Claim, trials: tuple[tuple[Architecture, int], ...]) -> Cell:
    """Return the cell of a set of ours: that of the run that made it, so that its records join that run's."""
    if claim != Claim():
        raise DcbenchError(f"{path} is a dcbench set, which says itself who made it and what its pixels are.")
    condensed, stated = load_set(path, bench.train)
    try:
        spec = CondenseSpec(**stated["spec"])
        origin = Origin(**{**stated["origin"], "changed_options": tuple(stated["origin"]["changed_options"])})
    except (KeyError, TypeError, ValueError) as error:
        raise DcbenchError(f"{path} does not say where it comes from: {type(error).__name__} {error}.") from None
    if spec.dataset_sha256 != bench.info.sha256:
        raise DcbenchError(
            f"{path} was made from {spec.dataset} {spec.dataset_sha256[:12]}, "
            f"not from {bench.info.name} {bench.info.sha256[:12]}."
        )
    check_set(condensed, bench.train, None)
    return Cell(spec, ImportedSet(condensed, origin, cost_beside(path)), bench, trials)


def _foreign_spec(
    file: ForeignFile, number: int, condensed: CondensedSet, info: DatasetInfo, claim: Claim, seed: int
) -> CondenseSpec:
    return CondenseSpec(
        dataset=info.name,
        dataset_sha256=info.sha256,
        method=claim.method or UNNAMED,
        method_version="1",
        options={
            "file": file.path.resolve().name,
            "file_sha256": file.sha256,
            "set": number,
            "pixels": file.sets[number].pixels or claim.pixels,
        },
        ipc=math.ceil(len(condensed.images) / info.num_classes),
        matching_network=claim.network,
        seed=seed,
    )


def to_condensed(foreign: ForeignSet, bench: Bench, claimed: Pixels | None, path: Path) -> CondensedSet:
    """Bring a foreign set to the data set's normalised space, and check it.

    Args:
        foreign: the set as its file has it.
        bench: the data set.
        claimed: what the user says its pixels are.
        path: named in errors.

    Raises:
        DcbenchError: where it does not fit the data set, or neither file nor user says what its pixels are.
    """
    images = _to_nchw(foreign.images, bench.info, path)
    pixels = _pixels(foreign, claimed, path)
    images = _normalise(images, pixels, bench.info, path)
    labels = _to_labels(foreign.labels, len(images), bench.info, path)
    condensed = CondensedSet(images, labels, zca=pixels == "zca")
    try:
        check_set(condensed, bench.train, None)
    except ValueError as error:
        raise DcbenchError(f"{path} is no condensed set of {bench.info.name}: {error}.") from None
    return condensed


def _pixels(foreign: ForeignSet, claimed: Pixels | None, path: Path) -> Pixels:
    if foreign.pixels and claimed and foreign.pixels != claimed:
        raise DcbenchError(f"{path} has {foreign.pixels} images: --{claimed} contradicts that.")
    pixels = foreign.pixels or claimed
    if pixels is None:
        low, high = float(foreign.images.min()), float(foreign.images.max())
        raise DcbenchError(
            f"{path} does not say what its pixels are (they lie in {low:.3g}..{high:.3g}): say --raw for values "
            "in [0, 1], --normalised for values from which the data set's mean was subtracted and which were "
            "divided by its deviation, or --zca for values that were ZCA-whitened after that."
        )
    return pixels


def _to_nchw(images: Tensor, info: DatasetInfo, path: Path) -> Tensor:
    wanted = (info.channels, *info.size)
    if images.shape[1:] == wanted:
        return images
    if images.shape[1:] == (*info.size, info.channels):
        return images.permute(0, 3, 1, 2)
    if info.channels == 1 and images.shape[1:] == info.size:
        return images.unsqueeze(1)
    found, expected = ("x".join(map(str, shape)) for shape in (images.shape[1:], wanted))
    raise DcbenchError(f"{path} has images of {found}, {info.name} has {expected}.")


def _normalise(images: Tensor, pixels: Pixels, info: DatasetInfo, path: Path) -> Tensor:
    if pixels != "raw":
        return images.float().contiguous()
    if images.dtype == torch.uint8:
        images = images.float() / 255
    elif not bool(((images >= 0) & (images <= 1)).all()):
        raise DcbenchError(
            f"{path} has raw pixels from {float(images.min()):.3g} to {float(images.max()):.3g}; "
            "as floating-point numbers they must lie in [0, 1]."
        )
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (info.mean, info.std))
    return ((images.float() - mean) / std).contiguous()


def _to_labels(labels: Tensor, n: int, info: DatasetInfo, path: Path) -> Tensor:
    """Return hard labels as int64 of shape (n,), soft ones as float32 of shape (n, K).

    One-hot rows are hard labels.
    """
    if labels.shape == (n, 1):
        labels = labels.flatten()
    if labels.shape == (n,):
        if not bool((labels == labels.long()).all()):
            raise DcbenchError(f"{path} has labels that are not whole numbers.")
        return labels.long()
    if labels.shape != (n, info.num_classes):
        expected = f"({n},) or ({n}, {info.num_classes})"
        raise DcbenchError(f"{path} has labels of shape {tuple(labels.shape)}; expected {expected}.")
    soft = labels.float()
    if not (bool((soft >= 0).all()) and bool(((soft.sum(1) - 1).abs() < 1e-3).all())):
        raise DcbenchError(f"{path} has soft labels that are no probabilities: rows of them must add up to 1.")
    if bool(((soft == 0) | (soft == 1)).all()):
        return soft.argmax(dim=1)
    return soft.contiguous()
