"""What siamese augmentation adds to an epoch of training a ConvNet, in percent. Nothing is asserted.

    python tests/benchmarks/augmentation.py                         # about 10 minutes on two cores
    python tests/benchmarks/augmentation.py --shape 1x8x8 --threads 1 --turns 9
    python tests/benchmarks/augmentation.py --engine compiled       # where the network's part is faster

Augmented and plain training take turns, some epochs each, on the same noise. Seconds are medians of the epochs; of
the percentages there are the median over the turns, the least and the greatest. Beside them stands what each
operation takes alone, in percent of a plain epoch; an epoch of several batches has as many operations.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import torch
from pieces import BATCH, make_start

import dcbench.engine.engine
from dcbench.api import SiameseAugmentation, train_network
from dcbench.engine.siamese import FULL, OPERATIONS


def seconds(work: Callable[[Any], None], argument: object) -> float:
    """Return how long some work takes."""
    started = time.perf_counter()
    work(argument)
    return time.perf_counter() - started


def measure(shape: tuple[int, int, int], ipc: int, turns: int) -> str:
    """Return a line: the time of a plain epoch, what augmentation adds, and what its operations take."""
    start = make_start(shape, ipc)
    optimizer = torch.optim.SGD(start.network.parameters(), lr=1e-4)
    options = {"epochs": start.epochs, "batch_size": BATCH, "generator": start.generator}

    def train(augmentation: str | SiameseAugmentation) -> None:
        train_network(start.network, start.images, start.labels, optimizer, augmentation=augmentation, **options)

    def change(augmentation: SiameseAugmentation) -> None:
        for _ in range(start.epochs):
            for batch in start.images.split(BATCH):
                augmentation(batch, start.generator)

    every, *each = map(SiameseAugmentation, (FULL, *OPERATIONS))
    pairs = [(seconds(train, ""), seconds(train, every)) for _ in range(turns + 1)][1:]  # the first is warm-up
    plain = statistics.median(pair[0] for pair in pairs)
    added = sorted(augmented / without - 1 for without, augmented in pairs)
    alone = [statistics.median(seconds(change, one) for _ in range(turns)) / plain for one in each]
    shares = [statistics.median(added), added[0], added[-1], *alone]
    return f"{1000 * plain / start.epochs:9.2f}" + "".join(f"{100 * share:7.1f}" for share in shares)


@click.command()
@click.option("--shape", "shapes", multiple=True, default=("3x32x32", "1x28x28", "1x8x8"), show_default=True)
@click.option("--ipc", "ipcs", multiple=True, type=int, default=(1, 10, 50), show_default=True)
@click.option("--threads", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--engine", default="plain", show_default=True)
@click.option("--turns", default=5, show_default=True)
def main(
    shapes: tuple[str, ...], ipcs: tuple[int, ...], threads: tuple[int, ...], engine: str, turns: int
) -> None:
    """Print a line per shape, ipc and number of threads."""
    dcbench.engine.engine.COMPILE_FROM = 0.0  # as for long training
    names = ("added", "least", "most", *OPERATIONS)
    click.echo("  shape   ipc threads  ms/epoch" + "".join(f"{name:>7}" for name in names))
    for count in threads:
        torch.set_num_threads(count)
        with dcbench.engine.engine.choose_engine(engine, torch.device("cpu")).active():
            for shape in shapes:
                channels, height, width = map(int, shape.split("x"))
                for ipc in ipcs:
                    line = measure((channels, height, width), ipc, turns)
                    click.echo(f"{shape:>7} {ipc:>5} {count:>7} {line}")


if __name__ == "__main__":
    main()
