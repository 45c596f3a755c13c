"""Verification: whether the accuracies of a submission are found again when its condensed sets are evaluated anew.

The networks are trained from other seeds than those stated, because whoever may choose among seeds gets other
accuracies than whoever may not. The stated means must then lie within the statistical tolerance of the new ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import dcbench
from dcbench.condense.condensation import Condensation
from dcbench.condense.trained_networks import TrainedNetworks, as_trained, network_specs
from dcbench.core.architecture import Architecture, fit
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.spec import BUDGETS, EvaluationSpec
from dcbench.core.trained_network import NetworkRecipe, TrainedNetwork
from dcbench.engine.engine import IN_PART, active_engine
from dcbench.engine.memory import is_out_of_memory
from dcbench.engine.trained_networks import hold_out
from dcbench.engine.training import accuracy
from dcbench.evaluate.protocol import EvaluationProtocol
from dcbench.evaluate.protocols import get_protocol
from dcbench.evaluate.side_by_side import evaluate_all
from dcbench.leaderboard.scores import official
from dcbench.plugins import Plugins
from dcbench.results.artefacts import Artefacts
from dcbench.results.network_file import read_networks
from dcbench.results.provenance import now, sources
from dcbench.results.store import Store
from dcbench.results.submission import Found, Submission, Verification, records_sha256
from dcbench.run.cell_runner import describe_work, teacher_of, trial_fields
from dcbench.run.events import Conditions
from dcbench.run.plan import load_named
from dcbench.submissions.comparison import Accuracies, StatedAndFound, compare_with_stated
from dcbench.submissions.integrity import Problem, SubmittedSet, check_submission, sets_by_row
from dcbench.utils.errors import DcbenchError, first_line
from dcbench.utils.seeds import derive_seed

SAME_TEACHER = 0.01
"""How far a teacher's accuracy on held-out images may be from what it was elsewhere, as a fraction."""


