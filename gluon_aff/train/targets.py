"""What the loss compares the outputs with: smoothed labels and mixtures of two images'."""
from __future__ import annotations

import numpy as np

__all__ = ['mixup', 'smooth']


def smooth(label, classes, smoothing=0.0):
    """Labels as distributions: 1 - smoothing on the class, and smoothing spread evenly over all (Szegedy et al., 2016).

    Parameters
    ----------
    label : numpy.ndarray, (N,)
    classes : int
    smoothing : float, default 0
        The recipes take 0.1.

    Returns
    -------
    numpy.ndarray, float32, (N, classes)
    """
    target = np.full((len(label), classes), smoothing / classes, np.float32)
    target[np.arange(len(label)), label.astype(int)] += 1 - smoothing
    return target


def mixup(data, target, share):
    """Mix a batch with itself reversed, as GluonCV does: share of each image and the rest of its opposite's.

    Reference: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

    Parameters
    ----------
    data : numpy.ndarray, (N, C, H, W)
    target : numpy.ndarray, (N, classes)
    share : float
        Drawn from Beta(alpha, alpha), once for a batch.

    Returns
    -------
    data, target : numpy.ndarray
    """
    return [share * array + (1 - share) * array[::-1] for array in (data, target)]
