"""Architectures: what an architecture plugin provides, and how dcbench makes fresh networks from it."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from dcbench.core.component import Component
from dcbench.core.dataset import DatasetInfo
from dcbench.utils.devices import send
from dcbench.utils.errors import DcbenchError
from dcbench.utils.seeds import seeded_globals

_CPU = torch.device("cpu")


class Architecture(Component):
    """An architecture plugin: builds networks that map (N, C, H, W) float32 to logits (N, K)."""

    kind: ClassVar[str] = "network"

    def resolve(self, info: DatasetInfo) -> Self:
        """Return a copy with every option filled in that depends on the images.

        dcbench calls it before it runs anything, and hashes and records the resolved spelling. Raise a
        `DcbenchError` for a size or channels that the architecture cannot take; `build` may do so, too.
        """
        return self

    @abstractmethod
    def build(self, info: DatasetInfo) -> nn.Module:
        """Return a freshly initialised network for images of ``info``, on the CPU. ``self`` is resolved.

        Draw parameters from torch's global generator, as `torch.nn` does; the caller seeds it.
        """

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return penultimate features, shape (N, D): the input of the last linear layer.

        Override this if the network's classifier is not a linear layer.
        """
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise DcbenchError(f"network {str(self)!r} has no linear layer: it must override features().")
        received: list[Tensor] = []
        hook = linear[-1].register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
        try:
            network(images)
        finally:
            hook.remove()
        return received[-1].flatten(1)


def new_network(
    architecture: Architecture, info: DatasetInfo, seed: int, device: torch.device = _CPU
) -> nn.Module:
    """Return a network whose initialisation depends on the seed only; global generators do not change.

    Parameters are drawn on the CPU for every device, so a seed gives the same network everywhere.
    """
    with seeded_globals(seed, _CPU):
        network = architecture.build(info)
    network._apply(lambda tensor: send(tensor, device))  # type: ignore[no-untyped-call]  # as to(device) does
    return network


def without_classifier(network: nn.Module) -> nn.Module:
    """Put the identity in the place of the last linear layer: the network then returns features, (N, D).

    They are the features before the classifier if the last linear layer is the last layer of all;
    `Setting.require_linear_classifier` checks that.

    Args:
        network: changed in place, and returned.

    Raises:
        DcbenchError: if there is no linear layer.
    """
    linear = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise DcbenchError("the network has no linear layer, so there are no features before one.")
    network.set_submodule(linear[-1], nn.Identity())
    return network


def fit(architecture: Architecture, info: DatasetInfo) -> Architecture:
    """Resolve an architecture for a data set, and try it on two images; a `DcbenchError` says why it fails."""
    try:
        architecture = architecture.resolve(info)
        network = new_network(architecture, info, seed=0).eval()
        with torch.no_grad():
            logits = network(torch.zeros(2, info.channels, *info.size))
    except DcbenchError:
        raise
    except Exception as error:
        shape = "x".join(map(str, (info.channels, *info.size)))
        raise DcbenchError(
            f"network {str(architecture)!r} does not take images of {shape} ({info.name}): "
            f"{type(error).__name__}: {error}"
        ) from error
    if logits.shape != (2, info.num_classes):
        raise DcbenchError(
            f"network {str(architecture)!r} gives outputs of shape {tuple(logits.shape)} on {info.name}, "
            f"not (2, {info.num_classes})."
        )
    return architecture
