"""The protocols' constants, and the epochs they and the budgets give."""

from __future__ import annotations

import dataclasses
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from dcbench_plugins.architectures.convnet import ConvNet
from helpers import make_info, make_set
from torch import nn

from dcbench.core.architecture import new_network
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.spec import BUDGETS, Budget, EvaluationSpec
from dcbench.engine.mixing import cutmix
from dcbench.engine.optimizer import AdamW
from dcbench.engine.siamese import FULL as FULL_STRATEGY
from dcbench.engine.siamese import SiameseAugmentation
from dcbench.evaluate import distillation
from dcbench.evaluate.protocols import PROTOCOLS, get_protocol
from dcbench.plugins import Plugins
from dcbench.utils.errors import DcbenchError

DC, DSA = PROTOCOLS["dc"], PROTOCOLS["dsa"]
PLAIN, AUGMENTED = make_info(), make_info(name="mnist")
MAKE = Plugins.load().make_architecture
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
        "soft_labels": False,
        "steps": None,
    }


def test_a_protocol_cannot_be_altered():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DC.epochs = 1


def test_protocols_are_known_by_their_own_names():
    assert {name: protocol.name for name, protocol in PROTOCOLS.items()} == {name: name for name in PROTOCOLS}


def test_an_unknown_protocol_is_refused_with_the_list():
    with pytest.raises(
        DcbenchError, match=r"unknown protocol 'dcc'\. Did you mean 'dc'\? Known: dc, dsa, kd, soft\."
    ):
        get_protocol("dcc", MAKE)


def test_dc_augments_mnist_alone():
    assert DC.augmentation(PLAIN) == ""
    assert DC.augmentation(AUGMENTED) == "crop_scale_rotate"


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


class Labeller(nn.Module):
    """A teacher whose outputs tell the images apart."""

    def forward(self, images):
        return images.flatten(1)[:, :3] * 4


def kd(**changes):
    return dataclasses.replace(get_protocol("kd", MAKE), **changes)


def distilled(protocol, condensed=None, seed=0, info=PLAIN, teacher=None, epochs=4):
    """Return the weights of a network that a protocol trained with a teacher for a few epochs."""
    condensed = condensed or make_set(4)
    network = new_network(ConvNet(width=8, depth=2), info, seed=0).to(condensed.images.dtype)
    generator, teacher = torch.Generator().manual_seed(seed), teacher or Labeller()
    protocol.train(
        network,
        condensed,
        info,
        generator,
        epochs=epochs,
        progress=lambda done, total: None,
        teacher=teacher.eval(),
    )
    return torch.cat([each.detach().flatten() for each in network.parameters()])


def test_soft_is_dsa_and_takes_hard_labels_as_probabilities():
    soft, eye = get_protocol("soft", MAKE), torch.eye(3)
    assert torch.equal(trained(soft), trained(DSA))
    one_hot = make_set(2, labels=eye.repeat_interleave(2, dim=0))
    network = new_network(ConvNet(width=8, depth=2), PLAIN, seed=0)
    soft.train(network, one_hot, PLAIN, torch.Generator().manual_seed(0), epochs=4, progress=lambda *_: None)
    weights = torch.cat([each.detach().flatten() for each in network.parameters()])
    torch.testing.assert_close(weights, trained(soft))


def test_the_recipe_of_kd_is_pinned_and_has_that_of_its_teacher():
    assert get_protocol("kd", MAKE).recipe(make_info(size=(28, 28), unsuitable=frozenset({"flip"}))) == (
        "300 epochs, batch 10 from 1, 50 from 10, 100 from 50 images per class, twice that from 100 classes, "
        "AdamW 0.001, weight decay 0.01, half-way cosine, cutmix, KL at temperature 20, "
        "teacher convnet:norm=batch: 30 epochs, batch 64, SGD 0.01, x0.1 after 20, momentum 0.9, "
        "weight decay 0.0005, siamese color_crop_cutout_scale_rotate, 10% held out, seed 0"
    )
    assert get_protocol("kd", MAKE).augmentation(make_info(size=(64, 64))) == "crop_flip_cutmix"


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("kd", "kd"),
        ("kd:teacher=convnet:norm=batch", "kd"),
        ("kd:teacher=convnet:width=128,norm=batch", "kd"),
        ("kd:teacher=mlp", "kd:teacher=mlp"),
        ("kd:teacher = convnet:width=16,depth=2", "kd:teacher=convnet:depth=2,width=16"),
    ],
)
def test_kd_is_called_by_its_teacher(spelling, name):
    protocol = get_protocol(spelling, MAKE)
    assert protocol.name == name
    assert get_protocol(protocol.name, MAKE) == pickle.loads(pickle.dumps(protocol)) == protocol


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("kd:", r"protocol 'kd:': after the colon there is nothing; write 'kd'"),
        ("dsa: ", r"after the colon there is nothing"),
        ("kd:teacher=convnt", r"unknown network 'convnt'\. Did you mean 'convnet'"),
        ("kd:teacher=", r"protocol kd:teacher=: write kd:teacher=NETWORK\."),
        ("kd:convnet", r"protocol kd:convnet: write kd:teacher=NETWORK\."),
        ("dsa:teacher=mlp", r"protocol dsa:teacher=mlp: write dsa:steps=NUMBER\."),
        ("dc:steps=0", r"protocol dc:steps=0: write dc:steps=NUMBER\."),
        ("dc:300", r"protocol dc:300: write dc:steps=NUMBER\."),
    ],
)
def test_what_does_not_fit_a_protocol_is_refused(spelling, message):
    with pytest.raises(DcbenchError, match=message):
        get_protocol(spelling, MAKE)


