"""What a large grid takes: reading its results, planning what is left, building its tables, and adding to it.

    python tests/benchmarks/large_grid.py --size 25000 --size 50000 --size 100000

Half of the records are those of a plan on ``digits`` that has as many trials, so half of it is left; the others
are of made-up data sets, among them one set with a tenth of all trials. Each step is a process of its own, and its
seconds begin when it has imported what it needs. The peak is that of the whole process, torch and all.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice, product
from pathlib import Path

import click
import pandas
import torch

import dcbench
from dcbench.core.spec import BUDGETS, CondenseSpec, EvaluationSpec
from dcbench.evaluate.protocols import PROTOCOLS
from dcbench.leaderboard.report.files import build
from dcbench.plugins import Plugins
from dcbench.results.provenance import PeakMemory, sources
from dcbench.results.records import Record
from dcbench.results.store import RECORDS, Store
from dcbench.run.cells import Plan
from dcbench.run.plan import Request, make_plan
from dcbench.run.scheduler import Scheduler

APPENDED = 100
EVALS = 10
NETWORKS = ("alexnet", "convnet", "lenet", "mlp")


def plan_of(size: int) -> Plan:
    """Return a plan on digits with that many trials, or a few more."""

    def planned(sets: int) -> Plan:
        request = Request(
            datasets=("digits",),
            methods=("random", "herding", "gradmatch"),
            ipcs=(1, 10, 50),
            networks=("convnet", "mlp"),
            eval_networks=NETWORKS,
            options={},
            protocol=PROTOCOLS["dc"],
            budget=BUDGETS["full"],
            sets=sets,
            evals=EVALS,
            seed=0,
            device=torch.device("cpu"),
            data_root=Path("nowhere"),
        )
        return make_plan(request, Plugins.load())

    of_one_seed = sum(len(cell.trials) for cell in planned(2).cells) - sum(
        len(cell.trials) for cell in planned(1).cells
    )
    return planned(-(-size // of_one_seed))


def planned_records(size: int) -> Iterator[Record]:
    """Return the records of the first trials of a plan, one after the other."""
    plan = plan_of(size)
    for cell in plan.cells:
        changed = list(cell.source.origin.changed_options)
        for network, seed in cell.trials:
            record = made_up(cell.spec, str(network), seed, changed)
            origin = cell.source.origin
            yield record.model_copy(
                update={"source_sha256": origin.source_sha256, "sources": sources(origin, network)}
            )


def invented_records(size: int) -> Iterator[Record]:
    """Return records of data sets and methods that there are not, five sets a row, one large set first."""
    large = invented_spec("dataset_0", 1, 0, "convnet", 0)
    yield from (made_up(large, NETWORKS[0], seed, ["option_0"]) for seed in range(size // 10))
    rows = product(range(100), (1, 10, 50), range(1, 6), ("convnet", "lenet"))
    for number, ipc, method, matched in rows:
        for seed in range(5):
            spec = invented_spec(f"dataset_{number}", ipc, method, matched, seed)
            for network, eval_seed in product(NETWORKS, range(EVALS)):
                yield made_up(spec, network, eval_seed, ["option_0"])


def invented_spec(dataset: str, ipc: int, method: int, matched: str, seed: int) -> CondenseSpec:
    """Return a spec with some options."""
    return CondenseSpec(
        dataset=dataset,
        dataset_sha256=f"{dataset:0<64}",
        method=f"method_{method}",
        method_version="1",
        options={f"option_{number}": number / 10 for number in range(8)},
        ipc=ipc,
        matching_network=matched,
        seed=seed,
    )


def made_up(spec: CondenseSpec, network: str, seed: int, changed: list[str]) -> Record:
    """Return a record of a trial, with an accuracy that follows from the trial."""
    key = spec.key()
    evaluation = EvaluationSpec(
        set_sha256=key[::-1],
        dataset=spec.dataset,
        dataset_sha256=spec.dataset_sha256,
        evaluation_network=network,
        protocol="dc",
        budget="full",
        seed=seed,
    )
    drawn = random.Random(f"{spec.method} {network}").uniform(0.3, 0.9)
    accuracy = drawn + random.Random(f"{key} {network} {seed}").gauss(0, 0.02)
    return Record(
        status="ok",
        key=evaluation.key(),
        condense_key=key,
        set_sha256=evaluation.set_sha256,
        dataset=spec.dataset,
        dataset_sha256=spec.dataset_sha256,
        ipc=spec.ipc,
        method=spec.method,
        method_version=spec.method_version,
        options=spec.options,
        changed_options=changed,
        matching_network=spec.matching_network,
        condense_seed=spec.seed,
        evaluation_network=network,
        protocol="dc",
        budget="full",
        engine="fast",
        track="hard-label",
        eval_seed=seed,
        accuracy=round(min(max(accuracy, 0), 1), 4),
        n_test=10_000,
        condense_seconds=round(100 * drawn, 3),
        eval_seconds=round(3 * drawn, 3),
        peak_memory_bytes=2**30,
        storage_bytes=40_960,
        plugin="dcbench-suite",
        plugin_version=dcbench.__version__,
        source_sha256="f" * 64,
        sources={"matching_network": "a" * 64, "evaluation_network": f"{len(network):064}"},
        packages={"dcbench-suite": dcbench.__version__},
        augmentation="",
        device="cpu: made up, 2 threads",
        torch=torch.__version__,
        dcbench=dcbench.__version__,
        git_sha="0" * 40,
        git_dirty=False,
        started_at=f"2025-01-01T00:{seed // 60 % 60:02}:{seed % 60:02}Z",
    )


def generate(folder: Path, size: int) -> None:
    """Write the results."""
    half = size // 2
    with (folder / RECORDS).open("w") as file:
        for records in (planned_records(size), invented_records(size)):
            file.writelines(record.to_json() + "\n" for record in islice(records, half))


def read(folder: Path, size: int) -> None:
    """Read the results."""
    assert len(Store(folder).records) == size


def plan(folder: Path, size: int) -> None:
    """Plan, and find out what is left to do, as a run that goes on does."""
    store, planned = Store(folder), plan_of(size)
    scheduler = Scheduler(planned, Plugins.load(), store)
    left = sum(scheduler._pieces) - len(scheduler.cells)  # a cell is a piece beside its trials
    assert left == sum(len(cell.trials) for cell in planned.cells) - size // 2
    assert len(planned.covered(store)) == size // 2


def append(folder: Path, size: int) -> None:
    """Append records, once they are read, while another run does: each reads what the other has added."""
    ours, theirs = Store(folder), Store(folder)
    begin = time.perf_counter()
    for record in islice(invented_records(size), APPENDED):
        theirs.append(record)
        ours.refresh()
        ours.append(record)
    milliseconds = 1000 * (time.perf_counter() - begin) / APPENDED
    click.echo(f"{size:7} records: {milliseconds:.1f} ms for two that are appended and one refreshing", err=True)


def tables(folder: Path, size: int) -> None:
    """Build tables and page."""
    assert build(folder)


STEPS: dict[str, Callable[[Path, int], None]] = {
    "generate": generate,
    "read": read,
    "plan": plan,
    "tables": tables,
    "append": append,
}


def measured(step: str, folder: Path, size: int) -> dict[str, float]:
    """Take a step in a process of its own; return seconds and MiB."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder), "--size", str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@click.command()
