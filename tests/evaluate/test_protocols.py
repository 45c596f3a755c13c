"""The protocols' constants, and the epochs they and the budgets give."""

from __future__ import annotations

import dataclasses

import pytest
from helpers import make_info

from dcbench.core.spec import BUDGETS, Budget
from dcbench.engine.augment import parse_strategy
from dcbench.evaluate.protocols import PROTOCOLS, get_protocol
from dcbench.utils.errors import DcbenchError

DC = get_protocol("dc")
PLAIN, AUGMENTED = make_info(), make_info(augmentation={"dc": "crop_scale_rotate"})
FULL, QUICK = BUDGETS["full"], BUDGETS["quick"]


def bounded(max_steps):
    return dataclasses.replace(QUICK, max_steps=max_steps)


def test_the_constants_of_dc_are_pinned():
    # A protocol is frozen: what changes here is another protocol, with another name.
    constants = {
        key: value
        for key, value in dataclasses.asdict(DC).items()
        if key not in ("summary", "source", "departures")
    }
    assert constants == {
        "name": "dc",
        "epochs": 300,
        "augmented_epochs": 1000,
        "batch_size": 256,
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "decay": 0.1,
    }


def test_a_protocol_cannot_be_altered():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DC.epochs = 1


def test_protocols_are_known_by_their_own_names():
    assert {name: protocol.name for name, protocol in PROTOCOLS.items()} == {name: name for name in PROTOCOLS}


def test_an_unknown_protocol_is_refused_with_the_list():
    with pytest.raises(DcbenchError, match=r"unknown protocol 'dcc'\. Did you mean 'dc'\? Known: dc\."):
        get_protocol("dcc")


def test_the_augmentation_is_what_the_data_set_states_for_this_protocol():
    assert DC.augmentation(PLAIN) == ""
    assert DC.augmentation(AUGMENTED) == "crop_scale_rotate"
    assert DC.augmentation(make_info(augmentation={"other": "crop"})) == ""


def test_the_full_budget_trains_for_the_protocols_epochs():
    assert DC.epochs_for(PLAIN, 60000, FULL) == 300
    assert DC.epochs_for(AUGMENTED, 60000, FULL) == 1000


@pytest.mark.parametrize(
    ("n_images", "epochs"),
    [
        (10, 100),  # one step per epoch
        (256, 100),
        (257, 50),  # two
        (2560, 10),
        (25601, 1),  # one epoch at least, even where that is more steps than allowed
    ],
)
def test_a_budget_of_100_steps_bounds_the_epochs(n_images, epochs):
    assert DC.epochs_for(PLAIN, n_images, bounded(100)) == epochs


def test_a_budget_never_adds_epochs():
    assert DC.epochs_for(PLAIN, 10, bounded(10**6)) == 300


def test_only_the_full_budget_is_official_and_it_bounds_nothing():
    assert {name for name, budget in BUDGETS.items() if budget.official} == {"full"}
    assert FULL.max_steps is None


def test_budgets_are_known_by_their_own_names():
    assert all(isinstance(budget, Budget) and budget.name == name for name, budget in BUDGETS.items())


def test_every_stated_augmentation_is_of_a_known_protocol_and_can_be_parsed(plugins):
    stated = [pair for name in plugins.datasets for pair in plugins.datasets.get(name).augmentation.items()]
    assert ("dc", "crop_scale_rotate") in stated
    for protocol, strategy in stated:
        assert protocol in PROTOCOLS
        assert parse_strategy(strategy)
