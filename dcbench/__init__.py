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
    from dcbench.interface import Condensed, Results, condense, evaluate, leaderboard, load_set, run
    from dcbench.utils.errors import DcbenchError

__all__ = ["Condensed", "DcbenchError", "Results", "condense", "evaluate", "leaderboard", "load_set", "run"]
__version__ = "0.1.0"
DISTRIBUTION = "dcbench-suite"


class _Package(ModuleType):
    """This package: ``dcbench.run`` is the function, also once the folder of that name has been imported."""

    def __getattr__(self, name: str) -> Any:
        """Import what the interface offers when it is first asked for."""
        if name not in __all__:
            raise AttributeError(f"module 'dcbench' has no attribute {name!r}")
        value = getattr(import_module("dcbench.interface"), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, but let no folder take the place of a function."""
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        """List what the interface offers, too."""
        return sorted({*super().__dir__(), *__all__})


let_waiting_threads_sleep()
sys.modules[__name__].__class__ = _Package
