"""Tables of scores for people: on the terminal, in Markdown and LaTeX, as CSV."""

from __future__ import annotations

from collections.abc import Sequence

import rich.box
from rich.markup import escape
from rich.table import Table
from tabulate import tabulate

from dcbench.leaderboard import Row, networks_of, scores_frame
from dcbench.standings import Entry, Standings
from dcbench.statistics import Interval, Score
from dcbench.submissions import Leaderboard

DASH = "–"

LEGEND = (
    "Test accuracy in %: mean over condensed sets of the mean over networks (standard deviation "
    "between sets/within a set). * marks the network matched on; unseen is the mean over the others; "
    "n is sets x networks per set; seconds are for condensing one set."
)
STANDINGS_LEGEND = (
    "Test accuracy in %: mean over condensed sets of the mean over networks (standard deviation between "
    "sets/within a set), and beneath it its 95 % interval by a bootstrap of sets and then of networks, somewhat "
    "too narrow where sets are few. * marks the network matched on. Mean: over the networks that every row "
    "needs; rows are ranked by it, and tie unless their intervals separate. Unseen: the mean over the networks "
    "not matched on; drop: how far that lies below the network matched on. Gap: the share that the mean closes "
    "of the gap between {floor} and {ceiling}. n: sets x networks per set. ✓: re-evaluated from the tensors, by "
    "that version of dcbench."
)


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with one decimal, or a dash."""
    return DASH if value is None else f"{100 * value:.1f}"


def deviations(score: Score) -> str:
    """Return the two deviations in points, between sets and within a set."""
    return f"{percent(score.between_std)}/{percent(score.within_std)}"


def bounds(interval: Interval | None) -> str:
    """Return an interval of fractions in percent, or a dash."""
    return f"{percent(interval[0])}–{percent(interval[1])}" if interval else DASH


def seconds(value: float | None) -> str:
    """Return seconds with two digits that matter, or a dash."""
    if value is None:
        return DASH
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def size(value: int | None) -> str:
    """Return bytes in the largest decimal unit that leaves a digit before the point, or a dash."""
    if value is None:
        return DASH
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"


def rank(entry: Entry) -> str:
    """Return the place or the range of places that a row may have, or a dash."""
    if entry.rank is None:
        return DASH
    best, worst = entry.rank
    return str(best) if best == worst else f"{best}–{worst}"


def count(row: Row) -> str:
    """Return sets x networks per set, over the networks of a row."""
    counts = sorted({(score.sets, score.trials) for score in row.scores.values()})
    return ", ".join(
        f"{sets}x{trials // sets}" if trials % sets == 0 else f"{trials} in {sets}" for sets, trials in counts
    )


def label(row: Row) -> str:
    """Return the method with the options that are not its defaults, fit for a cell of a Markdown table."""
    text = f"{row.method_name} ({row.options})" if row.options else row.method_name
    return " ".join(text.split()).replace("|", "\\|")


def heading(table: Standings, several_versions: bool = False) -> str:
    """Return what a table is of, but for the data set."""
    size = f"{table.ipc} image{'s' if table.ipc != 1 else ''} per class" if table.ipc else "all images"
    version = f", data {table.dataset_sha256[:12]}" if several_versions else ""
    budget = "" if table.budget == "full" else f", budget {table.budget}"
    return f"{size}, protocol `{table.protocol}`{budget}, {table.track}s{version}"


def terminal_table(table: Sequence[Row], title: str) -> Table:
    """Return the cross-architecture table for the terminal; it fits 80 columns with four networks."""
    networks = networks_of(table)
    shown = Table(
        title=title,
        box=rich.box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        collapse_padding=True,
        title_justify="left",
    )
    datasets = len({row.dataset for row in table}) > 1
    budgets = len({row.budget for row in table}) > 1
    for name in (["data set"] if datasets else []) + ["ipc", "method"] + (["budget"] if budgets else []):
        shown.add_column(name, overflow="fold", min_width=9 if name == "method" else None)
    for name in networks:
        shown.add_column(escape(name), justify="right", overflow="fold", min_width=8)
    for name in ("unseen", "n", "seconds"):
        shown.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    for index, row in enumerate(table):
        if index and (row.dataset, row.ipc) != (table[index - 1].dataset, table[index - 1].ipc):
            shown.add_section()
        head = [escape(row.dataset)] if datasets else []
        head += [str(row.ipc or "all"), _terminal_label(row)] + ([row.budget] if budgets else [])
        cells = [_terminal_cell(row, network) for network in networks]
        shown.add_row(*head, *cells, percent(row.unseen_mean), count(row), seconds(row.condense_seconds))
    return shown


def _terminal_label(row: Row) -> str:
    options = f"\n[dim]{escape(row.options)}[/dim]" if row.options else ""
    return escape(row.method_name) + options


def _terminal_cell(row: Row, network: str) -> str:
    score = row.scores.get(network)
    if score is None:
        return DASH
    mark = "*" if network == row.matching_network else ""
    return f"[bold]{percent(score.mean)}{mark}[/bold]\n[dim]{deviations(score)}[/dim]"


def markdown(table: Standings, leaderboard: Leaderboard) -> str:
    """Return a table of standings in Markdown, and beneath it what its provisional rows lack."""
    lines = [
        _line(entry, table, leaderboard, "<br>", {"rank": rank(entry), "method": _marked(entry)})
        for entry in table.entries
    ]
    lines += [_missing(name, lines[0]) for name in table.missing]
    align = ["right", "left", "left", *["right"] * (len(lines[0]) - 3)]
    text = tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True, colalign=align)
    said = [
        f"† {label(entry.row)}{_matched(entry.row)}: provisional, {'; '.join(entry.provisional)}."
        for entry in table.entries
        if entry.provisional
    ]
    said += [f"{name}: no record." for name in table.missing]
    return "\n\n".join([text, *said])


def latex(table: Standings, leaderboard: Leaderboard) -> str:
    """Return a table of standings for LaTeX, with the rules of the package booktabs."""
    lines = []
    for entry in table.entries:
        row = entry.row
        name = f"{row.method_name} ({row.options})" if row.options else row.method_name
        head = {"rank": rank(entry), "method": name + (" †" if entry.provisional else "")}
        line = _line(entry, table, leaderboard, " ", head)
        lines.append({key: value.replace("✓ ", "") for key, value in line.items()})
    lines += [_missing(name, lines[0]) for name in table.missing]
    align = ["right", "left", "left", *["right"] * (len(lines[0]) - 3)]
    made = tabulate(lines, headers="keys", tablefmt="latex_booktabs", disable_numparse=True, colalign=align)
    for symbol, command in (("–", "--"), ("†", r"\textdagger{}")):
        made = made.replace(symbol, command)
    return f"% {table.dataset}: {heading(table).replace('`', '')}\n{made}"


def brief(table: Standings, leaderboard: Leaderboard) -> str:
    """Return a table of standings in Markdown without deviations, for a README."""
    lines = []
    for entry in table.entries:
        row, mark = entry.row, leaderboard.mark(entry.row)
        line = {"rank": rank(entry), "method": _marked(entry), "matched on": row.matching_network or DASH}
        for network in networks_of([each.row for each in table.entries]):
            score = row.scores.get(network)
            line[network] = percent(score.mean if score else None) + "*" * (network == row.matching_network)
        mean = f"{percent(entry.mean)} ({bounds(entry.interval)})" if entry.mean is not None else DASH
        gap = DASH if entry.gap is None else f"{100 * entry.gap:.0f} %"
        lines.append(line | {"mean (95 %)": mean, "gap closed": gap, "n": count(row), "✓": "✓" if mark else DASH})
    lines += [_missing(name, lines[0]) for name in table.missing]
    align = ["right", "left", "left", *["right"] * (len(lines[0]) - 3)]
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True, colalign=align)


def costs(table: Standings) -> str:
    """Return what the sets of a table's rows took to make and to keep, in Markdown."""
    lines = [
        {
            "method": label(entry.row),
            "matched on": entry.row.matching_network or DASH,
            "size of a set": size(entry.row.storage_bytes),
            "seconds": seconds(entry.row.condense_seconds),
            "peak memory": size(entry.row.peak_memory_bytes),
            "networks trained on": "; ".join(entry.row.devices),
        }
        for entry in table.entries
    ]
    align = ["left", "left", "right", "right", "right", "left"]
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True, colalign=align)


