from __future__ import annotations

import numpy as np
import pytest
import torch
from running import SHORT, make_request

from dcbench.leaderboard.continual import curves
from dcbench.leaderboard.scores import rows
from dcbench.leaderboard.statistics import score
from dcbench.results.artefacts import cost_beside
from dcbench.results.set_file import load_set
from dcbench.run.continual import plan_continual
from dcbench.run.scheduler import Outcome
from dcbench.run.session import Execution, carry_out
from dcbench.utils.errors import DcbenchError

DIGITS = {"datasets": ("digits",), "eval_networks": ("linear",), "protocol": SHORT}


@pytest.fixture
def plan(plugins, tmp_path):
    def go(steps=5, orders=2, **changes):
        return plan_continual(make_request(tmp_path, **(DIGITS | changes)), steps, orders, plugins)

    return go


@pytest.fixture
def learn(plan, plugins, tmp_path):
    """Plan continual learning, and carry it out; return what came of the steps' sets, and of the memories."""

    def go(steps=5, orders=2, folder="r", jobs=None, **changes):
        how = Execution(results=tmp_path / folder, engine="plain", jobs=jobs, threads=1)
        return [carry_out(each, plugins, how, progress=False) for each in plan(steps, orders, **changes)]

    return go


def memory(completed, cell):
    condensed, _ = load_set(completed.store.set_path(cell.spec), cell.data.train)
    return condensed


def pixels(condensed, info):
    mean, std = torch.tensor([info.mean, info.std]).view(2, 1, -1, 1, 1)
    return condensed.images * std + mean


def test_the_first_step_is_an_ordinary_run_on_its_classes(learn, run, tmp_path):
    wanted = {"methods": ("random", "means"), "ipcs": (2,), "evals": 2}
    _, done = learn(orders=1, **wanted)
    first = [record for record in done.records if len(record.steps.classes) == 1]
    ordinary = run(tmp_path / "o", **(DIGITS | wanted | {"datasets": ("digits:classes=2+8",)})).store.records

    def what(record):
        same = (record.method, record.dataset, record.dataset_sha256, record.eval_seed, record.key)
        return *same, record.set_sha256, record.accuracy, record.storage_bytes, record.n_test

    assert sorted(map(what, first)) == sorted(map(what, ordinary))
    assert {record.condense_key for record in first}.isdisjoint(record.condense_key for record in ordinary)


def test_the_memory_joins_the_sets_of_the_steps_in_pixels_and_counts_what_they_took(learn):
    sets, done = learn(steps=2, orders=1, methods=("means",), ipcs=(2,))
    earlier, (first, last) = sets.plan.cells, done.plan.cells
    assert len({cell.data.info.mean for cell in (*earlier, last)}) == 3  # each by its own statistics
    joined = memory(done, last)
    parts = [memory(done, cell) for cell in earlier]
    in_pixels = torch.cat([pixels(each, cell.data.info) for each, cell in zip(parts, earlier, strict=True)])
    torch.testing.assert_close(pixels(joined, last.data.info), in_pixels)
    classes = last.spec.steps.classes
    assert joined.labels.tolist() == [label for step in classes for label in step for _ in range(2)]
    of_class = {label: pixels(joined, last.data.info)[joined.labels == label][0] for label in range(10)}
    for label, members in enumerate(last.data.train.class_indices):
        torch.testing.assert_close(of_class[label], last.data.train.raw(members).mean(0), atol=1e-4, rtol=0)
    assert torch.equal(memory(done, first).images, parts[0].images)
    (record,) = (record for record in done.records if record.condense_key == last.spec.key())
    costs = [cost_beside(done.store.set_path(cell.spec)).seconds for cell in earlier]
    assert record.condense_seconds == pytest.approx(sum(costs), abs=1e-3)
    assert record.storage_bytes == joined.storage_bytes


def test_the_memory_of_a_coreset_has_the_training_images_themselves(learn):
    _, done = learn(steps=5, orders=1, methods=("random", "whole"), ipcs=(3,))
    for cell in done.plan.cells:
        condensed, train = memory(done, cell), cell.data.train
        assert torch.equal(condensed.images, train.normalised(condensed.indices))
        assert torch.equal(condensed.labels, train.labels[condensed.indices])
        if cell.spec.method == "whole":
            assert sorted(condensed.indices.tolist()) == list(range(len(train)))
        else:
            assert condensed.labels.bincount().tolist() == [3] * 2 * len(cell.spec.steps.classes)


def test_logits_become_probabilities_of_all_classes_seen_and_a_learned_rate_is_left_out(learn):
    sets, done = learn(steps=5, orders=1, methods=("taught",), options={"epochs": "1"})
    cell = done.plan.cells[1]
    condensed, parts = memory(done, cell), [memory(done, each) for each in sets.plan.cells[:2]]
    assert parts[0].brings == {"lr": 0.02, "temperature": 4.0, "factor": 2}
    assert condensed.brings == {"factor": 2}
    seen = sorted(label for step in cell.spec.steps.classes for label in step)
    for count, (part, step) in enumerate(zip(parts, cell.spec.steps.classes, strict=True)):
        own = condensed.labels[2 * count : 2 * count + 2]
        columns = [seen.index(label) for label in step]
        assert torch.equal(own[:, columns], part.targets)
        torch.testing.assert_close(own.sum(1), torch.ones(2))


