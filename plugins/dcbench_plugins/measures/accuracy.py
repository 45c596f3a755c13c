"""Test accuracy, which the core brings, as a measure that users can name."""

from dcbench.api import Accuracy, Measure, hookimpl


@hookimpl
def dcbench_register_measures() -> list[type[Measure]]:
    """Register test accuracy."""
    return [Accuracy]
