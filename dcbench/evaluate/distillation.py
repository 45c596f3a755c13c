"""The protocol ``kd``, of knowledge distillation: a teacher labels the images while networks are trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.core.architecture import Architecture, fit
from dcbench.core.condensed_set import CondensedSet, SetTraits
from dcbench.core.dataset import DatasetInfo
from dcbench.core.spec import HARD_LABELS
from dcbench.core.trained_network import NetworkRecipe
from dcbench.engine.mixing import crop_and_resize, cutmix
from dcbench.engine.optimizer import AdamW
from dcbench.engine.siamese import SiameseAugmentation
from dcbench.engine.trained_networks import teacher_recipe
from dcbench.engine.training import train_network
from dcbench.evaluate.protocol import EvaluationProtocol
from dcbench.utils.errors import DcbenchError

BATCHES = {1: 10, 10: 50, 50: 100}
"""Images per step, from so many images per class on."""
MANY_CLASSES = 100
"""The number of classes from which on a step has twice as many images."""
UNCUT = 32
"""Pixels up to which images are not cropped."""


@dataclass(frozen=True, kw_only=True)
class DistillationProtocol(EvaluationProtocol):
    """AdamW on the Kullback-Leibler divergence from a teacher's outputs for the augmented images.

    The labels of the set are not used. The learning rate falls by the first half of a cosine, to a half.

    Attributes:
        lr, weight_decay: of AdamW; parameters of one dimension do not decay.
        temperature: of the outputs of network and teacher.
        default_teacher: what is meant where no teacher is named.
        teacher: its architecture; None until the protocol is `spelt`.
    """

    lr: float
    weight_decay: float
    temperature: float
    default_teacher: str
    teacher: Architecture | None = None

    def spelt(self, options: str, make_architecture: Callable[[str], Architecture]) -> Self:
        """Return the protocol with the teacher that users write after ``teacher=``, or the usual one.

        Raises:
            DcbenchError: for an unknown network, or another option.
        """
        key, _, spelling = options.partition("=")
        if options and (key.strip() != "teacher" or not spelling.strip()):
            raise DcbenchError(f"protocol {self.name}:{options}: write {self.name}:teacher=NETWORK.")
        usual = make_architecture(self.default_teacher)
        teacher = make_architecture(spelling.strip()) if options else usual
        name = self.name if teacher == usual else f"{self.name}:teacher={teacher}"
        return replace(self, name=name, teacher=teacher)

    def check_dataset(self, info: DatasetInfo) -> None:
        """Raise a `DcbenchError` for a data set that the teacher does not fit."""
        fit(self._teacher, info)
        self.recipe(info)

    def check_set(self, traits: SetTraits) -> None:
        """Raise a `DcbenchError` for soft labels, which would not be used, and for whitened images."""
        if traits.track != HARD_LABELS:
            raise DcbenchError(
                f"protocol {self.name} takes sets with hard labels, because its teacher labels the images; "
                "for soft labels there is the protocol soft."
            )
        if traits.zca:
            raise DcbenchError(
                f"protocol {self.name} takes no whitened images, because its teacher was trained on others."
            )

    def unsuited(self, traits: SetTraits) -> str:
        """Say so of sets with a learning rate of their own, which is not used."""
        return "does not use the learning rate that its sets bring" if traits.lr else ""

    def augmentation(self, info: DatasetInfo) -> str:
        """Return the operations, all of which are done to every batch."""
        crop, flip = ["crop"] * (_smallest_area(info) < 1), ["flip"] * ("flip" not in info.unsuitable)
        return "_".join([*crop, *flip, "cutmix"])

    def recipe(self, info: DatasetInfo) -> str:
        """Return all that is done on a data set, in words, with the teacher and its recipe."""
        teacher, trained = self.teacher_for(info)
        batches = ", ".join(f"{size} from {ipc}" for ipc, size in BATCHES.items())
        return (
            f"{self.epochs} epochs, batch {batches} images per class, twice that from {MANY_CLASSES} classes, "
            f"AdamW {self.lr}, weight decay {self.weight_decay}, half-way cosine, {self.augmentation(info)}, "
            f"KL at temperature {self.temperature:g}, teacher {teacher}: {trained}"
        )

    @property
    def _teacher(self) -> Architecture:
        if self.teacher is None:
            raise ValueError(f"protocol {self.name} has no teacher yet: see spelt()")
        return self.teacher

    def teacher_for(self, info: DatasetInfo) -> tuple[Architecture, NetworkRecipe]:
        """Return the teacher's architecture, resolved for a data set, and how it is trained."""
        return self._teacher.resolve(info), teacher_recipe(info)

    def batch_size_for(self, info: DatasetInfo, n_images: int) -> int:
        """Return the size of RDED for the number of images per class below, at most that of the set."""
        size = max(size for ipc, size in BATCHES.items() if ipc <= max(1, n_images // info.num_classes))
        return min(n_images, size * (2 if info.num_classes >= MANY_CLASSES else 1))

    def train(
        self,
        network: nn.Module,
        condensed: CondensedSet,
        info: DatasetInfo,
        generator: torch.Generator,
        *,
        epochs: int,
        progress: Callable[[int, int], None],
        teacher: nn.Module | None = None,
    ) -> None:
        """Train a fresh network in place; see `EvaluationProtocol.train`."""
        if teacher is None:
            raise ValueError(f"protocol {self.name} needs its teacher")
        images, labels = condensed.decoded()
        device = next(network.parameters()).device
        decaying = [each for each in network.parameters() if each.ndim > 1]
        others = [each for each in network.parameters() if each.ndim <= 1]
        groups = [{"params": decaying, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = AdamW(groups, lr=self.lr)

        @torch.no_grad()
        def label(batch: Tensor) -> Tensor:
            said: Tensor = teacher(batch)
            return (said / self.temperature).softmax(dim=1)

        def change(batch: Tensor, generator: torch.Generator) -> Tensor:
            batch = crop_and_resize(batch, _smallest_area(info), generator)
            if "flip" not in info.unsuitable:
                batch = SiameseAugmentation("flip")(batch, generator)
            return cutmix(batch, generator)

        train_network(
            network,
            images.to(device),
            labels.to(device),
            optimizer,
            epochs=epochs,
            batch_size=self.batch_size_for(info, len(images)),
            generator=generator,
            augmentation=change,
            scheduler=torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / (2 * epochs)))
            ),
            progress=progress,
            loss=self._loss,
            teacher=label,
        )

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over images of KL(labels || softmax(logits / temperature)), without a factor."""
        return F.kl_div((logits / self.temperature).log_softmax(dim=1), labels, reduction="batchmean")


def _smallest_area(info: DatasetInfo) -> float:
    """Return the part of an image's area that a crop has at least: RDED's 1/factor, whose factor is the size's."""
    return 1.0 if max(info.size) <= UNCUT else 0.5


KD = DistillationProtocol(
    name="kd",
    summary="300 epochs of AdamW at 0.001 on what a teacher says of the images; CutMix",
    details=(
        "a teacher, trained on the training split, labels every batch after its augmentation: crops of half the "
        "area or more where images have more than 32 pixels, a flip for half of the images where it suits the "
        "data set, then CutMix. The labels of the set are not used, nor a learning rate that it brings; a set "
        "with a factor is decoded. The loss is KL(teacher || network), both at temperature 20, mean over images, "
        "not multiplied by the temperature's square. The rate falls by the first half of a cosine, to a half. The "
        "batch is 10, 50 or 100 from 1, 10 or 50 images per class on, twice that from 100 classes on, at most the "
        "set. Another teacher is named as in kd:teacher=resnet18; rows whose teachers are other networks "
        "are never compared. "
        "The teacher is trained for 30 epochs of SGD at 0.01, a tenth of that after 20, with momentum 0.9, weight "
        "decay 0.0005, batch 64 and siamese augmentation, on nine tenths of the training split; its accuracy is "
        "measured on the rest. What counts is the accuracy after the last epoch"
    ),
    source="Sun et al., On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation "
    "Paradigm (RDED), CVPR 2024",
    departures=(
        "the authors report the best of the accuracies on the test split at every 10th epoch of the last fifth, "
        "normalise all images by the statistics of ImageNet, and pass every batch through the network twice in "
        "training mode, which moves the averages of BatchNorm twice; they shuffle the quarters of images above 32 "
        "pixels, which suits no set but those of tiles; on CIFAR-100 a ConvNet has rate 0.002 and batch 25, and "
        "some networks have other rates; how they trained their teachers is not published"
    ),
    epochs=300,
    lr=0.001,
    weight_decay=0.01,
    temperature=20.0,
    default_teacher="convnet:norm=batch",
)
