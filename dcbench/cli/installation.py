"""What is installed, and whether it fits: found out from its metadata, so that it can be said in any case."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from dcbench import DISTRIBUTION, __version__

NAMESAKE = "dcbench"
"""A distribution on PyPI that is another's, and has our import name."""
SECTION = "Installation"

Status = Literal["fine", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, by ``dcbench doctor``.

    Attributes:
        section: what it belongs to.
        subject: the thing.
        found: what is so, in words.
        status: ``note`` is worth knowing; ``wrong`` is to be mended.
        mend: what to do about it; empty where it is fine.
    """

    section: str
    subject: str
    found: str
    status: Status = "fine"
    mend: str = ""


def examine_installation() -> Iterator[Finding]:
    """Look at Python, dcbench and the packages that it needs."""
    yield Finding(SECTION, "dcbench", f"{__version__} in {Path(__file__).parent.parent}")
    yield Finding(SECTION, "Python", f"{sys.version.split()[0]}, {sys.executable}")
    try:
        needed = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # the code alone is there, on PYTHONPATH say
        found = "is not installed, so no plugin is found, not even its own"
        yield Finding(SECTION, DISTRIBUTION, found, "wrong", f"pip install {DISTRIBUTION}")
        return
    yield from _packages(needed)
    if (other := _version(NAMESAKE)) is not None:
        found = f"{other}, an unrelated package with the same import name, is installed, too"
        mend = f"pip uninstall {NAMESAKE}, then pip install --force-reinstall --no-deps {DISTRIBUTION}"
        yield Finding(SECTION, f"{NAMESAKE} of PyPI", found, "wrong", mend)


def _packages(needed: list[str]) -> Iterator[Finding]:
    """Look at packages, given as a distribution says what it requires."""
    if _version("packaging") is None:  # which reads the others
        yield Finding(SECTION, "packaging", "is missing", "wrong", "pip install packaging")
        return
    from packaging.requirements import Requirement

    installed, missing = [], False
    for requirement in map(Requirement, needed):
        optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        found = _version(requirement.name)
        asked = f"pip install '{requirement.name}{requirement.specifier}'"
        if found is not None:
            installed.append(f"{requirement.name} {found}")
            if not requirement.specifier.contains(found, prereleases=True):
                yield Finding(
                    SECTION, requirement.name, f"is {found}, not {requirement.specifier}", "wrong", asked
                )
        elif not optional:
            missing = True
            yield Finding(SECTION, requirement.name, "is missing", "wrong", asked)
    yield Finding(SECTION, "packages", ", ".join(installed))
    if missing:
        return
    try:  # one that was built for another torch fails when it is imported
        importlib.import_module("torchvision")
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        found = f"cannot be imported: {reason.splitlines()[0]}"
        mend = "Install a torch and a torchvision that were released together."
        yield Finding(SECTION, "torchvision", found, "wrong", mend)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
