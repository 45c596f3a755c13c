"""Adversarial accuracy: attacks on linear networks, whose worst case is known, and the scores."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from dcbench_plugins.measures import adversarial
from dcbench_plugins.measures.adversarial import Adversarial, ascent, fgsm, is_right, pgd
from helpers import make_info, make_split, make_train
from torch import nn

from dcbench.core.split import ResidentSplit
from dcbench.core.whitening import whiten
from dcbench.utils.errors import DcbenchError

EPS = 8 / 255
PGD = {"eps": EPS, "step_size": 2 / 255, "steps": 10}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mid_grey(split):
    """The split with pixels from 64 to 191, so that no attack meets the border."""
    return ResidentSplit(64 + split.images // 2, split.labels, split.info)


def learnt(split, hidden=0, scale=1.0):
    """A network with dropout that is right on most images; linear unless it has hidden units."""
    torch.manual_seed(0)
    width = split.images[0].numel()
    layers = [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, 4)] if hidden else []
    network = nn.Sequential(nn.Flatten(), *(layers or [nn.Dropout(), nn.Linear(width, 4)]))
    optimizer, images = torch.optim.Adam(network.parameters(), 0.01), split.normalised(slice(None))
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(network(images), split.labels).backward()
        optimizer.step()
    with torch.no_grad():
        network[-1].weight *= scale
        network[-1].bias *= scale
    optimizer.zero_grad()
    return network.eval()


@pytest.fixture
def test():
    return mid_grey(make_train((12, 12, 12, 12), size=(8, 8)))


def two_classes(split):
    """A split of classes 0 and 1, and a linear network of the two."""
    info = make_info(split.info.channels, split.info.size, classes=2)
    split = ResidentSplit(split.images, split.labels % 2, info)
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(split.images[0].numel(), 2)).eval()
    return split, network


@pytest.mark.parametrize("attack", [partial(fgsm, eps=EPS), partial(pgd, **PGD, generator=generator())])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_linear_network_of_two_classes_meets_its_exact_worst_case(attack, channels):
    """The margin is linear in the pixels: its least value is itself less eps times the l1 norm of its slope."""
    split, network = two_classes(mid_grey(make_train((9, 9), channels, (8, 8))))
    weight, std = network[-1].weight.detach(), 0.25
    slope = (weight[0] - weight[1]).abs().sum() / std
    outputs = network(split.normalised(slice(None))).detach()
    sign = 1 - 2 * split.labels
    margins = sign * (outputs[:, 0] - outputs[:, 1])
    attacked = attack(network, split)
    after = network(split.normalise(attacked)).detach()
    torch.testing.assert_close(sign * (after[:, 0] - after[:, 1]), margins - EPS * slope)
    assert torch.equal(is_right(network, split, attacked), margins > EPS * slope)


@pytest.mark.parametrize("options", [{"eps": "60"}, {"eps": "5", "steps": 3}])
def test_the_steps_of_pgd_reach_every_corner_of_every_budget(options):
    split, network = two_classes(mid_grey(make_train((9, 9))))
    attacks = Adversarial(**options)._attacks(generator())
    torch.testing.assert_close(attacks["pgd_accuracy"](network, split), attacks["fgsm_accuracy"](network, split))


def test_in_whitened_space_the_worst_case_is_that_of_the_pixels():
    split, network = two_classes(mid_grey(make_train((9, 9), size=(4, 4))))
    white = whiten(split)
    slope = (white.whitening.matrix @ (network[-1].weight[0] - network[-1].weight[1]).detach()).abs().sum()
    before, after = (
        network(white.normalise(pixels)).detach()
        for pixels in (white.raw(slice(None)), pgd(network, white, **PGD, generator=generator()))
    )
    lost = (1 - 2 * split.labels) * (before[:, 0] - before[:, 1] - after[:, 0] + after[:, 1])
    torch.testing.assert_close(lost, (EPS * slope).expand(len(split)))


@pytest.mark.parametrize("eps", [2 / 255, 0.7])
def test_attacks_stay_within_the_budget_and_the_pixels_range(eps):
    split = make_train((6, 6, 6, 6), 3)
    network, images = learnt(split), split.raw(slice(None))
    for attacked in (
        fgsm(network, split, eps),
        pgd(network, split, eps, step_size=eps, steps=3, generator=generator()),
    ):
        assert (attacked - images).abs().max() <= eps + 1e-6
        assert attacked.min() >= 0
        assert attacked.max() <= 1
        assert (attacked != images).float().mean() > 0.9


def test_a_pixel_at_the_border_of_its_range_stays_there():
    """FGSM would leave [0, 1] on half of the pixels of black and white images."""
    split, network = two_classes(make_train((9, 9)))
    split = ResidentSplit((split.images > 127).to(torch.uint8) * 255, split.labels, split.info)
    images = split.raw(slice(None))
    expected = (images + EPS * ascent(network, split, images)).clamp(0, 1)
    torch.testing.assert_close(fgsm(network, split, EPS), expected)
    torch.testing.assert_close(pgd(network, split, **PGD, generator=generator()), expected)


def test_the_signs_are_those_of_the_gradient_of_the_cross_entropy(test):
    network, pixels = learnt(test, hidden=20), test.raw(slice(None)).requires_grad_()
    F.cross_entropy(network(test.normalise(pixels)), test.labels).backward()
    assert (ascent(network, test, pixels) == pixels.grad.sign()).float().mean() > 0.999


def test_a_network_that_is_sure_hides_no_gradient(test):
    """Scaling the outputs changes no decision and so no worst case, but the cross-entropy's gradient becomes 0."""
    network, sure = learnt(test, hidden=20), learnt(test, hidden=20, scale=1e4)
    right = is_right(sure, test, test.raw(slice(None)))
    assert right.float().mean() > 0.9
    pixels = test.raw(slice(None)).requires_grad_()
    F.cross_entropy(sure(test.normalise(pixels)), test.labels, reduction="sum").backward()
    assert not pixels.grad[right].any()
    modest, extreme = (Adversarial().scores(each, test, generator()) for each in (network, sure))
    assert extreme["clean_accuracy"] == modest["clean_accuracy"] > 0.9
    assert extreme["pgd_accuracy"] == pytest.approx(modest["pgd_accuracy"], abs=0.1)
    assert extreme["pgd_accuracy"] < 0.75


