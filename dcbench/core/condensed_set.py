"""The condensed set: every method returns one, and the evaluation trains on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from dcbench.core.spec import HARD_LABELS, SOFT_LABELS
from dcbench.core.split import ResidentSplit
from dcbench.utils.hashes import hash_set

BRINGS: Mapping[str, float | None] = {"lr": None, "temperature": None, "factor": 1}
"""What a set may bring with it beside images and labels: the fields and their defaults."""


@dataclass(frozen=True)
class SetTraits:
    """What of a condensed set decides which protocols suit it; see the fields of `CondensedSet`.

    Attributes:
        track: ``hard-label`` or ``soft-label``.
        zca: whether the images are whitened.
        lr: whether it brings a learning rate.
    """

    track: str = HARD_LABELS
    zca: bool = False
    lr: bool = False


@dataclass(frozen=True)
class CondensedSet:
    """A condensed set.

    Attributes:
        images: float32, shape (N, C, H, W), in normalised space, detached, on the CPU.
        labels: int64, shape (N,), or soft: float32, shape (N, K), probabilities or logits.
        indices: for a coreset, the positions of the chosen images in the training split: int64, shape (N,). The
            images and labels must then be exactly those of the split. If the labels differ, leave it None.
        history: named curves of the condensation, e.g. its loss: float tensors of shape (steps,).
        zca: whether the images are in the whitened space of `dcbench.core.whitening`. Networks that are trained on
            them are then tested on whitened images.
        lr: the learning rate that the method learned for training on the set; None for the protocol's.
        temperature: labels are logits, and networks are trained on their softmax at this temperature; None for
            labels that are classes or probabilities.
        factor: each image is a grid of ``factor`` x ``factor`` images, see `decoded`.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor | None = None
    history: Mapping[str, Tensor] = field(default_factory=dict)
    zca: bool = False
    lr: float | None = None
    temperature: float | None = None
    factor: int = 1

    @classmethod
    def select(cls, train: ResidentSplit, indices: Tensor) -> CondensedSet:
        """Return the coreset of the training images at ``indices``: int64, shape (N,).

        A `ValueError` says that they are invalid, or more than there are images.
        """
        indices = indices.cpu()
        if indices.dtype != torch.int64 or indices.ndim != 1:
            raise ValueError("indices must be int64 of shape (N,)")
        if len(indices) > len(train):
            raise ValueError(f"there are {len(indices)} indices and {len(train)} training images")
        if bool((indices < 0).any()) or bool((indices >= len(train)).any()):
            raise ValueError(f"indices must lie in 0..{len(train) - 1}")
        return cls(train.normalised(indices).cpu(), train.labels.cpu()[indices], indices=indices)

    @property
    def track(self) -> str:
        """The track it is ranked in: ``hard-label`` or ``soft-label``."""
        return HARD_LABELS if self.labels.ndim == 1 else SOFT_LABELS

    @property
    def traits(self) -> SetTraits:
        """What decides which protocols suit it."""
        return SetTraits(self.track, self.zca, self.lr is not None)

    @property
    def brings(self) -> dict[str, float]:
        """What it brings with it beside images and labels: the fields of `BRINGS` that are not the default."""
        return {name: getattr(self, name) for name, default in BRINGS.items() if getattr(self, name) != default}

    @property
    def targets(self) -> Tensor:
        """What networks are to say of the images: int64, shape (N,), or probabilities, float32, shape (N, K)."""
        return self.labels if self.temperature is None else (self.labels / self.temperature).softmax(dim=1)

    def decoded(self) -> tuple[Tensor, Tensor]:
        """Return what networks are trained on.

        With a factor f, each image is cut into f x f tiles, row by row, and each tile is enlarged to the size of
        the image, bilinearly (Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML
        2022, section 3); all have the label of the image.

        Returns:
            Images, float32, shape (N * f * f, C, H, W), and labels: int64, shape (N * f * f,), or probabilities,
            float32, shape (N * f * f, K).
        """
        labels = self.targets
        if self.factor == 1:
            return self.images, labels
        n, channels, height, width = self.images.shape
        tile = (height // self.factor, width // self.factor)
        tiles = F.unfold(self.images, tile, stride=tile).transpose(1, 2).reshape(-1, channels, *tile)
        enlarged = F.interpolate(tiles, (height, width), mode="bilinear", align_corners=False)
        return enlarged, labels.repeat_interleave(len(enlarged) // n, dim=0)

    @property
    def storage_bytes(self) -> int:
        """Bytes of the images and labels as tensors."""
        return self.images.nbytes + self.labels.nbytes

    def sha256(self) -> str:
        """Return the hash of images and labels (shapes, types, values), of ``zca`` and of what the set brings."""
        images, labels = (each.contiguous().numpy() for each in (self.images, self.labels))
        return hash_set(images, labels, self.zca, self.brings)


@dataclass(frozen=True)
class Origin:
    """Where a condensed set comes from.

    Attributes:
        distribution, version: the package that provides the method.
        source_sha256: hash of the method's file or, for a set made elsewhere, of the file that holds the set.
        changed_options: names of the options that differ from the method's defaults in this setting, sorted.
        seeded: whether another seed would give another set.
        network_source_sha256: hash of the matching network's file; empty if there is none or it is not known.
    """

    distribution: str
    version: str
    source_sha256: str
    changed_options: tuple[str, ...] = ()
    seeded: bool = True
    network_source_sha256: str = ""

    @property
    def code(self) -> str:
        """The code that a checkpoint depends on: that of the method and of its network."""
        return self.source_sha256 + self.network_source_sha256


def check_set(condensed: CondensedSet, train: ResidentSplit, ipc: int | None) -> None:
    """Check that a method returned a usable condensed set; a `ValueError` says what was expected and found.

    Args:
        condensed, train: what the method returned, and the training split it was given.
        ipc: images per class, or None if the method decides.
    """
    info = train.info
    shape = (info.channels, *info.size)
    images, labels = condensed.images, condensed.labels
    if not (isinstance(images, Tensor) and isinstance(labels, Tensor)):
        raise ValueError(f"images and labels must be tensors, found {type(images)} and {type(labels)}")
    if images.dtype != torch.float32 or images.shape[1:] != shape or images.requires_grad:
        raise ValueError(
            f"images must be detached float32 of shape (N, {', '.join(map(str, shape))}), "
            f"found {images.dtype} of {tuple(images.shape)}"
        )
    if not len(images):
        raise ValueError("there are no images")
    if images.device.type != "cpu" or labels.device.type != "cpu":
        raise ValueError("images and labels must be on the CPU")
    if not bool(torch.isfinite(labels).all()) or labels.requires_grad:
        raise ValueError("labels must be finite and detached")
    if not bool(torch.isfinite(images).all()):
        raise ValueError("images must be finite, found NaN or infinity")
    _check_brings(condensed)
    for name, curve in condensed.history.items():
        if not isinstance(curve, Tensor) or curve.ndim != 1 or curve.device.type != "cpu":
            raise ValueError(f"history {name!r} must be a tensor of shape (steps,) on the CPU")
    if condensed.indices is not None:
        chosen = CondensedSet.select(train, condensed.indices)
        same_type = labels.dtype == chosen.labels.dtype  # torch cannot compare all types with each other
        if not (same_type and torch.equal(chosen.images, images) and torch.equal(chosen.labels, labels)):
            raise ValueError("images and labels must be those that indices choose")
    if labels.ndim == 2:
        if labels.dtype != torch.float32 or labels.shape != (len(images), info.num_classes):
            raise ValueError(f"soft labels must be float32 of shape ({len(images)}, {info.num_classes})")
        if condensed.temperature is None and not are_probabilities(labels):
            raise ValueError("soft labels must be probabilities, or logits with a temperature")
        if ipc is not None and len(images) != ipc * info.num_classes:
            raise ValueError(f"expected {ipc * info.num_classes} images, found {len(images)}")
        return
    if labels.dtype != torch.int64 or labels.shape != (len(images),):
        raise ValueError(
            f"labels must be int64 of shape ({len(images)},), found {labels.dtype} of {tuple(labels.shape)}"
        )
    if bool((labels < 0).any()) or bool((labels >= info.num_classes).any()):
        raise ValueError(f"labels must lie in 0..{info.num_classes - 1}")
    counts = torch.bincount(labels, minlength=info.num_classes)
    if ipc is not None and not bool((counts == ipc).all()):
        raise ValueError(f"expected exactly {ipc} images of every class, found {counts.tolist()}")


def are_probabilities(labels: Tensor) -> bool:
    """Say whether the rows of soft labels, (N, K), are probabilities."""
    return bool((labels >= 0).all()) and bool(((labels.sum(dim=1) - 1).abs() < 1e-3).all())


def _check_brings(condensed: CondensedSet) -> None:
    """Check what a set brings with it; a `ValueError` says what is wrong."""
    for name in ("lr", "temperature"):
        value = getattr(condensed, name)
        if value is not None and not (isinstance(value, float) and 0 < value < math.inf):
            raise ValueError(f"{name} must be a number above 0, found {value!r}")
    if condensed.temperature is not None and condensed.labels.ndim == 1:
        raise ValueError("a temperature is for labels that are logits, and these are classes")
    factor, size = condensed.factor, condensed.images.shape[2:]
    if not isinstance(factor, int) or factor < 1 or any(side % factor for side in size):
        raise ValueError(f"factor must be a whole number that divides {size[0]} and {size[1]}, found {factor!r}")
