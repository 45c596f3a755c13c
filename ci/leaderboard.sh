#!/usr/bin/env bash
# The committed tables are what the committed records give.
set -euo pipefail
cd "$(dirname "$0")/.."
uv run dcbench leaderboard check leaderboards
