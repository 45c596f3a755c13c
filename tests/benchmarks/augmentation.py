"""What siamese augmentation adds to an epoch of training a ConvNet, in percent. Nothing is asserted.

    python tests/benchmarks/augmentation.py                         # some minutes on two cores
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

import click
import torch
from pieces import BATCH, make_start

import dcbench.engine.engine
from dcbench.api import SiameseAugmentation, train_network
from dcbench.engine.siamese import FULL

EPOCHS = 24


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(shape: tuple[int, int, int], ipc: int, turns: int) -> str:
    """Return a line: seconds of a plain epoch, what augmentation adds, and what its operations take."""
    start = make_start(shape, ipc)
    optimizer = torch.optim.SGD(start.network.parameters(), lr=1e-4)
    options = {"epochs": EPOCHS, "batch_size": BATCH, "generator": start.generator}

    def epoch(augmentation: str | SiameseAugmentation) -> float:
        train = lambda: train_network(  # noqa: E731
            start.network, start.images, start.labels, optimizer, augmentation=augmentation, **options
        )
        return seconds(train) / EPOCHS

    def operation(name: str) -> float:
        augmentation = SiameseAugmentation(name)
        batches = start.images.split(BATCH)
        return (
            seconds(lambda: [augmentation(each, start.generator) for _ in range(EPOCHS) for each in batches])
            / EPOCHS
        )

    every = SiameseAugmentation(FULL)
    epoch(""), epoch(every)
    pairs = [(epoch(""), epoch(every)) for _ in range(turns)]
    plain = statistics.median(pair[0] for pair in pairs)
    added = sorted(100 * (augmented / without - 1) for without, augmented in pairs)
    alone = [100 * statistics.median(operation(name) for _ in range(turns)) / plain for name in FULL.split("_")]
    return f"{1000 * plain:9.2f} {statistics.median(added):6.1f} {added[0]:6.1f} {added[-1]:6.1f}  " + " ".join(
        f"{each:6.1f}" for each in alone
    )


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
    operations = " ".join(f"{name:>6}" for name in FULL.split("_"))
    click.echo(f"  shape   ipc threads  ms/epoch  added  least   most  {operations}")
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
