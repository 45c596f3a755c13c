"""What the corruptions share: the type of images, and eight bits."""

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float64]


def whole_levels(images: Images) -> Images:
    """Clip to [0, 1] and cut off fractions of the 255 levels, as in the authors' code; return levels, 0 to 255.

    A millionth of a level is added because rounding errors would otherwise take a level from whole numbers.
    """
    return np.floor(np.clip(images, 0, 1) * 255 + 1e-6)