@dataclass
class VerificationResult:
    """What verifying a submission gave: what does not fit together, or how the accuracies of each row compare.

    Attributes:
        evaluated, left_out: how many sets were evaluated anew, and how many were not.
        accuracies: of the networks trained anew.
    """

    problems: list[Problem] = field(default_factory=list)
    comparisons: list[StatedAndFound] = field(default_factory=list)
    evaluated: int = 0
    left_out: int = 0
    accuracies: Accuracies = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing contradicts the submission, and some comparison tells something."""
        agree = all(each.ok for each in self.comparisons)
        return not self.problems and agree and any(each.telling for each in self.comparisons)

    @property
    def verified(self) -> dict[str, tuple[str, ...]]:
        """Evaluation networks on which accuracies were found again, under each protocol, by condense key."""
        found: dict[tuple[str, str], bool] = {}
        for each in filter(lambda each: each.network, self.comparisons):
            for key in each.keys:
                found[key, each.network] = found.get((key, each.network), True) and each.ok and each.telling
        keys = dict.fromkeys(key for (key, _), well in found.items() if well)
        return {key: tuple(network for at, network in found if at == key and found[at, network]) for key in keys}

    @property
    def found(self) -> tuple[Found, ...]:
        """What the networks trained anew gave on each set, for each comparison."""
        made = []
        for each in self.comparisons:
            for key in each.keys:
                about = {"condense_key": key, "protocol": each.protocol, "measure": each.measure}
                some = [
                    accuracies
                    for (*judged, network), accuracies in self.accuracies.items()
                    if judged == [*about.values()] and each.network in ("", network)
                ]
                mean = sum(sum(accuracies) / len(accuracies) for accuracies in some) / len(some)
                about |= {"network": each.network}
                made.append(Found(**about, mean=mean, networks=sum(map(len, some)), tolerance=each.tolerance))
        return tuple(made)


@dataclass(frozen=True)
class Verifier:
    """Evaluates the condensed sets of a submission anew.

    Attributes:
        datasets: those of the submission by name, see `load_datasets`.
        plugins: where evaluation networks come from.
        evals: networks for each set and architecture, two at least.
        sample: evaluate only so many sets of each row; None for all of them.
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

    def run(self) -> VerificationResult:
        """Check that all fits together, and if it does, compare accuracies.

        Raises:
            DcbenchError: when a network or a protocol of the records is not installed.
        """
        problems, sets = check_submission(self.submission, self.datasets, self.plugins)
        if problems:
            return VerificationResult(problems)
        chosen = sample_sets(sets, self.sample, self.seed)
        if strange := [each for each in chosen if not self._is_made_again(each)]:
            what = "its method, run again, makes another set"
            return VerificationResult([Problem(each.checked.spec.set_in_words, what) for each in strange])
        with TemporaryDirectory() as folder:
            teachers = _Teachers(self.submission, self.store or Artefacts(Path(folder)))
            accuracies, failed = self._evaluate(chosen, teachers)
        comparisons = compare_with_stated(chosen, accuracies)
        return VerificationResult(failed, comparisons, len(chosen), len(sets) - len(chosen), accuracies)

    def _is_made_again(self, submitted: SubmittedSet) -> bool:
        """Let the method make a set again, and say whether it is the same, byte for byte.

        This is done for an installed method that uses no network, such as a random choice: what a network computes
        depends on the machine in its last digits. Other sets pass, and the memories of continual learning.
        """
        spec, condensed = submitted.checked.spec, submitted.checked.condensed
        cls, data = self.plugins.methods.items.get(spec.method), self.datasets[spec.dataset]
        if spec.matching_network or spec.steps or cls is None or cls.version != spec.method_version:
            return True
        # A method must be given an architecture, whichever it is.
        architecture = fit(self.plugins.make_architecture(submitted.networks[0]), data.info)
        source = Condensation(
            cls.configure(spec.options), architecture, submitted.checked.origin, condensed.traits
        )
        with TemporaryDirectory() as folder:
            train, artefacts = data.train_split(condensed.zca), Artefacts(Path(folder))
            again = source.make(spec, train, artefacts, lambda *_: None, lambda *_: None)
        return again.sha256() == condensed.sha256()

    def _evaluate(self, sets: Sequence[SubmittedSet], teachers: _Teachers) -> tuple[Accuracies, list[Problem]]:
        """Train networks anew; return what failed besides. That memory ran out is no fault of the submission."""
        todo = [(submitted, network) for submitted in sets for network in submitted.networks]
        found: Accuracies = {}
        failed: list[Problem] = []
        total = self.evals * len(todo)
        self.progress(0, total)
        for index, (submitted, network) in enumerate(todo):
            info = self.datasets[submitted.checked.spec.dataset].info
            architecture = fit(self.plugins.make_architecture(network), info)
            if str(architecture) != network:
                what = f"{network!r} of the records is {str(architecture)!r} here"
                raise DcbenchError(f"{what}: another version of it.")
            accuracies: list[float] = []
            try:
                trained = self._accuracies(submitted, architecture, teachers)
                # For each network, since not all of them may compile.
                with active_engine().active(), closing(trained):
                    for accuracy in trained:
                        accuracies.append(accuracy)
                        self.progress(self.evals * index + len(accuracies), total)
                found[*submitted.judged, network] = accuracies
            except DcbenchError:
                raise
            except Exception as error:  # whatever a network may raise on whatever a set may hold
                where, number = submitted.checked.spec.set_in_words, len(accuracies)
                what = f"network {number} from seed {self._seed(number)} of {network}"
                if is_out_of_memory(error):
                    raise DcbenchError(f"{where}: {what}: memory ran out.") from error
                failed.append(Problem(where, f"{what} failed: {type(error).__name__}: {error}"))
        return found, failed

    def _seed(self, number: int) -> int:
        return derive_seed("verify", self.seed, number)

    def _known_accuracy(
        self, submitted: SubmittedSet, architecture: Architecture, spec: EvaluationSpec
    ) -> float | None:
        """Return the accuracy of a network that was trained before by what would train it now."""
        at = (submitted.key, spec.evaluation_network, spec.protocol, spec.budget, spec.seed, spec.measure)
        kept = self.store.find(*at) if self.store else None
        if kept is None:
            return None
        measure, taught_by = self.plugins.make_measure(spec.measure), submitted.records[0].teacher
        code = sources(submitted.checked.origin, architecture, measure)
        protocol = get_protocol(spec.protocol, self.plugins.make_architecture)
        augmentation = protocol.augmentation(self.datasets[spec.dataset].info)
        here = (augmentation, active_engine().name, code, torch.__version__, dcbench.__version__, taught_by)
        engine = kept.engine.removesuffix(IN_PART)
        then = (kept.augmentation, engine, kept.sources, kept.torch, kept.dcbench, kept.teacher)
        return kept.value if (kept.evaluation_spec(), then) == (spec, here) else None

    def _accuracies(
        self, submitted: SubmittedSet, architecture: Architecture, teachers: _Teachers
    ) -> Generator[float, None, None]:
        """Yield the main score of each network trained anew; those that are kept are not trained again."""
        first, checked, network = submitted.records[0], submitted.checked, str(architecture)
        data, condensed = self.datasets[first.dataset], checked.condensed
        protocol = get_protocol(first.protocol, self.plugins.make_architecture)
        conditions = Conditions(protocol, BUDGETS[first.budget], active_engine())
        protocol.check_set(condensed.traits)
        teacher = teachers.of(submitted, protocol, data)
        every = [
            first.evaluation_spec().model_copy(update={"evaluation_network": network, "seed": self._seed(number)})
            for number in range(self.evals)
        ]
        known = {spec.seed: self._known_accuracy(submitted, architecture, spec) for spec in every}
        yield from (accuracy for accuracy in known.values() if accuracy is not None)
        specs = [spec for spec in every if known[spec.seed] is None]
        if not specs:
            return
        started: dict[int, str] = {}

        def note_start(index: int, *_: int) -> None:
            started.setdefault(index, now())

        judged = (condensed, data.test_split(condensed.zca), architecture, protocol, conditions.budget)
        asked = {spec.seed: [self.plugins.make_measure(first.measure)] for spec in specs}
        trials = evaluate_all(specs, *judged, note_start, teacher.network() if teacher else None, asked)
        with closing(trials):
            for index, (spec, trial) in enumerate(zip(specs, trials, strict=True)):
                if isinstance(trial, Exception):
                    raise trial
                (answer,) = trial.answers
                if answer.error:
                    raise answer.error
                if self.store:
                    about = (checked.spec, data, checked.origin, conditions, self.store, architecture)
                    fields = trial_fields(trial, answer, condensed, started[index], teacher)
                    fields |= {"key": spec.key(), "set_sha256": spec.set_sha256, "eval_seed": spec.seed}
                    self.store.append(describe_work(*about, evaluation_network=network, **fields))
                yield answer.scores[answer.measure.main]


