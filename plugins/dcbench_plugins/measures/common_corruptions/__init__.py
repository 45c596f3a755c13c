"""The fifteen common corruptions of images, at five severities, with the parameters of CIFAR-10-C.

Hendrycks, Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019;
after the authors' make_cifar_c.py (Apache 2.0). Each corruption is a function of

- images: float64, shape (N, H, W, C), pixels in [0, 1], C = 1 (grey) or 3 (red, green, blue), H and W from 8;
- severity: from 1 to 5;
- rng: for every draw. With one image and the same seed, the draws are those of the authors' code, but for
  impulse_noise, which the authors draw by scikit-image.

It returns images of the same shape, which may leave [0, 1]; `corrupt` makes pixels of them. With the same draws,
they differ from the authors' by one level of 255 at most, in less than 3 % of the values, because rounding errors
decide where a fraction is cut off. The authors' libraries compute some in 16 or 32 bits; here all is in 64.

Parameters in pixels are those for 32 pixels at any size, as in the authors' code. Where that has multiples of 32,
in elastic_transform and pixelate, the image's sides take its place. The map of fog is as large as the image, and
the photographs of frost are enlarged for images above 32 pixels.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from .digital import brightness, contrast, elastic_transform, jpeg_compression, pixelate
from .levels import Images, whole_levels
from .noise import gaussian_noise, impulse_noise, shot_noise
from .weather import fog, frost, snow

CORRUPTIONS: dict[str, Callable[[Images, int, np.random.RandomState], Images]] = {
    each.__name__: each
    for each in (
        *(gaussian_noise, shot_noise, impulse_noise),
        *(defocus_blur, glass_blur, motion_blur, zoom_blur),
        *(snow, frost, fog, brightness),
        *(contrast, elastic_transform, pixelate, jpeg_compression),
    )
}
"""By name, in the order of the paper: noise, blur, weather, digital."""
SEVERITIES = range(1, 6)
AT_ONCE = 2**22
"""How many values of pixels are corrupted at once, because memory is bounded."""


def corrupt(images: NDArray[np.uint8], name: str, severity: int, rng: np.random.RandomState) -> NDArray[np.uint8]:
    """Return corrupted images, uint8, shape (N, H, W, C)."""
    at_once = max(1, AT_ONCE // images[0].size)
    parts = [images[start : start + at_once] / 255 for start in range(0, len(images), at_once)]
    return np.concatenate(
        [whole_levels(CORRUPTIONS[name](each, severity, rng)).astype(np.uint8) for each in parts]
    )
