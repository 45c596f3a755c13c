"""``dcbench networks``: the trained networks of a results folder; list them, or remove some."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import click

from dcbench.cli.options import results_option
from dcbench.cli.output import json_option, print_json
from dcbench.utils.errors import DcbenchError, NewerFormat

if TYPE_CHECKING:
    from dcbench.core.trained_network import StoredNetwork

SHOWN = 12
"""Digits of a key that are shown."""
FEWEST = 4
"""Digits that name a recipe, at least: an empty key would name them all."""


@click.group()
def networks() -> None:
    """List the trained networks of a results folder, or remove some.

    Methods and protocols that need networks trained on the training split share them: each is trained once.
    """


@networks.command("list")
@results_option
@json_option
def list_(results: Path, as_json: bool) -> None:
    """List recipes with their networks: accuracies are means, seconds and sizes are sums.

    ``trained on`` is the accuracy on the images that a network was trained on, ``held out`` that on images of the
    training split that it was not; neither is a test accuracy.
    """
    from dcbench.results.artefacts import cost_beside

    rows: list[dict[str, Any]] = []
    for key, group in _recipes(results)[0].items():
        spec, costs = group[0].spec, [cost_beside(each.path) for each in group]
        held_out = [each.held_out_accuracy.get(spec.recipe.epochs) for each in group]
        rows.append(
            {
                "key": key,
                "network": spec.network,
                "dataset": spec.dataset,
                "recipe": str(spec.recipe),
                "networks": len(group),
                "accuracy": _mean([each.accuracy for each in group]),
                "held_out_accuracy": _mean([each for each in held_out if each is not None]),
                "seconds": round(sum(cost.seconds for cost in costs if cost), 3),
                "bytes": _size(group),
            }
        )
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo(f"no trained networks in {results}")
    for row in rows:
        click.echo(
            f"{row['key'][:SHOWN]}  {row['networks']} of {row['network']} on {row['dataset']}: {row['recipe']}"
        )
        accuracies = f"trained on {_percent(row['accuracy'])}, held out {_percent(row['held_out_accuracy'])}"
        click.echo(f"{'':{SHOWN}}  {accuracies}, {row['seconds']:.1f} s, {row['bytes'] / 2**20:.1f} MiB")


@networks.command()
@click.argument("keys", nargs=-1, metavar="[KEY]…")
@click.option("--damaged", is_flag=True, help="Remove the files that cannot be read, too.")
@results_option
@click.option("--yes", is_flag=True, help="Do not ask first.")
def remove(keys: tuple[str, ...], damaged: bool, results: Path, yes: bool) -> None:
    """Remove the networks of some recipes, or damaged files.

    KEY is the key of a recipe, as `dcbench networks list` shows it, or at least four of its first digits.
    Condensed sets and records stay. Work that needs the networks later trains them again.
    """
    from dcbench.results.artefacts import Artefacts, cost_beside, remove_with_cost

    if not (keys or damaged):
        raise click.UsageError("name a KEY, as dcbench networks list shows it, or --damaged.")
    recipes, errors = _recipes(results)
    broken = [path for path, error in errors.items() if damaged and not isinstance(error, NewerFormat)]
    for key in keys:
        if len(key) < FEWEST or not any(each.startswith(key) for each in recipes):
            raise DcbenchError(f"{results} has no networks of key {key!r}: dcbench networks list.")
    chosen = {key: group for key, group in recipes.items() if keys and key.startswith(keys)}
    for group in chosen.values():
        spec, costs = group[0].spec, [cost_beside(each.path) for each in group]
        what = f"{len(group)} of {spec.network} on {spec.dataset}, {spec.recipe}"
        seconds = sum(cost.seconds for cost in costs if cost)
        click.echo(f"{what}: {_size(group) / 2**20:.1f} MiB, {seconds:.1f} s to train again.")
    for path in broken:
        click.echo(f"{path}: damaged.")
    if not (chosen or broken):
        click.echo(f"no damaged networks in {results}")
        return
    if not yes:
        click.confirm("Remove them?", abort=True)
    artefacts = Artefacts(results)
    busy = f"a run is working in {results} and may need them: wait until it has ended."
    if artefacts.in_use():
        raise DcbenchError(busy)
    for each in chain(*chosen.values()):
        with artefacts.training(each.spec, waits=False) as held:  # not while a run that has just begun trains it
            if not held:
                raise DcbenchError(busy)
            remove_with_cost(each.path)
    for path in broken:
        remove_with_cost(path)
    click.echo("Removed.")


def _recipes(results: Path) -> tuple[dict[str, list[StoredNetwork]], dict[Path, DcbenchError]]:
    """Return the networks of a folder in the order of their numbers, by the keys of the first of each recipe.

    And by path what is wrong with files that cannot be read, which is said here.
    """
    from dcbench.results.network_file import read_networks

    stored, errors = read_networks(results)
    for error in errors.values():
        click.echo(f"Left out: {error}", err=True)
    recipes: dict[str, list[StoredNetwork]] = {}
    for each in sorted(stored, key=lambda each: (each.spec.dataset, each.spec.network, each.spec.number)):
        recipes.setdefault(each.spec.model_copy(update={"number": 0}).key(), []).append(each)
    return recipes, errors


def _mean(fractions: Sequence[float]) -> float | None:
    return fmean(fractions) if fractions else None


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.1f} %"


def _size(group: Sequence[StoredNetwork]) -> int:
    return sum(each.path.stat().st_size for each in group)
