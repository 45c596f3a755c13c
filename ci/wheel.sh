#!/usr/bin/env bash
# The built wheel in an environment of its own, with a third party's plugin installed beside it; then the journey of
# an author: a new plugin of every kind, installed with pip, checked and run.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
uv build --quiet --wheel --out-dir "$scratch" .
uv venv --quiet "$scratch/venv"
uv pip install --quiet --python "$scratch/venv/bin/python" "$scratch"/dcbench_suite-*.whl ./tests/third_party/first_images
cd "$scratch" # away from the checkout, so that only what is installed can be imported
dcbench=$scratch/venv/bin/dcbench
"$dcbench" --version
"$dcbench" plugin list
"$dcbench" run --dataset digits --method first_images --method random --eval-network mlp --evals 1
"$dcbench" run --method gradmatch -o iterations=2 --no-baselines --eval-network mlp --evals 1
test "$(ls results/sets/*.png | wc -l)" -eq 3

"$scratch/venv/bin/python" -m ensurepip > /dev/null
for kind in method dataset architecture; do
    "$dcbench" plugin new "my-$kind" --kind "$kind"
    "$scratch/venv/bin/python" -m pip install --quiet --editable "./my-$kind"
    "$dcbench" plugin check "my-$kind"
done
"$dcbench" plugin list
"$dcbench" run --results author --method my-method -o steps=5 --network my-architecture --eval-network my-architecture
"$dcbench" run --results author --dataset my-dataset --budget quick --method my-method -o steps=5 --eval-network mlp
"$dcbench" plugin check first-images
