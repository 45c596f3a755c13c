"""What a check is, how it fails, and running several."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

import dcbench
from dcbench.utils.errors import DcbenchError

Check = Callable[[Any], str | None]
Status = Literal["passed", "failed", "blocked", "not tried"]


class CheckFailed(AssertionError):
    """A component breaks its contract.

    Attributes:
        found, advice: what was found and what to do, a sentence each, without a full stop.
    """

    status: Status = "failed"

    def __init__(self, found: str, advice: str) -> None:
        """Keep both."""
        super().__init__(f"found: {found}\nto do: {advice}")
        self.found, self.advice = found, advice


class CheckBlocked(CheckFailed):
    """Nothing can be said until another check passes."""

    status = "blocked"


class NotTried(str):
    """The remark of a check that could not be tried on this machine: it says why."""

    __slots__ = ()


@dataclass(frozen=True)
class Result:
    """The result of one check.

    Attributes:
        check: its name.
        statement: what it states, the first line of its docstring.
        status: passed, failed, blocked by another check that failed, or not tried, for the reason in the remark.
        found, advice: of a failure, else empty.
        remark: what else there is to say.
    """

    check: str
    statement: str
    status: Status
    found: str = ""
    advice: str = ""
    remark: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing was found to be wrong."""
        return self.status in ("passed", "not tried")


def run_checks(checks: Iterable[Check], component: Any) -> list[Result]:
    """Run all checks on a component, also those after a failure.

    Raises:
        DcbenchError: as the component raises it for what is missing on this machine, such as data.
    """
    return [_run(check, component) for check in checks]


def _run(check: Check, component: Any) -> Result:
    statement = (check.__doc__ or "").split("\n")[0]
    try:
        remark = check(component) or ""
    except DcbenchError:
        raise
    except Exception as error:
        failure = error if isinstance(error, CheckFailed) else unexpected(error)
        return Result(check.__name__, statement, failure.status, failure.found, failure.advice)
    status: Status = "not tried" if isinstance(remark, NotTried) else "passed"
    return Result(check.__name__, statement, status, remark=remark)


def unexpected(error: Exception, when: str = "", advice: str = "") -> CheckFailed:
    """Return the failure for an exception that the component should not have raised.

    The advice names the last line of the traceback in the author's code: neither dcbench's nor torch's.
    """
    packages = (*dcbench.__path__, *torch.__path__)
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not each.filename.startswith(packages)]
    place = f"start at {own[-1].filename}:{own[-1].lineno}, in {own[-1].name}" if own else "read the message"
    found = " ".join(f"{when} {type(error).__name__}: {error}".split())
    return CheckFailed(found, f"{advice}; {place}" if advice else place)


def require_passed(check: Check, component: Any) -> None:
    """Run a check that others build on; raise `CheckBlocked` when it fails."""
    try:
        check(component)
    except CheckFailed as failure:
        raise CheckBlocked(failure.found, f"see the check {check.__name__}") from None
