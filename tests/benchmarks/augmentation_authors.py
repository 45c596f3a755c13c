"""How far siamese augmentation is from the authors' code, given the authors' draws. Fails beyond rounding.

    python tests/benchmarks/augmentation_authors.py ../DatasetCondensation

Per operation: the greatest difference of a pixel of noise. Batches are of several sizes; their images get the same
draws, or draws of their own; torch repeats itself or not, because it resamples in two ways. See https://github.com/VICO-UoE/DatasetCondensation.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click
import torch
from authors import Authors
from draws import redraw
from torch import Tensor

from dcbench.engine.siamese import OPERATIONS

SHAPES = ((5, 3, 32, 32), (4, 1, 28, 28), (3, 1, 8, 8), (3, 2, 9, 12))
SEEDS = 20
ROUNDING = 1e-4


def difference(utils: Any, operation: str, images: Tensor, seed: int, alike: bool) -> float:
    """Return the greatest difference between our images and those of the authors."""
    torch.manual_seed(seed)
    theirs = utils.DiffAugment(images, operation, seed if alike else -1, utils.ParamDiffAug())
    u = redraw(operation, seed, images, alike)
    found = []
    for repeatable in (False, True):
        torch.use_deterministic_algorithms(repeatable)
        ours = OPERATIONS[operation](images.clone().requires_grad_(repeatable), u)
        found.append((ours - theirs).abs().max().item())
    torch.use_deterministic_algorithms(False)
    return max(found)


@click.command()
@click.argument("authors", type=click.Path(exists=True, path_type=Path))
def main(authors: Path) -> None:
    """Print a line per operation. AUTHORS is a checkout of their code."""
    warnings.simplefilter("ignore")  # of what torch would have the authors write today
    utils = Authors(authors).utils
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(shape, generator=generator) for shape in SHAPES]
    worst = 0.0
    for operation in OPERATIONS:
        found = [
            difference(utils, operation, images, seed, alike)
            for images in batches
            for seed in range(SEEDS)
            for alike in (False, True)
        ]
        click.echo(f"{operation:>7} {max(found):8.1e} at most, of {len(found)} batches")
        worst = max(worst, *found)
    if worst > ROUNDING:
        raise click.ClickException(f"a pixel differs by {worst:.1e}, which is more than rounding.")


if __name__ == "__main__":
    main()
