"""Common corruptions: how much accuracy a network keeps on noisy, blurred, snowy and compressed test images.

Hendrycks, Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor, nn

from dcbench.api import DatasetInfo, Measure, ResidentSplit, accuracy, hookimpl, option

from .common_corruptions import CORRUPTIONS, SEVERITIES, corrupt
from .strata import stratified

KEPT_BYTES = 2**29
"""How many bytes of corrupted images a process keeps: 2,000 images of 32x32 in colour are below it."""


class Corruptions(Measure):
    """Accuracy on the test images under the 15 common corruptions at 5 severities, as in CIFAR-10-C.

    The scores are the mean over corruptions and severities, that of each corruption and of each severity, the
    accuracy on the same images as they are, and the share of it that is lost. The mean corruption error of
    ImageNet-C is not among them, because it divides by the errors of AlexNet on ImageNet.

    The corrupted images are the same for all networks and trials, so that scores differ by the networks alone.
    The draws are seeded by the hash of the data set, the corruption and the severity, and not by the trial. All 15
    suit grey and colour images of 8 pixels and more.
    """

    name = "corruptions"
    main = "corrupted_accuracy"
    citation = (
        "Hendrycks, Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, "
        "ICLR 2019"
    )

    images: int = option(500, "test images to corrupt, each class with its share of them; 0 for all", ge=0)
    types: str = option("all", f"corruptions, such as fog+snow, or all: {', '.join(CORRUPTIONS)}")

    @field_validator("types")
    @classmethod
    def _canonical_types(cls, text: str) -> str:
        """Spell the same corruptions the same way: in the order of the paper, each once."""
        names = [each.strip() for each in text.split("+")]
        unknown = [each for each in names if each not in {"all", *CORRUPTIONS}]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(CORRUPTIONS)}")
        chosen = [each for each in CORRUPTIONS if each in names or "all" in names]
        return "all" if len(chosen) == len(CORRUPTIONS) else "+".join(chosen)

    def unsuited(self, info: DatasetInfo) -> str:
        """Refuse images that are neither grey nor colour, or smaller than 8 pixels."""
        if info.channels not in (1, 3):
            return f"needs images of 1 or 3 channels, and these have {info.channels}"
        return "" if min(info.size) >= 8 else "needs images of 8 pixels or more a side"

    def scores(self, network: nn.Module, test: ResidentSplit, generator: torch.Generator) -> Mapping[str, float]:
        """Test the network on each corruption at each severity; the generator is not used, see the class."""
        chosen = stratified(test, self.images)
        names = list(CORRUPTIONS) if self.types == "all" else self.types.split("+")
        accuracies = np.array(
            [[accuracy(network, corrupted(chosen, name, each)) for each in SEVERITIES] for name in names]
        )
        clean, mean = accuracy(network, chosen), float(accuracies.mean())
        return {
            "corrupted_accuracy": mean,
            "clean_accuracy": clean,
            "relative_drop": 1 - mean / clean if clean else 0.0,
            **dict(zip(names, accuracies.mean(axis=1).tolist(), strict=True)),
            **{f"severity_{each}": float(accuracies[:, each - 1].mean()) for each in SEVERITIES},
        }


def corrupted(split: ResidentSplit, name: str, severity: int) -> ResidentSplit:
    """Return a split with its images corrupted: the same for the same images of the same data set."""
    pixels = split.images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    kept = _kept(split.info.sha256, hashlib.sha256(pixels.tobytes()).hexdigest())
    if (name, severity) in kept:
        images = kept[name, severity]
    else:
        seed = hashlib.sha256(f"{split.info.sha256}/{name}/{severity}".encode()).digest()
        # RandomState, because numpy keeps its draws the same from version to version.
        rng = np.random.RandomState(np.frombuffer(seed, "<u4").astype(np.uint32))
        images = torch.from_numpy(corrupt(pixels, name, severity, rng)).permute(0, 3, 1, 2).contiguous()
        if (len(kept) + 1) * images.numel() <= KEPT_BYTES:
            kept[name, severity] = images
    return replace(split, images=images.to(split.device))


@lru_cache(maxsize=1)
def _kept(dataset_sha256: str, images_sha256: str) -> dict[tuple[str, int], Tensor]:
    """Return where the process keeps corrupted images, by name and severity: of the last images alone."""
    return {}


@hookimpl
def dcbench_register_measures() -> list[type[Measure]]:
    """Provide the measure."""
    return [Corruptions]
