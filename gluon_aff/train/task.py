"""What is learnt: the loss, what the loss compares with, and the figures that are reported."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from gluoncv.loss import DistillationSoftmaxCrossEntropyLoss
from mxnet import gluon

from ..data.masks import IGNORED
from .soft_labels import check_labels, mixup, smooth

__all__ = ['Classification', 'Segmentation']


class Classification:
    """One class for each image, by softmax cross entropy.

    Parameters
    ----------
    classes : int
    smoothing : float, default 0
        Of the labels, see :func:`smooth`.
    mixup_alpha : float, default 0
        Batches are mixed with a share drawn from Beta(alpha, alpha), see :func:`mixup`; 0 mixes none. The training
        score is then not the accuracy but mx.metric.RMSE of the softmax against the mixed targets, as in GluonCV's and
        the authors' scripts.
    mixup_epochs : int, optional
        How many of the first epochs are mixed; default all.
    teacher : HybridBlock, optional
        (N, 3, H, W) -> (N, classes), whose outputs are learnt as well (Hinton et al., "Distilling the Knowledge in a
        Neural Network", 2015), by GluonCV's DistillationSoftmaxCrossEntropyLoss.
    temperature, hard_weight : float, default 20, 0.5
        Of the distillation: what divides the outputs, and the share of the loss on the labels.
    """

    headline = 'accuracy'

    def __init__(
        self,
        classes,
        smoothing=0.0,
        mixup_alpha=0.0,
        mixup_epochs=None,
        teacher=None,
        temperature=20.0,
        hard_weight=0.5,
    ):
        self.classes, self.smoothing = classes, smoothing
        self.mixup_alpha, self.mixup_epochs = mixup_alpha, mixup_epochs
        self.teacher, self.temperature = teacher, temperature
        self.train_score = 'train_rmse' if mixup_alpha else 'train_accuracy'
        self._hard = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
        self._distilled = DistillationSoftmaxCrossEntropyLoss(temperature, hard_weight, sparse_label=False)

    def targets(self, label):
        """Labels (N,) as what the loss compares with, (N, classes); numpy arrays."""
        return smooth(label, self.classes, self.smoothing)

    def mix(self, data, target, epoch, random):
        """A part of a batch, and its targets, as they are trained on in `epoch`."""
        if self.mixup_alpha and (self.mixup_epochs is None or epoch <= self.mixup_epochs):
            return mixup(data, target, random.beta(self.mixup_alpha, self.mixup_alpha))
        return data, target

    def loss(self, output, target, data):
        """The loss of each image, (N,), float32."""
        output = output.astype('float32')
        if self.teacher is None:
            return self._hard(output, target)
        with mx.autograd.pause():
            soft = mx.nd.softmax(self.teacher(data).astype('float32') / self.temperature)
        return self._distilled(output, target, soft)

    def score(self, output, target):
        """(sum, number) of the training score over a batch: images named rightly, or its root mean square error."""
        output = output.astype('float32')
        if self.mixup_alpha:
            error = mx.nd.softmax(output) - target
            return error.square().mean().sqrt(), 1
        return (output.argmax(axis=1) == target.argmax(axis=1)).sum(), len(output)

    def counters(self, output, label):
        """What evaluation adds up over batches: images, first and first five guesses that are right, loss."""
        scores = output.astype('float32')
        loss = self._hard(scores, mx.nd.array(smooth(label, self.classes), ctx=scores.context)).sum().asscalar()
        best = np.argsort(-scores.asnumpy(), axis=1, kind='stable')[:, :5]
        right = best == label.astype(int)[:, None]
        return np.array([len(label), right[:, 0].sum(), right.sum(), loss])

    def figures(self, counters):
        """The figures of an evaluation, with :attr:`headline`, which says what epoch is best."""
        images, first, five, loss = counters
        found = {'accuracy': first / images, 'top5_accuracy': five / images, 'val_loss': loss / images}
        if self.classes <= 5:
            del found['top5_accuracy']
        return {name: float(value) for name, value in found.items()}


class Segmentation:
    """One class for each pixel, by softmax cross entropy; pixels labelled IGNORED (-1) count nowhere.

    Parameters
    ----------
    classes : int
        Including the background, 0.
    """

    headline, train_score = 'miou', 'train_pixel_accuracy'

    def __init__(self, classes):
        self.classes = classes

    def targets(self, label):
        """Masks (N, H, W), as they are, if their labels are classes."""
        check_labels(label, self.classes, IGNORED)
        return label

    def mix(self, data, target, epoch, random):
        """A part of a batch, and its masks, as they are."""
        return data, target

    def loss(self, output, target, data=None):
        """The mean loss of each image's labelled pixels, (N,), float32; 0 for an image without one."""
        # Not GluonCV's loss: its gradient is divided by the labelled pixels of the whole batch, and its value by all
        # pixels; the loop divides by the number of images, and an image should count alike in every batch.
        return self._mean(-mx.nd.pick(mx.nd.log_softmax(output.astype('float32'), axis=1), target, axis=1), target)

    def score(self, output, target):
        """(sum, number) of the training score over a batch: the share of labelled pixels that are right, and images."""
        return self._mean(output.argmax(axis=1).astype('float32') == target, target).sum(), len(output)

    def _mean(self, values, target):
        labelled = target != IGNORED
        return (values * labelled).sum((1, 2)) / mx.nd.maximum(labelled.sum((1, 2)), 1)

    def counters(self, output, label):
        """What evaluation adds up over batches: images, loss, and pixels by label and by the class they are given."""
        loss = self.loss(output, mx.nd.array(label, ctx=output.context)).sum().asscalar()
        guess, label = output.argmax(axis=1).asnumpy().astype(int), check_labels(label, self.classes, IGNORED)
        labelled = label != IGNORED
        pixels = np.bincount(self.classes * label[labelled] + guess[labelled], minlength=self.classes**2)
        return np.array([len(label), loss, *pixels], np.float64)

    def figures(self, counters):
        """The figures of an evaluation, those of GluonCV's SegmentationMetric: a class that is nowhere has IoU 0."""
        images, loss, *pixels = counters
        pixels = np.reshape(pixels, (self.classes, self.classes))
        right, union = np.diag(pixels), pixels.sum(0) + pixels.sum(1) - np.diag(pixels)
        return {
            'miou': float((right / np.maximum(union, 1)).mean()),
            'pixel_accuracy': float(right.sum() / max(pixels.sum(), 1)),
            'val_loss': float(loss / images),
        }
