from __future__ import annotations

import types
import warnings
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import tiny_plugin
import torch
from dcbench_plugins.methods.gradmatch import GradMatch
from dcbench_plugins.methods.herding import Herding
from dcbench_plugins.methods.random import Random

from dcbench.api import Method, hookimpl, option
from dcbench.core.spec import BUDGETS
from dcbench.engine.siamese import OPERATIONS
from dcbench.evaluate.protocols import PROTOCOLS, get_protocol
from dcbench.plugins import PluginInfo
from dcbench.results.artefacts import cost_beside
from dcbench.results.set_file import load_set
from dcbench.run.plan import _sweep, distribute_options, make_plan
from dcbench.utils.errors import DcbenchError


@pytest.fixture
def plan(plugins, request_for):
    return lambda **changes: make_plan(request_for(**changes), plugins)


def test_repeated_options_multiply(plan):
    made = plan(
        methods=("random", "means"),
        ipcs=(1, 2),
        networks=("linear", "convnet:depth=1,width=4"),
        eval_networks=("linear", "mlp"),
        sets=3,
        evals=2,
    )
    random = [cell for cell in made.cells if cell.spec.method == "random"]
    assert len(random) == 2 * 3  # ipc x sets: the matching network does not matter to it
    assert all(len(cell.trials) == 2 * 2 for cell in random)
    assert len({cell.spec.key() for cell in made.cells}) == len(made.cells)


def test_several_values_of_options_multiply_and_choosing_among_them_needs_held_out_images(plan):
    options = {"gradmatch.lr_img": "0.1,1,10", "momentum_img": [0, 0.5], "init": "noise,real", "bn_images": "4"}
    with pytest.warns(UserWarning, match="--validation"):
        cells = plan(methods=("gradmatch", "random"), options=options).cells
    found = [[cell.spec.options.get(name) for name in ("lr_img", "momentum_img", "init")] for cell in cells]
    product = [[lr, momentum, init] for lr in (0.1, 1, 10) for momentum in (0, 0.5) for init in ("noise", "real")]
    assert sorted(found[:-1]) == sorted(product)
    assert found[-1] == [None, None, None]  # random has none of them
    with warnings.catch_warnings(action="error"):
        plan(datasets=("tiny:validation=0.2",), methods=("gradmatch",), options=options)
    with pytest.raises(DcbenchError, match=r"'lr_img'.*'x'"):
        plan(methods=("gradmatch",), options={"lr_img": "0.1,x"})


class Worded(tiny_plugin.Means):
    """The means, with an option that is any text."""

    name = "worded"
    text: str = option("", "any text")


def test_a_value_that_suits_its_option_is_one_value_though_it_has_commas():
    assert _sweep(Worded, {"text": "a,b"}) == [{"text": "a,b"}]


def test_a_method_that_uses_the_network_is_run_on_each(plan):
    networks = ("convnet:depth=1,width=4", "mlp", "linear")
    made = plan(methods=("gradmatch",), networks=networks)
    assert [cell.spec.matching_network for cell in made.cells] == ["convnet:depth=1,width=4", "mlp", "linear"]
    assert [cell.spec.options["lr_img"] for cell in made.cells] == [0.1, 0.01, 0.1]


def test_a_method_without_a_seed_gets_all_evaluations_on_one_set(plan):
    (cell,) = plan(methods=("whole",), ipcs=(1, 5), sets=3, evals=2).cells
    assert [seed for _, seed in cell.trials] == [0, 1, 2, 3, 4, 5]
    assert (cell.spec.ipc, cell.spec.matching_network) == (None, None)


class Seeded(tiny_plugin.Means):
    """The means, which says that they depend on the seed."""

    name = "seeded_means"
    depends_on = frozenset({"ipc", "seed"})


