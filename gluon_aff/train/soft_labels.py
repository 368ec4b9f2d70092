"""Label smoothing, mixup, CutMix, and class weights."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

__all__ = ['balanced_weights', 'cutmix', 'mixup', 'smooth']


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


def cutmix(data: Any, target: Any, share: float, random: np.random.RandomState) -> tuple:
    """Paste a rectangle of each image's opposite in the batch, and mix the targets by its area.

    Reference: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV
    2019.

    Parameters
    ----------
    data : NDArray or numpy.ndarray, (N, C, H, W)
    target : NDArray or numpy.ndarray, (N, classes)
    share : float
        Of each image that is kept, before the rectangle is cut at the border; drawn from Beta(alpha, alpha), once for a
        batch.
    random : numpy.random.RandomState
        Draws the rectangle's centre.

    Returns
    -------
    data, target
    """
    height, width = data.shape[2:]
    side = np.sqrt(1 - share)
    (top, bottom), (left, right) = (_cut(random.randint(most), int(most * side), most) for most in (height, width))
    if top == bottom or left == right:
        return data, target
    mixed = data.copy()
    mixed[:, :, top:bottom, left:right] = data[::-1, :, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, kept * target + (1 - kept) * target[::-1]


def _cut(middle, side, most):
    """Where a side about the middle begins and ends, cut at 0 and the image's own side."""
    return max(middle - side // 2, 0), min(middle + (side + 1) // 2, most)


def balanced_weights(labels: Sequence[int] | np.ndarray, classes: int) -> np.ndarray:
    """Weights of the classes by the inverse of their frequency, as scikit-learn's 'balanced'; the images' mean is 1.

    Parameters
    ----------
    labels : (N,) int
        Of the training images.
    classes : int

    Returns
    -------
    numpy.ndarray, float32, (classes,)
        0 for a class without an image.
    """
    counts = np.bincount(np.asarray(labels, int), minlength=classes)
    weights = len(labels) / ((counts > 0).sum() * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype(np.float32)
