"""The image classifiers of torchvision: ``torchvision:resnet18``, ``torchvision:mobilenet_v3_small`` and so on.

They are always freshly initialised; nothing is downloaded. They were made for photographs of 224 pixels, so they
are fitted to images below 64 pixels, and the resolved name says how, unless an option of the user's does:

- ``stem=3x3``, the ResNet family, from 16 pixels: the first convolution becomes one of 3x3 and stride 1, and the
  pooling after it goes, as is usual for CIFAR (He et al., CVPR 2016, section 4.2).
- ``resize=64``, all others: bilinear interpolation to a square, of the first of 64, 128 and 224 pixels that the
  model takes: 128 for inception_v3, 224 for vit and maxvit. Most halve their images five times, which leaves
  2x2 of 64.

Where images have not three channels, the first convolution gets theirs; its weights are drawn anew, from a normal
distribution with the deviation of the old ones.

Auxiliary classifiers are left out. Every network can be trained and tested; to condense with, vit and mobilenet_v3
lack the second derivatives that gradient matching needs, and squeezenet lacks the linear layer that receives
features. Batch normalisation cannot train on a single image whose map is down to one pixel: torch raises an error,
and the trial is recorded as failed.
"""

from __future__ import annotations

import difflib
from typing import Any, Literal

import torch
from torch import nn

from dcbench.api import Architecture, DatasetInfo, DcbenchError, hookimpl, new_network, option

SMALL, TINY = 64, 16
"""Images below SMALL pixels need fitting; below TINY, the stages of a ResNet leave a single pixel."""
SIDES = (64, 128, 224)
"""Sides to which images are resized; the first that a model takes."""
AUXILIARY = ("googlenet", "inception_v3")
WITHOUT_AUXILIARY: dict[str, Any] = {"aux_logits": False, "init_weights": True}
"""Arguments of the models that have auxiliary classifiers. The second is torchvision's default, said aloud."""


class TorchvisionNetwork(Architecture):
    """An image classifier of torchvision, untrained: torchvision:MODEL, e.g. torchvision:mobilenet_v3_small."""

    name = "torchvision"
    argument = "model"
    citation = "TorchVision maintainers and contributors, TorchVision, 2016, https://github.com/pytorch/vision"

    model: str = option(..., "one of torchvision.models.list_models(torchvision.models)")
    stem: Literal["3x3"] | None = option(
        None,
        "3x3 gives the ResNet family a first convolution of 3x3 and stride 1 and no first pooling; "
        "by default for images of 16 to 63 pixels",
        source="He, Zhang, Ren, Sun, CVPR 2016, section 4.2",
    )
    resize: int | None = option(
        None,
        "side in pixels of the square that images are interpolated to, 0 for none; by default, where images are "
        "below 64 pixels and no other option fits the model, the first of 64, 128 and 224 that it takes",
        ge=0,
    )

    @classmethod
    def is_argument(cls, text: str) -> bool:
        """Return whether it is an image classifier of torchvision."""
        from torchvision import models

        return text in models.list_models(models)

    def resolve(self, info: DatasetInfo) -> TorchvisionNetwork:
        """Return a copy with the option that fits these images, unless the user set one."""
        if (self.stem, self.resize) != (None, None):
            return self
        _, model = new_network(self, info, seed=0).eval().children()
        small = min(info.size) < SMALL
        if small and min(info.size) >= TINY and _is_resnet(model):
            return self.model_copy(update={"stem": "3x3"})
        if not small and _problem(model, info, info.size) is None:
            return self
        for side in SIDES:
            problem = _problem(model, info, (side, side))
            if problem is None:
                return self.model_copy(update={"resize": side})
        raise DcbenchError(f"{self} does not take images of {info.channels} channels ({info.name}): {problem}")

    def build(self, info: DatasetInfo) -> nn.Sequential:
        """Return the interpolation, or nothing, and torchvision's model."""
        from torchvision.models import get_model

        self._check_model()
        options = WITHOUT_AUXILIARY if self.model in AUXILIARY else {}
        model = get_model(self.model, weights=None, num_classes=info.num_classes, **options)
        if info.channels != 3:
            _set_channels(model, info.channels)
        if self.stem:
            if not _is_resnet(model):
                raise DcbenchError(f"{self}: option 'stem' is for the ResNet family alone; try resize=64.")
            _replace_stem(model)
        resizing = nn.Upsample((self.resize, self.resize), mode="bilinear") if self.resize else nn.Identity()
        return nn.Sequential(resizing, model)

    def _check_model(self) -> None:
        from torchvision import models

        names = models.list_models(models)
        if self.model in names:
            return
        if self.model in models.list_models():
            raise DcbenchError(f"{self} is not an image classifier that can be trained from scratch.")
        near = difflib.get_close_matches(self.model, names, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise DcbenchError(
            f"unknown model of torchvision {self.model!r}.{hint} "
            "torchvision.models.list_models(torchvision.models) has all of them."
        )


def _problem(model: nn.Module, info: DatasetInfo, size: tuple[int, int]) -> Exception | None:
    """Return what goes wrong when images of this size are given to the model, None if nothing does."""
    try:
        with torch.no_grad():
            model(torch.zeros(2, info.channels, *size))
    except Exception as error:
        return error
    return None


def _is_resnet(model: nn.Module) -> bool:
    from torchvision.models import ResNet

    return isinstance(model, ResNet)


def _replace_stem(model: Any) -> None:
    """Make the first convolution one of 3x3 and stride 1, initialised as torchvision's, without the pooling."""
    old = model.conv1
    model.conv1 = nn.Conv2d(old.in_channels, old.out_channels, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


def _set_channels(model: nn.Module, channels: int) -> None:
    """Let the first convolution, which is the one that receives the images, take this many channels."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    weight = torch.randn(first.out_channels, channels, *first.kernel_size) * first.weight.detach().std()
    first.weight, first.in_channels = nn.Parameter(weight), channels


@hookimpl
def dcbench_register_architectures() -> list[type[Architecture]]:
    """Provide the architecture."""
    return [TorchvisionNetwork]