def test_a_protocol_of_few_steps_has_fewer_epochs_a_name_of_its_own_and_no_others_key():
    few = get_protocol("dsa: steps = 100", MAKE)
    assert (few.name, few.steps) == ("dsa:steps=100", 100)
    assert get_protocol(few.name, MAKE) == few
    assert [few.epochs_for(PLAIN, n_images, FULL) for n_images in (10, 257, 25601)] == [100, 50, 1]
    assert few.epochs_for(PLAIN, 10, bounded(7)) == 7
    assert get_protocol("dc:steps=10000", MAKE).epochs_for(PLAIN, 10, FULL) == 300
    assert few.recipe(PLAIN) != DSA.recipe(PLAIN)


def test_a_teacher_of_other_classes_is_refused():
    class Ten(ConvNet):
        def build(self, info):
            return super().build(make_info(classes=10))

    with pytest.raises(DcbenchError, match=r"gives outputs of shape \(2, 10\) on made_up, not \(2, 3\)\."):
        kd(teacher=Ten(depth=2)).check_dataset(PLAIN)


def test_kd_refuses_soft_labels_and_whitened_images():
    with pytest.raises(DcbenchError, match="kd takes sets with hard labels, because its teacher"):
        kd().check_set(make_set(labels=torch.eye(3)).traits)
    with pytest.raises(DcbenchError, match="kd takes no whitened images"):
        kd().check_set(make_set(zca=True).traits)
    kd().check_set(make_set().traits)


@pytest.mark.parametrize(
    ("classes", "ipc", "size"),
    [(10, 1, 10), (10, 2, 10), (10, 9, 10), (10, 10, 50), (10, 49, 50), (10, 50, 100), (10, 500, 100),
     (3, 1, 3), (3, 10, 30), (100, 1, 20), (100, 10, 100), (100, 50, 200)],
)  # fmt: skip
def test_the_batch_of_kd_is_rdeds_for_the_size_below_and_at_most_the_set(classes, ipc, size):
    assert kd().batch_size_for(make_info(classes=classes), classes * ipc) == size


def test_a_step_of_kd_is_the_step_that_it_states():
    """By hand: shuffles, flips and CutMix in this order, KL at temperature 20 by its formula, torch's own AdamW.

    In float64, because AdamW takes a step of full length where a gradient is but rounding.
    """
    condensed, epochs = make_set(4), 4
    condensed = dataclasses.replace(condensed, images=condensed.images.double())
    network = new_network(ConvNet(width=8, depth=2), PLAIN, seed=0).double().train()
    generator = torch.Generator().manual_seed(0)
    groups = [
        {"params": [each for each in network.parameters() if each.ndim > 1], "weight_decay": 0.01},
        {"params": [each for each in network.parameters() if each.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.001, betas=(0.9, 0.999))
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 0.001 * (1 + math.cos(math.pi * epoch / (2 * epochs))) / 2
        for batch in torch.randperm(12, generator=generator).split(10):
            images = cutmix(SiameseAugmentation("flip")(condensed.images[batch], generator), generator)
            said, target = network(images) / 20, (Labeller()(images) / 20).exp()
            target = target / target.sum(dim=1, keepdim=True)
            likely = said.exp() / said.exp().sum(dim=1, keepdim=True)
            optimizer.zero_grad()
            ((target * (target / likely).log()).sum() / len(batch)).backward()
            optimizer.step()
    by_hand = torch.cat([each.detach().flatten() for each in network.parameters()])
    torch.testing.assert_close(distilled(kd(), condensed), by_hand)


def test_the_rate_of_kd_ends_at_half(monkeypatch):
    rates = []

    class Noting(AdamW):
        def step(self):
            rates.append({group["lr"] for group in self.param_groups})
            super().step()

    monkeypatch.setattr(distillation, "AdamW", Noting)
    distilled(kd(), make_set(1), epochs=300)
    rates = [rate for (rate,) in rates]
    assert rates[0] == 0.001
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.0005, rel=0.006)


def test_kd_uses_the_teacher_alone_and_leaves_it_as_it_is():
    teacher = new_network(ConvNet(width=8, depth=2, norm="batch"), PLAIN, seed=3).eval()
    before = {name: each.clone() for name, each in teacher.state_dict().items()}
    condensed = make_set(4)
    weights = distilled(kd(), condensed, teacher=teacher)
    assert torch.equal(weights, distilled(kd(), condensed, teacher=teacher))
    other_labels = dataclasses.replace(condensed, labels=condensed.labels.flip(0))
    assert torch.equal(weights, distilled(kd(), other_labels, teacher=teacher))
    assert not torch.equal(weights, distilled(kd(), condensed, teacher=Labeller()))
    assert not torch.equal(weights, distilled(kd(), condensed, teacher=teacher, seed=1))
    assert all(torch.equal(each, before[name]) for name, each in teacher.state_dict().items())
    assert not any(each.grad is not None for each in teacher.parameters())
