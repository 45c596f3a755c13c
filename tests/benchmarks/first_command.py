"""What a newcomer waits for, as a ratio to another checkout's: imports, the first training, the first command.

    python tests/benchmarks/first_command.py --against ../other --repeats 3 --busy 1

Each is a process of its own, in this checkout and in the other one in turns, so that what else the machine does
falls on both alike. Both need a `.venv`, as `uv sync` makes it. With --busy so many other processes keep a core
busy meanwhile.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

HERE = Path(__file__).parents[2]
ONE = "-d digits -m random --ipc 1 --budget quick --evals 1 --eval-network mlp"
PIECES = {
    "import torch and what plugins need": ["-c", "from dcbench.api import train_network"],
    "an evaluation": ["-m", "dcbench", "run", *ONE.split()],
    "dcbench run": ["-m", "dcbench", "run"],
}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Let other processes keep cores busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds_of(checkout: Path, words: list[str]) -> tuple[float, float]:
    """Return the wall time and the time of the CPU that Python takes in a checkout for a command."""
    with tempfile.TemporaryDirectory() as folder:
        own = [*words, "--results", folder] if "dcbench" in words else words
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
        python = checkout / ".venv" / "bin" / "python"
        subprocess.run([python, *own], cwd=checkout, env=environment, check=True, capture_output=True)
        wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@click.command(help=__doc__)
@click.option("--against", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--busy", "others", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--piece", "pieces", multiple=True, type=click.Choice(list(PIECES)), help="[all]")
def main(against: Path, repeats: int, others: int, pieces: tuple[str, ...]) -> None:
    """Measure and print."""
    for piece in pieces or PIECES:
        took: dict[Path, list[tuple[float, float]]] = defaultdict(list)
        for _ in range(repeats):
            for checkout in (HERE, against.resolve()):
                with busy(others):
                    took[checkout].append(seconds_of(checkout, PIECES[piece]))
        here, there = ([statistics.median(each) for each in zip(*took[one], strict=True)] for one in took)
        click.echo(
            f"{piece}: {here[0]:.1f} s here, {there[0]:.1f} s there, ratio {here[0] / there[0]:.2f}; "
            f"of the CPU {here[1]:.1f} s and {there[1]:.1f} s, ratio {here[1] / there[1]:.2f}"
        )


if __name__ == "__main__":
    main()
