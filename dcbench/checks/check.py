"""What a check is, how it fails, and running several."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from dcbench.errors import DcbenchError

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
        status: passed, failed, or blocked by another that failed.
        expected, found, advice: of a failure, else empty.
        remark: what else there is to say.
    """

    check: str
    statement: str
    status: Literal["passed", "failed", "blocked"]
    expected: str = ""
    found: str = ""
    advice: str = ""
    remark: str = ""


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
    return Result(check.__name__, statement, "passed", remark=remark or "")


def raised(error: BaseException) -> tuple[str, str, str]:
    """Return expected, found and advice for an exception that nobody expected."""
    text = " ".join(traceback.format_exception_only(error)[-1].split())
    frames = traceback.extract_tb(error.__traceback__)
    where = f"; last at {frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name}" if frames else ""
    own = [frame for frame in frames if "dcbench/checks" not in frame.filename.replace("\\", "/")]
    start = f"start at {own[0].filename}:{own[0].lineno}, in {own[0].name}" if own else "read the message"
    return "no exception", f"{text}{where}", start
