"""Objects in place of names: what a notebook defines is tried out before it is a package.

A data set, a method or an architecture may be given as an instance of its class. An architecture may also be given
as a class or a function that builds a module.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeVar

from torch import nn

from dcbench.core.architecture import Architecture
from dcbench.core.component import Component
from dcbench.core.dataset import Dataset, DatasetInfo
from dcbench.core.measure import Measure
from dcbench.plugins import PluginInfo, Plugins, Registry
from dcbench.results.provenance import code_sha256
from dcbench.utils.errors import DcbenchError

C = TypeVar("C", bound=Component)
Build = Callable[..., nn.Module]
UNREGISTERED = "unregistered"
"""The distribution that records state for a component that no package registers."""


def dataset_of(given: str | Dataset, plugins: Plugins) -> Dataset:
    """Return the data set that a user gives, by name or as it is.

    Raises:
        DcbenchError: for an unknown name, an object of another kind, or one with an installed data set's name.
    """
    return plugins.make_dataset(given) if isinstance(given, str) else checked(given, Dataset, plugins.datasets)


def measure_of(given: str | Measure, plugins: Plugins) -> Measure:
    """Return the measure that a user gives, by name or as it is.

    Raises:
        DcbenchError: for an unknown name, an object of another kind, or one with an installed measure's name.
    """
    return plugins.make_measure(given) if isinstance(given, str) else checked(given, Measure, plugins.measures)


def architecture_of(given: str | Architecture | Build, plugins: Plugins) -> Architecture:
    """Return the architecture that a user gives: by name, as it is, or as what builds a module.

    Raises:
        DcbenchError: for an unknown name, an object of another kind, or one with an installed architecture's name.
    """
    if isinstance(given, str):
        return plugins.make_architecture(given)
    if isinstance(given, type) and issubclass(given, Architecture):
        given = given()
    elif inspect.isfunction(given) or isinstance(given, partial | type):
        given = built_by(given)
    return checked(given, Architecture, plugins.architectures)


def plugin_and_version(component: Component, registry: Registry[Any]) -> tuple[PluginInfo, str]:
    """Return the plugin that brings a component, or one that stands for none, and the version that specs state.

    The version of what no package registers is the hash of its code. So a cell of a notebook that is edited gives
    another version, and no result of the earlier one is taken for it.
    """
    cls = type(component)
    if registry.items.get(cls.name) is cls:
        return registry.origins[cls.name], cls.version
    return PluginInfo(cls.name, cls.__module__, UNREGISTERED, ""), code_sha256(cls)[:8]


def built_by(build: Build) -> Architecture:
    """Return the architecture whose networks a class or a function builds.

    It is called with the facts of the data set, a `DatasetInfo`, or with nothing if it takes nothing. Its version
    is the hash of its code, so that no result of other code is taken for its own.

    Args:
        build: for instance a subclass of `torch.nn.Module`, or ``lambda info: torch.nn.Sequential(…)``.
    """
    return _built_by(build, code_sha256(build)[:8])


@cache
def _built_by(build: Build, version: str) -> Architecture:
    needs_info = _takes_an_argument(build)
    written = getattr(build, "__name__", "network")
    name = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", written)).strip("_").lower() or "network"

    def build_network(self: Architecture, info: DatasetInfo) -> nn.Module:
        return build(info) if needs_info else build()

    def reduce(self: Architecture) -> tuple[Any, ...]:
        return built_by, (build,)  # so that other processes make the class anew

    facts = {
        "__doc__": "Networks that a class or a function of the user's builds.",
        "__module__": getattr(build, "__module__", None) or __name__,
        "__reduce__": reduce,
        "name": name,
        "version": version,
        "build": build_network,
    }
    made: Architecture = type("Built", (Architecture,), facts)()
    return made


def _takes_an_argument(build: Build) -> bool:
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        return True
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(each.kind in positional and each.default is each.empty for each in parameters)


def checked(given: Any, base: Callable[..., C], registry: Registry[Any]) -> C:
    """Return the object that a user gives.

    Raises:
        DcbenchError: for one of another kind, or with the name of an installed one.
    """
    kind = base.kind  # type: ignore[attr-defined]
    if not isinstance(given, base):  # type: ignore[arg-type]
        how = "a name, or an instance of a class"
        if kind == Architecture.kind:
            how = f"what builds a module, because each trial trains a fresh one; or {how}"
        raise DcbenchError(f"{kind} {given!r:.200} must be {how} derived from dcbench.api.{base.__name__}.")
    if registry.items.get(given.name, type(given)) is not type(given):
        raise DcbenchError(f"{kind} {given.name!r} is the name of an installed one: give yours another name.")
    return given  # type: ignore[no-any-return]
