"""What a check is, how it fails, and running several."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import dcbench
from dcbench.utils.errors import DcbenchError

Check = Callable[[Any], str | None]


class CheckFailed(AssertionError):
    """A component breaks its contract.

    Attributes:
        expected, found, advice: a sentence each, without a full stop.
    """

    def __init__(self, expected: str, found: str, advice: str) -> None:
        """Keep the three."""
        super().__init__(f"expected: {expected}\n   found: {found}\n   to do: {advice}")
        self.expected, self.found, self.advice = expected, found, advice


class NotTried(str):
    """The remark of a check that could not be tried here: why."""

    __slots__ = ()


class CheckBlocked(CheckFailed):
    """Nothing can be said until another check passes."""


def require_passed(check: Check, component: Any) -> None:
    """Run a check that others build on.

    Raises:
        CheckBlocked: when it fails.
    """
    try:
        check(component)
    except CheckFailed as failure:
        raise CheckBlocked(failure.expected, failure.found, f"see the check {check.__name__}") from None


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Attributes:
        check: its name.
        statement: what it states, the first line of its docstring.
        status: passed, failed, blocked by another that failed, or not tried, as the remark says.
        expected, found, advice: of a failure, else empty.
        remark: what else there is to say.
    """

    check: str
    statement: str
    status: Literal["passed", "failed", "blocked", "not tried"]
    expected: str = ""
    found: str = ""
    advice: str = ""
    remark: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing was found to be wrong."""
        return self.status in ("passed", "not tried")


def run_checks(checks: Iterable[Check], component: Any) -> list[Result]:
    """Run checks on a component, whatever comes of each.

    Raises:
        DcbenchError: as the component raises it for what is missing on this machine, such as data.
    """
    return [_run(check, component) for check in checks]


def _run(check: Check, component: Any) -> Result:
    statement = (check.__doc__ or "").strip().split("\n")[0]
    try:
        remark = check(component)
    except CheckBlocked as failure:
        return Result(check.__name__, statement, "blocked", failure.expected, failure.found, failure.advice)
    except CheckFailed as failure:
        return Result(check.__name__, statement, "failed", failure.expected, failure.found, failure.advice)
    except DcbenchError:
        raise
    except Exception as error:
        return Result(check.__name__, statement, "failed", *raised(error))
    status: Literal["passed", "not tried"] = "not tried" if isinstance(remark, NotTried) else "passed"
    return Result(check.__name__, statement, status, remark=remark or "")


def raised(error: BaseException) -> tuple[str, str, str]:
    """Return expected, found and advice for an exception that nobody expected."""
    text = " ".join(traceback.format_exception_only(error)[-1].split())
    places = [f"{frame.filename}:{frame.lineno}, in {frame.name}" for frame in _own(error)]
    return "no exception", text, f"start at {places[-1]}" if places else "read the message"


def _own(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an exception that are in the author's code: neither dcbench's nor torch's."""
    packages = [Path(module.__file__).parent for module in (dcbench, torch) if module.__file__]
    frames = traceback.extract_tb(error.__traceback__)
    return [each for each in frames if not any(Path(each.filename).is_relative_to(one) for one in packages)]
