"""The image classifiers of timm, PyTorch Image Models: ``timm:resnet18``, ``timm:vit_tiny_patch16_224`` and on.

They are always freshly initialised; nothing is downloaded. Most of them were made for photographs of 224 pixels,
so they are fitted to small images, and the resolved name says how, unless an option of the user's does:

- ``stem=3x3``, the ResNet family, from 16 to 63 pixels: the first convolution becomes one of 3x3 and stride 1,
  and the first pooling goes, as is usual for CIFAR (He et al., CVPR 2016, section 4.2). A deep stem keeps its
  convolutions and only loses its stride.
- ``patch=4``, vision transformers with one grid of patches, at any size: the largest patch, up to the model's own,
  that divides both sides and gives 7 to 32 patches a side. That is 4 for 28 and 32 pixels, 1 for 8.
- ``resize=64``, all other models below 64 pixels: bilinear interpolation to a square, of the first of 64 and
  128 pixels and the model's own size that the model takes. Most halve their images five times, which
  leaves 2x2 of 64.

Models as they are get images of 64 pixels and more as they are. Channels are timm's ``in_chans``.

Batch normalisation cannot train on a single image whose map is down to one pixel (ResNeSt, LeViT): torch raises
an error, and the trial is recorded as failed. So does gradient matching with networks that have a hard sigmoid
(MobileNetV3, GhostNet), which has no second derivative in torch; they can be trained and tested all the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from dcbench.api import Architecture, DatasetInfo, DcbenchError, hookimpl, new_network, option

SMALL, TINY = 64, 16
"""Images below SMALL pixels need fitting; below TINY, the stages of a ResNet leave a single pixel."""
SIDES = (64, 128)
"""Sides to which images are resized, before the model's own."""
PATCHES = range(7, 33)
"""Numbers of patches that a side of the image may have."""


