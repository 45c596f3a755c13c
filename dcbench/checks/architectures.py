"""The contract of architectures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.checks.check import CheckFailed, raised, require_passed
from dcbench.checks.components import COMPONENT_CHECKS, defaults
from dcbench.checks.watch import watching
from dcbench.core.architecture import Architecture, new_network
from dcbench.core.dataset import DatasetInfo
from dcbench.utils.errors import DcbenchError

Subject = Architecture | type[Architecture]

SIZES = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64))
"""Channels, height and width of what networks are given: digits, MNIST, CIFAR and Tiny ImageNet."""
CLASSES = 7
BATCH = 4
_kept: dict[tuple[type, str], tuple[list[tuple[int, int, int]], list[str]]] = {}
TOLERANCE = 1e-4
"""How far two computations of the same outputs may be apart, as a part of the largest."""


def builds_for_images_of_some_size(subject: Subject) -> str:
    """It builds a network for 8, 28, 32 or 64 pixels, and refuses the others with a DcbenchError."""
    accepted, refused = _sizes(_architecture(subject))
    if not accepted:
        raise CheckFailed(
            "a network for grey images of 8 or 28 pixels, or coloured ones of 32 or 64",
            f"all refused: {'; '.join(refused)}",
            "take the size from info.size, the channels from info.channels",
        )
    spelt = ", ".join("x".join(map(str, shape)) for shape in accepted)
    return f"takes {spelt}" + (f"; refuses: {' '.join(refused)}" if refused else "")


def gives_logits(subject: Subject) -> None:
    """Outputs are float32 logits (N, K), finite, in training and in evaluation mode."""
    architecture = _architecture(subject)
    for shape in _accepted(architecture):
        for train in (True, False):
            network = _network(architecture, shape).train(train)
            logits = network(_images(shape))
            if not isinstance(logits, Tensor) or tuple(logits.shape) != (BATCH, CLASSES):
                found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                raise CheckFailed(
                    f"outputs of shape ({BATCH}, {CLASSES}) for {BATCH} images of {shape} in {CLASSES} classes",
                    str(found),
                    "end with nn.Linear(features, info.num_classes)",
                )
            if logits.dtype != torch.float32 or not bool(torch.isfinite(logits).all()):
                raise CheckFailed(
                    "finite outputs of torch.float32",
                    f"{logits.dtype}, finite: {bool(torch.isfinite(logits).all())}",
                    "look at the initialisation, and at types that are cast",
                )


def resolved_spelling_gives_the_same_network(subject: Subject) -> None:
    """The resolved spelling, which records state, makes the same network again."""
    architecture = _architecture(subject)
    shape = _accepted(architecture)[0]
    resolved = architecture.resolve(_info(shape))
    try:
        again = type(architecture).from_spelling(str(resolved))
    except DcbenchError as error:
        raise CheckFailed(
            f"a spelling that can be read: {resolved}",
            str(error),
            "use numbers, booleans and plain words as options",
        ) from None
    if str(again.resolve(_info(shape))) != str(resolved) or not _equal(
        _network(resolved, shape), _network(again, shape)
    ):
        raise CheckFailed(
            f"the same network from {resolved}",
            f"another: {again}",
            "let resolve() return what it is given, filled in",
        )


def same_seed_gives_the_same_parameters(subject: Subject) -> None:
    """Parameters depend on torch's global generator and on nothing else."""
    architecture = _architecture(subject)
    shape = _accepted(architecture)[0]
    networks = []
    for turn in (0, 1):
        with watching(turn) as observed:
            networks.append(_network(architecture, shape, seed=0))
        if observed.generators or observed.settings:
            raise CheckFailed(
                "other generators and settings that are afterwards as they were",
                ", ".join([*observed.generators, *observed.settings]) + " changed",
                "initialise with torch.nn and torch.nn.init alone",
            )
    if not _equal(*networks):
        raise CheckFailed(
            "the same parameters from the same seed",
            "others when the network is built again",
            "draw from torch's global generator, as torch.nn does; keep nothing between builds",
        )


