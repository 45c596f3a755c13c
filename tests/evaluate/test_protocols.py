"""The protocols' constants, and the epochs they and the budgets give."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from dcbench_plugins.architectures.convnet import ConvNet
from helpers import make_info, make_set

from dcbench.core.architecture import new_network
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.spec import BUDGETS, Budget, EvaluationSpec
from dcbench.engine.augment import parse_strategy
from dcbench.engine.siamese import FULL as FULL_STRATEGY
from dcbench.engine.siamese import SiameseAugmentation
from dcbench.evaluate.protocols import PROTOCOLS, get_protocol
from dcbench.utils.errors import DcbenchError

DC, DSA = get_protocol("dc"), get_protocol("dsa")
PLAIN, AUGMENTED = make_info(), make_info(name="mnist")
FULL, QUICK = BUDGETS["full"], BUDGETS["quick"]
KEY = "bda809d0d77db7b048ca7e51a610414944d3e3666b91fa5b3716cfc2c206efb7"
"""Of a spec whose protocol has no recipe, as records of before have it."""


def bounded(max_steps):
    return dataclasses.replace(QUICK, max_steps=max_steps)


def test_the_constants_of_dc_are_pinned():
    # A protocol is frozen: what changes here is another protocol, with another name.
    constants = {
        key: value
        for key, value in dataclasses.asdict(DC).items()
        if key not in ("summary", "details", "source", "departures")
    }
    assert constants == {
        "name": "dc",
        "epochs": 300,
        "augmentations": {"mnist": "crop_scale_rotate"},
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
    with pytest.raises(DcbenchError, match=r"unknown protocol 'dcc'\. Did you mean 'dc'\? Known: dc, dsa\."):
        get_protocol("dcc")


def test_dc_augments_mnist_alone():
    assert DC.augmentation(PLAIN) == ""
    assert DC.augmentation(AUGMENTED) == "crop_scale_rotate"
    assert parse_strategy("crop_scale_rotate")


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


def test_the_recipe_of_dsa_is_pinned():
    assert DSA.recipe(make_info(unsuitable=frozenset({"flip"}))) == (
        "1000 epochs, batch 256, SGD 0.01, momentum 0.9, weight decay 0.0005, x0.1 at half time, "
        "dsa color_crop_cutout_scale_rotate"
    )


def test_dsa_leaves_out_what_does_not_suit_a_data_set():
    assert DSA.augmentation(PLAIN) == "color_crop_cutout_flip_scale_rotate"
    assert DSA.augmentation(make_info(unsuitable=frozenset({"color", "rotate"}))) == "crop_cutout_flip_scale"
    with pytest.raises(DcbenchError, match="'crop' needs images of at least 4x4 pixels; made_up has 3x8"):
        DSA.augmentation(make_info(size=(3, 8)))


def test_dsa_trains_for_its_epochs_on_every_data_set():
    assert {DSA.epochs_for(info, 60000, FULL) for info in (PLAIN, AUGMENTED)} == {1000}


def test_dc_has_no_recipe_so_that_its_keys_stay_as_they_were():
    fields = {
        "set_sha256": "1", "dataset": "digits", "dataset_sha256": "2", "evaluation_network": "mlp",
        "protocol": "dc", "budget": "full", "seed": 3,
    }  # fmt: skip
    assert DC.recipe(AUGMENTED) == ""
    assert EvaluationSpec(**fields, recipe="").key() == KEY
    assert EvaluationSpec(**fields, recipe="other").key() != KEY


def trained(protocol, seed=0, info=PLAIN, condensed=None):
    """Return the weights of a network that a protocol trained for a few epochs."""
    network = new_network(ConvNet(width=8, depth=2), info, seed=0)
    generator = torch.Generator().manual_seed(seed)
    protocol.train(network, condensed or make_set(2), info, generator, epochs=4, progress=lambda done, total: None)
    return torch.cat([each.detach().flatten() for each in network.parameters()])


LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("protocol", "condensed", "same_protocol", "same_set"),
    [
        (DC, make_set(2, lr=0.05), dataclasses.replace(DC, lr=0.05), make_set(2)),
        (DSA, make_set(2, lr=0.05), dataclasses.replace(DSA, lr=0.05), make_set(2)),
        (DC, make_set(2, labels=LOGITS, temperature=4.0), DC, make_set(2, labels=(LOGITS / 4).softmax(1))),
        (DC, make_set(2, factor=2), DC, CondensedSet(*make_set(2, factor=2).decoded())),
    ],
    ids=["learned rate", "learned rate under dsa", "logits", "factor"],
)
def test_a_set_is_trained_on_with_what_it_brings(protocol, condensed, same_protocol, same_set):
    weights = trained(protocol, condensed=condensed)
    assert torch.equal(weights, trained(same_protocol, condensed=same_set))
    labels = condensed.labels if condensed.labels.ndim == 1 else LOGITS.softmax(1)
    plain = CondensedSet(condensed.images, labels)
    assert not torch.equal(weights, trained(protocol, condensed=plain))


def test_dsa_augments_and_its_draws_come_from_the_generator():
    assert torch.equal(trained(DSA), trained(DSA))
    assert not torch.equal(trained(DSA), trained(DSA, seed=1))
    assert not torch.equal(trained(DSA), trained(DC))


def test_a_step_of_dsa_is_the_step_that_it_states():
    """One epoch by hand: one operation for the batch, parameters per image, SGD with momentum and weight decay."""
    info, condensed = PLAIN, make_set(2)
    network = new_network(ConvNet(width=8, depth=2), info, seed=0).train()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for epoch in range(4):
        order = torch.randperm(6, generator=generator)
        images = SiameseAugmentation(FULL_STRATEGY)(condensed.images[order], generator)
        optimizer.zero_grad()
        F.cross_entropy(network(images), condensed.labels[order]).backward()
        optimizer.param_groups[0]["lr"] = 0.01 if epoch < 2 else 0.001
        optimizer.step()
    by_hand = torch.cat([each.detach().flatten() for each in network.parameters()])
    torch.testing.assert_close(trained(DSA), by_hand)
