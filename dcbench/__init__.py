"""dcbench: a benchmark suite for dataset condensation.

`dcbench.interface` has what this package offers from Python, `dcbench.api` what authors of plugins import, and the
command is ``dcbench``. Importing this package imports nothing heavy.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dcbench.utils.cores import let_waiting_threads_sleep

if TYPE_CHECKING:
    from dcbench.interface import condense, continual, evaluate, leaderboard, load_set, run
    from dcbench.utils.errors import DcbenchError

__all__ = ["DcbenchError", "condense", "continual", "evaluate", "leaderboard", "load_set", "run"]
__version__ = "0.1.0"
DISTRIBUTION = "dcbench-suite"
_FOLDERS = ("condense", "evaluate", "leaderboard", "run")


class _Folder(ModuleType):
    """A folder of this package that is also the function of its name, as in ``dcbench.run(…)``."""

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        """The function's documentation, which notebooks show."""
        return str(self.__wrapped__.__doc__)

    def __call__(self, *args: Any, **words: Any) -> Any:
        """Call the function."""
        return self.__wrapped__(*args, **words)

    @property
    def __wrapped__(self) -> Any:
        """The function, whose signature and documentation are shown for the folder."""
        return getattr(import_module("dcbench.interface"), self.__name__.rpartition(".")[2])


class _Package(ModuleType):
    """This package, which imports what the interface offers when it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        """Import a folder, or what else the interface offers."""
        if name not in __all__:
            raise AttributeError(f"module 'dcbench' has no attribute {name!r}")
        if name in _FOLDERS:
            return import_module(f"dcbench.{name}")
        return getattr(import_module("dcbench.interface"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Let a folder that has been imported be called, too."""
        if name in _FOLDERS and isinstance(value, ModuleType):
            value.__class__ = _Folder
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        """List what the interface offers, too."""
        return sorted({*super().__dir__(), *__all__})


let_waiting_threads_sleep()
sys.modules[__name__].__class__ = _Package
