"""Tables between marks in a README: generated, and nothing else of the file touched."""

from __future__ import annotations

import pytest
from helpers import make_record

from dcbench.leaderboard.report.files import build, differences
from dcbench.utils.errors import DcbenchError

README = """# Ours

Before.

<!-- dcbench:table dataset=made_up ipc=1 -->
old
<!-- dcbench:end -->

After, with \\1 and \\g<what>.
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "leaderboards"
    folder.mkdir()
    (folder / "rules.toml").write_text('readmes = ["../README.md"]\n')
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    lines = [
        make_record(accuracy=0.25 * (1 + seed), condense_seed=seed, evaluation_network=network).to_json() + "\n"
        for seed in range(2)
        for network in ("convnet", "mlp")
    ]
    (folder / "records.jsonl").write_text("".join(lines))
    return folder


def readme(folder):
    return (folder.parent / "README.md").read_text(encoding="utf-8")


def test_the_table_is_written_and_the_rest_left_as_it_was(folder):
    assert "a table in README.md is not what the records give" in differences(folder)
    assert folder.parent / "README.md" in build(folder)
    before, _, rest = readme(folder).partition("<!-- dcbench:table dataset=made_up ipc=1 -->\n")
    table, _, after = rest.partition("<!-- dcbench:end -->")
    assert before == README.split("<!--")[0]
    assert after == README.split("<!-- dcbench:end -->")[1]
    assert "| gradmatch | convnet" in table
    assert "37.5*" in table
    assert "old" not in table
    assert differences(folder) == []
    built = readme(folder)
    build(folder)
    assert readme(folder) == built


def test_an_edited_number_is_reported(folder):
    build(folder)
    (folder.parent / "README.md").write_text(readme(folder).replace("37.5*", "73.5*"), encoding="utf-8")
    assert differences(folder) == ["a table in README.md is not what the records give"]


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("dataset=other ipc=1", "0 tables are of that kind"),
        ("dataset=made_up ipc=10", "0 tables are of that kind"),
        ("datset=made_up", "Did you mean 'dataset'"),
    ],
)
def test_a_mark_that_asks_for_no_table_is_named_and_nothing_is_written(folder, mark, said):
    text = README.replace("dataset=made_up ipc=1", mark)
    (folder.parent / "README.md").write_text(text, encoding="utf-8")
    with pytest.raises(DcbenchError, match=said) as error:
        build(folder)
    assert "README.md" in str(error.value)
    assert readme(folder) == text
    assert not (folder / "tables").exists()


def test_a_mark_that_asks_for_several_tables_or_has_no_end_is_named(folder):
    with (folder / "records.jsonl").open("a") as file:
        file.write(make_record(track="soft-label", method="soft").to_json() + "\n")
    with pytest.raises(DcbenchError, match="2 tables"):
        build(folder)
    (folder.parent / "README.md").write_text(README.replace("<!-- dcbench:end -->", ""), encoding="utf-8")
    with pytest.raises(DcbenchError, match="without its"):
        build(folder)


def test_a_readme_that_is_not_there_is_named(folder):
    (folder.parent / "README.md").unlink()
    with pytest.raises(DcbenchError, match=r"README\.md cannot be read"):
        build(folder)
