"""A new plugin: a package that works at once, written from the templates beside this file."""

from __future__ import annotations

import re
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template

from dcbench import __version__
from dcbench.plugins import Plugins
from dcbench.utils.errors import DcbenchError


def component_name(text: str, kind: str, plugins: Plugins) -> str:
    """Return the name of the component that an author names, such as ``my_method`` for ``my-method``.

    Raises:
        DcbenchError: for a name that is not valid, or that an installed component has.
    """
    if not re.fullmatch("[a-z][a-z0-9]*([-_][a-z0-9]+)*", text):
        better = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-0123456789")
        hint = f" Try {better!r}." if better else ""
        raise DcbenchError(
            f"{text!r} is not a valid name for a plugin. Use lower-case letters and digits, '-' between words, "
            f"and begin with a letter.{hint}"
        )
    registry = plugins.registries()[f"{kind}s"]
    if taken := registry.find(text):
        owner = registry.origins[taken].distribution
        raise DcbenchError(f"{owner} already has a {kind} named {taken!r}. Choose another name.")
    return text.replace("-", "_")


def write_plugin(name: str, kind: str, folder: Path) -> list[Path]:
    """Write the package of a component into a new folder, all of it or nothing; return the files.

    Raises:
        DcbenchError: when the folder exists, or cannot be written.
    """
    if folder.exists():
        raise DcbenchError(f"{folder} already exists and was not changed. Choose another name, or --into.")
    texts = {folder / path: text for path, text in _texts(name, kind).items()}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DcbenchError(
            f"{folder} cannot be written: {error.strerror}. Choose another place with --into DIR."
        ) from None
    return list(texts)


def _texts(name: str, kind: str) -> dict[str, str]:
    """Return the texts to write, by path."""
    base = kind.capitalize()
    class_name = "".join(part.capitalize() for part in name.split("_")).removesuffix(base) + base
    values = {
        "kind": kind,
        "checks": f"{kind.upper()}_CHECKS",
        "name": name,
        "distribution": f"dcbench-{name.replace('_', '-')}",
        "module": f"dcbench_{name}",
        "class_name": f"My{base}" if class_name == base else class_name,  # the base class has that name
        "dcbench_version": __version__,
    }
    templates = {
        "pyproject.toml": "pyproject.toml",
        "README.md": f"README.{kind}.md",
        f"dcbench_{name}.py": f"{kind}.py",
        "tests/test_contract.py": "test_contract.py",
    }
    folder = files("dcbench.cli") / "templates"
    return {
        path: Template((folder / f"{template}.template").read_text(encoding="utf-8")).substitute(values)
        for path, template in templates.items()
    }
