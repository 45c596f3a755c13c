from __future__ import annotations

import inspect
import types
from importlib.metadata import EntryPoint, entry_points

import pluggy
import pytest
import tiny_plugin

from dcbench import hookspecs
from dcbench.api import Method, Progress, hookimpl
from dcbench.plugins import PluginInfo, Plugins
from dcbench.utils.errors import DcbenchError

HOOKS = [name for name in vars(hookspecs) if name.startswith("dcbench_")]


def info(name="third", distribution="third-party"):
    return PluginInfo(name, f"{name}_module", distribution, "1.0")


def plugin_with(**functions):
    module = types.ModuleType("third_module")
    for name, function in functions.items():
        setattr(module, name, hookimpl(function))
    return module


def test_first_party_plugins_come_through_entry_points():
    plugins = Plugins.load()
    assert {"digits", "mnist", "fashion_mnist", "svhn", "cifar10", "cifar100"} <= set(plugins.datasets)
    assert {"mlp", "convnet", "lenet", "alexnet"} <= set(plugins.architectures)
    assert {"random", "herding", "gradmatch", "whole"} <= set(plugins.methods)
    assert plugins.methods.origins["gradmatch"].distribution == "dcbench-suite"
    assert not [each for each in plugins.infos if each.error and each.distribution == "dcbench-suite"]


def test_a_plugin_that_cannot_be_imported_is_listed_and_the_others_work():
    plugins = Plugins.load(own_only=True)
    plugins.add_entry_point(EntryPoint("broken", "no_such_module_anywhere", "dcbench"))
    (broken,) = [each for each in plugins.infos if each.error]
    assert (broken.name, broken.error) == (
        "broken",
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    )
    assert plugins.method_class("random").name == "random"


def test_an_unknown_name_mentions_the_plugins_that_failed():
    plugins = Plugins.load(own_only=True)
    plugins.add_entry_point(EntryPoint("broken", "no_such_module_anywhere", "dcbench"))
    with pytest.raises(DcbenchError, match=r"unknown method 'x'.*failed to load: broken.*dcbench plugin list"):
        plugins.method_class("x")


def test_a_name_registered_twice_is_an_error_that_names_both():
    plugins = Plugins()
    plugins.add(tiny_plugin, info("one", "first-package"))
    with pytest.raises(DcbenchError, match=r"network 'linear'.*first-package.*second-package"):
        plugins.add(
            plugin_with(dcbench_register_architectures=lambda: [tiny_plugin.Linear]), info("two", "second-package")
        )


@pytest.mark.parametrize(
    "functions",
    [
        {"dcbench_register_method": lambda: []},
        {"dcbench_register_methods": lambda task: []},
        {"dcbench_register_methods": lambda: [int]},
        {"dcbench_register_methods": lambda: [tiny_plugin.Linear]},
        {"dcbench_register_methods": lambda: [type("Half", (Method,), {"name": "half"})]},
        {"dcbench_register_methods": lambda: 1 / 0},
        {"dcbench_register_methods": lambda: None},
    ],
    ids=[
        "mistyped hook",
        "unknown argument",
        "not a method",
        "wrong kind",
        "abstract",
        "raises",
        "returns nothing",
    ],
)
def test_a_plugin_that_breaks_the_contract_is_listed_with_its_error(functions):
    plugins = Plugins()
    plugins.add(plugin_with(**functions), info())
    (listed,) = plugins.infos
    assert listed.error
    assert not list(plugins.methods)
    plugins.add(tiny_plugin, info("tiny"))
    assert "means" in plugins.methods


def test_an_observer_that_raises_is_reported_once_and_left_out():
    plugins, calls = Plugins(), []

    def failing(record):
        calls.append("failing")
        raise RuntimeError("observer broke")

    plugins.add(plugin_with(dcbench_record_added=failing), info("failing"))
    plugins.add(plugin_with(dcbench_record_added=lambda record: calls.append("well")), info("well"))
    with pytest.warns(UserWarning, match="failing failed as an observer.*observer broke"):
        plugins.observe("dcbench_record_added", record=None)
    plugins.observe("dcbench_record_added", record=None)
    assert sorted(calls) == ["failing", "well", "well"]