def test_classes_come_in_the_orders_of_the_authors_and_the_seed_of_an_order_is_that_of_its_sets(plan):
    _, made = plan(steps=5, orders=3, seed=1, evals=2)
    last = [cell for cell in made.cells if len(cell.spec.steps.classes) == 5]
    for seed, cell in zip((1, 2, 3), last, strict=True):
        order = np.random.RandomState(seed).permutation(10).reshape(5, 2)
        assert cell.spec.steps.classes == tuple(tuple(sorted(step)) for step in order.tolist())
        assert cell.spec.seed == seed
        assert [part.seed for part in cell.source.parts] == [seed] * 5
        assert (cell.spec.dataset, cell.data.info.num_classes) == ("digits", 10)
        assert [each for _, each in cell.trials] == [1, 2]


def test_a_form_of_a_data_set_keeps_its_classes_and_its_other_options(plan):
    named = "digits:classes=1+3+5+7-9,train_per_class=20"
    sets, made = plan(steps=3, orders=1, datasets=(named,))
    first, *_, last = made.cells
    assert (last.spec.dataset, last.spec.steps.dataset, first.spec.steps.dataset) == (named,) * 3
    assert sorted(label for step in last.spec.steps.classes for label in step) == [1, 3, 5, 7, 8, 9]
    a, b = first.spec.steps.classes[0]
    assert first.spec.dataset == sets.cells[0].spec.dataset == f"digits:classes={a}+{b},train_per_class=20"
    assert first.data.info.class_names == (str(a), str(b))
    assert len(last.data.train) == 6 * 20


def test_what_is_done_is_not_done_again_and_another_network_condenses_nothing(learn):
    wanted = {"methods": ("means",), "orders": 2}
    sets, done = learn(**wanted)
    assert [sets.outcome, done.outcome] == [Outcome(condensed=10), Outcome(condensed=10, evaluated=10)]
    assert [each.outcome for each in learn(**wanted)] == [Outcome()] * 2
    other = learn(**wanted, eval_networks=("mlp",))
    assert [each.outcome for each in other] == [Outcome(), Outcome(evaluated=10)]


@pytest.mark.slow
def test_several_cells_at_once_give_the_same_records(learn):
    wanted = {"methods": ("means", "random"), "orders": 1, "steps": 2}
    (_, one), (_, several) = learn(**wanted), learn(**wanted, folder="jobs", jobs=2)

    def what(done):
        return sorted((each.key, each.condense_key, each.set_sha256, each.accuracy) for each in done.records)

    assert what(one) == what(several)
    assert len(what(several)) == 4


def test_records_of_memories_are_in_no_table_but_their_own(learn, run, tmp_path):
    _, done = learn(steps=2, methods=("means", "random"), evals=2)
    every = run(tmp_path / "r", **(DIGITS | {"methods": ("means",), "evals": 2})).store.records
    (row,) = rows(every)  # the memory after the last step is of all of digits, too
    assert (row.dataset, row.scores["linear"].trials) == ("digits", 2)
    found = curves(every)
    assert [(each.dataset, each.steps, each.network) for each in found] == [("digits", (5, 2), "linear")] * 2
    means = next(each for each in found if each.method == "means")
    assert {**means.scores}.keys() == {5, 10}
    assert (means.final.sets, means.final.trials) == (2, 4)
    by_order = {
        order: [
            r.accuracy
            for r in done.records
            if (r.method, r.condense_seed, r.dataset) == ("means", order, "digits")
        ]
        for order in (0, 1)
    }
    assert means.final == score(by_order)
    assert curves(reversed(every)) == found


def test_a_failed_step_fails_its_memories_and_the_others_go_on(learn):
    sets, done = learn(orders=1, methods=("fails", "means"))
    assert len(done.records) == 5
    assert {record.error for record in sets.outcome.failures} == {"RuntimeError: nothing works"}
    errors = [record.error for record in done.outcome.failures]
    assert len(errors) == 5
    assert any("the set of a step is not there: fails on digits:classes=2+8" in error for error in errors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 3}, "10 classes cannot come in 3 steps.*They can come in 2 or 5"),
        ({"steps": 10}, "10 classes cannot come in 10 steps"),
        ({"steps": 20}, "10 classes cannot come in 20 steps"),
        ({"steps": 1}, "steps must be a whole number of at least 2"),
        ({"orders": 0}, "orders must be"),
        ({"datasets": ("tiny",), "steps": 2}, "tiny: its 3 classes.*No number of steps serves"),
        ({"ipcs": (150,)}, "ipc 150 is more than digits:classes=2.8 has .* class '8' has 140"),
        ({"methods": ("mtt",), "options": {"zca": "true"}}, "mtt: its sets are whitened"),
    ],
)
def test_what_cannot_be_learned_in_steps_is_refused_before_any_work(plan, changes, message):
    with pytest.raises(DcbenchError, match=message):
        plan(**changes)
