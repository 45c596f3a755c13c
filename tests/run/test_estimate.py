"""The time of a plan, by what records say."""

from __future__ import annotations

import torch
from helpers import make_record

from dcbench.results.provenance import describe_device
from dcbench.results.store import Store
from dcbench.run.estimate import estimate
from dcbench.run.plan import Outline, make_plan

HERE = describe_device(torch.device("cpu"), 3)


def measured(cell, seed, condense, trial, **changes):
    """A record of the same kind of work, from another seed."""
    fields = cell.spec.model_dump() | {"condense_seed": seed, "set_sha256": f"{seed}"}
    del fields["seed"]
    fields |= {"condense_seconds": condense, "eval_seconds": trial, "device": HERE, "evaluation_network": "mlp"}
    return make_record(**(fields | changes))


def test_the_sums_are_of_the_mean_the_least_and_the_most_of_each_kind(plugins, request_for, tmp_path):
    request = request_for(methods=("random",), ipcs=(1,), eval_networks=("mlp",), sets=2, evals=3)
    plan = make_plan(request, plugins)
    store, cell = Store(tmp_path / "results"), plan.cells[0]
    budget = {"budget": plan.budget.name}
    for seed, condense, trial in ((10, 100.0, 10.0), (11, 300.0, 20.0)):
        store.append(measured(cell, seed, condense, trial, **budget))
    for changes in ({"device": "cpu: another, 3 threads"}, {"protocol": "dsa"}, {"dataset": "other"}):
        store.append(measured(cell, 12, 9000.0, 9000.0, **budget, **changes, options={"other": 1}))
    # 2 sets of 200 s and 6 networks of 15 s in the mean, of 100 and 10 at least, of 300 and 20 at most.
    found = estimate([plan], (), store)
    assert found.startswith("Time: about 0:08:10 (0:04:20 to 0:12:00, ")
    assert "Not counted" not in found
    found = estimate([plan], [Outline("elsewhere", 1, "random", None, 0, 5, "dc")], store)
    assert "about 0:08:10" in found
    assert found.endswith("Not counted: 1 condensation and 5 evaluations, never measured here.")


def test_what_was_never_measured_is_counted_apart(plugins, request_for, tmp_path):
    plan = make_plan(request_for(methods=("random",), eval_networks=("mlp",), sets=2, evals=3), plugins)
    found = estimate([plan], [Outline("elsewhere", 1, "random", None, 0, 5, "dc")], Store(tmp_path / "results"))
    assert found.startswith("Time: unknown, ")
    assert found.endswith("(3 condensations and 11 evaluations).")
