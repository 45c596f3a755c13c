"""Loading plugins, also where some fail, and the registries of what they provide."""

from __future__ import annotations

import inspect
import os
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pluggy

from dcbench import DISTRIBUTION, hookspecs
from dcbench.core.component import Component, Spelling
from dcbench.utils.errors import DcbenchError, find_name, unknown_name

if TYPE_CHECKING:
    from dcbench.core.architecture import Architecture
    from dcbench.core.dataset import Dataset
    from dcbench.core.measure import Measure
    from dcbench.core.method import Method
    from dcbench.run.observer import Observer

C = TypeVar("C", bound=Component)
T = TypeVar("T")

GROUP = "dcbench"
DISABLE = "DCBENCH_DISABLE_PLUGINS"
"""The environment variable that names plugins not to load, by entry point or distribution, with commas between."""


@dataclass(frozen=True)
class PluginInfo:
    """One entry point, and whether its plugin was loaded.

    Attributes:
        name, module: the entry point, and what it points at.
        distribution, version: the package that brings it.
        error: the last line of the traceback if it failed to load, else empty.
        disabled: the variable or option that disables it, else empty.
        provides: what it registered, as ``kind name``.
    """

    name: str
    module: str
    distribution: str
    version: str
    error: str = ""
    disabled: str = ""
    provides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The things of one kind, by name, each with the plugin that brought it."""

    kind: str
    items: dict[str, T] = field(default_factory=dict)
    origins: dict[str, PluginInfo] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, sorted."""
        return iter(sorted(self.items))

    def find(self, name: str) -> str | None:
        """Return the name that a user means, with '-' for '_' or not; None where there is none."""
        try:
            return find_name(self.kind, name, self.items)
        except DcbenchError:
            return None

    def get(self, name: str) -> T:
        """Return the thing of that name, with '-' for '_' or not; a `DcbenchError` suggests the nearest name."""
        return self.items[find_name(self.kind, name, self.items)]

    def add(self, name: str, item: T, origin: PluginInfo) -> None:
        """Register a thing; a `DcbenchError` names both distributions when the name is taken."""
        if name in self.items:
            raise DcbenchError(
                f"{self.kind} {name!r} is registered twice: by {self.origins[name].distribution} "
                f"({self.origins[name].module}) and by {origin.distribution} ({origin.module}). Uninstall one."
            )
        self.items[name] = item
        self.origins[name] = origin


