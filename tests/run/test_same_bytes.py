"""The same spec on the same number of threads gives the same bytes as ever: keys, condensed sets, accuracies.

`tests/support/bytes.json` has what earlier code gave on one machine.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dcbench.cli import main
from dcbench.results.store import RECORDS, read_records

KNOWN = json.loads((Path(__file__).parents[1] / "support" / "bytes.json").read_text())
COMMAND = (
    "run -d digits -m gradmatch -m random -m herding -m kcenter -m whole --ipc 1 --budget quick --evals 1 "
    "-o gradmatch.iterations=2 -o herding.epochs=1 -o kcenter.epochs=1 "
    "--eval-network mlp --eval-network convnet:width=16,depth=2 --threads 1"
)


def processor():
    """The processor as Linux describes it; empty elsewhere."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return ""
    first = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    return f"{first.get('model name')}, family {first.get('cpu family')}, model {first.get('model')}"


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """The records of the command, by method and evaluation network."""
    folder, before = tmp_path_factory.mktemp("bytes"), torch.get_num_threads()
    with pytest.raises(SystemExit) as end:
        main([*COMMAND.split(), "--results", str(folder)], standalone_mode=False)
    torch.set_num_threads(before)
    assert end.value.code == 0
    return {(each.method, each.evaluation_network): each for each in read_records(folder / RECORDS)}


@pytest.mark.parametrize(
    "known", KNOWN["trials"], ids=lambda known: f"{known['method']}-{known['evaluation_network']}"
)
def test_the_same_spec_gives_the_same_bytes(trials, known):
    record = trials[known["method"], known["evaluation_network"]]
    assert record.condense_key == known["condense_key"]
    here = {"torch": torch.__version__, "processor": processor()}
    for name, value in here.items():
        if value != KNOWN[name]:
            pytest.skip(f"keys are the same; bytes are known for {name} {KNOWN[name]}, not {value}")
    assert record.set_sha256 == known["set_sha256"]
    assert record.key == known["key"]
    assert record.accuracy == known["accuracy"]
