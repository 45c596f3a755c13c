"""How numbers, rows and tables are said, wherever they stand."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from dcbench.core.spec import ACCURACY
from dcbench.leaderboard.rank_correlation import Correlation
from dcbench.leaderboard.scores import MOST_COLUMNS, Board, Competitor, Row
from dcbench.leaderboard.standings import Entry, Standings
from dcbench.leaderboard.statistics import Interval, Score
from dcbench.results.records import TeacherFacts
from dcbench.utils.wording import counted

DASH = "–"


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with one decimal, or a dash."""
    return DASH if value is None else f"{100 * value:.1f}"


def written(value: float | None, unit: str = "%") -> str:
    """Return a score, or a deviation of scores, in the unit of its table: a fraction in percent."""
    return percent(value) if value is None or unit == "%" else f"{value:.3g}"


def deviations(score: Score, unit: str = "%") -> str:
    """Return the two deviations, between sets and within a set; those of fractions in points."""
    return f"{written(score.between_std, unit)}/{written(score.within_std, unit)}"


def bounds(interval: Interval | None, unit: str = "%") -> str:
    """Return an interval of scores, or a dash."""
    return f"{written(interval[0], unit)}–{written(interval[1], unit)}" if interval else DASH


def seconds(value: float | None) -> str:
    """Return seconds with two digits that matter, or a dash."""
    if value is None:
        return DASH
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def both_seconds(row: Row) -> str:
    """Return the seconds of a row's sets and, after a plus sign, those of the networks that they used."""
    networks = f" + {seconds(row.networks_seconds)}" if row.networks_seconds else ""
    return seconds(row.condense_seconds) + networks


def size(value: int | None) -> str:
    """Return bytes in the largest decimal unit that leaves a digit before the point, or a dash."""
    if value is None:
        return DASH
    thousands = min(3, (len(str(value)) - 1) // 3)
    amount, unit = value / 1000**thousands, ("B", "kB", "MB", "GB")[thousands]
    return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"


def rank(entry: Entry) -> str:
    """Return the place or the range of places that a row may have, or a dash."""
    if entry.rank is None:
        return DASH
    best, worst = entry.rank
    return str(best) if best == worst else f"{best}–{worst}"


def count(row: Row) -> str:
    """Return sets x networks per set, over the networks of a row."""
    scores = sorted(row.scores.values(), key=lambda score: (score.sets, score.trials))
    return ", ".join(dict.fromkeys(map(sample, scores)))


def sample(score: Score | None) -> str:
    """Return sets x networks per set, or a dash."""
    if score is None:
        return DASH
    even = score.trials % score.sets == 0
    return f"{score.sets}x{score.trials // score.sets}" if even else f"{score.trials} in {score.sets}"


def listed(networks: Sequence[str]) -> str:
    """Return networks by name, or their number where they are too many for columns."""
    return ", ".join(networks) if len(networks) <= MOST_COLUMNS else counted(len(networks), "network")


def span(row: Row) -> str:
    """Return how many networks a row has, and the least and the greatest of its scores."""
    means = [score.mean for score in row.scores.values()]
    return f"{len(means)}: {written(min(means), row.unit)}–{written(max(means), row.unit)}"


def correlation(found: Correlation | None) -> str:
    """Return a rank correlation with its interval, or a dash."""
    if found is None or found.value is None:
        return DASH
    return f"{found.value:.2f}" + (" [{:.2f}, {:.2f}]".format(*found.interval) if found.interval else "")


def label(row: Competitor) -> str:
    """Return the method with the options that are not its defaults."""
    return one_line(f"{row.method_name} ({row.options})" if row.options else row.method_name)


def cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table."""
    return re.sub(r"([\\|`\[\]])", r"\\\1", html.escape(one_line(text), quote=False))


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


def heading(table: Standings, several_versions: bool = False) -> str:
    """Return what a table is of, but for the data set."""
    version = f", data {table.dataset_sha256[:12]}" if several_versions else ""
    return setting(table, table.ipc, "`") + version


def setting(board: Board, ipc: int | None, quote: str = "") -> str:
    """Return the images per class and what else rows have in common; names in Markdown have their quotes."""
    text = cell if quote else one_line
    size = f"{counted(ipc, 'image')} per class" if ipc else "all images"
    budget = "" if board.budget == "full" else f", budget {board.budget}"
    teacher = f", teacher {board.teacher[:12]}" if board.teacher else ""
    measure = f", {text(measured(board))}" if board.measure != ACCURACY else ""
    protocol = f"{quote}{text(board.protocol)}{quote}"
    return f"{size}, protocol {protocol}{budget}, {text(board.track)}s{teacher}{measure}"


def measured(of: Board) -> str:
    """Return what a table's scores are, as in ``adversarial: pgd_accuracy``."""
    unit = f", in {of.unit}" * (of.unit not in ("", "%"))
    lower = ", lower is better" * of.lower_is_better
    return f"{of.measure}: {of.main}{unit}{lower}"


def matched_on(row: Row) -> str:
    """Return a row's label and the network matched on."""
    return label(row) + (f" matched on {row.matching_network}" if row.matching_network else "")


def points(difference: float | None, unit: str = "%") -> str:
    """Return a difference of scores with its sign, of fractions in points, or a dash."""
    if difference is None:
        return DASH
    return f"{100 * difference:+.1f}" if unit == "%" else f"{difference:+.3g}"


def teacher_in_words(teacher: TeacherFacts) -> str:
    """Return a teacher on one line."""
    accuracy = percent(teacher.held_out_accuracy)
    return (
        f"Teacher: {teacher.network}, {accuracy} % on held-out training images, {size(teacher.bytes)}, "
        f"hash {teacher.sha256[:12]}."
    )


def lacking(entry: Entry) -> str:
    """Return what a row is and what it lacks to be ranked."""
    return f"{matched_on(entry.row)}: provisional, {'; '.join(entry.provisional)}."
