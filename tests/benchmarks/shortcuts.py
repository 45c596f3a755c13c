"""What shortcuts of gradient matching cost in accuracy and bring in time, measured.

    python tests/benchmarks/shortcuts.py -d digits --network convnet --sets 3 --evals 5
    python tests/benchmarks/shortcuts.py -d mnist --network lenet --sets 5 --evals 5

Each row is a run of ``dcbench run -m gradmatch --ipc 1`` with one option changed, judged on the network it was
matched on. Results stay in the folder, and what is done is not done again. Seconds are comparable where nothing
else runs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pandas

from dcbench.results.store import RECORDS, read_records

SHORTCUTS = (
    "",
    "batch_real=64",
    "network_pool=100",
    "network_pool=20",
    "iterations=300",
)


def run(folder: Path, dataset: str, network: str, sets: int, evals: int, shortcut: str) -> None:
    """Condense and evaluate."""
    command = [sys.executable, "-c", "from dcbench.cli import main; main()", "run", "-m", "gradmatch"]
    command += ["-d", dataset, "--ipc", "1", "--network", network, "--eval-network", network]
    command += ["--sets", str(sets), "--evals", str(evals), "--results", str(folder)]
    command += ["-o", shortcut] if shortcut else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def summarise(folder: Path, sets: int, evals: int) -> pandas.DataFrame:
    """Return a row for a shortcut's results."""
    records = [record for record in read_records(folder / RECORDS) if record.status == "ok"]
    frame = pandas.DataFrame([record.model_dump() for record in records])
    frame = frame[(frame.condense_seed < sets) & (frame.eval_seed < evals)]
    by_set = frame.groupby("condense_seed").agg({"accuracy": "mean", "condense_seconds": "first"})
    return pandas.DataFrame(
        {
            "accuracy": [100 * by_set.accuracy.mean()],
            "between sets": [100 * by_set.accuracy.std()],
            "within a set": [100 * frame.groupby("condense_seed").accuracy.std().mean()],
            "n": [f"{len(by_set)}x{evals}"],
            "seconds a set": [by_set.condense_seconds.median()],
        }
    )


@click.command()
@click.option("-d", "--dataset", default="digits", show_default=True)
@click.option("--network", default="convnet", show_default=True)
@click.option("--sets", default=3, show_default=True)
@click.option("--evals", default=5, show_default=True)
@click.option("--results", default="shortcuts", show_default=True, type=click.Path(path_type=Path))
def main(dataset: str, network: str, sets: int, evals: int, results: Path) -> None:
    """Run all shortcuts and print the table."""
    rows = []
    for shortcut in SHORTCUTS:
        folder = results / f"{dataset}-{network}-{shortcut or 'recipe'}"
        run(folder, dataset, network, sets, evals, shortcut)
        rows.append(summarise(folder, sets, evals).assign(shortcut=shortcut or "the recipe"))
        table = pandas.concat(rows).set_index("shortcut")
        table["times faster"] = table["seconds a set"].iloc[0] / table["seconds a set"]
        click.echo(table.to_markdown(floatfmt=".1f") + "\n")


if __name__ == "__main__":
    main()
