"""The contract of architectures."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.checks.check import CheckFailed, require_passed, unexpected
from dcbench.checks.components import COMPONENT_CHECKS, configured
from dcbench.checks.watch import watching
from dcbench.core.architecture import Architecture, new_network
from dcbench.core.dataset import DatasetInfo
from dcbench.utils.errors import DcbenchError

Subject = Architecture | type[Architecture]
Shape = tuple[int, int, int]

SHAPES: tuple[Shape, ...] = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64))
"""Channels, height and width of the images that networks are given: digits, MNIST, CIFAR and Tiny ImageNet."""
CLASSES = 7
BATCH = 4
TOLERANCE = 1e-4
"""How far two computations of the same outputs may be apart, as a part of the largest."""


def builds_for_images_of_some_size(subject: Subject) -> str:
    """It builds a network for 8, 28, 32 or 64 pixels, and refuses the others with a `DcbenchError`."""
    accepted, refused = _shapes(configured(subject))
    if not accepted:
        advice = "take the size from info.size, the channels from info.channels"
        raise CheckFailed(f"all refused: {'; '.join(refused)}", advice)
    spelling = ", ".join("x".join(map(str, shape)) for shape in accepted)
    return f"takes {spelling}" + (f"; refuses: {' '.join(refused)}" if refused else "")


def gives_logits(subject: Subject) -> None:
    """Outputs are float32 logits (N, K), finite, in training and in evaluation mode."""
    for shape in _accepted(subject):
        for train in (True, False):
            logits = _network(subject, shape).train(train)(_images(shape))
            if not _is_finite(logits) or logits.shape != (BATCH, CLASSES) or logits.dtype != torch.float32:
                advice = "end with nn.Linear(features, info.num_classes); look at the initialisation"
                raise CheckFailed(f"{_describe(logits)}, for N = {BATCH} and K = {CLASSES}", advice)


def resolved_spelling_gives_the_same_network(subject: Subject) -> None:
    """The resolved name, which records state, makes the same network again."""
    architecture, shape = configured(subject), _accepted(subject)[0]
    resolved = architecture.resolve(_info(shape))
    try:
        again = type(architecture).from_spelling(str(resolved))
    except DcbenchError as error:
        advice = "use numbers, booleans and plain words as options"
        raise CheckFailed(str(error), advice) from None
    networks = _network(resolved, shape), _network(again, shape)
    if str(again.resolve(_info(shape))) != str(resolved) or not _equal(*networks):
        advice = "return from resolve() what it is given, with the open options filled in"
        raise CheckFailed(f"another network from {resolved}: {again}", advice)


def seed_gives_the_parameters(subject: Subject) -> None:
    """The same seed gives the same parameters, and another seed gives others."""
    shape = _accepted(subject)[0]
    networks = []
    for turn, seed in ((0, 0), (1, 0), (1, 1)):
        with watching(turn) as observed:
            networks.append(_network(subject, shape, seed))
        if moved := [*observed.generators, *observed.settings]:
            raise CheckFailed(f"changed: {', '.join(moved)}", "initialise with torch.nn and torch.nn.init alone")
    if not _equal(networks[0], networks[1]):
        advice = "draw from torch's global generator, as torch.nn does; keep nothing between builds"
        raise CheckFailed("other parameters when it is built again", advice)
    if _equal(networks[1], networks[2]):
        advice = (
            "initialise at random: no pretrained weights, no torch.manual_seed, no network kept between builds"
        )
        raise CheckFailed("the same parameters from another seed", advice)


def features_are_rows(subject: Subject) -> str:
    """`features` gives finite rows (N, D) that gradients pass through to the images."""
    widths = set()
    for shape in _accepted(subject):
        network, images = _network(subject, shape).eval(), _images(shape).requires_grad_()
        try:
            features = configured(subject).features(network, images)
        except DcbenchError as error:
            raise CheckFailed(str(error), "override features(network, images)") from None
        if not _is_finite(features) or features.shape[:-1] != (BATCH,) or not features.requires_grad:
            advice = "override features(): flatten(1) what the classifier gets, without no_grad() and detach()"
            raise CheckFailed(f"{_describe(features)}, for N = {BATCH}", advice)
        widths.add(features.shape[1])
    return f"{', '.join(map(str, sorted(widths)))} features"


def gradients_reach_every_parameter(subject: Subject) -> None:
    """In training, every parameter gets a finite gradient."""
    shape = _accepted(subject)[-1]
    network = _network(subject, shape).train()
    _loss(network, _images(shape)).backward()  # type: ignore[no-untyped-call]
    parameters = dict(network.named_parameters())
    without = [name for name, each in parameters.items() if not _is_finite(each.grad)]
    if without or not parameters:
        found = f"no finite gradient for {', '.join(without[:5])} ({len(without)} of {len(parameters)})"
        advice = "use every layer in forward(), leave out unneeded ones, freeze none; look at the initialisation"
        raise CheckFailed(found, advice)


def gradients_can_be_matched(subject: Subject) -> str | None:
    """Gradients of gradients reach the images, which gradient matching needs; a remark says if they do not."""
    shape = _accepted(subject)[-1]
    network, images = _network(subject, shape).train(), _images(shape).requires_grad_()
    reason = "gradients of gradients are missing or not finite"
    try:
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(_loss(network, images), parameters, create_graph=True, allow_unused=True)
        total = torch.stack([each.square().sum() for each in gradients if each is not None]).sum()
        # Of all inputs, because torch goes round what cannot be differentiated twice for the images alone.
        total.backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:120]
    return None if _is_finite(images.grad) else f"no method that matches gradients can use it: {reason}"


def images_pass_independently(subject: Subject) -> None:
    """In evaluation mode, an image gives the same logits alone, in a batch, and again."""
    for shape in _accepted(subject):
        network, images = _network(subject, shape).eval(), _images(shape)
        with torch.no_grad():
            together, again = network(images), network(images)
            alone = torch.cat([network(image) for image in torch.split(images, 1)])
        apart = TOLERANCE * (float(together.abs().max()) or 1.0)
        for outputs, when in ((again, "once more"), (alone, "one by one")):
            if outputs.shape != together.shape or float((outputs - together).abs().max()) > apart:
                raise CheckFailed(
                    f"other outputs when {BATCH} images of {shape} are passed {when}",
                    "in eval(), draw nothing at random (F.dropout needs training=self.training) and use no "
                    "statistics of the batch; flatten with flatten(1), not flatten()",
                )


ARCHITECTURE_CHECKS: tuple[Callable[[Any], str | None], ...] = (
    *COMPONENT_CHECKS,
    builds_for_images_of_some_size,
    gives_logits,
    resolved_spelling_gives_the_same_network,
    seed_gives_the_parameters,
    features_are_rows,
    gradients_reach_every_parameter,
    gradients_can_be_matched,
    images_pass_independently,
)


def _info(shape: Shape) -> DatasetInfo:
    """Return facts of a made-up data set of such images."""
    channels, *size = shape
    names = tuple(f"class {label}" for label in range(CLASSES))
    mean, std = (0.5,) * channels, (0.25,) * channels
    return DatasetInfo("images of the checks", names, channels, (size[0], size[1]), mean, std, "0" * 64)


def _images(shape: Shape) -> Tensor:
    return torch.randn((BATCH, *shape), generator=torch.Generator().manual_seed(0))


def _network(subject: Subject, shape: Shape, seed: int = 0) -> nn.Module:
    """Build a network as a run does."""
    info = _info(shape)
    return new_network(configured(subject).resolve(info), info, seed)


def _loss(network: nn.Module, images: Tensor) -> Tensor:
    return F.cross_entropy(network(images), torch.arange(BATCH) % CLASSES)


@lru_cache(1)
def _shapes(architecture: Architecture) -> tuple[list[Shape], list[str]]:
    """Return the shapes of images that it takes, and its message for each that it refuses."""
    accepted: list[Shape] = []
    refused: list[str] = []
    for shape in SHAPES:
        try:
            with torch.no_grad():
                _network(architecture, shape).eval()(_images(shape))
            accepted.append(shape)
        except DcbenchError as error:
            refused.append(str(error))
        except Exception as error:
            advice = "raise a DcbenchError for a size that it cannot take"
            raise unexpected(error, f"for images of {shape}:", advice) from None
    return accepted, refused


def _accepted(subject: Subject) -> list[Shape]:
    """Return the shapes it takes; raise `CheckBlocked` when there are none."""
    require_passed(builds_for_images_of_some_size, subject)
    return _shapes(configured(subject))[0]


def _is_finite(value: object) -> bool:
    return isinstance(value, Tensor) and bool(torch.isfinite(value).all())


def _describe(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    finite = "finite" if _is_finite(value) else "not finite"
    gradients = "with" if value.requires_grad else "without"
    return f"{value.dtype} of shape {tuple(value.shape)}, {finite}, {gradients} gradients"


def _equal(one: nn.Module, other: nn.Module) -> bool:
    """Say whether two networks have the same parameters and buffers."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