def another_seed_gives_other_parameters(subject: Subject) -> None:
    """Networks of different seeds differ: each is a fresh one."""
    architecture = _architecture(subject)
    shape = _accepted(architecture)[0]
    if _equal(_network(architecture, shape, seed=0), _network(architecture, shape, seed=1)):
        raise CheckFailed(
            "other parameters from another seed",
            "the same",
            "initialise at random: no pretrained weights, no torch.manual_seed, no network kept between builds",
        )


def features_are_rows(subject: Subject) -> str:
    """`features` gives finite rows (N, D) that gradients pass through to the images."""
    architecture = _architecture(subject)
    widths = []
    for shape in _accepted(architecture):
        network, images = _network(architecture, shape).eval(), _images(shape).requires_grad_()
        try:
            features = architecture.features(network, images)
        except DcbenchError as error:
            raise CheckFailed("penultimate features", str(error), "override features(network, images)") from None
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != BATCH:
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise CheckFailed(
                f"features of shape ({BATCH}, D)",
                str(found),
                "override features(): flatten(1) what the classifier gets",
            )
        if not bool(torch.isfinite(features).all()) or not features.requires_grad:
            raise CheckFailed(
                "finite features through which gradients pass",
                "NaN or infinity" if features.requires_grad else "no gradients pass",
                "compute them without torch.no_grad() and detach()",
            )
        widths.append(features.shape[1])
    return f"{', '.join(map(str, sorted(set(widths))))} features"


def gradients_reach_every_parameter(subject: Subject) -> None:
    """In training, every parameter gets a finite gradient."""
    architecture = _architecture(subject)
    shape = _accepted(architecture)[-1]
    network = _network(architecture, shape).train()
    labels = torch.arange(BATCH) % CLASSES
    F.cross_entropy(network(_images(shape)), labels).backward()  # type: ignore[no-untyped-call]
    parameters = dict(network.named_parameters())
    without = [name for name, each in parameters.items() if each.grad is None]
    if without or not parameters:
        raise CheckFailed(
            "a gradient for every parameter",
            f"none for {', '.join(without[:5])} ({len(without)} of {len(parameters)})",
            "use every layer in forward(), leave out those that are not needed, freeze none",
        )
    bad = [name for name, each in parameters.items() if not bool(torch.isfinite(each.grad).all())]  # type: ignore[arg-type]
    if bad:
        raise CheckFailed(
            "finite gradients", f"NaN or infinity for {', '.join(bad[:5])}", "look at the initialisation"
        )


def gradients_can_be_matched(subject: Subject) -> str | None:
    """Gradients of gradients reach the images, as gradient matching needs; if not, that is said."""
    architecture = _architecture(subject)
    shape = _accepted(architecture)[-1]
    network, images = _network(architecture, shape).train(), _images(shape).requires_grad_()
    try:
        loss = F.cross_entropy(network(images), torch.arange(BATCH) % CLASSES)
        gradients = torch.autograd.grad(loss, list(network.parameters()), create_graph=True, allow_unused=True)
        total = torch.stack([each.square().sum() for each in gradients if each is not None]).sum()
        # Of all there is: asked for the images alone, torch goes round what cannot be differentiated twice.
        total.backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError) as error:
        return f"no method that matches gradients can use it: {' '.join(str(error).split())[:120]}"
    if images.grad is None or not bool(torch.isfinite(images.grad).all()):
        return "no method that matches gradients can use it: gradients of gradients are missing or not finite"
    return None


