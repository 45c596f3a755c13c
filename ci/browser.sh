#!/usr/bin/env bash
# The leaderboard's page in a real browser: one that is installed, or else one that is fetched here.
set -euo pipefail
cd "$(dirname "$0")/.."

has_browser() {
  command -v chromium || command -v chromium-browser || command -v google-chrome
}

if ! has_browser >/dev/null; then
  if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    apt-get update -qq && apt-get install -y -qq chromium
  elif command -v apt-get >/dev/null && sudo -n true 2>/dev/null; then
    sudo apt-get update -qq && sudo apt-get install -y -qq chromium
  fi
fi
# Not every release of a distribution has a package of that name that works: then the one that playwright brings.
if ! has_browser >/dev/null; then
  uv run playwright install chromium
fi
DCBENCH_REQUIRE_BROWSER=1 uv run pytest tests/test_page.py