def test_scores_fall_with_the_budget_and_pgd_is_the_stronger_attack(test):
    network = learnt(test, hidden=20)
    scores = Adversarial(eps="1+2+4").scores(network, test, generator())
    assert list(scores) == [
        "clean_accuracy",
        *("fgsm_accuracy_eps1", "pgd_accuracy_eps1", "fgsm_accuracy_eps2", "pgd_accuracy_eps2"),
        *("fgsm_accuracy", "pgd_accuracy"),
    ]
    assert Adversarial.main in scores
    for attack in ("fgsm", "pgd"):
        falling = [
            scores["clean_accuracy"],
            *(scores[f"{attack}_accuracy{each}"] for each in ("_eps1", "_eps2", "")),
        ]
        assert falling == sorted(falling, reverse=True)
        assert falling[0] > falling[-1]
    assert all(scores[f"pgd_accuracy{each}"] <= scores[f"fgsm_accuracy{each}"] for each in ("_eps1", "_eps2", ""))


def test_the_score_is_the_share_of_margins_above_the_worst_case():
    split, network = two_classes(mid_grey(make_train((40, 40))))
    outputs = network(split.normalised(slice(None))).detach()
    margins = (1 - 2 * split.labels) * (outputs[:, 0] - outputs[:, 1])
    slope = (network[-1].weight[0] - network[-1].weight[1]).abs().sum().item() / 0.25
    scores = Adversarial(eps="1+8").scores(network, split, generator())
    for eps, suffix in ((1, "_eps1"), (8, "")):
        share = (margins > eps / 255 * slope).double().mean().item()
        assert scores[f"pgd_accuracy{suffix}"] == scores[f"fgsm_accuracy{suffix}"] == share
    assert scores["clean_accuracy"] == (margins > 0).double().mean().item()
    assert 0 < scores["pgd_accuracy"] < scores["pgd_accuracy_eps1"] < scores["clean_accuracy"] < 1


def test_an_image_that_is_wrong_at_first_stays_wrong(test, monkeypatch):
    """Even where an attack would by chance make the network right."""
    network = learnt(test)
    wrong = ResidentSplit(test.images, (test.labels + 1) % 4, test.info)
    clean = is_right(network, wrong, wrong.raw(slice(None))).double().mean().item()
    monkeypatch.setattr(adversarial, "fgsm", lambda network, split, eps: split.raw(slice(None)))
    monkeypatch.setattr(adversarial, "BATCH", 5)
    scores = Adversarial(eps="8").scores(network, wrong, generator())
    assert scores["fgsm_accuracy"] == scores["clean_accuracy"] == clean
    never = ResidentSplit(test.images, torch.full_like(test.labels, 3), test.info)
    with torch.no_grad():
        network[-1].bias[3] = -1e6
    assert set(Adversarial().scores(network, never, generator()).values()) == {0}