class Plugins:
    """Everything that is installed: the plugin manager, the registries, and what failed to load."""

    def __init__(self) -> None:
        """Start with nothing but the hook specifications."""
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.infos: list[PluginInfo] = []
        self.datasets: Registry[type[Dataset]] = Registry("dataset")
        self.architectures: Registry[type[Architecture]] = Registry("network")
        self.methods: Registry[type[Method]] = Registry("method")
        self.measures: Registry[type[Measure]] = Registry("measure")
        self.observers: Registry[type[Observer]] = Registry("observer")
        self.suites: Registry[Path] = Registry("suite")
        self._silenced: set[str] = set()

    @classmethod
    def load(cls, strict: bool = True, own_only: bool = False, suites_only: bool = False) -> Plugins:
        """Load every installed plugin that the environment does not disable.

        A plugin that fails is listed with its error and left out. A disabled one is listed and not imported.

        Args:
            strict: raise a `DcbenchError` where two plugins register the same name. Without it, list the second as
                failed.
            own_only: load only the plugins of dcbench's own distribution.
            suites_only: load only plugins whose source says that they may provide suites. A module that provides
                other things, too, is imported whole.
        """
        plugins, points = cls(), sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
        disabled = _disabled(points, own_only)
        for point in points:
            if suites_only and not _may_provide_suites(point):
                continue
            if point in disabled:
                plugins.infos.append(replace(_info(point), disabled=disabled[point]))
                continue
            try:
                plugins.add_entry_point(point)
            except DcbenchError as error:
                if strict:
                    raise
                plugins.infos[-1] = replace(plugins.infos[-1], error=str(error))
        return plugins

    def add_entry_point(self, point: EntryPoint) -> None:
        """Import what an entry point names and register it, or note why that failed."""
        info = _info(point)
        try:
            module = point.load()
        except (Exception, SystemExit) as error:
            self.infos.append(replace(info, error=_last_line(error)))
            return
        self.add(module, info)

    def add(self, plugin: object, info: PluginInfo) -> None:
        """Register a plugin object and what it provides; a name that is taken raises a `DcbenchError`."""
        known = set(self.manager.get_plugins())
        try:
            self.manager.register(plugin, name=f"{info.distribution}:{info.name}")
            self.manager.check_pending()
            provided = self._provided(plugin)
        except Exception as error:
            if plugin in self.manager.get_plugins() and plugin not in known:
                self.manager.unregister(plugin)
            self.infos.append(replace(info, error=_last_line(error)))
            return
        info = replace(info, provides=tuple(f"{registry.kind} {name}" for registry, name, _ in provided))
        self.infos.append(info)
        for registry, name, item in provided:
            registry.add(name, item, info)

    def _provided(self, plugin: object) -> list[tuple[Registry[Any], str, Any]]:
        """Call the registration hooks of this one plugin; return what it provides, by registry and name."""
        provided: list[tuple[Registry[Any], str, Any]] = []
        for plural, registry in self.registries().items():
            hook: pluggy.HookCaller = getattr(self.manager.hook, f"dcbench_register_{plural}")
            components = (_checked(component, registry.kind) for component in _returned(hook, plugin))
            provided += [(registry, component.name, component) for component in components]
        for path in _returned(self.manager.hook.dcbench_register_suites, plugin):
            if not isinstance(path, Path) or path.suffix != ".toml":
                raise TypeError(f"registered {path!r}, which is not the Path of a .toml file")
            provided.append((self.suites, path.stem, path))
        return provided

    def observe(self, hook: str, **arguments: Any) -> None:
        """Call an observer hook. One that raises is reported once and not called again."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            if implementation.plugin_name in self._silenced:
                continue
            try:
                implementation.function(*(arguments[name] for name in implementation.argnames))
            except Exception as error:
                self._silenced.add(implementation.plugin_name)
                warnings.warn(
                    f"plugin {implementation.plugin_name} failed as an observer and is no longer called: "
                    f"{_last_line(error)}",
                    stacklevel=2,
                )

    def registries(self) -> dict[str, Registry[Any]]:
        """Return the registries of components by the plural that `dcbench list` takes."""
        return {
            "datasets": self.datasets,
            "architectures": self.architectures,
            "methods": self.methods,
            "measures": self.measures,
            "observers": self.observers,
        }

    def make_dataset(self, text: str) -> Dataset:
        """Return the data set that a user or a record names, e.g. ``cifar10``."""
        return self._make(self.datasets, text)

    def make_architecture(self, text: str) -> Architecture:
        """Return the architecture that a user or a record names, e.g. ``convnet:norm=batch`` or ``mine@2``."""
        return self._make(self.architectures, text)

    def make_measure(self, text: str) -> Measure:
        """Return the measure that a user or a record names, e.g. ``adversarial:eps=4``."""
        return self._make(self.measures, text)

    def make_observer(self, text: str) -> Observer:
        """Return the observer that a user names, e.g. ``wandb:project=mine``."""
        return self._make(self.observers, text)

    def method_class(self, name: str) -> type[Method]:
        """Return the method of that name."""
        return self._find(self.methods, name)

    def suite_path(self, name: str) -> Path:
        """Return the file of the suite of that name."""
        return self._find(self.suites, name)

    def _make(self, registry: Registry[type[C]], text: str) -> C:
        return self._find(registry, Spelling.of(text).name).from_spelling(text)

    def _find(self, registry: Registry[T], name: str) -> T:
        try:
            return registry.get(name)
        except DcbenchError:
            items: Any = registry.items.items()
            takers = [(each, item) for each, item in items if getattr(item, "argument", "")]
            meant = [f"{each}:{name}" for each, item in takers if item.is_argument(name.partition(",")[0])]
            raise self.missing(unknown_name(registry.kind, name, registry, meant)) from None

    def missing(self, error: DcbenchError) -> DcbenchError:
        """Add to an unknown-name error the plugins that failed or are disabled: one may provide the name."""
        text = str(error)
        for reason, field_name in (("that failed to load", "error"), ("that are disabled", "disabled")):
            absent = [f"{info.name} ({info.distribution})" for info in self.infos if getattr(info, field_name)]
            text += f" Plugins {reason}: {', '.join(absent)}; see `dcbench plugin list`." if absent else ""
        return DcbenchError(text)


def _info(point: EntryPoint) -> PluginInfo:
    owner: Distribution | None = point.dist
    name, version = (owner.name, owner.version) if owner else ("unknown", "unknown")
    return PluginInfo(point.name, point.value, name, version)


def _disabled(points: list[EntryPoint], own_only: bool) -> dict[EntryPoint, str]:
    """Return the entry points not to load, each with the variable or option that says so."""
    infos = {point: _info(point) for point in points}
    others = [point for point, info in infos.items() if own_only and info.distribution != DISTRIBUTION]
    disabled = dict.fromkeys(others, "--no-plugins")
    known = {name for info in infos.values() for name in (info.name, info.distribution)}
    for name in filter(None, map(str.strip, os.environ.get(DISABLE, "").split(","))):
        meant = find_name(f"plugin in {DISABLE}", name, known)
        disabled |= {point: DISABLE for point, info in infos.items() if meant in (info.name, info.distribution)}
    return disabled


def _returned(caller: pluggy.HookCaller, plugin: object) -> Iterator[Any]:
    """Yield what one plugin returns from a hook; nothing if it does not implement it."""
    for implementation in caller.get_hookimpls():
        if implementation.plugin is plugin:
            things: Any = implementation.function()
            yield from things


def _may_provide_suites(point: EntryPoint) -> bool:
    """Say whether a plugin may provide suites. Its source tells; neither it nor its package is imported."""
    name, places = "", None
    try:
        for part in point.module.split("."):
            spec = PathFinder.find_spec(f"{name}.{part}", places) if name else find_spec(part)
            name, places = f"{name}.{part}" if name else part, spec.submodule_search_locations if spec else None
        source = Path(str(spec and spec.origin)).read_text(encoding="utf-8")
    except (ImportError, ValueError, OSError):  # what cannot be read is imported to find out
        return True
    return bool(point.attr) or "dcbench_register_suites" in source or "import *" in source


def _checked(component: Any, kind: str) -> type[Component]:
    if not (isinstance(component, type) and issubclass(component, Component) and component.kind == kind):
        raise TypeError(f"registered {component!r}, which is not a class of a {kind}")
    if inspect.isabstract(component):
        missing = ", ".join(sorted(component.__abstractmethods__))
        raise TypeError(f"{component.__name__} lacks the methods {missing}")
    if not isinstance(getattr(component, "name", None), str):
        raise TypeError(f"{component.__name__} has no name")
    return component


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()
