"""Tables inside a README: what stands between two marks is generated, the rest is left alone.

::

    <!-- dcbench:table dataset=digits ipc=1 -->
    …
    <!-- dcbench:end -->
"""

from __future__ import annotations

import re
from pathlib import Path

from dcbench.leaderboard.board import Leaderboard
from dcbench.leaderboard.report.tables import brief
from dcbench.leaderboard.standings import Standings, find_table
from dcbench.utils.errors import DcbenchError, unknown_name
from dcbench.utils.text_files import read_text

_MARKED = re.compile(r"<!-- dcbench:table (?P<what>.*?) -->\n.*?<!-- dcbench:end -->", re.DOTALL)
_CHOICES = ("dataset", "ipc", "protocol", "track", "measure")


def with_tables(path: Path, leaderboard: Leaderboard) -> tuple[str, str]:
    """Return the text of a README as it is, and with every marked table as the records give it.

    Raises:
        DcbenchError: naming the file, when it cannot be read, or a mark asks for a table that there is not.
    """
    text = read_text(path)
    if text.count("<!-- dcbench:table") != len(_MARKED.findall(text)):
        raise DcbenchError(f"{path}: a `dcbench:table` mark is without its `<!-- dcbench:end -->`.")

    def filled(found: re.Match[str]) -> str:
        table = brief(_table(path, found["what"], leaderboard), leaderboard)
        return f"<!-- dcbench:table {found['what']} -->\n\n{table}\n\n<!-- dcbench:end -->"

    return text, _MARKED.sub(filled, text)


def _table(path: Path, what: str, leaderboard: Leaderboard) -> Standings:
    """Return the one table that a mark asks for."""
    asked = dict(word.partition("=")[::2] for word in what.split())
    for key in asked:
        if key not in _CHOICES:
            raise DcbenchError(f"{path}: {unknown_name('word of a mark', key, _CHOICES)}")
    try:
        return find_table(leaderboard.tables, asked)
    except DcbenchError as error:
        raise DcbenchError(f"{path}: a mark asks for the table of {what!r}: {error}") from None
