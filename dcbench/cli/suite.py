"""``dcbench suite``: published tables as one command each, beside our numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dcbench.cli import options
from dcbench.cli.carry_out import absent_datasets, carry_out
from dcbench.cli.output import json_option, print_json, print_rows

if TYPE_CHECKING:
    from dcbench.plugins import Plugins
    from dcbench.results.records import Record
    from dcbench.run.session import Execution
    from dcbench.suites.selection import SuiteSelection

selection_options: Callable[[Callable[..., None]], Callable[..., None]] = options.apply(
    options.names("--dataset", "-d", "datasets", help="Only this data set."),
    options.names("--method", "-m", "methods", help="Only this method."),
    options.sizes(help="Only this many per class."),
    options.names("--network", "networks", help="Only this matching network."),
    options.names("--eval-network", "eval_networks", help="Only this evaluation network."),
    options.number("--sets", help="Condensed sets, not the suite's number."),
    options.number("--evals", help="Evaluation networks, not the suite's number."),
    click.option(
        "--budget", metavar="NAME", help="Another budget than the suite's: not compared with what is published."
    ),
    options.method_option(
        help="Method option beside the suite's: the method is then not compared with what is published."
    ),
    options.first_seed_option,
)
"""Choose a part of a suite: the same words run it and show it."""


@click.group()
def suite() -> None:
    """Run the experiments of a published table, in whole or in part, and compare.

    A suite is a data file; NAME is one that is installed, or the path of a .toml file.

    \b
    Examples:
      dcbench suite list
      dcbench suite run gradient-matching-table1 --dataset mnist --ipc 1
      dcbench suite show gradient-matching-table1 --dataset mnist --ipc 1
    """


@suite.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the suites: their settings (combinations), condensed sets, and networks to train.

    The counts come from the suites' files alone. A method counts as one that depends on the seed and the matching
    network unless its suite says otherwise.
    """
    from dcbench.suites.file import load_suite
    from dcbench.suites.selection import select
    from dcbench.utils.errors import DcbenchError

    plugins = options.load_plugins(suites_only=True)
    rows = []
    for name in plugins.suites:
        row = {"name": name, "title": "", "settings": "", "sets": "", "trials": ""}
        try:
            loaded = load_suite(plugins.suite_path(name))
            row["title"] = loaded.file.title
            selection = select(loaded)
            experiments = selection.experiments()
            row["settings"] = str(len(experiments))
            row["sets"] = str(sum(each.sets for each in experiments))
            row["trials"] = str(sum(part.trials for part in selection.parts))
        except DcbenchError as error:  # one that is broken hides no other
            row["title"] = f"{row['title']} (cannot be used: {error})".strip()
        rows.append({**row, "from": plugins.suites.origins[name].distribution})
    print_rows(rows, as_json)


@suite.command()
@click.argument("name")
@selection_options
@options.results_option
@click.option("--hours", is_flag=True, help="Show in how many hours sets were condensed instead, as Markdown.")
@json_option
def show(name: str, results: Path, hours: bool, as_json: bool, **words: Any) -> None:
    """Show a suite's numbers beside the published ones, and how much of it is done.

    It reads records alone and loads no data set. Give the same options as to `dcbench suite run` to see the same
    part of the suite.
    """
    from dcbench.leaderboard.scores import find_records

    selection = _select(name, words, options.load_plugins(suites_only=True))
    if hours:
        from dcbench.suites.comparison import compare
        from dcbench.suites.tables import hours as hours_table

        click.echo(hours_table(compare(selection, find_records(results), options.load_plugins)))
    else:
        _print(selection, find_records(results), options.load_plugins, as_json)


@suite.command()
@click.argument("name")
@selection_options
@options.execution_options
@json_option
def run(name: str, data_root: Path, dry_run: bool, as_json: bool, execution: Execution, **words: Any) -> None:
    """Run a suite, or a part of it, and show its numbers beside the published ones.

    What the results folder has already is not done again. --dry-run shows what is left to do. Exit codes are
    those of `dcbench run`.
    """
    from dcbench.run.plan import Outline
    from dcbench.utils.devices import choose_device

    plugins = options.load_plugins()
    selection = _select(name, words, plugins)
    absent = absent_datasets(selection.datasets, plugins, data_root) if dry_run else []
    outlines = [
        Outline(*each.key, seed, each.evals * len(part.eval_networks), part.suite.file.protocol)
        for part in selection.parts
        for each in part.experiments()
        for seed in range(part.seed, part.seed + each.sets)
        if each.key[0] in absent
    ]
    here = replace(selection, datasets=tuple(each for each in selection.datasets if each not in absent))
    plans = [part.plan(plugins, choose_device(execution.device), data_root) for part in here.parts]

    def report(records: list[Record]) -> None:
        _print(selection, records, lambda: plugins, as_json)

    carry_out(plans, plugins, execution, dry_run=dry_run, as_json=as_json, report=report, outlines=outlines)


def _select(name: str, words: dict[str, Any], plugins: Plugins) -> SuiteSelection:
    """Return the part of a suite that `selection_options` choose."""
    from dcbench.suites.file import load_suite
    from dcbench.suites.selection import SuiteFilter, select

    suite = load_suite(Path(name) if name.endswith(".toml") else plugins.suite_path(name))
    return select(suite, SuiteFilter(**words))


def _print(
    selection: SuiteSelection, records: list[Record], plugins: Callable[[], Plugins], as_json: bool
) -> None:
    """Print the comparison with what is published, or of the rankings of an architecture search."""
    from rich.markup import escape
    from rich.table import Table

    from dcbench.cli.output import make_console
    from dcbench.suites import search_tables, tables
    from dcbench.suites.comparison import compare
    from dcbench.suites.search import search

    suite, shown = selection.suite, list[tuple[str, Table]]()
    if suite.file.truth:
        ranked = search(selection, records, plugins)
        data, told = search_tables.as_data(selection, ranked), search_tables.remarks(selection, ranked)
        shown += search_tables.tables(selection, ranked)
    else:
        comparison = compare(selection, records, plugins)
        data, told = tables.as_data(selection, comparison), tables.remarks(selection, comparison)
        shown += tables.tables(comparison)
    if as_json:
        print_json(data)
        return
    console = make_console()
    how = f"protocol {suite.file.protocol}, budget {selection.budget}"
    console.print(f"[bold]{escape(suite.name)}[/bold]: {escape(suite.file.title)}; {how}")
    for heading, table in shown:
        console.print(f"\n{escape(heading)}", table, sep="\n")
    *paragraphs, done = map(escape, told)
    for paragraph in paragraphs:
        console.print(f"[dim]{paragraph}[/dim]")
    console.print(done)
