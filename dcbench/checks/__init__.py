"""The plugin contract as named checks: plain functions that authors run in their own tests.

    import pytest
    from dcbench.checks import METHOD_CHECKS
    from my_module import MyMethod

    @pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
    def test_contract(check):
        check(MyMethod)

A check takes a component, the class or a configured instance; of a class it takes the defaults, for methods with
the options of the quick budget. It raises `CheckFailed`, which says what was found and what to do; or it returns a
remark, or None. `dcbench plugin check NAME` runs the same functions.
"""

from dcbench.checks.architectures import ARCHITECTURE_CHECKS
from dcbench.checks.check import Check, CheckFailed, Result, run_checks
from dcbench.checks.components import COMPONENT_CHECKS
from dcbench.checks.datasets import DATASET_CHECKS
from dcbench.checks.measures import MEASURE_CHECKS
from dcbench.checks.methods import METHOD_CHECKS

__all__ = [
    "ARCHITECTURE_CHECKS",
    "COMPONENT_CHECKS",
    "DATASET_CHECKS",
    "MEASURE_CHECKS",
    "METHOD_CHECKS",
    "Check",
    "CheckFailed",
    "Result",
    "run_checks",
]
