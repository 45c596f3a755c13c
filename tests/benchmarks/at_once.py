"""Times training several networks at once, each on a thread of its own, against one after the other.

    python tests/benchmarks/at_once.py

Both train the same four networks on the same noise by the same engine. dcbench trains them one after the other: on
the CPU, at once gains little where the time goes (a fifth on a ConvNet at 1 image per class, less with more), and
the last of an odd number would take twice as long.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import click
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.architectures.lenet import LeNet
from dcbench_plugins.architectures.mlp import MLP
from pieces import make_start

import dcbench.engine.engine
from dcbench.api import Architecture, new_network, train_network
from dcbench.engine.engine import Engine, choose_engine

NETWORKS = 4
ARCHITECTURES: dict[str, type[Architecture]] = {"convnet": ConvNet, "lenet": LeNet, "mlp": MLP}


def trainings(
    architecture: Architecture, shape: tuple[int, int, int], ipc: int, epochs: int
) -> list[Callable[[Engine], None]]:
    """Return what trains each of the networks for some epochs by an engine."""

    def training(seed: int) -> Callable[[Engine], None]:
        start = make_start(shape, ipc)
        network = new_network(architecture.resolve(start.info), start.info, seed)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        options = {"epochs": epochs, "batch_size": 256, "generator": start.generator}

        def train(engine: Engine) -> None:
            with engine.active():
                train_network(network, start.images, start.labels, optimizer, **options)

        return train

    return [training(seed) for seed in range(NETWORKS)]


@click.command()
@click.option("--shape", "shapes", multiple=True, default=("3x32x32", "1x28x28", "1x8x8"), show_default=True)
@click.option("--ipc", "ipcs", multiple=True, type=int, default=(1, 10), show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(shapes: tuple[str, ...], ipcs: tuple[int, ...], repeats: int) -> None:
    """Print a line per network, shape and ipc."""
    dcbench.engine.engine.COMPILE_FROM = 0.0  # as for long work
    together = choose_engine("auto", torch.device("cpu"), long=True)
    alone = Engine(together.name, 1, together.micro_batch, together.compiles)
    pool = ThreadPoolExecutor(together.workers, initializer=torch.set_num_threads, initargs=(1,))
    line = "{:>8} {:>8} {:>4} {:>14} {:>8} {:>6}".format
    click.echo(line("network", "shape", "ipc", "one by one, ms", "at once", "ratio"))
    for name, kind in ARCHITECTURES.items():
        for shape in shapes:
            channels, height, width = map(int, shape.split("x"))
            for ipc in ipcs:
                epochs = max(4, (40 if name == "convnet" else 200) // ipc)
                work = trainings(kind(), (channels, height, width), ipc, epochs)
                turns = []
                for _ in range(repeats + 1):  # the first warms up
                    started = time.perf_counter()
                    for train in work:
                        train(together)
                    between = time.perf_counter()
                    list(pool.map(lambda train: train(alone), work))
                    turns.append((between - started, time.perf_counter() - between))
                one, other = (statistics.median(times) for times in zip(*turns[1:], strict=True))
                each = 1000 / NETWORKS / epochs
                click.echo(
                    line(name, shape, ipc, f"{one * each:.2f}", f"{other * each:.2f}", f"{one / other:.2f}")
                )


if __name__ == "__main__":
    main()
