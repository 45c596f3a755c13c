"""How long the page takes to load with many rows: those that ship, and copies of them under other names.

    python tests/benchmarks/page_rows.py --rows 500

Needs playwright and Chromium. A load is timed from the start of the navigation until the page has been drawn: the
scripts have run, and two frames have been shown. Each load is by a new tab of one browser. Beside it stands the
CPU time of the page's thread, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from statistics import median

import click
from playwright.sync_api import sync_playwright

from dcbench.leaderboard.board import read_leaderboard
from dcbench.leaderboard.report.page import page
from dcbench.results.store import RECORDS, read_records
from dcbench.results.submission import SETS, SUBMISSIONS

BOARD = Path(__file__).parents[2] / "leaderboards"
DRAWN = """() => new Promise((done) => {
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));
})"""


def copy_of(source: Path, target: Path, number: int) -> None:
    """Copy a submission, with another name for each of its methods."""
    target.mkdir(parents=True)
    lines = []
    for record in read_records(source / RECORDS):
        renamed = record.model_copy(update={"method": f"{record.method}_{number}"})
        key = renamed.condense_spec().key()
        renamed = renamed.model_copy(update={"condense_key": key})
        lines.append(renamed.model_copy(update={"key": renamed.evaluation_spec().key()}).to_json())
        if stored := next(source.glob(f"{SETS}/*_{record.condense_key[:12]}.safetensors"), None):
            (target / SETS).mkdir(exist_ok=True)
            shutil.copy(stored, target / SETS / f"copy_{key[:12]}.safetensors")
    (target / RECORDS).write_text("".join(f"{line}\n" for line in lines))


@click.command()
@click.option("--rows", "wanted", default=500, show_default=True)
@click.option("--loads", default=10, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the page here.")
def main(wanted: int, loads: int, keep: Path | None) -> None:
    """Print the milliseconds of several loads."""
    with tempfile.TemporaryDirectory() as temporary:
        board = Path(shutil.copytree(BOARD, Path(temporary) / "board"))
        for number in range(1, -(-wanted // len(read_leaderboard(BOARD).rows))):
            for source in sorted((BOARD / SUBMISSIONS).iterdir()):
                copy_of(source, board / SUBMISSIONS / f"{source.name}-{number}", number)
        found = read_leaderboard(board)
        made = keep or Path(temporary) / "index.html"
        made.write_text(page(found))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            taken, busy = [], []
            for _ in range(loads):
                tab = browser.new_page(viewport={"width": 1280, "height": 800})
                session = tab.context.new_cdp_session(tab)
                session.send("Performance.enable", {"timeDomain": "threadTicks"})
                tab.goto(made.resolve().as_uri())
                taken.append(tab.evaluate(DRAWN))
                metrics = {
                    each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]
                }
                busy.append(1000 * metrics["TaskDuration"])
                tab.close()
            browser.close()
        size = made.stat().st_size / 1e6
    print(f"{len(found.rows)} rows in {len(found.tables)} tables, {size:.1f} MB, n = {loads} loads; ms:")
    for name, times in (("load", taken), ("CPU", busy)):
        print(f"{name:5} median {median(times):.0f}, least {min(times):.0f}, most {max(times):.0f}")


if __name__ == "__main__":
    main()
