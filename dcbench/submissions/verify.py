"""Verification: whether the accuracies of a submission are found again when its condensed sets are evaluated anew.

The networks are trained from other seeds than those stated, since whoever may choose among seeds gets other
accuracies than whoever may not. The stated means must then lie within the statistical tolerance of the new ones.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy import stats

import dcbench
from dcbench.core.architecture import Architecture, fit
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.spec import BUDGETS, EvaluationSpec
from dcbench.engine.engine import IN_PART, active_engine
from dcbench.engine.memory import is_out_of_memory
from dcbench.evaluate.protocols import get_protocol
from dcbench.evaluate.side_by_side import evaluate_all
from dcbench.evaluate.trial import Trial
from dcbench.leaderboard.scores import official
from dcbench.plugins import Plugins
from dcbench.results.provenance import describe_device, git_state, now, source_sha256, sources
from dcbench.results.records import RECORD_SCHEMA, Record
from dcbench.results.store import Store
from dcbench.results.submission import Submission, Verification, records_sha256
from dcbench.run.plan import load_named
from dcbench.submissions.integrity import Problem, SubmittedSet, check_submission
from dcbench.utils.errors import DcbenchError
from dcbench.utils.seeds import derive_seed

ERROR_RATE = 0.01
"""How often an honest submission may fail, over all comparisons together (Bonferroni)."""
TELLING = 0.1
"""A comparison whose tolerance is wider than this, as a fraction, tells nothing: more networks are needed."""

Accuracies = dict[tuple[str, str], list[float]]
"""By condense key and evaluation network."""


@dataclass(frozen=True)
class Comparison:
    """Stated against found, on one evaluation network; all but the counts are fractions.

    Attributes:
        what: the row, in words.
        network: evaluation network.
        keys: condense keys of the sets compared.
        stated_n, found_n: networks trained, over all sets.
        stated, found: means over sets of the means over networks.
        tolerance: how far apart the two may be by chance.
    """

    what: str
    network: str
    keys: tuple[str, ...]
    stated_n: int
    found_n: int
    stated: float
    found: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the two agree, as far as can be told."""
        return abs(self.stated - self.found) <= self.tolerance

    @property
    def telling(self) -> bool:
        """Whether a false statement of some size would have been found out."""
        return self.tolerance <= TELLING


