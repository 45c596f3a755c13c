"""What a checkpoint of gradient matching takes, and what it costs at most.

python tests/benchmarks/checkpoints.py --shape 3x32x32 --classes 10 --ipc 50 --repeats 20
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from dcbench.condense.checkpoint import WORTH, FileCheckpoint, checkpoint_seconds, checkpointing_every
from dcbench.utils.seeds import new_generator


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--shape", default="3x32x32", help="channels, height and width of an image")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--ipc", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="where to write: another disk, say")
    arguments = parser.parse_args()
    shape = (arguments.classes * arguments.ipc, *map(int, arguments.shape.split("x")))
    state = {
        "done": torch.tensor(1),
        "images": torch.randn(shape),
        "losses": torch.zeros(1000),
        "momentum": torch.randn(shape),
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, checkpointing_every(0):
        path, writing, reading = Path(folder) / "state", [], []
        for _ in range(arguments.repeats):
            checkpoint = FileCheckpoint(path, new_generator("benchmark"))
            started = time.perf_counter()
            checkpoint.offer(lambda: state)
            writing.append(time.perf_counter() - started)
            started = time.perf_counter()
            assert checkpoint.load() is not None
            reading.append(time.perf_counter() - started)
        size = path.stat().st_size
    print(f"{size / 1e6:.1f} MB, images of {'x'.join(map(str, shape))}, n = {arguments.repeats}")
    for name, seconds in (("writing", writing), ("reading", reading)):
        low, high = 1000 * min(seconds), 1000 * max(seconds)
        print(f"{name}: {1000 * statistics.median(seconds):.0f} ms ({low:.0f}–{high:.0f})")
    share = statistics.median(writing) / max(checkpoint_seconds(), WORTH * statistics.median(writing))
    print(f"at most {100 * share:.2g} % of the time, one every {checkpoint_seconds():g} s")


if __name__ == "__main__":
    main()
