"""RDED: the crops of real images that a teacher is surest of, without any optimisation.

Sun et al., On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm (RDED),
CVPR 2024.

A teacher is trained on the training split. Random square crops of random images of each class are scaled to the
size of a tile and shown to the teacher, with zeros around them. The score of a crop is the cross-entropy of the
teacher's output and the class. The best crop of each image is kept, and of these the best of all. Each image of
the set is a grid of factor x factor crops. Networks are trained on these images as they are: the set's own
``factor``, by which tiles would be enlarged, stays 1.

The labels are the classes. The authors train networks on what a teacher says of the images while they are
augmented: this is the protocol ``kd``, whose teacher need not be the one that chose the crops.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcbench.api import (
    CondensedSet,
    DatasetInfo,
    DcbenchError,
    Method,
    NetworkRecipe,
    Setting,
    Task,
    hookimpl,
    option,
    teacher_recipe,
)

CODE = "the authors' code"
BATCH = 256
"""How many crops pass through the teacher at once."""


class RDED(Method):
    """Crops of real images that a teacher classifies best, tiled where images are large; no optimisation.

    The teacher is the matching network, trained by dcbench's recipe for teachers, because that of the authors is
    not published. All sets share one teacher. The authors save the images as JPEG, which loses a little.
    """

    name = "rded"
    citation = "Sun et al., On the Diversity and Realism of Distilled Dataset, CVPR 2024"
    quick = {"teacher_epochs": 5}

    images_per_class: int = option(300, "random images of a class to choose from, or all", source=CODE, ge=1)
    crops: int = option(5, "crops of each image, of which the best is kept", source=CODE, ge=1)
    smallest_area: float = option(
        0.08, "area of a crop, uniform from this part of the image's to all of it", source=CODE, gt=0, le=1
    )
    factor: int | None = option(
        None, "crops on each side of an image: 1 for images up to 32 pixels, else 2", source=CODE, ge=1
    )
    teacher_epochs: int = option(30, "epochs of training the teacher", source="dcbench", ge=1)

    def resolve(self, setting: Setting) -> "RDED":
        """Fill in the factor; refuse what does not divide the images, and more crops than there are images."""
        size, info = setting.info.size, setting.info
        teacher_recipe(info)  # refuses images that are too small
        factor = self.factor or (1 if max(size) <= 32 else 2)
        if any(side % factor for side in size):
            raise DcbenchError(f"rded: factor {factor} does not divide images of {size[0]}x{size[1]} pixels.")
        needed, there = (
            setting.ipc * factor**2,
            [min(self.images_per_class, each) for each in setting.class_counts],
        )
        if needed > min(there):
            label = info.class_names[there.index(min(there))]
            raise DcbenchError(
                f"rded needs {needed} images of each class of {info.name} for ipc {setting.ipc} at factor "
                f"{factor}, one for each crop; of class {label!r} it has {min(there)} to choose from."
            )
        return self.model_copy(update={"factor": factor})

    def needs(self, info: DatasetInfo, seed: int) -> tuple[NetworkRecipe, int]:
        """Return the recipe of the teacher."""
        return teacher_recipe(info, self.teacher_epochs), 1

    def condense(self, task: Task) -> CondensedSet:
        """Choose the crops class by class."""
        assert self.factor is not None  # since resolved
        (trained,) = task.trained_networks(*self.needs(task.info, task.seed))
        teacher, images, classes = trained.network(), [], task.info.num_classes
        for label in range(classes):
            crops, losses = self._best_crops(task, teacher, label)
            best = losses.argsort(stable=True)[: task.ipc * self.factor**2]
            images.append(_tiled(crops[best], self.factor))
            task.progress(label + 1, classes)
        return CondensedSet(torch.cat(images).cpu(), task.synthetic_labels().cpu())

    def _best_crops(self, task: Task, teacher: nn.Module, label: int) -> tuple[Tensor, Tensor]:
        """Return the best crop of each of some images of a class, (n, C, h, w), and its cross-entropy, (n,)."""
        images = task.train.draw(label, self.images_per_class, task.generator)
        tile = [side // (self.factor or 1) for side in task.info.size]
        crops = torch.stack([self._crops(image, tile, task.generator) for image in images])
        flat = crops.flatten(0, 1)
        losses = torch.cat([_losses(teacher, batch, label, task.info.size) for batch in torch.split(flat, BATCH)])
        lowest, best = losses.view(len(images), self.crops).min(dim=1)
        return crops[torch.arange(len(images), device=crops.device), best], lowest

    def _crops(self, image: Tensor, tile: list[int], generator: torch.Generator) -> Tensor:
        """Return random square crops of an image, (C, H, W), scaled to the size of a tile: (crops, C, h, w)."""
        height, width = image.shape[1:]
        made = []
        for u, *place in torch.rand(self.crops, 3, dtype=torch.float64, generator=generator).tolist():
            area = (self.smallest_area + (1 - self.smallest_area) * u) * height * width
            side = max(1, min(round(math.sqrt(area)), height, width))
            top, left = (int(v * (whole - side + 1)) for v, whole in zip(place, (height, width), strict=True))
            crop = image[None, :, top : top + side, left : left + side]
            made.append(F.interpolate(crop, tile, mode="bilinear", antialias=True))
        return torch.cat(made)


@torch.no_grad()
def _losses(teacher: nn.Module, crops: Tensor, label: int, size: tuple[int, int]) -> Tensor:
    """Return the teacher's cross-entropy for crops of a class, with zeros around them: shape (n,)."""
    down, right = (whole - part for whole, part in zip(size, crops.shape[2:], strict=True))
    shown = F.pad(crops, (right // 2, right - right // 2, down // 2, down - down // 2))
    labels = torch.full((len(crops),), label, device=crops.device)
    return F.cross_entropy(teacher(shown), labels, reduction="none")


def _tiled(crops: Tensor, factor: int) -> Tensor:
    """Return images of ``factor`` x ``factor`` crops each, row by row: (n, C, H, W) of (n * factor^2, C, h, w).

    The first tiles of all images are the first crops, so that each image has some of the best.
    """
    places = crops.view(factor, factor, -1, *crops.shape[1:])
    return torch.cat([torch.cat(list(row), dim=3) for row in places], dim=2)


@hookimpl
def dcbench_register_methods() -> list[type[Method]]:
    """Provide the method."""
    return [RDED]
