#!/usr/bin/env bash
# What the README says: the tests, from nothing but Python and pip.
set -euo pipefail
cd "$(dirname "$0")/.."
pip install --quiet uv
# A worker that crashes fails its test and is not replaced: pytest-xdist would wait for ever for the other tests of
# the file (its issue 1378).
uv run pytest --numprocesses auto --dist loadfile --max-worker-restart 0
