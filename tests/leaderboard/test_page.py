"""The leaderboard's page: what is in it, and what a real browser makes of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers import make_record, make_set

import dcbench.leaderboard.report.pixels as pixels
from dcbench.leaderboard.board import read_leaderboard
from dcbench.leaderboard.report.data import leaderboard_data
from dcbench.leaderboard.report.files import build, differences
from dcbench.leaderboard.report.page import SCRIPTS, page
from dcbench.leaderboard.report.tables import MARK, markdown
from dcbench.results.set_file import save_set
from dcbench.results.stored_pixels import stored_pixels
from dcbench.results.submission import Verification, records_sha256, write_verification

HOSTILE = "</script><img src=x onerror=alert(1)><!--<script>"
NETWORKS = ("alexnet", "convnet", "mlp")
METHODS = {
    # name: accuracy, seconds, whether it matches on networks
    "alpha": (0.30, 200.0, ("convnet", "mlp")),
    "beta": (0.09, 5.0, ("convnet",)),
    "gamma": (0.295, 1000.0, (None,)),
    "random": (0.05, 0.001, (None,)),
}
CARD = """
title = "Made up <b>entirely</b>"
submitted_by = ["Somebody"]
notes = ["Nothing of this was ever run."]
commands = ["dcbench run -m alpha"]
[[methods]]
name = "alpha"
paper = "A paper"
paper_url = "https://example.org/paper"
code_url = "https://example.org/code"
"""


def key_of(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def trials(method, match, dataset, ipc, track, networks=NETWORKS, sets=2, **changes):
    """Two networks for each set and evaluation network, all accuracies different."""
    accuracy, seconds, _ = METHODS.get(method, (0.6, 1.0, None))
    made = []
    for seed in range(sets):
        for network in networks:
            for number in range(2):
                lower = 0.01 * NETWORKS.index(network) + (0.02 if match not in (None, network) else 0)
                fields = {
                    "dataset": dataset,
                    "dataset_sha256": key_of(dataset),
                    "ipc": ipc,
                    "method": method,
                    "matching_network": match,
                    "track": track,
                    "evaluation_network": network,
                    "condense_seed": seed,
                    "eval_seed": number,
                    "accuracy": accuracy + 0.005 * seed + 0.002 * number - lower + 0.003 * (ipc or 100),
                    "condense_seconds": seconds,
                    "storage_bytes": 900 * (ipc or 100) + 100 * len(method),
                    "condense_key": key_of(method, match, dataset, ipc, track, seed),
                }
                made.append(make_record(**(fields | changes)))
    return made


def records():
    """Two data sets, two sizes, two tracks, three networks; one data set without references; gaps."""
    made = []
    for ipc in (1, 10):
        for method, (_, _, matches) in METHODS.items():
            for match in matches:
                made += trials(method, match, "first", ipc, "hard-label")
        made += trials("soft", "convnet", "first", ipc, "soft-label")
    made += trials("whole", None, "first", None, "hard-label", sets=1, seeded=False, accuracy=0.9)
    made += trials("timeless", "mlp", "first", 1, "hard-label", networks=("mlp",), condense_seconds=None)
    made += trials("alpha", "convnet", "second", 1, "hard-label", networks=("convnet", "mlp"))
    made += trials("alpha", "mlp", "second", 1, "hard-label", networks=("convnet", "mlp"), sets=1)
    return made


def write_leaderboard(folder, some, card=CARD, sets=True):
    """A leaderboard of one submission, with the first condensed set of most of its rows."""
    submission = folder / "submissions" / "made-up"
    (submission / "sets").mkdir(parents=True)
    (submission / "records.jsonl").write_text("".join(each.to_json() + "\n" for each in some))
    (submission / "card.toml").write_text(card)
    (folder / "rules.toml").write_text(
        'floor = "random"\nceiling = "whole"\nsets = 2\nevals = 2\n'
        'networks = ["alexnet", "convnet", "mlp"]\n[datasets]\nsecond = ["convnet", "mlp"]\n'
    )
    if sets:
        stored = {each.condense_key: each for each in some if each.ipc and each.method != "gamma"}
        for key, each in stored.items():
            write_set(submission / "sets" / f"set_{key[:12]}.safetensors", each.ipc)
    return folder


def write_set(path, ipc, channels=1, classes=3):
    condensed = make_set(ipc=ipc, channels=channels, classes=classes)
    header = {
        "set_sha256": condensed.sha256(),
        "classes": [str(label) for label in range(classes)],
        "normalisation": {"mean": [0.5] * channels, "std": [0.25] * channels, "zca": False},
        "train_size": 1000,
    }
    save_set(path, condensed, header)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    return write_leaderboard(tmp_path_factory.mktemp("board"), records())


@pytest.fixture(scope="module")
def html(board):
    return page(read_leaderboard(board))


@pytest.fixture(scope="module")
def data(html):
    return Elements.of(html).data


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the texts of its scripts and style sheet."""

    def __init__(self):
        super().__init__()
        self.found, self.texts, self._inside = [], {}, None

    @classmethod
    def of(cls, text):
        parser = cls()
        parser.feed(text)
        return parser

    @property
    def data(self):
        return json.loads(self.texts["data"])

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = dict(attrs).get("id", tag)

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.texts[self._inside] = self.texts.get(self._inside, "") + data


# The file


