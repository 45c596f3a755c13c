"""Times the plain engine against the fast one, in turns, and prints ratios. Nothing is asserted.

    python tests/benchmarks/engines.py                          # everything, about half an hour on two cores
    python tests/benchmarks/engines.py --shape 1x8x8 --ipc 1    # a part
    python tests/benchmarks/engines.py --work step --repeats 9

Each engine has a process of its own, since the fast one changes how a process allocates memory. They take turns,
so that whatever else the machine does hits both. A ratio is that of the medians; beside it stand the least and the
greatest ratio of a turn. Images are noise, which takes as long as any; the network is the ConvNet of the papers.

The peak is that of a large matrix product on all threads, measured here, in the same process as the fast engine.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import click

CLASSES = 10
REAL = 256
TEST_IMAGES = 10_000
WORK = ("step", "epoch", "test")


def prepare(work: str, shape: tuple[int, int, int], ipc: int) -> Callable[[], object]:
    """Return one piece of work, to be timed: a matching step, an epoch on the condensed set, or a test pass."""
    import torch
    from dcbench_plugins.convnet import ConvNet
    from dcbench_plugins.gradmatch import layerwise_distance

    from dcbench.api import DatasetInfo, ResidentSplit, accuracy, matching_gradient, new_network, train_network

    channels, *size = shape
    half = (0.5,) * channels
    names = tuple(map(str, range(CLASSES)))
    info = DatasetInfo("noise", names, channels, (size[0], size[1]), half, half, "0" * 64, {})
    network = new_network(ConvNet(), info, seed=0)
    generator = torch.Generator().manual_seed(0)

    def noise(n: int) -> torch.Tensor:
        return torch.randn(n, *shape, generator=generator)

    images, labels = noise(CLASSES * ipc), torch.arange(CLASSES).repeat_interleave(ipc)
    if work == "step":
        real = noise(CLASSES * REAL).split(REAL)
        return lambda: matching_gradient(network, real, images.split(ipc), layerwise_distance)
    if work == "epoch":
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        options = {"epochs": max(1, 100 // ipc), "batch_size": 256, "generator": generator}
        return lambda: train_network(network, images, labels, optimizer, **options)
    pixels = torch.randint(256, (TEST_IMAGES, *shape), generator=generator).to(torch.uint8)
    split = ResidentSplit(pixels, torch.zeros(TEST_IMAGES, dtype=torch.int64), info)
    return lambda: accuracy(network, split)


def count_flops(work: Callable[[], object]) -> int:
    """Return the floating-point operations of a piece of work, multiplications and additions counted apart.

    Counted are convolutions and matrix products, forward and backward.
    """
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if function._overloadpacket not in flop_registry:
                with self:  # in inference mode, convolutions arrive in one piece
                    if (parts := function.decompose(*args, **(kwargs or {}))) is not NotImplemented:
                        return parts
            result = function(*args, **(kwargs or {}))
            if count := flop_registry.get(function._overloadpacket):
                self.total += count(*args, **(kwargs or {}), out_val=result)
            return result

    with Counter() as counter:
        work()
    return counter.total


def measure_peak() -> float:
    """Return the operations per second of a large matrix product on all threads."""
    import torch

    a = torch.randn(3000, 3000)
    a @ a
    times = []
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - started)
    return 2 * 3000**3 / min(times)


def serve(engine_name: str, requests: Connection) -> None:
    """Prepare and time what the other side of the connection asks for."""
    import torch

    import dcbench.engine

    dcbench.engine.COMPILE_FROM = 0.0  # as for long work
    engine = dcbench.engine.choose_engine(engine_name, torch.device("cpu"))
    work: Callable[[], object] = measure_peak  # until there is another
    while (request := requests.recv()) is not None:
        answer: float = 0.0
        with engine.active():
            if request == "peak":
                answer = measure_peak()
            elif request == "flops":
                answer = count_flops(work)
            elif request == "go":
                started = time.perf_counter()
                work()
                answer = time.perf_counter() - started
            else:
                work = prepare(*request)
                work()  # warm
        requests.send(answer)


class Worker:
    """A process with one engine."""

    def __init__(self, engine: str) -> None:
        """Start it."""
        context = multiprocessing.get_context("spawn")
        self._requests, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(engine, theirs), daemon=True)
        self._process.start()

    def stop(self) -> None:
        """End it."""
        self._requests.send(None)
        self._process.join()

    def ask(self, request: object) -> float:
        """Have it do something and return the answer."""
        self._requests.send(request)
        return float(self._requests.recv())


@click.command()
@click.option("--engine", default="compiled", show_default=True, help="What the plain engine is compared with.")
@click.option("--shape", "shapes", multiple=True, default=("3x32x32", "1x8x8"), show_default=True)
@click.option("--ipc", "ipcs", multiple=True, type=int, default=(1, 10, 50), show_default=True)
@click.option("--work", "works", multiple=True, type=click.Choice(WORK), default=WORK, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(
    engine: str, shapes: tuple[str, ...], ipcs: tuple[int, ...], works: tuple[str, ...], repeats: int
) -> None:
    """Print a line per shape, work and ipc."""
    plain, fast = Worker("plain"), Worker(engine)
    peak = fast.ask("peak")
    click.echo(f"peak {peak / 1e9:.0f} GFLOP/s; {repeats} turns each; seconds are medians")
    line = "{:>8} {:>6} {:>4} {:>9} {:>9} {:>6} {:>10} {:>10}".format
    click.echo(line("shape", "work", "ipc", "plain", "fast", "ratio", "from-to", "of peak"))
    for shape in shapes:
        sizes = tuple(map(int, shape.split("x")))
        for work in works:
            for ipc in ipcs if work != "test" else ipcs[:1]:
                for worker in (plain, fast):
                    worker.ask((work, sizes, ipc))
                flops = plain.ask("flops")
                turns = [(plain.ask("go"), fast.ask("go")) for _ in range(repeats)]
                ratios = [a / b for a, b in turns]
                a, b = (statistics.median(times) for times in zip(*turns, strict=True))
                shares = f"{flops / a / peak:4.0%} {flops / b / peak:4.0%}"
                spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
                click.echo(
                    f"{shape:>8} {work:>6} {ipc:>4} {a:9.3f} {b:9.3f} {a / b:6.2f} {spread:>10} {shares:>10}"
                )
    for worker in (plain, fast):
        worker.stop()


if __name__ == "__main__":
    main()
