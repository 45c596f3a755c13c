#!/usr/bin/env bash
# What only a machine with a GPU can show, which continuous integration has not: run it there, and look at what it
# leaves. Needs dcbench and pytest installed, and no network. Takes minutes; each part runs whatever became of another.
#
#   ci/cuda.sh [folder for what is found, results/cuda]
set -uo pipefail
out=$(realpath -m "${1:-results/cuda}")
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda} # cpu tries out the script itself
mkdir -p "$out"
failed=0

part() { # part NAME COMMAND...: its output goes to the terminal and to a file
    local name=$1
    shift
    echo "== $name: $*"
    "$@" 2>&1 | tee "$out/$name.txt" || failed=1
}

command -v nvidia-smi >/dev/null && nvidia-smi >"$out/gpu.txt"
part doctor dcbench doctor
part tests python -m pytest -o addopts=-q --slow tests/engine/test_graphs.py tests/utils/test_devices.py tests/engine/test_engine.py tests/evaluate/test_trial.py \
    tests/plugins/test_gradmatch.py tests/checks/test_checks.py tests/core/test_loss_watch.py tests/engine/test_memory.py
# The same spec twice, by each engine: the same sets and accuracies? That fast's are plain's, too, is looked at, not asked.
rm -rf "$out"/results-{plain,fast}-{1,2}
for engine in plain fast; do
    for turn in 1 2; do
        part "run-$engine-$turn" dcbench run -d digits -m gradmatch --budget quick --device "$device" \
            --engine "$engine" --results "$out/results-$engine-$turn"
    done
done
part bytes python - "$out" <<'END'
import json, sys
from pathlib import Path

def outcome(folder):
    lines = map(json.loads, (folder / "records.jsonl").read_text().splitlines())
    return sorted((line["condense_key"], line["evaluation_network"], line["eval_seed"], line["set_sha256"],
                   line["accuracy"]) for line in lines)

out = Path(sys.argv[1])
plain, again, fast, fast_again = (outcome(out / f"results-{name}") for name in ("plain-1", "plain-2", "fast-1", "fast-2"))
print("plain twice the same:", plain == again)
print("fast twice the same:", fast == fast_again)
print("fast as plain:", plain == fast)
sys.exit(not (plain == again and fast == fast_again))
END
part engines python tests/benchmarks/engines.py --device "$device" --ipc 1 --ipc 10 --repeats 3 \
    --work step --work epoch --work evaluations --work test
exit $failed