def test_networks_are_trained_once_on_a_set_that_several_seeds_give(run, tmp_path):
    wanted = {"methods": (Seeded(),), "sets": 3, "evals": 2}
    with pytest.warns(UserWarning, match=r"seeded_means on tiny, ipc 1: another seed gives the same set") as said:
        runner = run(tmp_path / "r", **wanted)
    assert (runner.outcome.condensed, runner.outcome.evaluated) == (3, 2)
    assert len({str(each.message) for each in said}) == 1
    with pytest.warns(UserWarning, match="another seed"):
        assert run(tmp_path / "r", **wanted).outcome.evaluated == 0
    with pytest.warns(UserWarning, match="another seed"):
        assert run(tmp_path / "r", **wanted, force=True).outcome.evaluated == 2


def test_dependencies_may_follow_from_the_setting(plan, monkeypatch):
    def dependencies(self, setting):
        return self.depends_on - ({"seed"} if setting.ipc == 1 else set())

    monkeypatch.setattr(Seeded, "dependencies", dependencies)
    one, *two = plan(methods=(Seeded(),), ipcs=(1, 2), sets=3, evals=2).cells
    assert (len(one.trials), one.source.origin.seeded, len(two)) == (6, False, 3)


def test_dependencies_without_a_setting_are_still_asked(plan, monkeypatch):
    monkeypatch.setattr(Seeded, "dependencies", lambda self: frozenset({"ipc"}))
    with pytest.warns(DeprecationWarning, match="takes a setting"):
        (cell,) = plan(methods=(Seeded(),), sets=3).cells
    assert not cell.source.origin.seeded


def test_a_baseline_that_cannot_serve_fails_alone(run, plan, tmp_path):
    wanted = {"methods": ("means",), "ipcs": (7,), "baselines": ("random",)}  # a class has 6 images
    runner = run(tmp_path / "r", **wanted)
    (failure,) = runner.outcome.failures
    assert (failure.method, runner.outcome.evaluated) == ("random", 1)
    assert failure.error.endswith(
        "class 'c' has 6 training images. --replacement draws some of them more than once."
    )
    with pytest.raises(DcbenchError, match="--replacement"):
        plan(**wanted | {"methods": ("random", "means")})


def test_with_replacement_a_class_may_have_fewer_images(run, plan, tmp_path):
    runner = run(tmp_path / "r", methods=("random",), ipcs=(7,), replacement=True)
    (record,) = runner.store.records
    assert (record.status, record.options, record.changed_options) == (
        "ok",
        {"replacement": True},
        ["replacement"],
    )
    (cell,) = plan(methods=("random",)).cells
    assert cell.spec.options == {}  # as before there was the option
    with pytest.raises(DcbenchError, match="no method of this run draws"):
        plan(methods=("means",), replacement=True)


def test_naming_a_thing_twice_changes_nothing(plan):
    assert len(plan(methods=("random", "random"), ipcs=(1, 1), datasets=("tiny", "tiny")).cells) == 1


def test_seeds_start_where_they_are_told_to(plan):
    cells = plan(sets=2, evals=2, seed=5).cells
    assert [cell.spec.seed for cell in cells] == [5, 6]
    assert [seed for _, seed in cells[0].trials] == [5, 6]


def test_the_key_depends_on_all_that_the_result_depends_on(plan):
    base = {"methods": ("gradmatch",), "networks": ("convnet:depth=1,width=4",)}
    variants = [
        {},
        {"ipcs": (2,)},
        {"seed": 1},
        {"options": {"iterations": "7"}},
        {"networks": ("linear",)},
        {"datasets": ("digits",), "eval_networks": ("mlp",)},
        {"methods": ("herding",)},
    ]
    keys = [plan(**(base | variant)).cells[0].spec.key() for variant in variants]
    assert len(set(keys)) == len(variants)
    assert plan(**base, evals=9, eval_networks=("mlp",)).cells[0].spec.key() == keys[0]


def test_the_quick_budget_changes_options_unless_they_are_given(plan):
    quick = {"methods": ("means",), "budget": BUDGETS["quick"]}
    (cell,) = plan(**quick).cells
    assert (cell.spec.options["scale"], cell.source.origin.changed_options) == (0.5, ("scale",))
    (cell,) = plan(**quick, options={"scale": "1"}).cells
    assert (cell.spec.options["scale"], cell.source.origin.changed_options) == (1.0, ())


