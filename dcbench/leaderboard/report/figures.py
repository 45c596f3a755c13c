"""Figures of records, PNG and PDF: accuracy against images per class, and the methods' images side by side."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import cycle, groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcbench.leaderboard.board import Leaderboard
from dcbench.leaderboard.report.words import label
from dcbench.leaderboard.scores import Board, Row, networks_of
from dcbench.results.stored_pixels import stored_pixels
from dcbench.utils.errors import DcbenchError
from dcbench.utils.files import slug, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

CLASSES, IMAGES = 10, 3
"""A contact sheet shows so many classes, and so many images of each, at most."""
INCHES = 7.0
"""The width of a page's text."""


def write_figures(leaderboard: Leaderboard, out: Path) -> tuple[list[Path], list[str]]:
    """Write the figures of all rows.

    Args:
        leaderboard: whose rows; sets are looked for beside its records.
        out: the folder.

    Returns:
        The files, and why the sets of some rows are not shown.

    Raises:
        DcbenchError: without matplotlib, or where a stored set is damaged.
        StorageError: when a file cannot be written.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DcbenchError("figures need matplotlib: pip install 'dcbench-suite[figures]'.") from None
    written, missing = list[Path](), dict[str, None]()
    boards: dict[Board, list[Row]] = defaultdict(list)
    for row in leaderboard.rows:
        boards[row.board].append(row)
    for board, rows in boards.items():
        parts = ["accuracy", board.dataset, board.protocol, board.budget * (board.budget != "full"), board.track]
        parts += [each[:8] for each in (_version(board, leaderboard), board.teacher)]
        written += _save(_accuracies(board, rows), out, parts)
    for board, ipc, rows in _sheets(leaderboard.rows):
        strips = {}
        for row in rows:
            submission = leaderboard.submission(row)
            path = submission.set_path(row.condense_keys[0]) if submission else None
            found = stored_pixels(path, IMAGES) if path else "its set is not in the folder"
            if isinstance(found, str):
                missing[f"{board.dataset}, ipc {ipc}, {_name(row)}: {found}"] = None
            else:
                strips[_name(row)] = found
        if strips:
            parts = ["images", board.dataset, _version(board, leaderboard)[:8], f"ipc{ipc}"]
            written += _save(_contact_sheet(f"{board.dataset}, ipc {ipc}", strips), out, parts)
    return written, list(missing)


def _sheets(rows: Sequence[Row]) -> Iterator[tuple[Board, int, list[Row]]]:
    """Yield the rows of each data set and ipc, those of one set once."""
    first = {row.condense_keys[0]: row for row in reversed(rows) if row.ipc is not None}
    order = sorted(first.values(), key=lambda row: (row.dataset, row.dataset_sha256, row.ipc or 0, _name(row)))
    for (_, _, ipc), group in groupby(order, key=lambda row: (row.dataset, row.dataset_sha256, row.ipc)):
        same = list(group)
        yield same[0].board, ipc or 0, same


def _version(board: Board, leaderboard: Leaderboard) -> str:
    """Return the hash of a board's data where there are several data sets of its name, else nothing."""
    hashes = {row.dataset_sha256 for row in leaderboard.rows if row.dataset == board.dataset}
    return board.dataset_sha256 if len(hashes) > 1 else ""


def _name(row: Row) -> str:
    return label(row) + (f", on {row.matching_network}" if row.matching_network else "")


