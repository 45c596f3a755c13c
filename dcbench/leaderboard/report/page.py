"""The leaderboard as one HTML page that needs nothing beside it: no network, no server, no other file.

What is looked at is in the folder ``page`` beside this file: a template, a style sheet and scripts, all of which
are put into the page. The records' text goes into it as data alone, and the scripts show it as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dcbench.leaderboard.board import Leaderboard
from dcbench.leaderboard.continual import Curve
from dcbench.leaderboard.report.curves import CURVES_LEGEND, curve_lines, curve_tables
from dcbench.leaderboard.report.data import board_data, leaderboard_data
from dcbench.leaderboard.report.pixels import page_pictures
from dcbench.leaderboard.report.tables import MARK, legend, test_images
from dcbench.leaderboard.report.words import DASH, bounds, heading, label, rank, written
from dcbench.leaderboard.rules import Rules
from dcbench.utils.wording import counted

SCRIPTS = (
    *("data.js", "state.js", "columns.js", "standings.js", "heatmap.js"),
    *("axes.js", "marks.js", "plots.js", "curves.js", "continual.js", "pictures.js", "main.js"),
)
"""In the order in which they are put together; each builds on those before it."""


def page(leaderboard: Leaderboard) -> str:
    """Return the page of a leaderboard: the same for the same records and sets, down to the byte.

    Raises:
        DcbenchError: naming the file, when a condensed set of which a picture is to be shown is damaged.
    """
    environment = Environment(
        loader=PackageLoader("dcbench.leaderboard.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"written": written, "bounds": bounds, "rank": rank, "label": label}
    style = _read("style.css")
    script = "\n".join(map(_read, SCRIPTS))
    return environment.get_template("template.html").render(
        mark=MARK,
        dash=DASH,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(_as_json(_data(leaderboard))),
        legend=legend(leaderboard.rules),
        rules=_rules_in_words(leaderboard.rules),
        tables=[(f"{table.dataset}: {heading(table)}".replace("`", ""), table) for table in leaderboard.tables],
    )


def _data(leaderboard: Leaderboard) -> dict[str, Any]:
    """Return what the scripts show: the tables, a picture for each row that has one, and the cards."""
    tables = leaderboard_data(leaderboard)
    pictures, why_not = page_pictures(leaderboard)
    shown = [entry for table in tables for entry in table["entries"]]
    standing = [entry.row for table in leaderboard.tables for entry in table.entries]
    for entry, row in zip(shown, standing, strict=True):
        key = row.condense_keys[0]
        entry |= {"picture": key if key in pictures else None, "no_picture": why_not.get(key)}
    for data, table in zip(tables, leaderboard.tables, strict=True):
        data["test_images"] = test_images(table)
    named = {entry["submission"] for entry in shown}
    return {
        "tables": tables,
        "pictures": {
            key: {
                "shape": list(each.pixels.shape),
                "labels": each.labels.tolist(),
                "pixels": base64.b64encode(each.pixels.tobytes()).decode(),
            }
            for key, each in pictures.items()
        },
        "submissions": [
            {"name": each.name, **(each.card.model_dump(mode="json") if each.card else {})}
            for each in leaderboard.submissions
            if each.name in named or any(record.steps for record in each.records)
        ],
        "continual": [_continual(title, curves) for title, curves in curve_tables(leaderboard.curves)],
        "continual_legend": CURVES_LEGEND,
    }


def _continual(title: str, curves: Sequence[Curve]) -> dict[str, Any]:
    """Return a table of continual learning: its text, and what is drawn of it."""
    lines, first = curve_lines(curves), curves[0]
    drawn = ("method", "method_version", "options", "matching_network", "ipc", "network")
    return {
        **board_data(first.board),
        "title": title,
        "ipc": next((each.ipc for each in curves if each.ipc), None),
        "columns": list(lines[0]),
        "lines": [list(line.values()) for line in lines],
        "curves": [
            {**{name: getattr(curve, name) for name in drawn}, "values": _values(curve)} for curve in curves
        ],
    }


def _values(curve: Curve) -> list[list[float | None]]:
    """Return the classes seen, the mean, and its interval, after each step."""
    return [[seen, each.mean, *(each.interval or (None, None))] for seen, each in curve.scores.items()]


def _as_json(data: Any) -> str:
    """Return data as JSON that neither ends the element it stands in nor opens a comment there."""
    text = json.dumps(_rounded(data), sort_keys=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _rounded(data: Any) -> Any:
    """Return data with numbers of 9 decimals, so that sums taken in another order give the same page."""
    if isinstance(data, float):
        return round(data, 9)
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    return [_rounded(value) for value in data] if isinstance(data, list | tuple) else data


def _policy(style: str, script: str) -> str:
    """Return a content security policy that allows just this style sheet and this script, and nothing fetched."""
    allowed = f"style-src '{_sha256(style)}'; script-src '{_sha256(script)}'; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _read(name: str) -> str:
    return files("dcbench.leaderboard.report").joinpath("page", name).read_text(encoding="utf-8")


def _rules_in_words(rules: Rules) -> str:
    """Say what a row needs to be ranked."""
    needed = f"at least {counted(rules.sets, 'condensed set')} and {counted(rules.evals, 'network')} for each"
    where = [f"on {', '.join(rules.networks) or 'the networks that all rows have'}"]
    where += [f"on {', '.join(networks)} for {dataset}" for dataset, networks in sorted(rules.datasets.items())]
    where += [f"on {', '.join(networks)} for {measure}" for measure, networks in sorted(rules.measures.items())]
    return f"To be ranked, a row needs {needed}, {'; '.join(where)}. A row with less is provisional (†)."
