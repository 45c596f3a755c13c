"""A new plugin: a package that works at once, written from the templates beside this file."""

from __future__ import annotations

import builtins
import keyword
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from dcbench import __version__, api
from dcbench.plugins import Plugins
from dcbench.utils.errors import DcbenchError, unknown_name

NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
KINDS = {
    "method": ("The condensation method", "METHOD_CHECKS"),
    "dataset": ("The data set", "DATASET_CHECKS"),
    "architecture": ("The architecture", "ARCHITECTURE_CHECKS"),
}
"""What can be begun: how to speak of it, and its checks."""


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
    def distribution(self) -> str:
        """What pip calls it."""
        return f"dcbench-{self.name.replace('_', '-')}"

    @property
    def module(self) -> str:
        """What Python imports."""
        return f"dcbench_{self.name}"

    @property
    def class_name(self) -> str:
        """What the component's class is called: none that the module imports, and no word of Python's."""
        text = "".join(part.capitalize() for part in self.name.split("_"))
        taken = {*api.__all__, *dir(builtins), *keyword.kwlist, "Path", "Tensor"}
        return f"{text}{self.kind.capitalize()}" if text in taken else text

    def texts(self) -> dict[str, str]:
        """Return what to write, by path."""
        words, checks = KINDS[self.kind]
        values = {
            "kind": self.kind,
            "kind_words": words,
            "checks": checks,
            "name": self.name,
            "distribution": self.distribution,
            "module": self.module,
            "class_name": self.class_name,
            "dcbench_version": __version__,
        }
        templates = {
            "pyproject.toml": "pyproject.toml",
            "README.md": f"README.{self.kind}.md",
            f"{self.module}.py": f"{self.kind}.py",
            "tests/test_contract.py": "test_contract.py",
        }
        return {path: _template(name).substitute(values) for path, name in templates.items()}


def new_plugin(text: str, kind: str, plugins: Plugins) -> NewPlugin:
    """Return the package for the name that an author types, such as ``my-method``.

    Raises:
        DcbenchError: for a name that is none, or that an installed component has.
    """
    if kind not in KINDS:
        raise unknown_name("kind of plugin", kind, KINDS)
    if not NAME.fullmatch(text):
        better = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-0123456789")
        hint = f" Try {better!r}." if better else ""
        raise DcbenchError(
            f"{text!r} is no name for a plugin: lower-case letters and digits, words joined by '-', "
            f"beginning with a letter.{hint}"
        )
    plugin = NewPlugin(kind, text.replace("-", "_"))
    registry = plugins.registries()[f"{kind}s"]
    if taken := registry.find(plugin.name):
        origin = registry.origins[taken]
        raise DcbenchError(f"there is a {kind} {taken!r} already, of {origin.distribution}. Choose another name.")
    return plugin


def write_plugin(plugin: NewPlugin, folder: Path) -> list[Path]:
    """Write the package into a folder that is not there yet, all of it or nothing.

    Returns:
        The files.

    Raises:
        DcbenchError: when the folder exists, or cannot be written.
    """
    if folder.exists() or folder.is_symlink():
        raise DcbenchError(f"{folder} exists already, and is left as it is. Choose another name, or --into.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        for path, text in plugin.texts().items():
            (aside / path).parent.mkdir(parents=True, exist_ok=True)
            (aside / path).write_text(text, encoding="utf-8")
        aside.chmod(0o755)
        os.rename(aside, folder)
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [folder / path for path in plugin.texts()]


def _unwritable(folder: Path, error: OSError) -> DcbenchError:
    return DcbenchError(
        f"{folder} cannot be written: {error.strerror or error}. Choose another place, --into DIR."
    )


def _template(name: str) -> Template:
    return Template((files("dcbench.cli") / "templates" / f"{name}.template").read_text(encoding="utf-8"))
