"""Objects in place of names: what a notebook defines is tried out before it is a package.

A data set, a method or an architecture may be given as an instance of its class. An architecture may also be given
as a class or a function that builds a module.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import nn

from dcbench.core.architecture import Architecture
from dcbench.core.component import Component
from dcbench.core.dataset import Dataset, DatasetInfo
from dcbench.core.method import Method
from dcbench.plugins import PluginInfo, Plugins, Registry
from dcbench.results.provenance import code_sha256
from dcbench.utils.errors import DcbenchError

Build = Callable[..., nn.Module]
UNREGISTERED = "unregistered"
"""The distribution that records state for a component that no package registers."""


def dataset_of(given: str | Dataset, plugins: Plugins) -> Dataset:
    """Return the data set that a user gives, by name or as it is.

    Raises:
        DcbenchError: for an unknown name, an object of another kind, or one with an installed data set's name.
    """
    if isinstance(given, str):
        return plugins.make_dataset(given)
    checked: Dataset = _checked(given, Dataset, plugins.datasets)
    return checked


def method_of(given: Method, plugins: Plugins) -> Method:
    """Return the method that a user gives as an instance.

    Raises:
        DcbenchError: for an object of another kind, or one with an installed method's name.
    """
    checked: Method = _checked(given, Method, plugins.methods)
    return checked


def architecture_of(given: str | Architecture | Build, plugins: Plugins) -> Architecture:
    """Return the architecture that a user gives: by name, as it is, or as what builds a module.

    Raises:
        DcbenchError: for an unknown name, an object of another kind, or one with an installed architecture's name.
    """
    if isinstance(given, str):
        return plugins.make_architecture(given)
    if callable(given) and not isinstance(given, Architecture):
        given = given() if _is_architecture(given) else built_by(given)
    checked: Architecture = _checked(given, Architecture, plugins.architectures)
    return checked


def origin_of(component: Component, registry: Registry[Any]) -> PluginInfo:
    """Return the plugin that brings a component, or one that stands for none."""
    cls = type(component)
    if registry.items.get(cls.name) is cls:
        return registry.origins[cls.name]
    return PluginInfo(cls.name, cls.__module__, UNREGISTERED, "")


@cache
def built_by(build: Build) -> Architecture:
    """Return the architecture whose networks a class or a function builds.

    It is called with the facts of the data set, a `DatasetInfo`, or with nothing if it takes nothing. Its version
    is the hash of its code, so that no result of other code is taken for its own.

    Args:
        build: for instance a subclass of `torch.nn.Module`, or ``lambda info: torch.nn.Sequential(…)``.
    """
    needs_info = _takes_an_argument(build)
    written = getattr(build, "__name__", type(build).__name__)
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
        "version": code_sha256(build)[:8],
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


def _is_architecture(given: object) -> bool:
    return isinstance(given, type) and issubclass(given, Architecture)


def _checked(given: Any, base: type[Component], registry: Registry[Any]) -> Any:
    if not isinstance(given, base):
        what = "an instance of a class" if isinstance(given, type) else "a name or an instance of a class"
        raise DcbenchError(f"{base.kind} {given!r} must be {what} derived from dcbench.api.{base.__name__}.")
    cls = type(given)
    if registry.items.get(cls.name, cls) is not cls:
        raise DcbenchError(f"{base.kind} {cls.name!r} is the name of an installed one: give yours another.")
    return given