class TimmNetwork(Architecture):
    """An image classifier of timm, untrained: timm:MODEL, e.g. timm:resnet18 or timm:vit_tiny_patch16_224."""

    name = "timm"
    argument = "model"
    citation = "Wightman, PyTorch Image Models, 2019, https://github.com/huggingface/pytorch-image-models"

    model: str = option(..., "one of timm.list_models(), without a tag of pretrained weights")
    stem: Literal["3x3"] | None = option(
        None,
        "3x3 gives the ResNet family a first convolution of 3x3 and stride 1 and no first pooling; "
        "by default for images of 16 to 63 pixels",
        source="He, Zhang, Ren, Sun, CVPR 2016, section 4.2",
    )
    patch: int | None = option(
        None,
        "side of a vision transformer's patches in pixels; by default the largest up to the model's own that "
        "divides the image into 7 to 32 patches a side",
        ge=1,
    )
    resize: int | None = option(
        None,
        "side in pixels of the square that images are interpolated to, 0 for none; by default, where images are "
        "below 64 pixels and no other option fits the model, the first of 64, 128 and its own size that it takes",
        ge=0,
    )

    @classmethod
    def is_argument(cls, text: str) -> bool:
        """Return whether it is a model of timm."""
        import timm

        return text in timm.list_models()

    def resolve(self, info: DatasetInfo) -> TimmNetwork:
        """Return a copy with the option that fits these images, unless the user set one."""
        self._check_model()
        if (self.stem, self.patch, self.resize) != (None, None, None):
            return self
        problem = ""
        for fitted in self._candidates(info):
            try:
                network = new_network(fitted, info, seed=0).eval()
                with torch.no_grad():
                    logits = network(torch.zeros(2, info.channels, *info.size))
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if logits.shape == (2, info.num_classes):
                return fitted
            problem = f"it gives outputs of shape {tuple(logits.shape)}, not (2, {info.num_classes})"
        shape = "x".join(map(str, (info.channels, *info.size)))
        raise DcbenchError(f"{self} cannot classify images of {shape} ({info.name}): {problem}")

    def build(self, info: DatasetInfo) -> nn.Sequential:
        """Return a `torch.nn.Sequential` of the interpolation, or nothing, and timm's model."""
        self._check_model()
        size = (self.resize, self.resize) if self.resize else info.size
        if self.patch and (size[0] % self.patch or size[1] % self.patch):
            raise DcbenchError(f"{self}: patches of {self.patch} do not divide {size[0]}x{size[1]} pixels.")
        model = self._create(info, size)
        if self.stem:
            if not _is_resnet(model):
                raise DcbenchError(f"{self}: option 'stem' is for the ResNet family alone; try resize=64.")
            _replace_stem(model)
        for module in model.modules():
            if hasattr(module, "fused_attn"):
                # Gradient matching needs second derivatives, which the fused kernels lack.
                module.fused_attn = False
        resizing = nn.Upsample(size, mode="bilinear") if self.resize else nn.Identity()
        return nn.Sequential(resizing, model)

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return what timm's classifier receives, shape (N, D)."""
        resizing, model = cast(tuple[nn.Module, Any], network.children())
        features: Tensor = model.forward_head(model.forward_features(resizing(images)), pre_logits=True)
        return features.flatten(1)

    def _candidates(self, info: DatasetInfo) -> Iterator[TimmNetwork]:
        """Yield what may fit these images, the best first."""
        import timm

        with torch.device("meta"):  # for a look at it, without its weights
            model: Any = timm.create_model(self.model, pretrained=False)
        own_side, own_patch = min(model.default_cfg["input_size"][1:]), _own_patch(model)
        if own_patch:
            patch = _best_patch(info.size, own_patch)
            if patch:
                yield self.model_copy(update={"patch": patch if patch != own_patch else None})
        elif min(info.size) >= SMALL:
            yield self
        elif min(info.size) >= TINY and _is_resnet(model):
            yield self.model_copy(update={"stem": "3x3"})
        for side in sorted({*SIDES, own_side}):
            if side >= min(info.size) or side == own_side:
                patch = _best_patch((side, side), own_patch) if own_patch else None
                yield self.model_copy(update={"resize": side, "patch": patch if patch != own_patch else None})

    def _create(self, info: DatasetInfo, size: tuple[int, int]) -> Any:
        import timm

        options: dict[str, Any] = {"num_classes": info.num_classes, "in_chans": info.channels}
        if self.patch:
            options["patch_size"] = self.patch
        config = timm.get_pretrained_cfg(self.model)
        if config and config.fixed_input_size:  # then it is built for a size, which it takes as an argument
            options["img_size"] = size
        try:
            return timm.create_model(self.model, pretrained=False, **options)
        except TypeError as error:
            if "patch_size" in str(error):
                raise DcbenchError(f"{self}: option 'patch' is not for this model, which takes none.") from None
            raise

    def _check_model(self) -> None:
        import timm

        names = timm.list_models()
        if self.model not in names:
            near = difflib.get_close_matches(self.model, names, n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise DcbenchError(f"unknown model of timm {self.model!r}.{hint} timm.list_models() has all of them.")


def _own_patch(model: nn.Module) -> int | None:
    """Return the side of the patches of a model that keeps one grid of patches throughout, else None."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if not isinstance(patch, tuple):
        return None
    reductions = {stage.get("reduction") for stage in getattr(model, "feature_info", [])}
    if {*patch, *reductions} != {patch[0]}:
        return None
    return int(patch[0])


def _best_patch(size: tuple[int, int], most: int) -> int | None:
    """Return the side of the largest patch that divides the image into a fit number of patches, if any does."""
    for patch in range(most, 0, -1):
        if all(side % patch == 0 and side // patch in PATCHES for side in size):
            return patch
    return None


def _is_resnet(model: Any) -> bool:
    import timm

    return isinstance(model, timm.models.ResNet)


def _replace_stem(model: Any) -> None:
    """Make the first convolution one of 3x3 and stride 1, initialised as timm's, and drop the first pooling."""
    old = model.conv1
    if isinstance(old, nn.Sequential):  # three convolutions of 3x3
        cast(nn.Conv2d, old[0]).stride = (1, 1)
    else:
        model.conv1 = nn.Conv2d(old.in_channels, old.out_channels, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


@hookimpl
def dcbench_register_architectures() -> list[type[Architecture]]:
    """Provide the architecture."""
    return [TimmNetwork]
