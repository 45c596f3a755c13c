#!/usr/bin/env bash
# What the README says: the tests, from nothing but Python and pip.
set -euo pipefail
cd "$(dirname "$0")/.."
pip install --quiet uv
uv run pytest --numprocesses auto --dist loadfile
