"""What the result of a method depends on: what it says, and nothing else."""

from __future__ import annotations

from dcbench.checks.check import CheckFailed
from dcbench.checks.method_results import usable
from dcbench.checks.subject import (
    Subject,
    difference,
    method_of,
    same,
)
from dcbench.checks.trial import Scenario


def same_seed_gives_the_same_bytes(subject: Subject) -> None:
    """The same task gives the same images and labels, byte for byte."""
    one, other = (usable(subject, Scenario(turn=turn)) for turn in (0, 1))
    if not same(one.condensed, other.condensed):
        raise CheckFailed(
            "the same bytes from two runs of the same task",
            difference(one.condensed, other.condensed),
            "draw every random number from task.generator; no NumPy or Python generator, no clock, no hash(), "
            "no state kept in the class or the module",
        )


def depends_on_the_seed_as_it_says(subject: Subject) -> None:
    """Another seed gives another set if and only if `depends_on` names the seed."""
    first = usable(subject, Scenario())
    others = [usable(subject, Scenario(seed=seed)) for seed in (1, 2)]
    differs = [not same(first.condensed, each.condensed) for each in others]
    if "seed" not in method_of(subject).dependencies() and any(differs):
        raise CheckFailed(
            "the same set from every seed, since depends_on leaves 'seed' out",
            "another set from another seed",
            "add 'seed' to depends_on, so that a run makes several sets; or draw nothing at random",
        )
    if "seed" in method_of(subject).dependencies() and not any(differs):
        raise CheckFailed(
            "another set from another seed, since depends_on names 'seed'",
            "the same set from the seeds 0, 1 and 2",
            "draw from task.generator; or leave 'seed' out of depends_on, so that the same set is not made again",
        )


def depends_on_the_network_as_it_says(subject: Subject) -> str | None:
    """Another matching network changes nothing where `depends_on` leaves the network out."""
    one, other = (usable(subject, Scenario(width=width)) for width in (6, 4))
    unchanged = same(one.condensed, other.condensed)
    declared = "network" in method_of(subject).dependencies()
    if not declared and not unchanged:
        raise CheckFailed(
            "the same set whatever the matching network, since depends_on leaves 'network' out",
            "another set with another network",
            "add 'network' to depends_on, so that results say which network it was",
        )
    if declared and unchanged:
        return "two networks gave the same set: if it never depends on it, leave 'network' out of depends_on"
    return None