def test_the_network_and_the_images_stay_as_they_are(test):
    network = learnt(test, hidden=20)
    state, images = {name: each.clone() for name, each in network.state_dict().items()}, test.images.clone()
    Adversarial().scores(network, test, generator())
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(network.state_dict()[name], each) for name, each in state.items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(test.images, images)


def test_the_generator_decides_where_pgd_starts(test):
    network = learnt(test, hidden=20)
    once, again, other = (pgd(network, test, EPS, EPS / 20, 1, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_outputs_that_are_not_numbers_are_never_right(test):
    network = learnt(test)
    with torch.no_grad():
        network[-1].bias.fill_(torch.nan)
    assert set(Adversarial().scores(network, test, generator()).values()) == {0}


class OnPixels(nn.Module):
    """A network that takes pixels in [0, 1]."""

    def __init__(self, network, split):
        super().__init__()
        self.network, self.split = network, split

    def forward(self, pixels):
        return self.network(self.split.normalise(pixels))


def test_pgd_is_that_of_torchattacks(test):
    """From the same start, which torchattacks draws from the global generator."""
    torchattacks = pytest.importorskip("torchattacks")
    network = learnt(test, hidden=20)
    attack = torchattacks.PGD(OnPixels(network, test).eval(), eps=EPS, alpha=2 / 255, steps=10)
    torch.manual_seed(0)
    theirs = attack(test.raw(slice(None)), test.labels)
    ours = pgd(network, test, **PGD, generator=generator())
    assert ((ours - theirs).abs() < 1e-5).float().mean() > 0.99


@pytest.mark.slow
def test_autoattack_finds_the_worst_case_of_a_linear_network(test):
    pytest.importorskip("pyautoattack")
    network, state = learnt(test), torch.random.get_rng_state()
    scores = Adversarial(eps="2", autoattack=True).scores(network, test, generator())
    weight, outputs = network[-1].weight.detach(), network(test.normalised(slice(None))).detach()
    margins = outputs.gather(1, test.labels[:, None]) - outputs
    slopes = torch.cdist(weight, weight, p=1)[test.labels] / 0.25
    is_safe = (margins > 2 / 255 * slopes) | (slopes == 0)
    assert scores["autoattack_accuracy"] == is_safe.all(dim=1).double().mean().item()
    assert 0 < scores["autoattack_accuracy"] < scores["clean_accuracy"]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_autoattack_that_is_not_installed_is_named_when_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(adversarial, "find_spec", lambda name: None)
    with pytest.raises(DcbenchError, match=r'option .autoattack.* pip install "dcbench-suite\[attacks\]"'):
        Adversarial.parse("autoattack=true")
    assert str(Adversarial.parse("autoattack=false")) == "adversarial"


def test_autoattack_needs_four_classes():
    pytest.importorskip("pyautoattack")
    assert "4 classes" in Adversarial(autoattack=True).unsuited(make_info(classes=3))
    assert Adversarial(autoattack=True).unsuited(make_info(classes=4)) == ""
    assert Adversarial().unsuited(make_info(classes=2)) == ""


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("eps=8+2+4", "adversarial"),
        ("eps=8.0", "adversarial:eps=8"),
        ("eps=0.5+8", "adversarial:eps=0.5+8"),
    ],
)
def test_the_same_budgets_are_spelled_the_same(written, canonical):
    assert str(Adversarial.parse(written)) == canonical


@pytest.mark.parametrize(
    "written", ["eps=0", "eps=256", "eps=much", "eps=2+", "eps=nan", "steps=0", "step_size=0"]
)
def test_wrong_options_are_refused(written):
    with pytest.raises(DcbenchError, match=r"option '(eps|steps|step_size)' of measure 'adversarial'"):
        Adversarial.parse(written)


def test_only_some_images_are_attacked_unless_told_otherwise():
    split = make_split((5, 5))
    split = ResidentSplit.place(split, make_info(classes=2), torch.device("cpu"))
    network = two_classes(split)[1]
    assert {score * 4 % 1 for score in Adversarial(images=4).scores(network, split, generator()).values()} == {0}