@pytest.mark.parametrize("broken", ["dependencies", "resolve", "changed_from_defaults"])
def test_a_method_that_breaks_on_a_setting_is_named(plan, monkeypatch, broken):
    monkeypatch.setattr(tiny_plugin.Means, broken, lambda self, *setting: {}["what"])
    message = r"method 'means' cannot be used on tiny with 5 images per class: KeyError: 'what'"
    with pytest.raises(DcbenchError, match=message):
        plan(methods=("means",), ipcs=(5,))


def test_coresets_of_pixels_are_one_set_whatever_the_networks_and_seeds(plan):
    words = {"methods": ("kcenter",), "networks": ("linear", "mlp"), "sets": 3, "evals": 2}
    (cell,) = plan(**words, options={"space": "pixels"}).cells
    assert (cell.spec.matching_network, cell.spec.seed, cell.source.origin.seeded) == (None, 0, False)
    assert len(cell.trials) == 6
    assert len(plan(**words).cells) == 6


def test_options_that_depend_on_the_setting_are_not_changes(plan):
    (cell,) = plan(methods=("gradmatch",), networks=("mlp",), options={"iterations": "3"}).cells
    assert cell.source.origin.changed_options == ("iterations",)
    assert cell.spec.options["lr_img"] == 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("gradmach",)}, "unknown method 'gradmach'. Did you mean 'gradmatch'?"),
        ({"datasets": ("digit",)}, "unknown dataset 'digit'. Did you mean 'digits'?"),
        ({"networks": ("convent",)}, "unknown network 'convent'. Did you mean 'convnet'?"),
        ({"eval_networks": ("lenett",)}, "unknown network 'lenett'. Did you mean 'lenet'?"),
        ({"networks": ("convnet:depth=9",), "methods": ("gradmatch",)}, "leave nothing of images of 8x8"),
        ({"eval_networks": ("convnet:depth=9",)}, "leave nothing of images of 8x8"),
        (
            {"eval_networks": ("colour_only",)},
            "network 'colour_only' does not take images of 1x8x8 (tiny): RuntimeError",
        ),
        ({"ipcs": (7,)}, "class 'c' has 6 training images"),
        ({"options": {"iteration": "1"}, "methods": ("gradmatch",)}, "Did you mean 'iterations'?"),
        ({"options": {"gradmatch.lr_imgs": "1"}, "methods": ("gradmatch",)}, "Did you mean 'lr_img'?"),
        (
            {"options": {"lr_img": "abc"}, "methods": ("gradmatch",)},
            "unable to parse string as a number, got 'abc'",
        ),
        ({"options": {"lr_img": "-1"}, "methods": ("gradmatch",)}, "greater than 0"),
        (
            {"options": {"strategy": "color_rotat"}, "methods": ("dsa",)},
            "unknown augmentation 'rotat'. Did you mean 'rotate'?",
        ),
        (
            {"options": {"strategy": "flip"}, "methods": ("dsa",), "datasets": ("digits",)},
            "augmentation 'flip' does not suit digits: no operation is left.",
        ),
        ({"options": {"network_pool": "2"}, "methods": ("dsa",)}, "unknown option of dsa 'network_pool'"),
        ({"options": {"herding.epochs": "1"}}, "unknown method of this run 'herding'"),
        ({"options": {"scale": "2"}}, "unknown option of random 'scale'"),
    ],
)
def test_mistakes_are_found_before_any_work(plan, changes, message):
    with pytest.raises(DcbenchError) as caught:
        plan(**changes)
    assert message in str(caught.value)


def test_a_broken_data_set_is_named(plan, monkeypatch):
    monkeypatch.setattr(tiny_plugin.Tiny, "load", lambda self, root: {}["nothing"])
    with pytest.raises(DcbenchError, match=r"dataset 'tiny' cannot be used: KeyError"):
        plan()


