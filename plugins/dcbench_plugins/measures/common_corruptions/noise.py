"""Noise, drawn for every pixel and channel."""

import numpy as np

from .levels import Images


def gaussian_noise(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Add normal noise."""
    deviation = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return images + rng.normal(scale=deviation, size=images.shape)


def shot_noise(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Draw the number of photons: Poisson, with a white pixel's mean."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return rng.poisson(images * photons) / photons


def impulse_noise(images: Images, severity: int, rng: np.random.RandomState) -> Images:
    """Make a share of the values 0 or 1, each as likely."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    is_hit, is_white = rng.random_sample((2, *images.shape)) < np.reshape([share, 0.5], (2, 1, 1, 1, 1))
    return np.where(is_hit, is_white, images)
