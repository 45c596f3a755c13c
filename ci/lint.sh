#!/usr/bin/env bash
# Lint, formatting and types.
set -euo pipefail
cd "$(dirname "$0")/.."
uv run ruff check .
uv run ruff format --check .
uv run mypy
uv run lint-imports
