"""Times the plain engine, the fast ones and, where it is at hand, the authors' code in turns. Nothing is asserted.

    python tests/benchmarks/engines.py                          # everything, about an hour on two cores
    python tests/benchmarks/engines.py --shape 1x8x8 --ipc 1    # a part
    python tests/benchmarks/engines.py --work step --repeats 9
    python tests/benchmarks/engines.py --work step --work siamese --against fast --authors ../DatasetCondensation
    python tests/benchmarks/engines.py --device cuda

Each has a process of its own, since the fast engines change how a process allocates memory. They take turns, so
that whatever else the machine does hits all. A ratio is that of plain's median to the other's; beside it stand the
least and the greatest ratio of a turn. Images are noise, which takes as long as any; the network is the ConvNet of
the papers. Short pieces of work stand for long ones: networks are compiled where they would be for those.

The peak is that of a large matrix product on all threads, or on the GPU, measured here. Of plain arithmetic it is
the share that the convolutions and matrix products of a piece of work reach.

MiB is the memory that a piece of work takes at its peak, beside what the process held before.

``--work siamese`` is a step on views, the same for all sides: those that the authors' code draws. ``--work
trajectory`` is the gradient through 10 steps of a student, on the same batches and views for all sides; bring the
code of its authors, https://github.com/GeorgeCazenavette/mtt-distillation.

``--work error`` prints how far the images after two steps, each followed by training the network, are from those
of plain in float64, as a share of how far they have moved; ``siamese-error`` does so for steps on views, without
training, ``dm-error`` for one iteration of distribution matching on views, and ``trajectory-error`` for one of
trajectory matching. ``--work dm`` is whole iterations
of that method, with all that is drawn for them.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

WORK = ("step", "siamese", "dm", "trajectory", "epoch", "evaluations", "test", "cell")
WORK += ("error", "siamese-error", "dm-error", "trajectory-error")
Shape = tuple[int, int, int]


class Server:
    """What a process answers: how long a piece of work takes, and what comes out."""

    def __init__(self, name: str, device: str, authors: Path | None) -> None:
        """Choose the engine, or the authors' code."""
        import dcbench.engine.engine
        from dcbench.utils.devices import choose_device

        dcbench.engine.engine.COMPILE_FROM = 0.0  # as for long work
        self.engine = dcbench.engine.engine.choose_engine("plain" if authors else name, choose_device(device))
        self.device = device
        self.authors = authors and __import__("authors").open_authors(authors)
        self.work: Callable[[], object] = measure_peak

    def prepare(self, work: str, shape: Shape, ipc: int) -> None:
        """Get a piece of work ready, and warm."""
        from pieces import PIECES, make_start

        start = make_start(shape, ipc, device=self.device)
        self.work = self.authors.prepare(work, start) if self.authors else PIECES[work](start)
        for _ in range(1 if self.device == "cpu" else 2):  # on a GPU, the second time is recorded
            self.work()

    def seconds(self) -> float:
        """Do the work, and return how long it took."""
        started = time.perf_counter()
        self.work()
        wait_for(self.device)
        return time.perf_counter() - started

    def memory(self) -> int:
        """Do the work, and return the most bytes that it took beside those that were there before."""
        from dcbench.results.provenance import PeakMemory
        from dcbench.utils.devices import choose_device

        peak = PeakMemory(choose_device(self.device))
        before = peak.read()
        self.work()
        return peak.read() - before

    def flops(self) -> int:
        """Return the floating-point operations of the work."""
        return count_flops(self.work)

    def peak(self) -> float:
        """Return the operations per second of a large matrix product."""
        return measure_peak(self.device)

    def images(self, work: str, shape: Shape, ipc: int, dtype: str) -> Any:
        """Return the images before and after two steps, float64."""
        import torch
        from pieces import ERRORS, make_start

        start = make_start(shape, ipc, getattr(torch, dtype), self.device)
        found = self.authors.images_after_steps(work, start) if self.authors else ERRORS[work](start)
        return start.images.double().cpu().numpy(), found.double().cpu().numpy()

    def serve(self, requests: Connection) -> None:
        """Answer until there is nothing more to do."""
        with self.engine.active():
            while request := requests.recv():
                requests.send(getattr(self, request[0])(*request[1:]))


def serve(requests: Connection, name: str, device: str, authors: Path | None) -> None:
    """Be a process."""
    Server(name, device, authors).serve(requests)


