"""Whether the installed packages fit together: read from their metadata, which can always be read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from dcbench import DISTRIBUTION, __version__

NAMESAKE = "dcbench"
"""An unrelated distribution on PyPI that has our import name."""
SECTION = "Installation"

Status = Literal["fine", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that ``dcbench doctor`` looked at.

    Attributes:
        section: what it belongs to.
        subject: the thing.
        result: what was found, in words.
        status: ``note`` is worth knowing; ``wrong`` needs the remedy.
        remedy: what to do about it; empty where it is fine.
    """

    section: str
    subject: str
    result: str
    status: Status = "fine"
    remedy: str = ""


def examine_installation() -> Iterator[Finding]:
    """Look at Python, dcbench and the packages that it needs."""
    yield Finding(SECTION, "dcbench", f"{__version__} in {Path(__file__).parent.parent}")
    yield Finding(SECTION, "Python", f"{sys.version.split()[0]}, {sys.executable}")
    try:
        needed = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # only the code is there, on PYTHONPATH for example
        result = "is not installed, so no plugin is found, not even its own"
        yield Finding(SECTION, DISTRIBUTION, result, "wrong", f"pip install {DISTRIBUTION}")
        return
    yield from _packages(needed)
    if (other := _version(NAMESAKE)) is not None:
        result = f"{other}, an unrelated package with the same import name, is installed, too"
        remedy = f"pip uninstall {NAMESAKE}, then pip install --force-reinstall --no-deps {DISTRIBUTION}"
        yield Finding(SECTION, f"{NAMESAKE} of PyPI", result, "wrong", remedy)


def _packages(needed: list[str]) -> Iterator[Finding]:
    """Look at packages, given as a distribution says what it requires."""
    if _version("packaging") is None:  # which reads the others
        yield Finding(SECTION, "packaging", "is missing", "wrong", "pip install packaging")
        return
    from packaging.requirements import Requirement

    installed = []
    for requirement in map(Requirement, needed):
        optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        present = _version(requirement.name)
        if present is not None:
            installed.append(f"{requirement.name} {present}")
        if (present is None and optional) or requirement.specifier.contains(present or "", prereleases=True):
            continue
        result = "is missing" if present is None else f"is {present}, not {requirement.specifier}"
        remedy = f"pip install '{requirement.name}{requirement.specifier}'"
        yield Finding(SECTION, requirement.name, result, "wrong", remedy)
    yield Finding(SECTION, "packages", ", ".join(installed))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