def test_an_observer_may_leave_out_arguments():
    plugins, calls = Plugins(), []
    plugins.add(plugin_with(dcbench_progress=lambda: calls.append(1)), info())
    plugins.observe("dcbench_progress", progress=None)
    assert calls == [1]


def test_the_old_name_of_a_slot_still_works_with_a_warning():
    progress = Progress("condense", "work", "seed 0", 0, 0, 1, 0, 1, slot=3)
    with pytest.warns(DeprecationWarning, match="Progress.slot"):
        assert progress.lane == 3


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_says_when_it_is_called_and_what_its_arguments_are(name):
    function = getattr(hookspecs, name)
    assert "Called" in function.__doc__
    for argument in inspect.signature(function).parameters:
        assert f"{argument}:" in function.__doc__


def test_the_specifications_are_all_hooks_there_are():
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    assert [name for name in dir(manager.hook) if not name.startswith("_")] == sorted(HOOKS)


def test_spellings():
    plugins = Plugins.load()
    assert str(plugins.make_architecture("convnet")) == "convnet"
    assert str(plugins.make_architecture("convnet:width=64,norm=batch")) == "convnet:norm=batch,width=64"
    with pytest.raises(DcbenchError, match="'width' is not of the form option=value"):
        plugins.make_architecture("convnet:width")


def test_a_misspelt_network_option_gets_the_nearest_name():
    with pytest.raises(DcbenchError, match=r"unknown option of network convnet 'widht'\. Did you mean 'width'"):
        Plugins.load().make_architecture("convnet:widht=64")


def test_a_hyphen_in_a_name_is_read_as_an_underscore():
    plugins = Plugins.load()
    assert plugins.make_dataset("fashion-mnist").name == "fashion_mnist"
    assert plugins.suite_path("gradient_matching_table1").stem == "gradient-matching-table1"
    with pytest.raises(DcbenchError, match="Did you mean 'fashion_mnist'"):
        plugins.make_dataset("fashion-mnst")


@pytest.mark.parametrize("names", ["herding, gradmatch", "gradmatch,herding,"])
def test_disabled_plugins_are_listed_and_not_imported(names, monkeypatch):
    monkeypatch.setenv("DCBENCH_DISABLE_PLUGINS", names)
    plugins = Plugins.load()
    assert {each.name for each in plugins.infos if each.disabled} == {"herding", "gradmatch"}
    assert {each.disabled for each in plugins.infos} == {"", "DCBENCH_DISABLE_PLUGINS"}
    with pytest.raises(DcbenchError, match=r"unknown method 'herding'.*disabled: gradmatch .*, herding "):
        plugins.method_class("herding")


def test_a_distribution_can_be_disabled(monkeypatch):
    monkeypatch.setenv("DCBENCH_DISABLE_PLUGINS", "dcbench_suite")
    assert not {"gradmatch", "random"} & set(Plugins.load().methods)


def test_a_plugin_to_disable_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setenv("DCBENCH_DISABLE_PLUGINS", "herdin")
    with pytest.raises(DcbenchError, match=r"unknown plugin in DCBENCH_DISABLE_PLUGINS 'herdin'.*mean 'herding'"):
        Plugins.load()


def test_own_plugins_alone_are_dcbenchs(monkeypatch):
    theirs = EntryPoint("theirs", "no_such_module_anywhere", "dcbench")
    ours = [each for each in entry_points(group="dcbench") if each.dist.name == "dcbench-suite"]
    monkeypatch.setattr("dcbench.plugins.entry_points", lambda group: [theirs, *ours])
    plugins = Plugins.load(own_only=True)
    assert [(each.name, each.disabled, each.error) for each in plugins.infos if each.disabled] == [
        ("theirs", "--no-plugins", "")
    ]
    assert "gradmatch" in plugins.methods
    assert [each.name for each in Plugins.load().infos if each.error] == ["theirs"]
