#!/usr/bin/env bash
# A browser for the tests of the leaderboard's page: one that is installed, or else one that is installed here.
set -euo pipefail
cd "$(dirname "$0")/.."

has_browser() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
}

if ! has_browser >/dev/null && command -v apt-get >/dev/null; then
    if [ "$(id -u)" -eq 0 ]; then
        as_root=()
    else
        as_root=(sudo -n)
    fi
    "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -y -qq chromium >/dev/null || true
fi
# Not every distribution has a package of that name: then the one that playwright brings.
if ! has_browser; then
    uv run playwright install --with-deps chromium
fi