def _line(
    entry: Entry, table: Standings, leaderboard: Leaderboard, separator: str, head: dict[str, str]
) -> dict[str, str]:
    """Return the cells of a row, by the heading of their column."""
    row = entry.row
    line = {**head, "matched on": row.matching_network or DASH}
    for network in networks_of([each.row for each in table.entries]):
        score = row.scores.get(network)
        mark = "*" if network == row.matching_network else ""
        line[network] = DASH
        if score:
            parts = (f"{percent(score.mean)}{mark} ({deviations(score)})", bounds(score.interval))
            line[network] = separator.join(parts)
    mark_of_row = leaderboard.mark(row)
    return line | {
        "mean": separator.join((percent(entry.mean), bounds(entry.interval))) if entry.mean is not None else DASH,
        "unseen": percent(row.unseen_mean),
        "drop": percent(row.drop),
        "gap": DASH if entry.gap is None else f"{100 * entry.gap:.0f} %",
        "n": count(row),
        "verified": f"✓ {mark_of_row.text}" if mark_of_row else DASH,
    }


def _missing(name: str, like: dict[str, str]) -> dict[str, str]:
    return dict.fromkeys(like, DASH) | {"method": name}


def _marked(entry: Entry) -> str:
    return f"{label(entry.row)} †" if entry.provisional else label(entry.row)


def _matched(row: Row) -> str:
    return f" matched on {row.matching_network}" if row.matching_network else ""


def csv(table: Sequence[Row]) -> str:
    """Return a table in long form as CSV: a line per row and evaluation network."""
    return str(scores_frame(table).to_csv(index=False, float_format="%.6f", lineterminator="\n"))