def test_a_data_set_that_nothing_of_the_protocol_suits_is_refused_before_any_work(plan, monkeypatch):
    monkeypatch.setattr(tiny_plugin.Tiny, "unsuitable", frozenset(OPERATIONS))
    with pytest.raises(DcbenchError, match="does not suit tiny: no operation is left"):
        plan(protocol=PROTOCOLS["dsa"])
    assert plan().cells


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("random_soft", {}, "random_soft: protocol kd takes sets with hard labels"),
        ("mtt", {"zca": "true"}, "mtt: protocol kd takes no whitened images"),
    ],
)
def test_sets_that_a_protocol_cannot_take_are_refused_before_any_work(plan, plugins, method, options, message):
    kd = get_protocol("kd", plugins.make_architecture)
    with pytest.raises(DcbenchError, match=message):
        plan(methods=("random", method), options=options, protocol=kd)


@pytest.mark.parametrize(
    ("method", "protocol", "message"),
    [
        ("random_soft", "dc", "dc is meant for sets with hard labels. Its sets are for the protocol soft."),
        (
            "mtt",
            "kd",
            "kd does not use the .* that its sets bring. Its sets are for the protocol dc or dsa.",
        ),
    ],
)
def test_a_protocol_that_is_not_meant_for_the_sets_is_told(plan, plugins, method, protocol, message):
    with pytest.warns(UserWarning, match=f"^{method}: protocol {message}$"):
        plan(methods=(method, "random"), protocol=get_protocol(protocol, plugins.make_architecture))


@pytest.mark.parametrize(("method", "protocol"), [("random_soft", "soft"), ("random", "soft"), ("mtt", "dsa")])
@pytest.mark.filterwarnings("error")
def test_nothing_is_told_of_a_protocol_that_suits(plan, method, protocol):
    assert plan(methods=(method,), protocol=PROTOCOLS[protocol]).cells


def test_a_method_that_needs_more_memory_than_there_is_says_so_before_it_starts(plan, monkeypatch):
    words = {"methods": ("mtt",), "networks": ("linear",), "options": {"syn_steps": "4", "batch_syn": "3"}}
    held = 2 * 4 * 4 * (64 * 3 + 3)
    monkeypatch.setattr("dcbench.run.memory_advice.free_memory", lambda device: held + 600)
    with pytest.warns(UserWarning, match=r"^mtt on tiny needs .* of 3 images at once, of which 2 would fit"):
        plan(**words)
    monkeypatch.setattr("dcbench.run.memory_advice.free_memory", lambda device: 10**9)
    with warnings.catch_warnings(action="error"):
        plan(**words)


def test_two_spellings_of_a_network_are_one(plan):
    (cell,) = plan(eval_networks=("mlp", "mlp:width=128")).cells
    assert [str(network) for network, _ in cell.trials] == ["mlp"]


def test_options_are_compared_with_defaults_that_cannot_serve_or_are_not_there(plan, plugins):
    class Starts(Method):
        """Starts from real images, unless told otherwise."""

        name = "starts"
        init: Literal["noise", "real"] = option("real", "what from")
        amount: int = option(..., "how much")

        def resolve(self, setting):
            if self.init == "real":
                setting.require_enough_images()
            return self

        def condense(self, task):
            """Never called."""

    module = types.ModuleType("starts")
    module.dcbench_register_methods = hookimpl(lambda: [Starts])
    plugins.add(module, PluginInfo("starts", "starts", "tests", "0"))
    (cell,) = plan(methods=("starts",), options={"init": "noise", "amount": "3"}, ipcs=(1000,)).cells
    assert cell.source.origin.changed_options == ("amount", "init")
    (cell,) = plan(methods=("starts",), options={"amount": "3"}).cells
    assert cell.source.origin.changed_options == ("amount",)
    with pytest.raises(DcbenchError, match="option 'amount' of method 'starts': field required"):
        plan(methods=("starts",))


def test_a_bare_option_goes_to_every_method_that_has_it():
    given = {"lr": "1", "iterations": "5", "herding.lr": "2"}
    assert distribute_options(given, [GradMatch, Herding, Random]) == {
        "gradmatch": {"iterations": "5"},
        "herding": {"lr": "2"},
        "random": {},
    }


