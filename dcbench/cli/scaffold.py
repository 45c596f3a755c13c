"""A new plugin: a package that works at once, written from the templates beside this file."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from dcbench import __version__
from dcbench.plugins import Plugins
from dcbench.utils.errors import DcbenchError

NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


@dataclass(frozen=True)
class NewPlugin:
    """A package to be written.

    Attributes:
        kind: method, dataset or architecture.
        name: of the component: lower case, digits and underscores.
    """

    kind: str
    name: str

    @property
    def module(self) -> str:
        """What Python imports."""
        return f"dcbench_{self.name}"

    def texts(self) -> dict[str, str]:
        """Return what to write, by path."""
        kind = self.kind.capitalize()
        class_name = "".join(part.capitalize() for part in self.name.split("_")).removesuffix(kind) + kind
        values = {
            "kind": self.kind,
            "checks": f"{self.kind.upper()}_CHECKS",
            "name": self.name,
            "distribution": f"dcbench-{self.name.replace('_', '-')}",
            "module": self.module,
            "class_name": f"My{kind}" if class_name == kind else class_name,  # the base class has that name
            "dcbench_version": __version__,
        }
        templates = {
            "pyproject.toml": "pyproject.toml",
            "README.md": f"README.{self.kind}.md",
            f"{self.module}.py": f"{self.kind}.py",
            "tests/test_contract.py": "test_contract.py",
        }
        folder = files("dcbench.cli") / "templates"
        return {
            path: Template((folder / f"{name}.template").read_text(encoding="utf-8")).substitute(values)
            for path, name in templates.items()
        }


def new_plugin(text: str, kind: str, plugins: Plugins) -> NewPlugin:
    """Return the package for the name that an author types, such as ``my-method``.

    Raises:
        DcbenchError: for a name that is not valid, or that an installed component has.
    """
    if not NAME.fullmatch(text):
        better = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-0123456789")
        hint = f" Try {better!r}." if better else ""
        raise DcbenchError(
            f"{text!r} is not a valid name for a plugin. Use lower-case letters and digits, '-' between words, "
            f"and begin with a letter.{hint}"
        )
    plugin = NewPlugin(kind, text.replace("-", "_"))
    registry = plugins.registries()[f"{kind}s"]
    if taken := registry.find(plugin.name):
        owner = registry.origins[taken].distribution
        raise DcbenchError(f"{owner} already has a {kind} named {taken!r}. Choose another name.")
    return plugin


def write_plugin(plugin: NewPlugin, folder: Path) -> list[Path]:
    """Write the package into a new folder, all of it or nothing.

    Returns:
        The files.

    Raises:
        DcbenchError: when the folder exists, or cannot be written.
    """
    texts = {folder / path: text for path, text in plugin.texts().items()}
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise DcbenchError(
            f"{folder} already exists and was not changed. Choose another name, or --into."
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        for path, text in texts.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise _unwritable(folder, error) from None
    return list(texts)


def _unwritable(folder: Path, error: OSError) -> DcbenchError:
    message = error.strerror or str(error)
    return DcbenchError(f"{folder} cannot be written: {message}. Choose another place with --into DIR.")
