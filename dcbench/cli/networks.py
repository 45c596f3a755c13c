"""``dcbench networks``: the trained networks of a results folder; list them, or remove some."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import click

from dcbench.cli.options import results_option
from dcbench.cli.output import json_option, print_rows
from dcbench.utils.errors import DcbenchError

if TYPE_CHECKING:
    from dcbench.results.network_file import StoredNetwork

SHOWN = 12
"""Digits of a key that are shown."""


@click.group()
def networks() -> None:
    """List the trained networks of a results folder, or remove some.

    Methods and protocols that need networks trained on the training split share them: each is trained once.
    """


@networks.command("list")
@results_option
@json_option
def list_(results: Path, as_json: bool) -> None:
    """List recipes with their networks: accuracies are means in %, seconds and sizes are sums."""
    from dcbench.results.artefacts import cost_beside

    rows = []
    for key, group in _recipes(results).items():
        spec, costs = group[0].spec, [cost_beside(each.path) for each in group]
        held_out = [each.held_out_accuracy.get(spec.recipe.epochs) for each in group]
        rows.append(
            {
                "key": key[:SHOWN],
                "network": spec.network,
                "data set": spec.dataset,
                "recipe": str(spec.recipe),
                "networks": f"{len(group)}",
                "accuracy": _percent([each.accuracy for each in group]),
                "held out": _percent([each for each in held_out if each is not None]),
                "seconds": f"{sum(cost.seconds for cost in costs if cost):.1f}",
                "MiB": f"{_size(group) / 2**20:.1f}",
            }
        )
    print_rows(rows, as_json)


@networks.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY…")
@results_option
@click.option("--yes", is_flag=True, help="Do not ask first.")
def remove(keys: tuple[str, ...], results: Path, yes: bool) -> None:
    """Remove the networks of recipes: those whose keys, as `dcbench networks list` shows them, begin so.

    Condensed sets and records stay. Work that needs the networks later trains them again.
    """
    from dcbench.results.artefacts import Artefacts, cost_beside, remove_with_cost

    recipes = _recipes(results)
    for key in keys:
        if not any(each.startswith(key) for each in recipes):
            raise DcbenchError(f"{results} has no networks of key {key!r}: dcbench networks list.")
    chosen = {key: group for key, group in recipes.items() if key.startswith(keys)}
    for group in chosen.values():
        spec, costs = group[0].spec, [cost_beside(each.path) for each in group]
        what = f"{len(group)} of {spec.network} on {spec.dataset}, {spec.recipe}"
        seconds = sum(cost.seconds for cost in costs if cost)
        click.echo(f"{what}: {_size(group) / 2**20:.1f} MiB, {seconds:.1f} s to train again.")
    if not yes:
        click.confirm("Remove them?", abort=True)
    if Artefacts(results).in_use():
        raise DcbenchError(f"a run is working in {results} and may need them: wait until it has ended.")
    for each in chain(*chosen.values()):
        remove_with_cost(each.path)


def _recipes(results: Path) -> dict[str, list[StoredNetwork]]:
    """Return the networks of a folder in the order of their numbers, by the keys of the first of each recipe."""
    from dcbench.results.network_file import read_networks

    stored, errors = read_networks(results)
    for error in errors:
        click.echo(f"Left out: {error}", err=True)
    recipes: dict[str, list[StoredNetwork]] = {}
    for each in sorted(stored, key=lambda each: (each.spec.dataset, each.spec.network, each.spec.number)):
        recipes.setdefault(each.spec.model_copy(update={"number": 0}).key(), []).append(each)
    return recipes


def _percent(fractions: Sequence[float]) -> str:
    return f"{100 * fmean(fractions):.1f}" if fractions else "–"


def _size(group: Sequence[StoredNetwork]) -> int:
    return sum(each.path.stat().st_size for each in group)