def test_a_user_s_data_set_cannot_go_by_another_s_name(plugins, request_for, tmp_path):
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    arrays = {
        f"{which}_{what}": each
        for which in ("train", "test")
        for what, each in zip(("images", "labels"), (images, labels), strict=True)
    }
    for name in ("Tiny", "ti-ny", "npz"):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(
            DcbenchError, match=rf"recorded as '{name}', and '\w+' is another data set's .*title=NAME"
        ):
            make_plan(request_for(datasets=(f"npz:{tmp_path / name}.npz",)), plugins)
    np.savez(tmp_path / "mine.npz", **arrays)
    (tmp_path / "other").mkdir()
    np.savez(tmp_path / "other" / "mine.npz", **{**arrays, "train_images": images + 1})
    both = (f"npz:{tmp_path / 'mine.npz'}", f"npz:{tmp_path / 'other' / 'mine.npz'}")
    with pytest.raises(DcbenchError, match="two different data sets of this run are called 'mine'"):
        make_plan(request_for(datasets=both), plugins)


def test_a_method_starts_from_the_set_of_a_file_and_its_spec_names_the_set(run, plan, tmp_path):
    (path,) = run(tmp_path / "r", methods=("random",), ipcs=(2,), evals=1).store.root.glob("sets/*.safetensors")
    wanted = {
        "methods": ("gradmatch",),
        "ipcs": (2,),
        "options": {"iterations": 1, "lr_img": 1e-12, "init": str(path)},
    }
    (cell,) = plan(**wanted).cells
    found, _ = load_set(path, cell.data.train)
    assert cell.spec.options["init"] == f"set:{found.sha256()[:12]}"
    runner = run(tmp_path / "r", **wanted, evals=1)
    made, _ = load_set(runner.store.set_path(cell.spec), cell.data.train)
    assert torch.allclose(made.images, found.images, atol=1e-6)
    assert torch.equal(cell.source.start, found.images)  # the images that are learned are others
    refused = {
        "does not have 1 labelled image of": {"ipcs": (1,)},
        "was made from tiny": {"datasets": ("tiny:validation=0.2",)},
        "give its file": {"options": {"init": "set:0123456789ab"}},
        "use noise, real, or the file": {"options": {"init": "nose"}},
    }
    for message, change in refused.items():
        with pytest.raises(DcbenchError, match=message):
            plan(**wanted | change)


@pytest.mark.parametrize("method", ["dm", "gradmatch", "mtt"])
def test_a_set_that_is_extended_is_that_of_all_iterations_at_once(run, plan, method, tmp_path):
    wanted = {"methods": (method, "random"), "networks": ("convnet:depth=1,width=4",), "extend": True}
    wanted["protocol"] = replace(PROTOCOLS["dc"], epochs=2)
    short = {"experts": 2, "expert_epochs": 1, "max_start_epoch": 2, "syn_steps": 2, "batch_expert": 46}
    short = short if method == "mtt" else {}

    def made(folder, iterations):
        changes = wanted | {"options": {f"{method}.iterations": iterations, **short}}
        store, spec = run(tmp_path / folder, **changes).store, plan(**changes).cells[0].spec
        assert (spec.method, spec.options["extend"]) == (method, True)
        return store.set_path(spec).read_bytes(), cost_beside(store.set_path(spec))

    made("in_parts", 2)
    (in_parts, cost), (at_once, _) = made("in_parts", 3), made("at_once", 3)
    assert in_parts == at_once
    assert cost.checkpoints == 2  # what the first part took counts, too
    fewer, _ = made("at_once", 1)  # and the state after 3 is of no use for 1
    assert fewer == made("fewer", 1)[0]


def test_what_cannot_be_extended_is_refused(plan):
    with pytest.raises(
        DcbenchError, match="no method of this run goes on from fewer steps; of all, dm, dsa, gradmatch, mtt can"
    ):
        plan(methods=("random",), extend=True)
