"""What it costs to have a cell worked on by another process, or on a Ray cluster, rather than here.

    python tests/benchmarks/dispatch.py --seconds 10 --cells 6 --repeats 2

Cells that keep one core busy for as long as is said, and train one small network on digits, one cell at a time: in
this process, in another, and on a cluster of one node, in turns. What counts is the time from one cell's record to
the next one's; what comes before the first, as starting a cluster, is said apart.
"""

from __future__ import annotations

import importlib
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import click
import pandas
import torch

from dcbench.api import CondensedSet, Method, Task, hookimpl, option
from dcbench.core.spec import BUDGETS
from dcbench.evaluate.protocols import PROTOCOLS
from dcbench.plugins import PluginInfo, Plugins
from dcbench.results.store import Store
from dcbench.run.executors import Executor
from dcbench.run.executors.processes import Processes
from dcbench.run.executors.serial import Serial
from dcbench.run.plan import Request, make_plan
from dcbench.run.scheduler import Scheduler


class Busy(Method):
    """Random images, after a while."""

    name = "busy"
    depends_on = frozenset({"ipc", "seed"})
    seconds: float = option(10.0, "how long it computes", ge=0)

    def condense(self, task: Task) -> CondensedSet:
        """Compute for as long as the options say."""
        end = time.monotonic() + self.seconds
        matrix = torch.eye(64)
        while time.monotonic() < end:
            matrix = matrix @ matrix
        classes = range(task.info.num_classes)
        chosen = [task.train.draw_indices(label, task.ipc, task.generator) for label in classes]
        return CondensedSet.select(task.train, torch.cat(chosen))


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [Busy]


def timed(executor: Executor, seconds: float, cells: int) -> tuple[list[float], float]:
    """Run some cells; return the seconds from each record to the next, and those before the first."""
    plugins = Plugins.load()
    plugins.add(sys.modules[__name__], PluginInfo("busy", __name__, "tests", "0"))
    request = Request(
        datasets=("digits",),
        methods=("busy",),
        ipcs=(1,),
        networks=("mlp:width=8",),
        eval_networks=("mlp:width=8",),
        options={"seconds": str(seconds)},
        protocol=PROTOCOLS["dc"],
        budget=BUDGETS["quick"],
        sets=cells,
        evals=1,
        seed=0,
        device=torch.device("cpu"),
        data_root=Path("nowhere"),
    )
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        scheduler = Scheduler(make_plan(request, plugins), plugins, store, executor=executor)
        begin = time.time()
        assert not scheduler.run().failures
        moments = sorted(datetime.fromisoformat(record.started_at).timestamp() for record in store.records)
    return [later - earlier for earlier, later in pairwise(moments)], moments[0] - begin


def executors() -> dict[str, Executor]:
    """Return those to compare, each working on one cell at a time with one thread."""
    from dcbench.run.executors.ray_cluster import Needs, RayCluster

    return {
        "this process": Serial(),
        "--jobs": Processes(jobs=1, threads=1),
        "--executor ray": RayCluster(Needs(), threads=1, engine="plain", at_once=1),
    }


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="For which a cell condenses.")
@click.option("--cells", default=6, show_default=True, help="In each turn.")
@click.option("--repeats", default=2, show_default=True, help="Turns.")
def main(seconds: float, cells: int, repeats: int) -> None:
    """Run the cells in every way, in turns, and print what a cell takes."""
    torch.set_num_threads(1)
    found: dict[str, list[float]] = defaultdict(list)
    starts: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        for name, executor in executors().items():
            periods, start = timed(executor, seconds, cells)
            found[name] += periods
            starts[name].append(start - seconds)
    here = statistics.median(found["this process"])
    rows = [
        {
            "worked on in": name,
            "s a cell": statistics.median(periods),
            "least": min(periods),
            "greatest": max(periods),
            "n": len(periods),
            "more than here, %": 100 * (statistics.median(periods) / here - 1),
            "s before the first": statistics.median(starts[name]),
        }
        for name, periods in found.items()
    ]
    click.echo(pandas.DataFrame(rows).to_markdown(index=False, floatfmt=",.3f"))


if __name__ == "__main__":
    # Other processes import the method by the name of this module.
    here = str(Path(__file__).parent)
    sys.path.insert(0, here)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    importlib.import_module("dispatch").main()