def wait_for(device: str) -> None:
    """Wait until a device has done what it was told to."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()


class Worker:
    """A process with one engine."""

    def __init__(self, name: str, device: str, authors: Path | None = None) -> None:
        """Start it."""
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._requests, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, name, device, authors), daemon=True)
        self._process.start()
        theirs.close()

    def stop(self) -> None:
        """End it."""
        self._requests.send(None)
        self._process.join()

    def ask(self, *request: Any) -> Any:
        """Have it do something and return the answer."""
        try:
            self._requests.send(request)
            return self._requests.recv()
        except (EOFError, ConnectionError):
            raise click.ClickException(f"the process of {self.name} has ended; see above.") from None


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


def measure_peak(device: str = "cpu") -> float:
    """Return the operations per second of a large matrix product on all threads, or on a GPU."""
    import torch

    a = torch.randn(3000, 3000, device=device)
    a @ a
    wait_for(device)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        wait_for(device)
        times.append(time.perf_counter() - started)
    return 2 * 3000**3 / min(times)


def print_times(workers: list[Worker], work: str, shape: Shape, ipc: int, repeats: int, peak: float) -> None:
    """Have the workers do a piece of work in turns; print a line each."""
    for worker in workers:
        worker.ask("prepare", work, shape, ipc)
    flops = workers[0].ask("flops") if work != "cell" else 0
    turns = [[worker.ask("seconds") for worker in workers] for _ in range(repeats)]
    memory = [worker.ask("memory") / 2**20 for worker in workers]
    plain = statistics.median(turn[0] for turn in turns)
    for index, worker in enumerate(workers):
        seconds = statistics.median(turn[index] for turn in turns)
        ratios = [turn[0] / turn[index] for turn in turns]
        share = f"{flops / seconds / peak:4.0%}" if flops else ""
        label = "x".join(map(str, shape)) if work != "cell" else "digits"
        click.echo(
            f"{label:>8} {work:>13} {ipc:>4} {worker.name:>9} {seconds:9.3f} {plain / seconds:6.2f} "
            f"{min(ratios):5.2f}-{max(ratios):.2f} {share:>5} {memory[index]:6.0f}"
        )


def print_errors(workers: list[Worker], work: str, shape: Shape, ipc: int) -> None:
    """Print how far each worker's images are from plain's in float64."""
    import numpy

    begin, exact = workers[0].ask("images", work, shape, ipc, "float64")
    for worker in workers:
        _, found = worker.ask("images", work, shape, ipc, "float32")
        error = numpy.linalg.norm(found - exact) / numpy.linalg.norm(exact - begin)
        click.echo(f"{'x'.join(map(str, shape)):>8} {work:>13} {ipc:>4} {worker.name:>9} {error:9.1e}")


@click.command()
@click.option("--shape", "shapes", multiple=True, default=("3x32x32", "1x8x8"), show_default=True)
@click.option("--ipc", "ipcs", multiple=True, type=int, default=(1, 10, 50), show_default=True)
@click.option("--work", "works", multiple=True, type=click.Choice(WORK), default=WORK, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--against", multiple=True, type=click.Choice(("fast", "compiled")), help="[all]")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--authors", type=click.Path(exists=True, path_type=Path), help="A checkout of the authors' code.")
def main(
    shapes: tuple[str, ...],
    ipcs: tuple[int, ...],
    works: tuple[str, ...],
    repeats: int,
    against: tuple[str, ...],
    device: str,
    authors: Path | None,
) -> None:
    """Print a line per shape, work, ipc and engine."""
    engines = against or (("fast", "compiled") if device == "cpu" else ("fast",))
    workers = [Worker(name, device) for name in ("plain", *engines)]
    extra = [Worker("authors", device, authors)] if authors else []
    peak = max(worker.ask("peak") for worker in [*workers, *extra])
    click.echo(f"peak {peak / 1e9:.0f} GFLOP/s; {repeats} turns each; seconds are medians")
    line = "{:>8} {:>13} {:>4} {:>9} {:>9} {:>6} {:>10} {:>5} {:>6}".format
    click.echo(line("shape", "work", "ipc", "engine", "seconds", "ratio", "from-to", "peak", "MiB"))
    for work in works:
        for shape in shapes if work != "cell" else ("1x8x8",):
            for ipc in ipcs if work not in ("test", "cell") else (1,):
                channels, height, width = map(int, shape.split("x"))
                if "error" in work:
                    # Of several batches, the authors' code draws another order.
                    sides = workers if work == "error" and ipc * 10 > 256 else [*workers, *extra]
                    print_errors(sides, work, (channels, height, width), ipc)
                    continue
                sides = [*workers, *extra]
                if work == "cell":  # too short to be compiled for
                    sides = [worker for worker in workers if worker.name != "compiled"]
                print_times(sides, work, (channels, height, width), ipc, repeats, peak)
    for worker in [*workers, *extra]:
        worker.stop()


if __name__ == "__main__":
    main()
