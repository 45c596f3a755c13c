"""The files of a leaderboard: what records give, and whether a folder has just that."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from dcbench.leaderboard.board import Leaderboard, read_leaderboard
from dcbench.leaderboard.report.curves import curves_markdown
from dcbench.leaderboard.report.page import page
from dcbench.leaderboard.report.readme import with_tables
from dcbench.leaderboard.report.tables import MARK, costs, csv, legend, markdown
from dcbench.leaderboard.report.words import cell, heading
from dcbench.utils.files import slug, write_atomically

TABLES = "tables"
SCORES = "scores.csv"
PAGE = "index.html"


def generated_files(leaderboard: Leaderboard) -> dict[str, str]:
    """Return the text of every file that is made of a leaderboard, by its name."""
    datasets = sorted({each.dataset for each in (*leaderboard.tables, *leaderboard.curves)})
    files = {_page_name(dataset): _dataset_page(dataset, leaderboard) for dataset in datasets}
    if leaderboard.tables:
        files[SCORES] = csv(leaderboard.rows)
        files[PAGE] = page(leaderboard)
    return files


NO_TABLE = "no record enters a table: quick ones, failures, and those of held-out images stay out"


def build(folder: Path) -> list[Path]:
    """Write the tables of a folder and those marked in its READMEs; return what was written.

    Generated files that no record backs are removed.

    Raises:
        DcbenchError: when a file cannot be read, or a README asks for a table that there is not.
    """
    leaderboard = read_leaderboard(folder)
    files, readmes, target = generated_files(leaderboard), _changed_readmes(folder, leaderboard), folder / TABLES
    for name, text in _existing(target).items():
        if name not in files and (MARK in text or name == SCORES):
            (target / name).unlink()
    written = {target / name: files[name] for name in sorted(files)} | readmes
    for path, text in written.items():
        write_atomically(path, text.encode())
    return list(written)


def differences(folder: Path) -> list[str]:
    """Say how the tables in a folder differ from what its records give; nothing where they do not."""
    leaderboard = read_leaderboard(folder)
    expected, found = generated_files(leaderboard), _existing(folder / TABLES)
    problems = [] if expected else [NO_TABLE]
    for name in sorted(expected.keys() | found.keys()):
        if name not in expected:
            problems.append(f"{TABLES}/{name} is backed by no record")
        elif expected[name] != found.get(name):
            problems.append(f"{TABLES}/{name} is {'not what the records give' if name in found else 'missing'}")
    changed = [path.resolve().name for path in _changed_readmes(folder, leaderboard)]
    return problems + [f"a table in {name} is not what the records give" for name in changed]


def _changed_readmes(folder: Path, leaderboard: Leaderboard) -> dict[Path, str]:
    """Return the text that each README of the rules should have, where it has another."""
    paths = sorted(Path(os.path.normpath(folder / name)) for name in leaderboard.rules.readmes)
    texts = {path: with_tables(path, leaderboard) for path in paths}
    return {path: new for path, (old, new) in texts.items() if old != new}


def _existing(target: Path) -> dict[str, str]:
    paths = [path for pattern in ("*.md", "*.csv", "*.html") for path in target.glob(pattern) if path.is_file()]
    return {path.name: path.read_text(encoding="utf-8", errors="replace") for path in paths}


def _page_name(dataset: str) -> str:
    """Return the file name of a data set's page; names that cannot be file names get a hash as well."""
    name = slug(dataset)
    return f"{name}.md" if name == dataset else f"{name}-{hashlib.sha256(dataset.encode()).hexdigest()[:8]}.md"


def _dataset_page(dataset: str, leaderboard: Leaderboard) -> str:
    """Return the page of one data set: for each images per class, the standings, and what sets took."""
    tables = [table for table in leaderboard.tables if table.dataset == dataset]
    parts = [f"# {cell(dataset)}", MARK, *[legend(leaderboard.rules)] * bool(tables)]
    several_versions = len({table.dataset_sha256 for table in tables}) > 1
    for table in tables:
        parts += [f"## {heading(table, several_versions)}", markdown(table, leaderboard), costs(table)]
    parts += curves_markdown([each for each in leaderboard.curves if each.dataset == dataset])
    return "\n\n".join(parts) + "\n"
