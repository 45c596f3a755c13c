"""``dcbench leaderboard submit``: from the results of a run to a folder of a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dcbench.cli import options


@click.command()
@click.argument("results", type=options.EXISTING_FOLDER)
@click.option(
    "--into",
    default="leaderboards/submissions",
    show_default=True,
    type=options.FOLDER,
    help="Where submissions are.",
)
@click.option("--name", metavar="NAME", help="Of the submission's folder.  [methods and data sets]")
@click.option("--title", metavar="TEXT", help="Of the submission, for its card.")
@options.names("--by", "submitted_by", metavar="WHO", help="Who submits, for its card.")
@options.names("--dataset", "-d", "datasets", help="Only this data set.")
@options.names("--method", "-m", "methods", help="Only this method.")
@options.sizes(help="Only this many images per class.")
@options.names("--protocol", "protocols", help="Only what was evaluated under this protocol.")
@options.names("--measure", "measures", help="Only what this was asked.")
@click.option(
    "--without-sets", is_flag=True, help="Leave out the sets, because others publish them; the card says where."
)
def submit(
    results: Path,
    into: Path,
    name: str | None,
    title: str | None,
    submitted_by: tuple[str, ...],
    without_sets: bool,
    **words: Any,
) -> None:
    """Make a submission from RESULTS: records, condensed sets, and a card to fill in.

    Quick and failed records are left out. Submitting again under the same name replaces records and sets. It keeps
    the card and other files.
    """
    from dcbench.leaderboard.scores import find_records
    from dcbench.results.submission import CARD, read_submission
    from dcbench.submissions.submit import Selection, make_submission
    from dcbench.utils.errors import DcbenchError
    from dcbench.utils.files import slug

    selection = Selection(**words)
    chosen = selection.of(find_records(results))
    parts = [*sorted({each.method for each in chosen}), *sorted({each.ranked_on[0] for each in chosen})]
    name = name or slug("-".join(parts))
    if slug(name) != name:
        raise DcbenchError(f"--name {name!r} cannot be a folder's name; {slug(name)!r} can.")
    target = into / name
    about = (title or name, submitted_by, options.load_plugins())
    records = make_submission(results, target, selection, *about, without_sets)
    sets = len({record.condense_key for record in records})
    click.echo(f"{target}: {len(records)} records of {sets} condensed sets")
    _show_provisional(target)
    card = read_submission(target).card
    methods, files = (card.methods, card.files) if card else ((), ())
    asked = ((methods, ("paper", "code_url")), (files, ("url", "licence")))
    empty = {field for some, fields in asked for each in some for field in fields if not getattr(each, field)}
    if empty:
        click.echo(f"Fill in {target / CARD}, which says nothing yet of: {', '.join(sorted(empty))}")
    click.echo(f"Next: dcbench leaderboard verify {target}{' --set FILE' * bool(files)}")


def _show_provisional(target: Path) -> None:
    """Print which rows of a submission lack something to be ranked, by the rules of its leaderboard."""
    from dcbench.leaderboard.board import read_leaderboard
    from dcbench.leaderboard.report.words import heading, lacking
    from dcbench.results.submission import SUBMISSIONS
    from dcbench.utils.errors import DcbenchError

    try:
        board = read_leaderboard(target.parent.parent if target.parent.name == SUBMISSIONS else target)
    except DcbenchError as error:  # of the others: this one is in its place
        click.echo(f"Warning: {error}")
        return
    for table in board.tables:
        for entry in table.entries:
            owner = board.submission(entry.row)
            if entry.provisional and owner and owner.folder.resolve() == target.resolve():
                click.echo(f"{table.dataset}, {heading(table).replace('`', '')}: {lacking(entry)}")