def _accuracies(board: Board, rows: Sequence[Row]) -> Figure:
    """Draw accuracy against images per class: a panel for each network, a line for each method."""
    from matplotlib.figure import Figure

    networks, names = networks_of(rows), sorted({_name(row) for row in rows})
    sizes = sorted({row.ipc for row in rows if row.ipc is not None})
    columns = min(3, len(networks))
    lines = -(-len(networks) // columns)
    size = max(INCHES * columns / 3, 4.5), 2.6 * lines + 0.2 * len(names) / 3 + 0.3
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for panel, network in zip(panels.flat, networks, strict=False):
        panel.set_title(network, fontsize=9)
        for number, (name, marker) in enumerate(zip(names, cycle("osD^vPX*"), strict=False)):
            shift = 1.02 ** (number - len(names) / 2)  # so that intervals do not hide each other
            _line(panel, [row for row in rows if _name(row) == name], network, shift, f"C{number % 10}", marker)
        if sizes:
            panel.set_xscale("log")
            panel.set_xticks(sizes, map(str, sizes))
            panel.minorticks_off()
            panel.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
        panel.set_xlabel("images per class", fontsize=8)
        panel.grid(alpha=0.3)
        panel.tick_params(labelsize=8)
    for panel in panels.flat[len(networks) :]:
        panel.set_axis_off()
    figure.supylabel("test accuracy (%)", fontsize=9)
    budget = "" if board.budget == "full" else f", budget {board.budget}"
    figure.suptitle(
        f"{board.dataset}, protocol {board.protocol}{budget}, {board.track.replace('-', ' ')}s", fontsize=10
    )
    known = {line.get_label(): line for panel in panels.flat for line in panel.get_lines()}
    handles = {name: known[name] for name in names if name in known}
    columns = min(3, len(names))
    figure.legend([*handles.values()], [*handles], loc="outside lower center", ncols=columns, fontsize=8)
    return figure


def _line(panel: Axes, rows: Sequence[Row], network: str, shift: float, colour: str, marker: str) -> None:
    """Draw the rows of a method, with the 95 % intervals that are known; one of all images lies across."""
    name = _name(rows[0])
    scores = {row.ipc: score for row in rows if (score := row.scores.get(network))}
    if None in scores:
        panel.axhline(100 * scores.pop(None).mean, color=colour, linestyle="--", linewidth=1, label=name)
    sizes = sorted(ipc for ipc in scores if ipc is not None)
    if not sizes:
        return
    means = [100 * scores[ipc].mean for ipc in sizes]
    places = [ipc * shift for ipc in sizes]
    panel.plot(places, means, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
    for ipc in sizes:
        if interval := scores[ipc].interval:
            panel.plot([ipc * shift] * 2, [100 * each for each in interval], color=colour, linewidth=1)


def _contact_sheet(title: str, strips: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> Figure:
    """Draw a strip for each method, a column for each class."""
    from matplotlib.figure import Figure

    classes = min(CLASSES, 1 + max(int(labels.max()) for _, labels in strips.values()))
    mosaics = {name: _mosaic(*found, classes) for name, found in strips.items()}
    heights = [each.shape[0] / each.shape[1] for each in mosaics.values()]
    size = INCHES, INCHES * sum(heights) + 0.3 * len(heights) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(mosaics), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (name, mosaic) in zip(panels, mosaics.items(), strict=True):
        panel.imshow(mosaic, interpolation="nearest")
        panel.set_title(name, loc="left", fontsize=8)
        panel.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return figure


def _mosaic(pixels: NDArray[np.uint8], labels: NDArray[np.int64], classes: int) -> NDArray[np.uint8]:
    """Return images, (n, C, H, W), as one: (H', W', 3), a column for each of the first classes."""
    shown = [pixels[labels == each] for each in range(classes)]
    rows, (channels, height, width) = max(map(len, shown)), pixels.shape[1:]
    gap = max(1, width // 16)
    step = np.array([height + gap, width + gap])
    mosaic = np.full((*(step * (rows, len(shown)) - gap), 3), 255, np.uint8)
    for column, images in enumerate(shown):
        for row, image in enumerate(images):
            top, left = step * (row, column)
            colours = image if channels == 3 else image[:1].repeat(3, axis=0)
            mosaic[top : top + height, left : left + width] = colours.transpose(1, 2, 0)
    return mosaic


def _save(figure: Figure, out: Path, parts: Sequence[str]) -> list[Path]:
    """Write a figure as PNG and PDF, the same bytes for the same figure."""
    name, paths = "-".join(slug(part) for part in parts if part), []
    for ending, facts in (("png", {}), ("pdf", {"CreationDate": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=ending, dpi=200, metadata=facts)
        paths.append(out / f"{name}.{ending}")
        write_atomically(paths[-1], buffer.getvalue())
    return paths