def images_pass_independently(subject: Subject) -> None:
    """In evaluation mode, an image gives the same logits alone, in a batch, and again."""
    architecture = _architecture(subject)
    for shape in _accepted(architecture):
        network, images = _network(architecture, shape).eval(), _images(shape)
        with torch.no_grad():
            together = network(images)
            again = network(images)
            parts = {n: torch.cat([network(part) for part in torch.split(images, n)]) for n in range(1, BATCH)}
        scale = float(together.abs().max()) or 1.0
        if float((together - again).abs().max()) > TOLERANCE * scale:
            raise CheckFailed(
                "the same outputs for the same images in evaluation mode",
                "others the second time",
                "draw nothing at random in eval(): F.dropout needs training=self.training",
            )
        for n, outputs in parts.items():
            if outputs.shape != together.shape or float((outputs - together).abs().max()) > TOLERANCE * scale:
                raise CheckFailed(
                    f"the same outputs for {BATCH} images of {shape} whether {n} or {BATCH} at a time",
                    "others",
                    "use no statistics of the batch in eval(); flatten with flatten(1), not flatten()",
                )


ARCHITECTURE_CHECKS: tuple[Callable[[Any], str | None], ...] = (
    *COMPONENT_CHECKS,
    builds_for_images_of_some_size,
    gives_logits,
    resolved_spelling_gives_the_same_network,
    same_seed_gives_the_same_parameters,
    another_seed_gives_other_parameters,
    features_are_rows,
    gradients_reach_every_parameter,
    gradients_can_be_matched,
    images_pass_independently,
)


def _architecture(subject: Subject) -> Architecture:
    """Return the architecture to build.

    Raises:
        DcbenchError: for a class that needs an argument, such as a model's name.
    """
    if isinstance(subject, Architecture):
        return subject
    made = defaults(subject)
    if made is None:
        subject.parse("")  # says what is missing
        raise DcbenchError(f"network {subject.name!r} cannot be made without options.")
    assert isinstance(made, Architecture)
    return made


def _info(shape: tuple[int, int, int]) -> DatasetInfo:
    """Return facts of a data set of such images that does not exist."""
    channels, *size = shape
    return DatasetInfo(
        name="images of the checks",
        class_names=tuple(f"class {label}" for label in range(CLASSES)),
        channels=channels,
        size=(size[0], size[1]),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        sha256="0" * 64,
        augmentation={},
    )


def _images(shape: tuple[int, int, int]) -> Tensor:
    return torch.randn((BATCH, *shape), generator=torch.Generator().manual_seed(0))


def _network(architecture: Architecture, shape: tuple[int, int, int], seed: int = 0) -> nn.Module:
    """Build a network as a run does."""
    info = _info(shape)
    return new_network(architecture.resolve(info), info, seed)


def _sizes(architecture: Architecture) -> tuple[list[tuple[int, int, int]], list[str]]:
    """Return the shapes of images it takes, and what it says of the others.

    Raises:
        CheckFailed: when it neither takes nor refuses a size.
    """
    key = (type(architecture), repr(architecture))
    if key in _kept:
        return _kept[key]
    accepted: list[tuple[int, int, int]] = []
    refused: list[str] = []
    for shape in SIZES:
        try:
            network = _network(architecture, shape).eval()
            with torch.no_grad():
                network(_images(shape))
        except DcbenchError as error:
            refused.append(str(error))
        except Exception as error:
            _, found, advice = raised(error)
            raise CheckFailed(
                f"a network for images of {shape}, or a DcbenchError that says why not",
                found,
                f"check info.size and info.channels in resolve() or build(); {advice}",
            ) from None
        else:
            accepted.append(shape)
    _kept.clear()
    _kept[key] = (accepted, refused)
    return accepted, refused


def _accepted(architecture: Architecture) -> list[tuple[int, int, int]]:
    """Return the shapes it takes.

    Raises:
        CheckBlocked: when there are none.
    """
    require_passed(builds_for_images_of_some_size, architecture)
    accepted, _ = _sizes(architecture)
    return accepted


def _equal(one: nn.Module, other: nn.Module) -> bool:
    """Say whether two networks have the same parameters and buffers."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
