"""What records claim of a method: its seeds, whether it takes one, which options are its defaults."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import torch

from dcbench.core.method import Method, Setting
from dcbench.leaderboard.scores import competitor
from dcbench.plugins import Plugins
from dcbench.results.records import Record
from dcbench.run.cells import Bench
from dcbench.utils.errors import DcbenchError


def row_problems(
    records: Sequence[Record], benches: Mapping[str, Bench], plugins: Plugins
) -> list[tuple[Record, str]]:
    """Say which claims cannot be, with a record that makes them.

    Seeds are to be 0, 1, …, so that nobody chooses among them; where a method takes the seed, other seeds give
    other sets; and what is said of a method that is installed, in the same version, is what it says itself.
    Sets made elsewhere have no seeds that are known, but no set is to count twice.
    Whether somebody took the best of many sets by other ways cannot be seen.

    Args:
        records: successful, one for each trial.
        benches: data sets by name.
        plugins: what is installed.
    """
    by_row: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        by_row[competitor(record)].append(record)
    said = []
    for row in by_row.values():
        said += [(row[0], what) for what in (*_seed_problems(row), *_method_problems(row[0], benches, plugins))]
    return said


def _seed_problems(row: Sequence[Record]) -> Iterator[str]:
    """Find seeds that are left out, and the same set under several seeds, or in several files."""
    imported = row[0].imported
    if imported:
        if not all(record.seeded for record in row):
            yield "its sets were made elsewhere, and nothing says that another seed would make the same"
        by_key = {record.condense_key: record.set_sha256 for record in row}
        if len(set(by_key.values())) < len(by_key):
            yield "the same set counts more than once: it is in several files, or in one several times"
    else:
        by_seed = {record.condense_seed: record.set_sha256 for record in row}
        if sorted(by_seed) != list(range(len(by_seed))):
            yield f"its sets have seeds {_listed(by_seed)}, not 0 to {len(by_seed) - 1}"
        if len(set(by_seed.values())) < len(by_seed):
            yield "the same set stands under several seeds"
    trials: dict[tuple[str, str | None], set[int]] = defaultdict(set)
    for record in row:
        of = f"set {str(record.set_sha256)[:12]}" if imported else f"seed {record.condense_seed}"
        trials[of, record.evaluation_network].add(record.eval_seed or 0)
    for (of, network), seeds in sorted(trials.items(), key=str):
        if sorted(seeds) != list(range(len(seeds))):
            yield f"{of} on {network}: its networks have seeds {_listed(seeds)}, not 0 to {len(seeds) - 1}"


def _method_problems(record: Record, benches: Mapping[str, Bench], plugins: Plugins) -> Iterator[str]:
    """Compare claims with the method itself, where just that is installed."""
    cls = plugins.methods.items.get(record.method)
    if cls is None or cls.version != record.method_version or record.dataset not in benches:
        return
    try:
        method = cls.configure(record.options)
        changed = _changed_options(method, record, benches[record.dataset])
    except DcbenchError as error:
        yield f"the method refuses its options: {error}"
        return
    except Exception as error:  # whatever a plugin may raise
        yield f"the method fails on its options: {type(error).__name__}: {error}"
        return
    depends = method.dependencies()
    if record.seeded != ("seed" in depends):
        yield f"it says that the method {'takes' if record.seeded else 'ignores'} the seed, which is not so"
    if ("ipc" in depends) != (record.ipc is not None):
        yield f"its ipc is {record.ipc}, and the method {'ignores' if record.ipc else 'needs'} one"
    if ("network" in depends) != (record.matching_network is not None):
        network = record.matching_network
        yield f"its matching network is {network}, and the method {'ignores' if network else 'needs'} one"
    if changed != sorted(record.changed_options):
        yield (
            f"it names {_listed(record.changed_options) or 'none'} as options that are not the method's defaults; "
            f"they are {_listed(changed) or 'none'}"
        )


def _changed_options(method: Method, record: Record, bench: Bench) -> list[str]:
    """Return the names of the options that are not the method's defaults in the record's setting, sorted."""
    counts = torch.bincount(bench.data.train.labels, minlength=bench.info.num_classes)
    setting = Setting(bench.info, tuple(counts.tolist()), record.ipc or 1, record.matching_network or "")
    return sorted(method.resolve(setting).changed_from_defaults(setting))


def _listed(values: object) -> str:
    assert isinstance(values, dict | set | list)
    return ", ".join(str(each) for each in sorted(values))