@dataclass
class Outcome:
    """What verifying a submission gave.

    Attributes:
        problems: what does not fit together.
        comparisons: of accuracies, of every row on every network.
        evaluated: how many sets were evaluated anew.
        left_out: how many were not.
    """

    problems: list[Problem] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    evaluated: int = 0
    left_out: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was found amiss, and something was found out."""
        agree = all(each.ok for each in self.comparisons)
        return not self.problems and agree and any(each.telling for each in self.comparisons)

    @property
    def verified(self) -> dict[str, tuple[str, ...]]:
        """Evaluation networks on which accuracies were found again, by condense key."""
        found: dict[str, tuple[str, ...]] = {}
        for each in self.comparisons:
            for key in each.keys if each.ok and each.telling else ():
                found[key] = (*found.get(key, ()), each.network)
        return found


@dataclass(frozen=True)
class Verifier:
    """Evaluates the condensed sets of a submission anew.

    Attributes:
        submission: what was submitted.
        datasets: its data sets by name, see `load_datasets`.
        plugins: where evaluation networks come from.
        evals: networks for each set and architecture, two at least.
        sample: evaluate only so many sets, spread over the rows; None for all of them.
        seed: of the sample, and of the networks.
        progress: told the networks trained and their number.
        store: where records of them are kept; those that it has are not trained again.
    """

    submission: Submission
    datasets: Mapping[str, LoadedDataset]
    plugins: Plugins
    evals: int
    sample: int | None
    seed: int
    progress: Callable[[int, int], None]
    store: Store | None = None

    def run(self) -> Outcome:
        """Check that all fits together, and if it does, compare accuracies.

        Raises:
            DcbenchError: when a network or a protocol of the records is not installed.
        """
        problems, units = check_submission(self.submission, self.datasets, self.plugins)
        if problems:
            return Outcome(problems)
        chosen = sample_units(units, self.sample, self.seed)
        found, failed = self._evaluate(chosen)
        return Outcome(failed, compare(chosen, found), len(chosen), len(units) - len(chosen))

    def _evaluate(self, units: Sequence[SubmittedSet]) -> tuple[Accuracies, list[Problem]]:
        """Train networks anew, from seeds that are not the stated ones; return what failed besides."""
        todo = [(unit, network) for unit in units for network in unit.networks]
        found: Accuracies = {}
        failed: list[Problem] = []
        total = self.evals * len(todo)
        self.progress(0, total)
        for index, (unit, network) in enumerate(todo):
            architecture = self._architecture(network, self.datasets[unit.own.spec.dataset])
            accuracies: list[float] = []
            try:
                # For each network, since not all of them may compile.
                with active_engine().active(), closing(self._accuracies(unit, network, architecture)) as each:
                    for accuracy in each:
                        accuracies.append(accuracy)
                        self.progress(self.evals * index + len(accuracies), total)
            except DcbenchError:
                raise
            except Exception as error:  # whatever a network may raise on whatever a set may hold
                failed.append(self._failure(unit, network, len(accuracies), error))
                continue
            found[unit.own.spec.key(), network] = accuracies
        return found, failed

    def _failure(self, unit: SubmittedSet, network: str, number: int, error: Exception) -> Problem:
        """Return what to say of a network that could not be trained.

        Raises:
            DcbenchError: where memory ran out, which is no fault of the submission.
        """
        what = f"network {number} from seed {derive_seed('verify', self.seed, number)} of {network}"
        if is_out_of_memory(error):
            raise DcbenchError(f"{unit.own.spec.set_in_words}: {what}: memory ran out.") from error
        return Problem(unit.own.spec.set_in_words, f"{what} failed: {type(error).__name__}: {error}")

    def _architecture(self, network: str, data: LoadedDataset) -> Architecture:
        architecture = fit(self.plugins.make_architecture(network), data.info)
        if str(architecture) != network:
            raise DcbenchError(f"{network!r} of the records is {str(architecture)!r} here: another version of it.")
        return architecture

    def _accuracies(
        self, unit: SubmittedSet, network: str, architecture: Architecture
    ) -> Generator[float, None, None]:
        """Yield the accuracy of each network trained anew; those that are kept are not trained again."""
        first, data = unit.records[0], self.datasets[unit.own.spec.dataset]
        seeds = [derive_seed("verify", self.seed, number) for number in range(self.evals)]
        kept = {seed: known for seed in seeds if (known := self._kept(first, network, architecture, data, seed))}
        specs = [
            EvaluationSpec(
                set_sha256=str(first.set_sha256),
                dataset=first.dataset,
                dataset_sha256=first.dataset_sha256,
                evaluation_network=network,
                protocol=first.protocol,
                budget=first.budget,
                seed=seed,
            )
            for seed in seeds
            if seed not in kept
        ]
        yield from (float(record.accuracy or 0.0) for record in kept.values())
        if not specs:
            return
        started: dict[int, str] = {}

        def note_start(index: int, *_: int) -> None:
            started.setdefault(index, now())

        trials = evaluate_all(
            specs,
            unit.own.condensed,
            data.test_split(unit.own.condensed.zca),
            architecture,
            get_protocol(first.protocol),
            BUDGETS[first.budget],
            note_start,
        )
        with closing(trials):
            for index, (spec, trial) in enumerate(zip(specs, trials, strict=True)):
                if isinstance(trial, Exception):
                    raise trial
                if self.store:
                    behind = sources(unit.own.origin, architecture)
                    self.store.append(_record(first, spec, trial, data, behind, started[index]))
                yield trial.accuracy

    def _kept(
        self, first: Record, network: str, architecture: Architecture, data: LoadedDataset, seed: int
    ) -> Record | None:
        """Return the record of a network that was trained before, of the same set, by what would train it now."""
        kept = self.store and self.store.find(first.condense_key, network, first.protocol, first.budget, seed)
        augmentation = get_protocol(first.protocol).augmentation(data.info)
        here = (first.set_sha256, source_sha256(type(architecture)), augmentation, active_engine().name, *_here())
        return kept if kept and kept.accuracy is not None and _origin(kept) == here else None


def load_datasets(
    submission: Submission, spelt: Iterable[str], plugins: Plugins, data_root: Path, device: torch.device
) -> dict[str, LoadedDataset]:
    """Load the data sets of a submission.

    Args:
        submission: what was submitted.
        spelt: data sets as users spell them, for those whose name in the records does not say where they are.
        plugins: where data sets come from.
        data_root: where their files are.
        device: where to compute.

    Returns:
        The data sets by their name in the records.

    Raises:
        DcbenchError: when one cannot be had.
    """
    loaded = [load_named(plugins.make_dataset(text), plugins, data_root, device) for text in spelt]
    datasets = {data.info.name: data for data in loaded}
    for name in sorted({record.dataset for record in official(submission.records)} - datasets.keys()):
        try:
            if ":" in name:  # where a user's files are is not for a submission to say
                raise DcbenchError(f"the records name the data set {name!r}.")
            datasets[name] = load_named(plugins.make_dataset(name), plugins, data_root, device)
        except DcbenchError as error:
            raise DcbenchError(
                f"{error} Say where the data set {name!r} is with --dataset, as in npz:FILE."
            ) from None
    return datasets


def sample_units(units: Sequence[SubmittedSet], sample: int | None, seed: int) -> list[SubmittedSet]:
    """Choose sets, one of every row before a second of any.

    Sets of any size, such as the whole training split, come after all others: one costs more than they do.
    """
    if sample is None or sample >= len(units):
        return list(units)
    draw = random.Random(seed)
    by_row: dict[tuple[str, ...], list[SubmittedSet]] = defaultdict(list)
    for unit in units:
        by_row[unit.competitor].append(unit)
    for each in by_row.values():
        draw.shuffle(each)
    order = sorted(by_row)
    draw.shuffle(order)
    rounds = max(map(len, by_row.values()))
    spread = [by_row[row][number] for number in range(rounds) for row in order if number < len(by_row[row])]
    spread.sort(key=lambda unit: unit.own.spec.ipc is None)
    return sorted(spread[:sample], key=lambda unit: unit.own.spec.key())


def compare(units: Sequence[SubmittedSet], found: Accuracies) -> list[Comparison]:
    """Compare stated and found accuracies of the sets of every row, on every network.

    The sets are the same on both sides, so that only the deviation within sets makes the two differ. It is taken
    from the networks trained anew alone, since whoever states accuracies states their deviation, too, and as one
    test image at least. The tolerance is that of Welch's t-test, two-sided, for `ERROR_RATE` over all comparisons.
    """
    by_row: dict[tuple[str, ...], list[SubmittedSet]] = defaultdict(list)
    for unit in units:
        by_row[unit.competitor].append(unit)
    groups = [
        (network, tried)
        for _, row in sorted(by_row.items())
        for network in sorted({network for unit in row for network in unit.networks})
        if (tried := [unit for unit in row if (unit.own.spec.key(), network) in found])
    ]
    level = ERROR_RATE / max(1, len(groups))
    return [_compare(network, row, found, level) for network, row in groups]


def _compare(network: str, row: Sequence[SubmittedSet], found: Accuracies, level: float) -> Comparison:
    """Compare the sets of one row on one network."""
    stated = [unit.stated(network) for unit in row]
    anew = [found[unit.own.spec.key(), network] for unit in row]
    least = (1 / row[0].records[0].n_test) ** 2
    # Of every set, the variance of the difference of its two means, by the deviation found.
    parts = [
        max(float(np.var(after, ddof=1)), least) * (1 / len(before) + 1 / len(after))
        for before, after in zip(stated, anew, strict=True)
    ]
    degrees = sum(parts) ** 2 / sum(
        part**2 / (len(after) - 1) for part, after in zip(parts, anew, strict=True)
    )  # Satterthwaite's
    return Comparison(
        what=_row_name(row[0]),
        network=network,
        keys=tuple(unit.own.spec.key() for unit in row),
        stated_n=sum(map(len, stated)),
        found_n=sum(map(len, anew)),
        stated=float(np.mean([np.mean(each) for each in stated])),
        found=float(np.mean([np.mean(each) for each in anew])),
        tolerance=float(stats.t.ppf(1 - level / 2, degrees)) * sum(parts) ** 0.5 / len(row),
    )


def verification(verifier: Verifier, outcome: Outcome) -> Verification:
    """Return the mark of a submission that was found as stated."""
    return Verification(
        dcbench=dcbench.__version__,
        records_sha256=records_sha256(verifier.submission.folder),
        seed=verifier.seed,
        evals=verifier.evals,
        verified=outcome.verified,
    )


def _row_name(unit: SubmittedSet) -> str:
    spec, options = unit.own.spec, unit.records[0]
    changed = ", ".join(f"{name}={options.options[name]}" for name in sorted(options.changed_options))
    ipc = f"ipc {spec.ipc}" if spec.ipc is not None else "all images"
    matched = f", matched on {spec.matching_network}" if spec.matching_network else ""
    return f"{spec.method}{f' ({changed})' if changed else ''}, {spec.dataset}, {ipc}{matched}"


def _here() -> tuple[str, str]:
    """Return what computes, besides the engine: torch, dcbench."""
    return torch.__version__, dcbench.__version__


def _origin(record: Record) -> tuple[str | None, str, str | None, str, str, str]:
    """Return the set of a record, the hash of its network's code, the augmentation, and what computed it."""
    network = record.sources.get("evaluation_network", "")
    engine = record.engine.removesuffix(IN_PART)
    return record.set_sha256, network, record.augmentation, engine, record.torch, record.dcbench


def _record(
    first: Record, spec: EvaluationSpec, trial: Trial, data: LoadedDataset, behind: dict[str, str], started_at: str
) -> Record:
    """Return the record of a network trained anew, given one of the same set."""
    git_sha, git_dirty = git_state()
    changes = {
        "schema": RECORD_SCHEMA,
        "seeded": first.seeded,
        "key": spec.key(),
        "evaluation_network": spec.evaluation_network,
        "eval_seed": spec.seed,
        "accuracy": trial.accuracy,
        "eval_seconds": round(trial.seconds, 3),
        "sources": behind,
        "augmentation": get_protocol(first.protocol).augmentation(data.info),
        "packages": dict(trial.packages),
        "engine": active_engine().statement(),
        **dict(zip(("torch", "dcbench"), _here(), strict=True)),
        "device": describe_device(data.device, trial.threads),
        "git_sha": git_sha,
        "git_dirty": git_dirty,
        "started_at": started_at,
    }
    return Record.model_validate({**first.model_dump(by_alias=True), **changes})