@click.option("--size", "sizes", multiple=True, type=int, default=(25_000, 50_000, 100_000), show_default=True)
@click.option("--step", hidden=True)
@click.option("--folder", hidden=True, type=click.Path(path_type=Path))
def main(sizes: tuple[int, ...], step: str | None, folder: Path | None) -> None:
    """Take every step for every size and print what it took."""
    if step and folder:
        memory = PeakMemory(torch.device("cpu"))
        before = memory.read() / 2**20
        begin = time.perf_counter()
        STEPS[step](folder, sizes[0])
        seconds = time.perf_counter() - begin
        peak = memory.read() / 2**20
        click.echo(json.dumps({"seconds": seconds, "MiB": peak, "MiB imported": before}))
        return
    rows = []
    for size in sorted(sizes):
        with tempfile.TemporaryDirectory() as scratch:
            measured("generate", Path(scratch), size)
            rows += [
                {"step": step, "records": size, **measured(step, Path(scratch), size)}
                for step in STEPS
                if step != "generate"
            ]
    table = pandas.DataFrame(rows).sort_values(["step", "records"], kind="stable")
    for name in ("seconds", "MiB"):
        table[f"{name}, times the one before"] = table[name] / table.groupby("step")[name].shift()
    click.echo(table.to_markdown(index=False, floatfmt=",.2f"))


if __name__ == "__main__":
    main()
