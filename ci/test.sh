#!/usr/bin/env bash
# What the README says, and the slow tests too, from nothing but Python and pip.
set -euo pipefail
cd "$(dirname "$0")/.."
pip install --quiet uv
uv run pytest --slow --durations 10
