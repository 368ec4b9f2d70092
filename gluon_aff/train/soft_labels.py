"""Label smoothing and mixup."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ['mixup', 'smooth']


def check_labels(label: np.ndarray, classes: int, ignored: int = 0) -> np.ndarray:
    """Labels as whole numbers; a ValueError unless all are `ignored` or 0 to classes - 1."""
    label = np.asarray(label).astype(int)
    if label.size and not ignored <= label.min() <= label.max() < classes:
        raise ValueError(
            f'Labels must be 0 to {classes - 1}, as the network has {classes} classes, got {label.min()} '
            f'to {label.max()}.'
        )
    return label


def smooth(label: np.ndarray, classes: int, smoothing: float = 0.0) -> np.ndarray:
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

    Raises
    ------
    ValueError
        If a label is not 0 to classes - 1.
    """
    label = check_labels(label, classes)
    target = np.full((len(label), classes), smoothing / classes, np.float32)
    target[np.arange(len(label)), label] += 1 - smoothing
    return target


def mixup(data: Any, target: Any, share: float) -> list:
    """Mix a batch with itself reversed, as GluonCV does: share of each image and the rest of its opposite's.

    Reference: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

    Parameters
    ----------
    data : NDArray or numpy.ndarray, (N, C, H, W)
    target : NDArray or numpy.ndarray, (N, classes)
    share : float
        Drawn from Beta(alpha, alpha), once for a batch.

    Returns
    -------
    [data, target]
    """
    return [share * array + (1 - share) * array[::-1] for array in (data, target)]
