"""Figures of records, PNG and PDF: accuracy against images per class, and the methods' images side by side."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle, groupby
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from dcbench.core.spec import ACCURACY
from dcbench.leaderboard.board import Leaderboard
from dcbench.leaderboard.continual import Curve
from dcbench.leaderboard.report.curves import curve_tables
from dcbench.leaderboard.report.words import label, measured
from dcbench.leaderboard.scores import Board, Competitor, Row, networks_of
from dcbench.leaderboard.statistics import Score
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
        written += _save(_accuracies(board, rows), out, ["accuracy", *_parts(board, leaderboard)])
    for title, curves in curve_tables(leaderboard.curves):
        board, size = curves[0].board, f"steps of {curves[0].step_size}"
        images = [f"ipc{each.ipc}" for each in curves if each.ipc][:1]
        parts = ["continual", *_parts(board, leaderboard), *images, size]
        written += _save(_curves(f"{board.dataset}: {title}", curves), out, parts)
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


def _parts(board: Board, leaderboard: Leaderboard) -> list[str]:
    """Return what tells the figure of a board from others, for its file's name."""
    parts = [board.dataset, board.protocol, board.budget * (board.budget != "full"), board.track]
    parts += [board.measure * (board.measure != ACCURACY)]
    return parts + [each[:8] for each in (_version(board, leaderboard), board.teacher)]


def _name(row: Competitor) -> str:
    return label(row) + (f", on {row.matching_network}" if row.matching_network else "")


def _accuracies(board: Board, rows: Sequence[Row]) -> Figure:
    """Draw accuracy against images per class; sets of all images lie across."""
    sizes = sorted({row.ipc for row in rows if row.ipc is not None})

    def draw(panel: Axes, network: str, name: str, shift: float, style: dict[str, Any]) -> None:
        here = [row for row in rows if _name(row) == name]
        scores = {row.ipc: score for row in here if (score := row.scores.get(network))}
        if None in scores:
            mean = scores.pop(None).mean
            panel.axhline(_in_unit(board, mean), color=style["color"], linestyle="--", linewidth=1, label=name)
        _line(panel, board, {ipc * 1.02**shift: scores[ipc] for ipc in sizes if ipc in scores}, name, style)
        if sizes:
            panel.set_xscale("log")
            panel.set_xticks(sizes, map(str, sizes))
            panel.minorticks_off()
            panel.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)

    budget = "" if board.budget == "full" else f", budget {board.budget}"
    title = f"{board.dataset}, protocol {board.protocol}{budget}, {board.track.replace('-', ' ')}s"
    return _panels(board, title, "images per class", networks_of(rows), {_name(row) for row in rows}, draw)


def _curves(title: str, curves: Sequence[Curve]) -> Figure:
    """Draw the accuracy of continual learning against the number of classes seen."""
    seen, board = sorted({count for each in curves for count in each.scores}), curves[0].board

    def draw(panel: Axes, network: str, name: str, shift: float, style: dict[str, Any]) -> None:
        for each in curves:
            if (each.network, _name(each)) == (network, name):
                places = {count + 0.08 * shift: score for count, score in each.scores.items()}
                _line(panel, board, places, name, style)
        panel.set_xticks(seen)

    networks = sorted({each.network for each in curves})
    return _panels(board, title, "classes seen", networks, {_name(each) for each in curves}, draw)


def _panels(
    board: Board,
    title: str,
    across: str,
    networks: Sequence[str],
    methods: Iterable[str],
    draw: Callable[..., None],
) -> Figure:
    """Draw the scores of a board: a panel for each network, a line for each method.

    Args:
        board: whose scores they are.
        title: of the figure.
        across: what the horizontal axis has.
        networks, methods: by name.
        draw: called with the panel, its network, a method, the place of its line beside others, around 0, so that
            intervals do not hide each other, and the line's style.
    """
    from matplotlib.figure import Figure

    names = sorted(methods)
    columns = min(3, len(networks))
    lines = -(-len(networks) // columns)
    width, height = max(INCHES * columns / 3, 4.5), 2.6 * lines + 0.2 * len(names) / columns + 0.3
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for panel, network in zip(panels.flat, networks, strict=False):
        panel.set_title(network, fontsize=9)
        for number, (name, marker) in enumerate(zip(names, cycle("osD^vPX*"), strict=False)):
            style = {"color": f"C{number % 10}", "marker": marker}
            draw(panel, network, name, number - len(names) / 2, style)
        panel.set_xlabel(across, fontsize=8)
        panel.grid(alpha=0.3)
        panel.tick_params(labelsize=8)
    for panel in panels.flat[len(networks) :]:
        panel.set_axis_off()
    scores = "test accuracy (%)" if board.measure == ACCURACY else measured(board)
    figure.supylabel(scores, fontsize=9)
    figure.suptitle(fill(title, round(13 * width)), fontsize=10)
    known = {line.get_label(): line for panel in panels.flat for line in panel.get_lines()}
    handles = {name: known[name] for name in names if name in known}
    columns = min(columns, len(names))
    figure.legend([*handles.values()], [*handles], loc="outside lower center", ncols=columns, fontsize=8)
    return figure


def _line(panel: Axes, board: Board, scores: Mapping[float, Score], name: str, style: dict[str, Any]) -> None:
    """Draw the scores of a method by their place, with the 95 % intervals that are known."""
    if not scores:
        return
    means = [_in_unit(board, score.mean) for score in scores.values()]
    panel.plot([*scores], means, markersize=4, linewidth=1.2, label=name, **style)
    for place, score in scores.items():
        if score.interval:
            bounds = [_in_unit(board, each) for each in score.interval]
            panel.plot([place] * 2, bounds, color=style["color"], linewidth=1)


def _in_unit(board: Board, score: float) -> float:
    """Return a score as it is drawn: a fraction in percent."""
    return 100 * score if board.of_fractions else score


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