@dataclass(frozen=True)
class _Teachers:
    """The teachers of protocols, by protocol, data set and hash: each read or made once."""

    submission: Submission
    artefacts: Artefacts
    known: dict[tuple[str, str, str], TrainedNetwork] = field(default_factory=dict)

    def of(
        self, submitted: SubmittedSet, protocol: EvaluationProtocol, data: LoadedDataset
    ) -> TrainedNetwork | None:
        """Return the teacher of a set's records; None where the protocol has none.

        Raises:
            DcbenchError: where it is neither in the submission nor can be made here.
        """
        if (needed := protocol.teacher_for(data.info)) is None:
            return None
        stated, *others = sorted({str(record.teacher["sha256"]) for record in submitted.records})
        if others:
            where = submitted.checked.spec.set_in_words
            raise DcbenchError(f"{where}: its networks had several teachers, {stated[:12]} and {others[0][:12]}.")
        at = (protocol.name, data.info.name, stated)
        if at not in self.known:
            self.known[at] = self._submitted(stated, *needed, data) or self._made(stated, protocol, data)
        return self.known[at]

    def _submitted(
        self, stated: str, architecture: Architecture, recipe: NetworkRecipe, data: LoadedDataset
    ) -> TrainedNetwork | None:
        """Return the teacher of a hash that the submission has; None if it has none.

        Raises:
            DcbenchError: where it is not trained by the protocol's recipe, or is not as good as it says.
        """
        stored, _ = read_networks(self.submission.folder)
        found = next((each for each in stored if each.sha256 == stated), None)
        if found is None:
            return None
        (spec,) = network_specs(architecture, recipe, 1, data.info)
        held_out, _ = hold_out(data.train, recipe)
        if found.spec.model_copy(update={"source_sha256": spec.source_sha256}) != spec:
            raise DcbenchError(f"{found.path} is not the teacher of the records' protocol: {found.spec.recipe}.")
        teacher = as_trained(found, architecture, data.train, 0.0)
        says = found.held_out_accuracy.get(recipe.epochs, 0.0)
        if abs(accuracy(teacher.network(), data.train.part(held_out)) - says) > SAME_TEACHER:
            what = "another on the held-out training images than it says"
            raise DcbenchError(f"{found.path} is {what}, {says:.1%}.")
        return teacher

    def _made(self, stated: str, protocol: EvaluationProtocol, data: LoadedDataset) -> TrainedNetwork:
        """Return the teacher as this machine trains it."""
        name = f"the teacher of {protocol.name} on {data.info.name}"
        how = (
            f"`dcbench run -m random -d {data.info.name} --protocol {protocol.name} --results DIR` makes it; "
            "it is the same only with the device, torch, engine and threads of the run. Then add --keep DIR."
        )
        try:
            teacher = teacher_of(protocol, data, TrainedNetworks(self.artefacts, lambda *_: None))
        except Exception as error:  # whatever a network may raise
            raise DcbenchError(f"{name} cannot be made here: {first_line(error)}. {how}") from error
        assert teacher is not None  # since the protocol needs one
        if teacher.sha256 != stated:
            raise DcbenchError(
                f"{name} is {stated[:12]} in the records and {teacher.sha256[:12]} here, and the submission does "
                f"not have it. {how}"
            )
        return teacher


