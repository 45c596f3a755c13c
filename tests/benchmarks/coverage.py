"""How often intervals hold the truth, how often equal rows are told apart, and how often unequal ones are.

Accuracies are drawn from a normal model of two levels: networks that are trained on one set share its luck. The
functions that make the tables compute everything. Standard errors are those of a row's mean.

    python tests/benchmarks/coverage.py [--tables 2000]
"""

from __future__ import annotations

import click
import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from dcbench.leaderboard.statistics import Estimate, better, estimate

SIZES = ((2, 20), (3, 3), (3, 10), (5, 5), (5, 20), (10, 10))
"""Condensed sets x networks on each."""
RATIOS = (0.3, 1.0, 3.0)
"""Deviation between sets over that between the networks of a set."""
NETWORK_STD = 0.01


def tables(size: tuple[int, int], ratio: float, rows: int, count: int, seed: int) -> NDArray[np.float64]:
    """Draw accuracies of equal rows: shape (tables, rows, sets, networks)."""
    draw = np.random.default_rng(seed)
    sets = draw.normal(0.5, ratio * NETWORK_STD, (count, rows, size[0], 1))
    return sets + draw.normal(0, NETWORK_STD, (count, rows, *size))


def standard_error(size: tuple[int, int], ratio: float) -> float:
    """Return the true standard error of a row's mean."""
    return NETWORK_STD * float(ratio**2 + 1 / size[1]) ** 0.5 / size[0] ** 0.5


def estimates(table: NDArray[np.float64]) -> list[Estimate]:
    """Return the estimates of a table's rows."""
    found = [estimate({"": dict(enumerate(row))}, seeded=True) for row in table]
    return [each for each in found if each]


def coverage(size: tuple[int, int], ratio: float, count: int) -> float:
    """Return how many intervals hold the truth, in percent."""
    intervals = [estimates(table)[0].interval for table in tables(size, ratio, 1, count, seed=1)]
    return 100 * float(np.mean([low <= 0.5 <= high for low, high in intervals]))


def told_apart(size: tuple[int, int], ratio: float, rows: int, count: int) -> float:
    """Return how many tables of equal rows tell any two apart, in percent."""
    found = [better(estimates(table)).any() for table in tables(size, ratio, rows, count, seed=2)]
    return 100 * float(np.mean(found))


def power(size: tuple[int, int], ratio: float, errors: float, rows: int, count: int) -> float:
    """Return how many of the equal others the best of a table is told from, if it is so far ahead; in percent."""
    drawn = tables(size, ratio, rows, count, seed=3)
    drawn[:, 0] += errors * standard_error(size, ratio)
    found = [better(estimates(table))[0, 1:].mean() for table in drawn]
    return 100 * float(np.mean(found))


@click.command(help=__doc__)
@click.option("--tables", "count", default=2000, show_default=True, help="Tables drawn for each figure.")
def main(count: int) -> None:
    lines = []
    for size in SIZES:
        for ratio in RATIOS:
            line = {
                "n": f"{size[0]}x{size[1]}",
                "between/within": ratio,
                "intervals hold": coverage(size, ratio, count),
            }
            for rows in (4, 20):
                line[f"equal told apart, {rows} rows"] = told_apart(size, ratio, rows, count)
            for errors in (2, 4, 6):
                line[f"{errors} errors found, 4 rows"] = power(size, ratio, errors, 4, count)
            lines.append(line)
    click.echo(f"In percent, of {count} tables each:")
    click.echo(tabulate(lines, headers="keys", floatfmt=".1f"))


if __name__ == "__main__":
    main()
