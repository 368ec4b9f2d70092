"""Random erasing: noise in a rectangle of a training image."""

from __future__ import annotations

import numpy as np

__all__ = ['random_erasing']

AREA, ASPECT, TRIALS = (0.02, 1 / 3), (0.3, 1 / 0.3), 10


def random_erasing(data: np.ndarray, probability: float, random: np.random.RandomState) -> None:
    """Fill a random rectangle of a normalised image with normal noise, in place.

    Reference: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020. Area and aspect are those of timm's
    RandomErasing in its mode 'pixel': 0.02 to 1/3 of the image, 0.3 to 1/0.3, evenly in the logarithm.

    Parameters
    ----------
    data : numpy.ndarray, float32, (C, H, W)
        Normalised.
    probability : float
        Of a rectangle, 0..1.
    random : numpy.random.RandomState
    """
    if random.rand() >= probability:
        return
    channels, height, width = data.shape
    areas = random.uniform(*AREA, TRIALS) * height * width
    aspects = np.exp(random.uniform(*np.log(ASPECT), TRIALS))
    for tall, wide in zip(np.sqrt(areas * aspects).round().astype(int), np.sqrt(areas / aspects).round().astype(int)):
        if 0 < tall < height and 0 < wide < width:
            top, left = random.randint(height - tall + 1), random.randint(width - wide + 1)
            data[:, top : top + tall, left : left + wide] = random.normal(size=(channels, tall, wide))
            return
