#!/usr/bin/env bash
# Build the tables and the page again, and lay them out for publishing.
#
#   ci/page.sh FOLDER
set -euo pipefail
target=$(realpath -m "$1")
cd "$(dirname "$0")/.."
${DCBENCH:-uv run dcbench} leaderboard build leaderboards
mkdir -p "$target"
cp leaderboards/tables/* "$target/"
