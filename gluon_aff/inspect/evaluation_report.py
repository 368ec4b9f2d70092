"""What an evaluation reports: accuracy with its interval, calibration, the confusion matrix, the worst mistakes."""

from __future__ import annotations

import csv
import math
from typing import Iterable, NamedTuple, Sequence

import numpy as np

from ..validation import shown

__all__ = ['ClassificationReport', 'Mistake', 'SegmentationReport', 'wilson_interval']

Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile


def wilson_interval(correct: int, total: int, z: float = Z95) -> tuple[float, float]:
    """The interval of a proportion (Wilson, JASA 1927).

    Parameters
    ----------
    correct, total : int
        Counts, total at least 1.
    z : float, default 1.96
        Quantile of the normal distribution; the default gives 95 %.

    Returns
    -------
    (float, float)
        Bounds in 0..1.
    """
    if total < 1:
        raise ValueError(f'total must be at least 1, got {shown(total)}.')
    share, term = correct / total, z * z / total
    centre = (share + term / 2) / (1 + term)
    half = z / (1 + term) * math.sqrt(share * (1 - share) / total + term / (4 * total))
    return max(0.0, centre - half), min(1.0, centre + half)


class Mistake(NamedTuple):
    """An image whose most probable class is not its own."""

    image: str
    label: int
    predicted: int
    confidence: float


class ClassificationReport:
    """Counts over the images that a classifier was tried on.

    Parameters
    ----------
    class_names : sequence of str
        Name of each output.

    Attributes
    ----------
    confusion : numpy.ndarray of int64, (classes, classes)
        Images by label (row) and by most probable class (column).
    """

    def __init__(self, class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        self.confusion = np.zeros((len(self.class_names),) * 2, np.int64)
        self._images, self._labels, self._predicted, self._confidence, self._ranks = [], [], [], [], []

    def add(self, logits: np.ndarray, labels: Sequence[int], images: Iterable[str]) -> None:
        """Count a batch.

        Parameters
        ----------
        logits : numpy.ndarray, (N, classes)
        labels : sequence of N int
        images : iterable of N str
            Names, for the list of mistakes.

        Raises
        ------
        ValueError
            If a label is none of the classes, or the logits are of another shape.
        """
        truth, classes = np.asarray(labels, np.int64), len(self.class_names)
        if logits.shape != (len(truth), classes):
            raise ValueError(f'The logits must be {(len(truth), classes)}, got {logits.shape}.')
        if ((truth < 0) | (truth >= classes)).any():
            raise ValueError(f'A label is not one of the {classes} classes: {sorted(set(truth.tolist()))[-1]}.')
        scores = logits.astype(np.float64)
        scores = np.exp(scores - scores.max(1, keepdims=True))
        predicted, own = scores.argmax(1), scores[np.arange(len(truth)), truth]
        # Among equal scores the lower class comes first, as it does in argmax.
        before = (scores == own[:, None]) & (np.arange(classes) < truth[:, None])
        self._ranks += ((scores > own[:, None]) | before).sum(1).tolist()
        self._confidence += (scores.max(1) / scores.sum(1)).tolist()
        self._predicted += predicted.tolist()
        self._labels += truth.tolist()
        self._images += images
        np.add.at(self.confusion, (labels, predicted), 1)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image, int (N,)."""
        return np.array(self._predicted, np.int64)

    def topk(self, k: int) -> float:
        """The share of images whose class is among the k most probable."""
        return float(np.mean(np.asarray(self._ranks) < k))

    def calibration_error(self, bins: int = 15) -> float:
        """The expected calibration error (Guo et al., ICML 2017): |accuracy - confidence|, averaged over equal bins."""
        confidence = np.asarray(self._confidence)
        right = np.asarray(self._labels) == np.asarray(self._predicted)
        number = np.minimum((np.ceil(confidence * bins) - 1).clip(0), bins - 1).astype(int)
        gaps = [abs(right[number == i].sum() - confidence[number == i].sum()) for i in range(bins)]
        return float(sum(gaps) / len(confidence))

    def per_class(self) -> list[dict]:
        """Name, images, accuracy (recall) and precision of each class; None where there is nothing to divide by."""
        right, images, predicted = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        return [
            {
                'class': name,
                'images': int(n),
                'accuracy': float(r / n) if n else None,
                'precision': float(r / p) if p else None,
            }
            for name, r, n, p in zip(self.class_names, right, images, predicted)
        ]

    def mistakes(self, number: int | None = None) -> list[Mistake]:
        """The mistakes, the most certain first."""
        rows = zip(self._images, self._labels, self._predicted, self._confidence)
        wrong = [Mistake(*row) for row in rows if row[1] != row[2]]
        return sorted(wrong, key=lambda mistake: -mistake.confidence)[:number]

    def summary(self) -> dict:
        """The figures as a dict for JSON; shares are in 0..1."""
        low, high = wilson_interval(int(np.trace(self.confusion)), len(self))
        summary = {'images': len(self), 'top1': self.topk(1), 'top1_interval_95': [low, high]}
        if len(self.class_names) > 5:
            summary['top5'] = self.topk(5)
            summary['top5_interval_95'] = list(wilson_interval(round(self.topk(5) * len(self)), len(self)))
        return {**summary, 'calibration_error': self.calibration_error(), 'classes': self.per_class()}

    def write_confusion(self, file) -> None:
        """Write the confusion matrix as CSV: a row for each label, a column for each predicted class."""
        writer = csv.writer(file)
        writer.writerow(['label', *self.class_names])
        writer.writerows([name, *row] for name, row in zip(self.class_names, self.confusion.tolist()))


class SegmentationReport:
    """Counts over the pixels that a segmentation network was tried on.

    Parameters
    ----------
    class_names : sequence of str
        Name of each output; the first is the background.
    ignored : int, default -1
        The label of pixels that count nowhere.
    """

    def __init__(self, class_names: Sequence[str], ignored: int = -1):
        self.class_names, self.ignored, self.images = tuple(class_names), ignored, 0
        self.confusion = np.zeros((len(self.class_names),) * 2, np.int64)

    def add(self, predicted: np.ndarray, mask: np.ndarray) -> None:
        """Count an image: predicted classes and labels, both (H, W)."""
        classes, labelled = len(self.class_names), mask != self.ignored
        pairs = classes * mask[labelled].astype(np.int64) + predicted[labelled]
        self.confusion += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        self.images += 1

    def summary(self) -> dict:
        """The figures as a dict for JSON: mIoU as GluonCV's SegmentationMetric has it, pixel accuracy, each class."""
        right, images, predicted = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        union = images + predicted - right
        iou = right / np.maximum(union, 1)
        return {
            'images': self.images,
            'miou': float(iou.mean()),
            'pixel_accuracy': float(right.sum() / max(self.confusion.sum(), 1)),
            'classes': [
                {
                    'class': name,
                    'pixels': int(n),
                    'iou': float(i) if u else None,
                    'accuracy': float(r / n) if n else None,
                }
                for name, n, i, u, r in zip(self.class_names, images, iou, union, right)
            ],
        }