def test_the_same_records_give_the_same_bytes_whatever_their_order(tmp_path, html):
    shuffled = records()
    random.Random(0).shuffle(shuffled)
    assert page(read_leaderboard(write_leaderboard(tmp_path, shuffled))) == html


def test_other_records_give_another_page(tmp_path, html):
    assert page(read_leaderboard(write_leaderboard(tmp_path, records()[:-1]))) != html


def test_every_row_and_number_is_in_the_data(board, data):
    exact = json.dumps(leaderboard_data(read_leaderboard(board)))
    expected = json.loads(exact, parse_float=lambda number: round(float(number), 9))
    found = [
        {k: v for k, v in table.items() if k != "test_images"}
        | {"entries": [{k: v for k, v in each.items() if "picture" not in k} for each in table["entries"]]}
        for table in data["tables"]
    ]
    assert found == expected
    assert sum(len(table["entries"]) for table in found) > 15


def test_the_page_is_among_the_generated_files(tmp_path):
    folder = write_leaderboard(tmp_path, records(), sets=False)
    assert folder / "tables" / "index.html" in build(folder)
    assert differences(folder) == []
    written = folder / "tables" / "index.html"
    written.write_text(written.read_text().replace("</h1>", "!</h1>"))
    assert differences(folder) == ["tables/index.html is not what the records give"]
    assert MARK in written.read_text()


def test_text_from_records_is_data_alone(tmp_path):
    some = trials(HOSTILE, "convnet", HOSTILE, 1, "hard-label")
    some += trials("tuned", "convnet", HOSTILE, 1, "hard-label", options={"lr": HOSTILE}, changed_options=["lr"])
    text = page(read_leaderboard(write_leaderboard(tmp_path, some, f"title = '{HOSTILE}'")))
    parsed = Elements.of(text)
    assert [tag for tag, _ in parsed.found].count("script") == 2
    assert not [tag for tag, _ in parsed.found if tag in ("img", "iframe", "object", "embed")]
    assert not [name for _, attributes in parsed.found for name in attributes if name.startswith("on")]
    entries = parsed.data["tables"][0]["entries"]
    assert {each["method"] for each in entries} == {HOSTILE, "tuned"}
    assert f"lr={HOSTILE}" in {each["options"] for each in entries}
    assert parsed.data["submissions"][0]["title"] == HOSTILE


def test_nothing_is_fetched_and_only_what_is_inlined_may_run(html):
    parsed = Elements.of(html)
    loaded = [
        (tag, attributes) for tag, attributes in parsed.found if {"src", "srcset", "href"} & attributes.keys()
    ]
    assert loaded == [("link", {"rel": "icon", "href": "data:,"})]
    assert "@import" not in html
    assert "url(" not in html
    (policy,) = [
        each["content"] for _, each in parsed.found if each.get("http-equiv") == "Content-Security-Policy"
    ]
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed["default-src"] == "'none'"
    for name, directive in (("script", "script-src"), ("style", "style-src")):
        digest = base64.b64encode(hashlib.sha256(parsed.texts[name].encode()).digest()).decode()
        assert allowed[directive] == f"'sha256-{digest}'"


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_write_text_not_markup(name):
    text = (Path(pixels.__file__).parent / "page" / name).read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bfetch\b|Storage", text
    )


# Pictures


def pictured(data, method, ipc):
    entries = [each for table in data["tables"] for each in table["entries"]]
    return next(each for each in entries if each["method"] == method and each["ipc"] == ipc)


def test_the_pixels_are_those_of_the_first_set(board, data):
    entry = pictured(data, "alpha", 10)
    first = key_of("alpha", entry["matching_network"], "first", 10, "hard-label", 0)
    assert entry["picture"] == first
    path = board / "submissions" / "made-up" / "sets" / f"set_{first[:12]}.safetensors"
    images, labels = stored_pixels(path, 10)
    picture = data["pictures"][first]
    assert picture["shape"] == list(images.shape) == [30, 1, 8, 8]
    assert picture["labels"] == labels.tolist()
    assert base64.b64decode(picture["pixels"]) == images.tobytes()


def test_it_is_said_why_a_row_has_no_picture(data):
    assert pictured(data, "gamma", 1)["picture"] is None
    assert pictured(data, "gamma", 1)["no_picture"] == "its set is not in the folder"
    assert pictured(data, "alpha", 1)["no_picture"] is None


def test_large_pictures_show_fewer_images_of_each_class(board, monkeypatch):
    monkeypatch.setattr(pixels, "MOST_BYTES_OF_A_ROW", 3 * 3 * 64)  # three of each of three classes
    shown, _ = pixels.page_pictures(read_leaderboard(board))
    assert max(len(each.labels) for each in shown.values()) == 9
    assert all(each.pixels.nbytes <= 3 * 3 * 64 for each in shown.values())
    assert any(each.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] for each in shown.values())


def test_pictures_of_which_not_one_of_each_class_fits_are_left_out(board, monkeypatch):
    monkeypatch.setattr(pixels, "MOST_BYTES_OF_A_ROW", 3 * 64 - 1)
    shown, why_not = pixels.page_pictures(read_leaderboard(board))
    assert not shown
    assert "one image of each class is more than fits this page" in why_not.values()


@pytest.mark.parametrize("most", [3000, 1000, 400])
def test_all_pictures_together_stay_within_a_bound(board, monkeypatch, most):
    everything, _ = pixels.page_pictures(read_leaderboard(board))
    assert sum(each.pixels.nbytes for each in everything.values()) > 3000
    monkeypatch.setattr(pixels, "MOST_BYTES_OF_A_PAGE", most)
    shown, why_not = pixels.page_pictures(read_leaderboard(board))
    assert 0 < sum(each.pixels.nbytes for each in shown.values()) <= most
    assert shown.keys() | why_not.keys() >= everything.keys()