def load_datasets(
    submission: Submission, spellings: Iterable[str], plugins: Plugins, data_root: Path, device: torch.device
) -> dict[str, LoadedDataset]:
    """Load the data sets of a submission, and return them by their name in the records.

    ``spellings`` say where data sets are, as users type it, for those whose name in the records does not.

    Raises:
        DcbenchError: when one cannot be had.
    """
    loaded = [load_named(plugins.make_dataset(text), plugins, data_root, device) for text in spellings]
    datasets = {data.info.name: data for data in loaded}
    named = {name for each in official(submission.records) for name in (each.dataset, each.ranked_on[0])}
    for name in sorted(named - datasets.keys()):
        try:
            dataset = plugins.make_dataset(name)
            if dataset.argument:  # where a user's files are is not for a submission to say
                raise DcbenchError(f"the records name the data set {name!r}.")
            datasets[name] = load_named(dataset, plugins, data_root, device)
        except DcbenchError as error:
            hint = f"Say where the data set {name!r} is with --dataset, as in npz:FILE."
            raise DcbenchError(f"{error} {hint}") from None
    return datasets


def sample_sets(sets: Sequence[SubmittedSet], sample: int | None, seed: int) -> list[SubmittedSet]:
    """Choose so many sets of every row, each with its records under every protocol; all of them for None.

    Under every protocol, because the mark of a set counts for all of them.
    """
    draw = random.Random(seed)
    keys = set()
    for row in sets_by_row(sets):
        draw.shuffle(row)
        keys |= {submitted.key for submitted in row[:sample]}
    return sorted((each for each in sets if each.key in keys), key=lambda submitted: submitted.key)


def verification(verifier: Verifier, result: VerificationResult) -> Verification:
    """Return the mark of a submission that was found as stated."""
    return Verification(
        dcbench=dcbench.__version__,
        records_sha256=records_sha256(verifier.submission.folder),
        seed=verifier.seed,
        evals=verifier.evals,
        verified=result.verified,
        found=result.found,
    )
