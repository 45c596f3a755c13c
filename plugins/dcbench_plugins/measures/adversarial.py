"""Adversarial accuracy: what a network still recognises when each pixel may be changed a little, for the worst.

- FGSM: Goodfellow, Shlens, Szegedy, Explaining and Harnessing Adversarial Examples, ICLR 2015.
- PGD: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018.
- AutoAttack, by its authors' code: Croce, Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble
  of Diverse Parameter-free Attacks, ICML 2020.

Budgets and steps are those of DD-RobustBench (Wu et al., 2024).
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec

import torch
from pydantic import field_validator
from torch import Tensor, nn

from dcbench.api import DatasetInfo, Measure, ResidentSplit, hookimpl, option, seeded_globals

from .strata import stratified

BATCH = 250
"""How many images are attacked at once."""
Attack = Callable[[nn.Module, ResidentSplit], Tensor]
"""Returns the images of a split, changed: pixels in [0, 1], float32, shape (N, C, H, W)."""


class Adversarial(Measure):
    """Accuracy on test images that are attacked with full knowledge of the network, by FGSM and by PGD.

    No pixel, from 0 to 1 before any normalisation or whitening, changes by more than the budget. An image counts
    if the network is right on it both before and after the attack, so images on which it is wrong at first are not
    attacked. The main score is that of PGD at the largest budget; those of smaller budgets have names such as
    pgd_accuracy_eps2.

    The gradients are those of the network itself, in evaluation mode. In place of the cross-entropy, its inverse
    softplus is ascended, the log-sum-exp of the other logits minus the true one: it grows where the cross-entropy
    does, so the signs are the same, and it does not round to a gradient of 0 where the network is sure.
    """

    name = "adversarial"
    main = "pgd_accuracy"
    citation = (
        "Goodfellow, Shlens, Szegedy, Explaining and Harnessing Adversarial Examples, ICLR 2015; Madry et al., "
        "Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018"
    )

    images: int = option(500, "test images to attack, each class with its share of them; 0 for all", ge=0)
    eps: str = option(
        "2+4+8", "budgets in 255ths of the pixels' range, such as 8 or 2+4+8", source="DD-RobustBench"
    )
    steps: int = option(10, "steps of PGD", source="DD-RobustBench", ge=1)
    step_size: float | None = option(
        None,
        "step of PGD in 255ths of the pixels' range; by default 2.5 x budget / steps (2 for 8), so that from "
        "every start the steps reach every corner",
        source="Madry et al., ICLR 2018; for 8, DD-RobustBench",
        gt=0,
    )
    autoattack: bool = option(
        False,
        "whether AutoAttack attacks too, at the largest budget: about 10,000 passes for an image that resists",
        source="Croce, Hein, ICML 2020, the standard version",
    )

    @field_validator("eps")
    @classmethod
    def _canonical_eps(cls, text: str) -> str:
        """Spell the same budgets the same way: the smallest first."""
        try:
            budgets = sorted({float(each) for each in text.split("+")})
        except ValueError:
            raise ValueError("write budgets in 255ths, as in 8 or 2+4+8") from None
        if not 0 < budgets[0] <= budgets[-1] <= 255:
            raise ValueError("budgets are above 0 and at most 255")
        return "+".join(f"{each:g}" for each in budgets)

    @field_validator("autoattack")
    @classmethod
    def _installed(cls, wanted: bool) -> bool:
        if wanted and find_spec("pyautoattack") is None:
            raise ValueError('it needs the package pyautoattack: pip install "dcbench-suite[attacks]"')
        return wanted

    def unsuited(self, info: DatasetInfo) -> str:
        """Refuse what AutoAttack cannot attack: its loss compares four classes."""
        return "autoattack needs 4 classes or more" if self.autoattack and info.num_classes < 4 else ""

    def scores(self, network: nn.Module, test: ResidentSplit, generator: torch.Generator) -> Mapping[str, float]:
        """Attack the images on which the network is right; return what share of all it is still right on."""
        attacks, chosen = self._attacks(generator), stratified(test, self.images)
        right = dict.fromkeys(("clean_accuracy", *attacks), 0)
        for indices in torch.split(torch.arange(len(chosen)), BATCH):
            batch = chosen.part(indices)
            batch = batch.part(is_right(network, batch, batch.raw(slice(None))).nonzero().flatten())
            right["clean_accuracy"] += len(batch)
            for name, attack in attacks.items():
                right[name] += int(is_right(network, batch, attack(network, batch)).sum()) if len(batch) else 0
        return {name: count / len(chosen) for name, count in right.items()}

    def _attacks(self, generator: torch.Generator) -> dict[str, Attack]:
        """Return the attacks by the names of their scores."""
        budgets, attacks = self.eps.split("+"), dict[str, Attack]()
        for budget in budgets:
            eps, suffix = float(budget) / 255, "" if budget == budgets[-1] else f"_eps{budget}"
            step = self.step_size / 255 if self.step_size else 2.5 * eps / self.steps
            attacks[f"fgsm_accuracy{suffix}"] = partial(fgsm, eps=eps)
            attacks[f"pgd_accuracy{suffix}"] = partial(
                pgd, eps=eps, step_size=step, steps=self.steps, generator=generator
            )
        if self.autoattack:
            attacks["autoattack_accuracy"] = partial(autoattack, eps=eps, generator=generator)
        return attacks


def fgsm(network: nn.Module, split: ResidentSplit, eps: float) -> Tensor:
    """Take one step of ``eps`` along the sign of the gradient."""
    images = split.raw(slice(None))
    return (images + eps * ascent(network, split, images)).clamp(0, 1)


def pgd(
    network: nn.Module, split: ResidentSplit, eps: float, step_size: float, steps: int, generator: torch.Generator
) -> Tensor:
    """Begin anywhere within ``eps`` of each pixel, take steps along the sign of the gradient, go back within."""
    images = split.raw(slice(None))
    start = (2 * torch.rand(images.shape, generator=generator) - 1).to(images.device)
    moved = (images + eps * start).clamp(0, 1)
    for _ in range(steps):
        moved = moved + step_size * ascent(network, split, moved)
        moved = torch.clamp(moved, images - eps, images + eps).clamp(0, 1)
    return moved


def autoattack(network: nn.Module, split: ResidentSplit, eps: float, generator: torch.Generator) -> Tensor:
    """Attack by the standard version of AutoAttack, with the targets that there are where classes are few."""
    from pyautoattack import AutoAttack

    seed, images = int(torch.randint(2**31, (1,), generator=generator)), split.raw(slice(None))
    attack = AutoAttack(lambda pixels: network(split.normalise(pixels)), eps=eps, seed=seed, device=split.device)
    targets = min(9, split.info.num_classes - 1)
    attack.fab.n_target_classes = attack.apgd_targeted.n_target_classes = targets
    # It draws from torch's global generators, which other networks of this process may be using.
    with seeded_globals(seed, split.device):
        attacked: Tensor = attack.run_standard_evaluation(images, split.labels, batch_size=BATCH)[0]
    return attacked


def ascent(network: nn.Module, split: ResidentSplit, pixels: Tensor) -> Tensor:
    """Return the signs of the gradient of the cross-entropy by pixels: -1, 0 or 1, float32, (N, C, H, W)."""
    pixels = pixels.detach().requires_grad_()
    outputs, true = network(split.normalise(pixels)), split.labels[:, None]
    others = outputs.scatter(1, true, -torch.inf).logsumexp(dim=1, keepdim=True)
    (gradient,) = torch.autograd.grad((others - outputs.gather(1, true)).sum(), pixels)
    return gradient.sign()


@torch.no_grad()
def is_right(network: nn.Module, split: ResidentSplit, pixels: Tensor) -> Tensor:
    """Return whether the network takes pixels for images of the split's classes: bool, shape (N,)."""
    outputs: Tensor = network(split.normalise(pixels))
    return (outputs.argmax(dim=1) == split.labels) & ~outputs.isnan().any(dim=1)


@hookimpl
def dcbench_register_measures() -> list[type[Measure]]:
    """Provide the measure."""
    return [Adversarial]