def test_first_of_each_class_keeps_the_order():
    labels = np.array([0, 0, 2, 2, 2, 5])
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    chosen = pixels.first_of_each(pixels.Pixels(images, labels), 2)
    assert chosen.pixels.flatten().tolist() == [0, 1, 2, 3, 5]
    assert chosen.labels.tolist() == [0, 0, 2, 2, 5]


# In a browser

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    installed = next((path for name in names if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        if installed is None and not Path(playwright.chromium.executable_path).exists():
            reason = (
                f"no browser: none of {', '.join(names)} on the path, and `playwright install chromium` not run"
            )
            (pytest.fail if os.environ.get("DCBENCH_REQUIRE_BROWSER") else pytest.skip)(reason)
        launched = playwright.chromium.launch(executable_path=installed, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def url(board, html):
    path = board / "page.html"
    path.write_text(html, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def open_page(browser, url):
    """Opens the page from its file, without a network; nothing may be complained of or asked for meanwhile."""
    contexts, problems = [], []

    def opened(fragment="", address=url, **options):
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        shown = context.new_page()
        shown.set_default_timeout(10_000)
        shown.on("console", lambda message: problems.append(f"console: {message.text}"))
        shown.on("pageerror", lambda error: problems.append(f"error: {error}"))
        shown.on(
            "request", lambda request: request.url.startswith(("file:", "data:")) or problems.append(request.url)
        )
        shown.goto(f"{address}{fragment}")
        return shown

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def table_of(shown, name):
    """The table of a data set, track and size, as its region is called."""
    return shown.get_by_role("region", name=name, exact=True).locator("table.standings")


def column(table, key):
    """The texts of a column, from the first row to the last; of a cell its first line."""
    index = table.locator("thead th").evaluate_all(
        "(all, key) => all.findIndex((th) => th.dataset.key === key)", key
    )
    assert index >= 0
    script = (
        "(rows, at) => rows.map((row) => (row.cells[at].firstElementChild ?? row.cells[at]).textContent.trim())"
    )
    return table.locator("tbody tr").evaluate_all(script, index)


FIRST = "first, dc, hard labels, 1 image per class"
SECOND = "second, dc, hard labels, 1 image per class"


def test_it_opens_from_a_file_with_every_table(open_page, data):
    shown = open_page()
    assert shown.locator("table.standings").count() == len(data["tables"]) == 5
    rows = sum(len(table["entries"]) + len(table["missing"]) for table in data["tables"])
    assert shown.locator("table.standings tbody tr").count() == rows
    there = sum(len(table["entries"]) for table in data["tables"])
    assert shown.locator("#count").text_content() == f"{there} of {there} rows in 5 of 5 tables"


def test_a_row_shows_what_it_is_made_of(open_page, data):
    shown = open_page()
    (entry,) = [
        each
        for each in data["tables"][0]["entries"]
        if (each["method"], each["matching_network"]) == ("alpha", "convnet")
    ]
    row = table_of(shown, FIRST).locator("tbody tr", has_text="alpha").filter(has_text="convnet")
    text = row.inner_text()
    score, (low, high) = entry["scores"]["convnet"], entry["scores"]["convnet"]["interval"]
    assert f"{100 * score['mean']:.1f}*" in text
    assert f"{100 * low:.1f}–{100 * high:.1f}" in text
    assert f"{100 * score['between_std']:.1f} / {100 * score['within_std']:.1f}" in text
    assert f"{100 * entry['unseen_mean']:.1f}" in text
    assert f"{100 * entry['gap']:.0f} ± {100 * entry['gap_half_width']:.0f} %" in text
    assert "2×2" in text
    assert row.get_by_role("link", name="paper").get_attribute("href") == "https://example.org/paper"
    assert row.get_by_role("link", name="code").get_attribute("href") == "https://example.org/code"
    assert row.locator(".whisker").count() == 1


def test_each_table_says_over_which_networks_its_means_are(open_page, data):
    table = data["tables"][0]
    shown = open_page().locator(".averaged").first.inner_text()
    means = f"Mean: {', '.join(table['networks'])}. Unseen: {', '.join(table['unseen'])}."
    # The middle of the rows' means is 28.3 %: sqrt(0.283 * 0.717 / 100) = 4.5 %.
    error = "100 test images: the standard error of an accuracy of 28.3 due to them is 4.5 points."
    assert shown.startswith(f"{means} {error}")
    assert table["unseen"]


def test_ties_provisional_rows_and_missing_references(open_page, data):
    shown = open_page()
    ranks = [each["rank"] for each in data["tables"][0]["entries"]]
    tied = next(f"{best}–{worst}" for best, worst in filter(None, ranks) if best != worst)
    assert tied in column(table_of(shown, FIRST), "rank")
    lacking = table_of(shown, FIRST).locator("tr.provisional").inner_text()
    assert "timeless †" in lacking
    assert "not tried on alexnet, convnet" in lacking
    second = table_of(shown, SECOND)
    assert second.locator("tr.missing").all_inner_texts()[0].startswith("–\trandom\nreference: missing, no record")
    assert column(second, "method") == ["alpha", "alpha †", "random", "whole"]
    assert set(second.locator("tr.missing td").all_inner_texts()) == {"–"}


def test_verified_rows_say_by_which_version(open_page, tmp_path):
    folder = write_leaderboard(tmp_path, records())
    submission = folder / "submissions" / "made-up"
    verified = {key_of("beta", "convnet", "first", 1, "hard-label", seed): NETWORKS for seed in (0, 1)}
    verified[key_of("gamma", None, "first", 1, "hard-label", 0)] = NETWORKS
    found = Verification(
        dcbench="9.8.7", records_sha256=records_sha256(submission), seed=0, evals=1, verified=verified
    )
    write_verification(submission, found)
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    table = table_of(open_page(address=(folder / "page.html").as_uri()), FIRST)
    marks = dict(zip(column(table, "method"), column(table, "verified"), strict=True))
    assert (marks["beta"], marks["gamma"], marks["alpha"]) == ("✓ 9.8.7", "✓ 9.8.7 (1 of 2 sets)", "–")


def test_tracks_have_tables_of_their_own(open_page):
    shown = open_page()
    soft = table_of(shown, "first, dc, soft labels, 1 image per class")
    assert sorted(column(soft, "method")) == ["random", "random_soft", "soft", "whole"]
    assert "soft" not in column(table_of(shown, FIRST), "method")


def test_protocols_have_tables_of_their_own_and_a_filter(open_page, tmp_path):
    more = [*records(), *trials("alpha", "convnet", "second", 1, "hard-label", protocol="dsa")]
    folder = write_leaderboard(tmp_path, more)
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    shown = open_page("#protocol=dsa", address=(folder / "page.html").as_uri())
    assert shown.locator("select[name=protocol]").input_value() == "dsa"
    assert shown.locator("table.standings").count() == 1
    assert column(table_of(shown, "second, dsa, hard labels, 1 image per class"), "method")[0] == "alpha"
    assert "protocol dsa" in shown.locator("article.board h2").text_content()


def number(text):
    """A cell as a number; None for a dash."""
    cleaned = text.replace("*", "").replace(",", "").replace("−", "-").removesuffix(" %")
    units = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
    value, _, unit = cleaned.partition(" ")
    return None if value == "–" else float(value) * units.get(unit, 1)


@pytest.mark.parametrize(
    ("title", "key", "first"),
    [
        ("mean", "mean", "descending"),
        ("alexnet", "on alexnet", "descending"),
        ("unseen", "unseen", "descending"),
        ("gap", "gap", "descending"),
        ("drop", "drop", "ascending"),
        ("condense seconds", "seconds", "ascending"),
        ("set size", "bytes", "ascending"),
    ],
)
def test_sorting_is_by_number_with_dashes_last(open_page, title, key, first):
    shown = open_page()
    table = table_of(shown, FIRST)
    at_first = column(table, "method")
    button = table.get_by_role("button", name=title, exact=True)
    for order in (first, {"ascending": "descending", "descending": "ascending"}[first]):
        button.click()
        assert table.locator(f'th[data-key="{key}"]').get_attribute("aria-sort") == order
        assert table.locator("th[aria-sort=none]").count() == table.locator("thead th").count() - 1
        numbers = [number(text) for text in column(table, key)]
        there = [each for each in numbers if each is not None]
        assert there == sorted(there, reverse=order == "descending")
        assert len(set(there)) > 1
        assert numbers[len(there) :] == [None] * (len(numbers) - len(there))
    button.click()
    assert column(table, "method") == at_first
    assert table.locator("th[aria-sort=none]").count() == table.locator("thead th").count()


def test_sorting_as_text_would_be_another_order(open_page):
    """Otherwise the test before could not tell."""
    texts = [text for text in column(table_of(open_page("#sort=seconds"), FIRST), "seconds") if text != "–"]
    assert texts == ["0.001", "1", "5", "200", "200", "1,000"]
    assert texts != sorted(texts)


def test_sorting_by_keyboard(open_page):
    shown = open_page()
    table = table_of(shown, FIRST)
    button = table.get_by_role("button", name="method", exact=True)
    button.focus()
    for order, expected in (("ascending", sorted), ("descending", lambda names: sorted(names, reverse=True))):
        shown.keyboard.press("Enter")
        assert table.locator('th[data-key="method"]').get_attribute("aria-sort") == order
        names = [name.removesuffix(" †") for name in column(table, "method")]
        assert names == expected(names)
        assert button.evaluate("(node) => node === document.activeElement")


def test_missing_references_stay_last_however_sorted(open_page):
    for order in ("ascending", "descending"):
        table = table_of(open_page(f"#sort=method&order={order}"), SECOND)
        assert column(table, "method")[-2:] == ["random", "whole"]


@pytest.mark.parametrize(
    ("name", "value", "tables"),
    [("dataset", "second", 1), ("ipc", "10", 2), ("track", "soft-label", 2), ("network", "alexnet", 4)],
)
def test_filters_narrow_and_the_address_says_so(open_page, name, value, tables):
    shown = open_page()
    shown.locator(f"select[name={name}]").select_option(value)
    assert shown.locator("table.standings").count() == tables
    assert shown.evaluate("location.hash") == f"#{name}={value}"
    count = shown.locator("#count").text_content()
    assert count.endswith(f"in {tables} of 5 tables")
    shown.reload()
    assert shown.locator(f"select[name={name}]").input_value() == value
    assert shown.locator("table.standings").count() == tables
    assert shown.locator("#count").text_content() == count
    shown.get_by_role("button", name="Reset").click()
    assert shown.locator("table.standings").count() == 5
    assert shown.evaluate("location.hash") in ("", "#")


def test_a_network_leaves_its_column_and_the_rows_tried_on_it(open_page):
    table = table_of(open_page("#network=alexnet"), FIRST)
    keys = table.locator("thead th").evaluate_all("(all) => all.map((th) => th.dataset.key)")
    assert [key for key in keys if key.startswith("on ")] == ["on alexnet"]
    assert "timeless" not in " ".join(column(table, "method"))
    assert {"random", "whole"} <= set(column(table, "method"))


def test_references_stay_whatever_they_were_tried_on(open_page, tmp_path):
    some = trials("alpha", "mlp", "first", 1, "hard-label")
    some += trials("random", None, "first", 1, "hard-label", networks=("convnet",))
    some += trials("beta", "convnet", "first", 1, "hard-label", networks=("convnet",))
    folder = write_leaderboard(tmp_path, some)
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    table = table_of(open_page("#network=mlp", (folder / "page.html").as_uri()), FIRST)
    assert column(table, "method") == ["alpha", "random †", "whole"]
    assert column(table, "on mlp")[1:] == ["–", "–"]


def test_a_link_shows_filters_and_order_together(open_page):
    shown = open_page("#dataset=first&ipc=10&track=hard-label&sort=seconds&order=descending")
    assert shown.locator("h2").all_inner_texts()[0].startswith("first")
    table = table_of(shown, "first, dc, hard labels, 10 images per class")
    assert column(table, "seconds")[0] == "1,000"
    shown.evaluate("location.hash = '#dataset=second'")
    shown.wait_for_function("document.querySelectorAll('table.standings').length === 1")
    assert shown.locator("select[name=dataset]").input_value() == "second"


def test_an_address_that_names_what_is_not_there_shows_everything(open_page):
    shown = open_page("#dataset=nowhere&sort=nothing&order=sideways")
    assert shown.locator("table.standings").count() == 5


def test_where_nothing_matches_there_is_a_way_back(open_page):
    shown = open_page("#dataset=second&track=soft-label")
    assert shown.locator("table.standings").count() == 0
    assert "Nothing matches" in shown.locator("#nothing").inner_text()
    shown.get_by_role("button", name="Show everything").click()
    assert shown.locator("table.standings").count() == 5
    assert shown.evaluate("document.activeElement.name") == "dataset"


def test_the_heat_map_is_matched_on_by_evaluated_on(open_page, data):
    shown = open_page("#dataset=first&ipc=1&track=hard-label")
    heat = shown.locator("table.heat")
    assert heat.locator("thead th").all_inner_texts() == ["method", "matched on", *NETWORKS]
    entries = data["tables"][0]["entries"]
    rows = heat.locator("tbody tr").evaluate_all(
        "(all) => all.map((tr) => [...tr.cells].map((c) => c.textContent))"
    )
    assert len(rows) == len(entries)
    found = [row[-4:] for row in rows]
    for entry in entries:
        own = entry["matching_network"]
        expected = [own or "none"]
        for network in NETWORKS:
            score = entry["scores"].get(network)
            expected.append(f"{100 * score['mean']:.1f}{'*' * (network == own)}" if score else "–")
        assert expected in found
    assert heat.locator("tbody").count() == len({entry["method"] for entry in entries})


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => value / 255);
    const [r, g, b] = parts.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const checked = "table.heat td:not(.empty), button, .lacks, .small, select, h1";
  return [...document.querySelectorAll(checked)].map((node) => {
    let ground = node;
    while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
    const both = [getComputedStyle(node).color, getComputedStyle(ground).backgroundColor].map(luminance);
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_themes(open_page, scheme):
    shown = open_page(color_scheme=scheme)
    brightness = (
        shown.evaluate("getComputedStyle(document.body).backgroundColor").removeprefix("rgb(").split(",")[0]
    )
    assert (int(brightness) < 60) == (scheme == "dark")
    contrasts = shown.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert min(contrasts) >= 4.5


def test_the_theme_can_be_changed_by_hand(open_page):
    shown = open_page(color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = shown.evaluate(colour)
    shown.get_by_role("button", name="Light theme").click()
    assert shown.evaluate(colour) != dark
    shown.get_by_role("button", name="Dark theme").click()
    assert shown.evaluate(colour) == dark


def test_the_plots_have_a_point_for_every_row_that_can_have_one(open_page, data):
    shown = open_page("#dataset=first&track=hard-label")
    tables = [each for each in data["tables"] if (each["dataset"], each["track"]) == ("first", "hard-label")]
    entries = [each for table in tables for each in table["entries"] if not each["reference"]]
    ranked = [each for each in entries if each["mean"] is not None]
    assert len(ranked) == 8
    assert shown.locator("svg.plot").count() == 2
    for number_of_plot in range(2):
        plot = shown.locator("svg.plot").nth(number_of_plot)
        assert plot.locator("g.point").count() == len(ranked)
        assert plot.locator("path.whiskers").count() == len(ranked)
        assert plot.locator("line.reference.floor").count() == 2
        assert plot.locator("line.reference.ceiling").count() == 1
        assert plot.locator("title").first.text_content().startswith("first, dc, hard labels: mean accuracy")
        assert "alpha matched on convnet, 1 image per class: " in plot.locator("desc").text_content()
    assert shown.locator("ul.legend li").all_inner_texts() == ["alpha", "beta", "gamma"]
    assert "1 row without this accuracy" in shown.locator(".part").nth(1).inner_text()


def test_the_plots_follow_the_network(open_page):
    shown = open_page("#dataset=first&ipc=1&track=hard-label&network=mlp")
    seconds, size = shown.locator("svg.plot").all()
    assert seconds.locator("text.name").last.text_content() == "accuracy on mlp, %"
    assert (seconds.locator("g.point").count(), size.locator("g.point").count()) == (4, 5)  # timeless has a size


def test_points_stand_where_their_numbers_say(open_page):
    shown = open_page("#dataset=first&ipc=1&track=hard-label")
    seconds = shown.locator("svg.plot").first
    marks = seconds.locator("g.point").evaluate_all(
        "(all) => all.map((g) => [g.dataset.method, g.querySelector('.mark').getBoundingClientRect().x])"
    )
    places = {}
    for method, x in marks:
        places.setdefault(method, []).append(x)
    by_place = sorted(places, key=lambda method: min(places[method]))
    assert by_place == ["beta", "alpha", "gamma"]  # 5, 200 and 1,000 seconds


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("kind", "least"), [("text.label", 4), ("text.tick.x", 2), ("text.tick.y", 3)])
def test_labels_do_not_overlap(open_page, kind, least, width):
    shown = open_page("#dataset=first&track=hard-label", viewport={"width": width, "height": 800})
    boxes = shown.evaluate(
        """(kind) => [...document.querySelectorAll("svg.plot")].map((plot) =>
          [...plot.querySelectorAll(kind)].map((text) => text.getBoundingClientRect().toJSON()))""",
        kind,
    )
    assert len(boxes) == 2
    for labels in boxes:
        assert len(labels) >= least
        for index, one in enumerate(labels):
            for other in labels[index + 1 :]:
                beside = one["right"] <= other["left"] or other["right"] <= one["left"]
                above = one["bottom"] <= other["top"] + 4 or other["bottom"] <= one["top"] + 4
                assert beside or above


def test_of_many_points_the_best_of_each_method_is_labelled(open_page, tmp_path):
    some = []
    for index in range(18):
        some += trials("alpha", f"net{index}", "first", 1, "hard-label", accuracy=0.2 + 0.01 * index)
    some += trials("beta", "mlp", "first", 1, "hard-label", condense_seconds=9000.0)
    folder = write_leaderboard(tmp_path, some)
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    plot = open_page(address=(folder / "page.html").as_uri()).locator("svg.plot").first
    assert plot.locator("g.point").count() == 19
    assert sorted(plot.locator("text.label").all_text_contents()) == ["alpha", "beta"]


def test_three_sizes_make_curves_and_say_how_many_random_images_are_as_good(open_page, tmp_path):
    accuracies = {
        "random": {1: 0.2, 10: 0.4, 50: 0.6},
        "alpha": {1: 0.5, 10: 0.65, 50: 0.7},
        "beta": {1: 0.7},
        "gamma": {1: 0.1},
    }
    some = [
        each
        for method, by_ipc in accuracies.items()
        for ipc, accuracy in by_ipc.items()
        for each in trials(method, None, "first", ipc, "hard-label", accuracy=accuracy)
    ]
    folder = write_leaderboard(tmp_path, some, sets=False)
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    shown = open_page(address=(folder / "page.html").as_uri())
    part = shown.locator("details", has_text="Accuracy against images per class")
    assert part.locator("svg.plot > title").text_content().endswith(" against images per class")
    assert part.locator("path.curve").count() == 4
    said = " ".join(part.locator("p.small").all_inner_texts())
    # Half of the way from 40 to 60 %, over the logarithm: 10 times the root of 5.
    assert "alpha with 1 image per class: random needs about 22 images per class for as much." in said
    assert "beta with 1 image per class: random needs more than 50 images" in said
    assert "gamma with 1 image per class: random needs at most 1 images" in said


def test_two_sizes_make_no_curves(open_page):
    assert open_page().locator("path.curve").count() == 0


def test_a_row_has_an_address_of_its_own(open_page):
    shown = open_page("#dataset=first&ipc=10&track=hard-label")
    table = table_of(shown, "first, dc, hard labels, 10 images per class")
    row = table.locator("tbody tr", has_text="beta")
    address = row.locator("a.permanent").get_attribute("href")
    again = open_page(address)
    linked = again.locator("#linked")
    assert "beta" in linked.inner_text()
    assert linked.evaluate("row => row.closest('table').caption.textContent").endswith("10 images per class")
    assert linked.evaluate("row => row.getBoundingClientRect().top < innerHeight")
    again.get_by_role("button", name="Reset").click()
    assert again.locator("#linked").count() == 0


def test_sets_made_elsewhere_are_marked(open_page, tmp_path):
    some = trials("alpha", "mlp", "first", 1, "hard-label")
    some += trials(
        "theirs",
        "mlp",
        "first",
        1,
        "hard-label",
        plugin="imported",
        options={"file_sha256": "0" * 64, "set": 0, "pixels": "raw"},
    )
    folder = write_leaderboard(tmp_path, some, sets=False)
    board = read_leaderboard(folder)
    (folder / "page.html").write_text(page(board))
    shown = open_page(address=(folder / "page.html").as_uri())
    marked = [each for each in shown.locator("tbody th").all_inner_texts() if "made elsewhere" in each]
    assert [each.startswith("theirs") for each in marked] == [True]
    text = markdown(board.tables[0], board)
    assert "theirs ‡" in text
    assert "‡ made elsewhere" in text


def test_many_networks_have_one_column_and_their_rank_correlations(open_page, tmp_path):
    names = [f"mlp:width={width}" for width in range(10, 22)]

    def searched(method, ipc, protocol):
        made = trials(method, None, "first", ipc, "hard-label", ["mlp"] * 12, protocol=protocol, seeded=bool(ipc))
        return [
            each.model_copy(update={"evaluation_network": names[place % 24 // 2], "accuracy": 0.01 * (place % 24)})
            for place, each in enumerate(made)
        ]

    some = searched("whole", None, "dc:steps=4") + searched("random", 1, "dc:steps=2")
    folder = write_leaderboard(tmp_path, some, sets=False)
    with (folder / "rules.toml").open("a") as file:
        file.write('[search]\nmethod = "whole"\ntruth = "dc:steps=4"\nprotocol = "dc:steps=2"\n')
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    shown = open_page(address=(folder / "page.html").as_uri())
    table = table_of(shown, "first, dc:steps=2, hard labels, 1 image per class")
    assert column(table, "networks")[0].startswith("12: ")
    assert column(table, "kendall")[0] == "1.00 [1.00, 1.00]"
    assert shown.locator("th", has_text="mlp:width").count() == 0


def test_sizes_are_plotted_where_they_differ(open_page, tmp_path):
    some = trials("alpha", "mlp", "first", 1, "hard-label", storage_bytes=1000)
    some += trials("beta", "mlp", "first", 1, "hard-label", storage_bytes=1000)
    folder = write_leaderboard(tmp_path, some)
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    shown = open_page(address=(folder / "page.html").as_uri())
    (title,) = shown.locator("svg.plot > title").all_text_contents()
    assert title.endswith(" against seconds to condense a set")


def test_labels_tell_options_where_rows_of_a_method_differ_in_them(open_page, tmp_path):
    some = trials("alpha", "mlp", "first", 1, "hard-label")
    some += trials(
        "alpha", "mlp", "first", 10, "hard-label", options={"iterations": 50}, changed_options=["iterations"]
    )
    folder = write_leaderboard(tmp_path, some)
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    plot = open_page(address=(folder / "page.html").as_uri()).locator("svg.plot").first
    assert sorted(plot.locator("text.label").all_text_contents()) == [
        "alpha · ipc 1",
        "alpha · ipc 10 · iterations=50",
    ]


def test_images_are_drawn_pixel_by_pixel(open_page, data):
    shown = open_page("#dataset=first&ipc=10&track=hard-label")
    canvas = shown.locator("canvas").first
    assert canvas.get_attribute("aria-label").startswith("30 condensed images of 3 classes: ")
    assert canvas.evaluate("(node) => getComputedStyle(node).imageRendering") == "pixelated"
    assert canvas.evaluate("(node) => [node.width, node.height]") == [3 * 9 - 1, 10 * 9 - 1]
    drawn = canvas.evaluate("(node) => [...node.getContext('2d').getImageData(9, 18, 8, 1).data]")
    name = shown.locator("figcaption").first.inner_text()
    entry = next(
        each
        for table in data["tables"]
        for each in table["entries"]
        if each["ipc"] == 10 and name == f"{each['method']} matched on {each['matching_network']}"
    )
    raw = base64.b64decode(data["pictures"][entry["picture"]]["pixels"])
    third_of_second_class = raw[12 * 64 : 12 * 64 + 8]
    assert drawn[0::4] == drawn[1::4] == drawn[2::4] == list(third_of_second_class)
    assert "gamma: its set is not in the folder." in shown.locator(".lacking").inner_text()


def test_a_phone_scrolls_tables_not_the_page(open_page):
    shown = open_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    assert shown.locator("canvas").count() > 0
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    scroller = shown.locator(".scroller").first
    assert scroller.evaluate("(node) => node.scrollWidth > node.clientWidth")
    scroller.evaluate("(node) => { node.scrollLeft = 300; }")
    method = scroller.locator("tbody th").first.bounding_box()
    assert 0 <= method["x"] <= 20
    assert shown.locator("svg.plot").first.bounding_box()["width"] <= 390


def test_what_has_no_text_of_its_own_has_a_name(open_page):
    shown = open_page()
    unnamed = shown.evaluate(
        """() => [
          ...[...document.querySelectorAll("select")].filter((node) => !node.labels.length),
          ...[...document.querySelectorAll("button, a, summary")].filter((node) => !node.textContent.trim()),
          ...[...document.querySelectorAll("canvas")].filter((node) => !node.getAttribute("aria-label")),
          ...[...document.querySelectorAll("svg[role=img]")].filter((node) => !node.querySelector("title, desc")),
          ...[...document.querySelectorAll("table")].filter((node) => !node.caption?.textContent),
          ...[...document.querySelectorAll("th")].filter((node) => !node.scope),
        ].map((node) => node.outerHTML)"""
    )
    assert unnamed == []
    identifiers = shown.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(identifiers) == len(set(identifiers))
    assert shown.evaluate("document.documentElement.lang") == "en"


def test_hostile_text_is_shown_as_text(open_page, tmp_path):
    some = trials(HOSTILE, "convnet", "first", 1, "hard-label", options={"lr": HOSTILE}, changed_options=["lr"])
    folder = write_leaderboard(tmp_path, some, f"title = '{HOSTILE}'")
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    shown = open_page(address=(folder / "page.html").as_uri())
    row = shown.locator("table.standings tbody tr").first
    assert HOSTILE in row.inner_text()
    assert f"lr={HOSTILE}" in row.inner_text()
    assert HOSTILE in shown.locator("#submissions").inner_text()
    assert shown.locator("img").count() == 0
    assert shown.evaluate("link('javascript:alert(1)', 'x')") is None


def hostile(place):
    """A text that would be markup or a script anywhere, and says where it was put."""
    return f"""{place}'"><svg/onload=alert(1)></title></style></td></noscript>{HOSTILE}{{{{7*7}}}}${{1}}"""


HOSTILE_CARD = f"""
title = {json.dumps(hostile("title"))}
submitted_by = [{json.dumps(hostile("who"))}]
commands = [{json.dumps(hostile("command"))}]
notes = [{json.dumps(hostile("note"))}]
[[methods]]
name = {json.dumps(hostile("method"))}
title = {json.dumps(hostile("titled"))}
authors = [{json.dumps(hostile("author"))}]
paper = {json.dumps(hostile("paper"))}
paper_url = {json.dumps("https://example.org/" + hostile("paper_url"))}
code_url = {json.dumps("http://javascript:alert(1)@example.org")}
"""


def hostile_board(folder):
    """A leaderboard whose every text that a submission brings is hostile; options' names and versions, too."""
    fields = {
        "method_version": hostile("version"),
        "options": {hostile("option"): hostile("value")},
        "changed_options": [hostile("option")],
        "protocol": hostile("protocol"),
        "device": hostile("device"),
        "plugin": hostile("plugin"),
        "dcbench": hostile("dcbench"),
        "engine": hostile("engine"),
    }
    networks = ("constructor", "__proto__", hostile("network"))
    some = []
    for number, network in enumerate(networks):
        made = trials(hostile("method"), hostile("matched"), hostile("data"), 1, "hard-label", sets=1)
        some += [
            each.model_copy(update=fields | {"evaluation_network": network, "accuracy": 0.5 + number / 10})
            for each in made
        ]
    some += trials("plain", "convnet", hostile("data"), 1, "hard-label", protocol=hostile("protocol"))
    write_leaderboard(folder, some, HOSTILE_CARD)
    submission = folder / "submissions" / "made-up"
    keys = {each.condense_key for each in some}
    found = Verification(
        dcbench="0.1.0",
        records_sha256=records_sha256(submission),
        seed=0,
        evals=1,
        verified={key: (hostile("verified"),) for key in keys},
    )
    write_verification(submission, found)
    return folder


def test_every_text_that_a_submission_brings_is_shown_as_text(open_page, tmp_path):
    folder = hostile_board(tmp_path)
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    for scripts in (True, False):
        shown = open_page(address=(folder / "page.html").as_uri(), java_script_enabled=scripts)
        shown.on("dialog", lambda dialog: pytest.fail("a script of theirs ran"))
        assert shown.locator("img, iframe, object, embed").count() == 0
        attributes = shown.locator("*").evaluate_all("(all) => all.flatMap((each) => each.getAttributeNames())")
        assert not [name for name in attributes if name.startswith("on")]
        places = ["method", "version", "option", "value", "matched", "data"]
        if scripts:
            for details in shown.locator("details:not([open]) > summary").all():
                details.click()
            places += ["network", "protocol", "device", "verified", "title", "who", "command", "note"]
            places += ["titled", "author", "paper"]
        text = shown.locator("body").evaluate("(body) => body.textContent")
        assert [place for place in places if hostile(place) not in text] == []
        addresses = shown.locator("a:not(.permanent)").evaluate_all(
            "(all) => all.map((each) => new URL(each.href).protocol)"
        )
        assert set(addresses) <= {"https:", "http:"}
        assert bool(addresses) == scripts


def test_networks_are_no_more_than_names(open_page, tmp_path):
    folder = hostile_board(tmp_path)
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    shown = open_page(address=(folder / "page.html").as_uri())
    table = shown.locator("table.standings").first
    for network in ("constructor", "__proto__"):
        values = dict(zip(column(table, "method"), column(table, f"on {network}"), strict=True))
        assert next(value for name, value in values.items() if name.startswith("plain")) == "–"
        assert [value for value in values.values() if value != "–"] != []
    assert "NaN" not in shown.locator("body").inner_text()


def test_without_scripts_there_are_plain_tables(open_page, data):
    shown = open_page(java_script_enabled=False)
    assert shown.locator("noscript table").count() == len(data["tables"])
    text = shown.locator("noscript").inner_text()
    assert "timeless †" in text
    assert f"{100 * data['tables'][0]['entries'][0]['mean']:.1f}" in text
    assert shown.locator("#filters").is_hidden()


def test_many_boards_keep_what_is_beneath_their_tables_closed(open_page, tmp_path):
    some = [each for number in range(4) for each in trials("alpha", "mlp", f"data {number}", 1, "hard-label")]
    folder = write_leaderboard(tmp_path, some)
    (folder / "page.html").write_text(page(read_leaderboard(folder)))
    shown = open_page(address=(folder / "page.html").as_uri())
    assert shown.locator("svg.plot").count() == 0
    shown.locator("summary", has_text="Accuracy against cost").first.click()
    shown.wait_for_selector("svg.plot")
    assert shown.locator("svg.plot").count() == 1  # all sets are of one size
