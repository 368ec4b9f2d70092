"""What is learnt: the loss, the labels that it takes, and the metrics that are reported."""

from __future__ import annotations

from typing import Any, Sequence

import mxnet as mx
import numpy as np
from gluoncv.loss import DistillationSoftmaxCrossEntropyLoss
from mxnet import gluon
from mxnet.gluon import HybridBlock

from .._deprecated import renamed
from ..data.masks import IGNORED
from .soft_labels import check_labels, cutmix, mixup, smooth

__all__ = ['Classification', 'Segmentation', 'Task']


class Task:
    """What :func:`fit` and :func:`evaluate` need of a task; the base class of all tasks.

    Attributes
    ----------
    main_metric : str
        Of :meth:`metrics`, the one by which an epoch is the best.
    train_score : str
        The name in a run's records of what :meth:`score` computes.
    """

    main_metric: str
    train_score: str

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Labels of a batch as the loss takes them."""
        return labels

    def mix(self, data: Any, target: Any, epoch: int, random: np.random.RandomState) -> tuple[Any, Any]:
        """One device's images of a training batch, and their encoded labels, as they are trained on in `epoch`."""
        return data, target

    def loss(self, output: mx.nd.NDArray, target: mx.nd.NDArray, data: mx.nd.NDArray | None = None) -> mx.nd.NDArray:
        """The loss of each image, (N,), float32."""
        raise NotImplementedError

    def score(self, output: mx.nd.NDArray, target: mx.nd.NDArray) -> tuple[mx.nd.NDArray, int]:
        """The training score of a batch: its sum, and the number of its terms."""
        raise NotImplementedError

    def batch_sums(self, output: mx.nd.NDArray, labels: np.ndarray) -> np.ndarray:
        """What an evaluation adds up over its batches, float64."""
        raise NotImplementedError

    def metrics(self, sums: np.ndarray) -> dict[str, float]:
        """The metrics of an evaluation, from the total of its :meth:`batch_sums`."""
        raise NotImplementedError

    counters = renamed('batch_sums')
    figures = renamed('metrics')
    headline = renamed('main_metric')
    targets = renamed('encode')


class Classification(Task):
    """One class for each image, by softmax cross entropy.

    Parameters
    ----------
    classes : int
    smoothing : float, default 0
        Of the labels, see :func:`smooth`.
    mixup_alpha : float, default 0
        Batches are mixed with a share drawn from Beta(alpha, alpha), see :func:`mixup`; 0 mixes none. The training
        score is then not the accuracy but mx.metric.RMSE of the softmax against the mixed labels, as in GluonCV's and
        the authors' scripts.
    cutmix_alpha : float, default 0
        The same for :func:`cutmix`. With both, each batch is mixed by one of the two, drawn evenly, as in timm.
    mixup_epochs : int, optional
        How many of the first epochs are mixed; default all.
    class_weights : sequence of float, default all 1
        What the loss of each class is multiplied by in training, as the weight of PyTorch's CrossEntropyLoss; see
        :func:`gluon_aff.train.soft_labels.balanced_weights`.
    teacher : HybridBlock, optional
        (N, 3, H, W) -> (N, classes), whose outputs are learnt as well (Hinton et al., "Distilling the Knowledge in a
        Neural Network", 2015), by GluonCV's DistillationSoftmaxCrossEntropyLoss.
    temperature, hard_weight : float, default 20, 0.5
        Of the distillation: what divides the outputs, and the share of the loss on the labels.
    """

    main_metric = 'accuracy'

    def __init__(
        self,
        classes: int,
        smoothing: float = 0.0,
        *,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        class_weights: Sequence[float] | np.ndarray | None = None,
        mixup_epochs: int | None = None,
        teacher: HybridBlock | None = None,
        temperature: float = 20.0,
        hard_weight: float = 0.5,
    ):
        self.classes, self.smoothing = classes, smoothing
        self.mixup_alpha, self.cutmix_alpha, self.mixup_epochs = mixup_alpha, cutmix_alpha, mixup_epochs
        self.class_weights = None if class_weights is None else np.asarray(class_weights, np.float32)
        self.teacher, self.temperature = teacher, temperature
        self.train_score = 'train_rmse' if mixup_alpha or cutmix_alpha else 'train_accuracy'
        self._hard = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
        self._distilled = DistillationSoftmaxCrossEntropyLoss(temperature, hard_weight, sparse_label=False)

    def encode(self, labels):
        """Labels (N,) as distributions (N, classes)."""
        return smooth(labels, self.classes, self.smoothing)

    def mix(self, data, target, epoch, random):
        if self.mixup_epochs is not None and epoch > self.mixup_epochs:
            return data, target
        # timm draws one of the two in this way.
        if self.cutmix_alpha and (not self.mixup_alpha or random.rand() < 0.5):
            return cutmix(data, target, random.beta(self.cutmix_alpha, self.cutmix_alpha), random)
        if self.mixup_alpha:
            return mixup(data, target, random.beta(self.mixup_alpha, self.mixup_alpha))
        return data, target

    def loss(self, output, target, data=None):
        output = output.astype('float32')
        if self.class_weights is not None:
            target = target * mx.nd.array(self.class_weights, ctx=target.context)
        if self.teacher is None:
            return self._hard(output, target)
        with mx.autograd.pause():
            soft = mx.nd.softmax(self.teacher(data).astype('float32') / self.temperature)
        return self._distilled(output, target, soft)

    def score(self, output, target):
        """The number of right guesses and of images; with mixup or CutMix the batch's root mean square error, and 1."""
        output = output.astype('float32')
        if self.train_score == 'train_rmse':
            error = mx.nd.softmax(output) - target
            return error.square().mean().sqrt(), 1
        return (output.argmax(axis=1) == target.argmax(axis=1)).sum(), len(output)

    def batch_sums(self, output, labels):
        """The number of images, of right first guesses and of right ones among the first five; the sum of the loss."""
        scores = output.astype('float32')
        loss = self._hard(scores, mx.nd.array(smooth(labels, self.classes), ctx=scores.context)).sum().asscalar()
        best = np.argsort(-scores.asnumpy(), axis=1, kind='stable')[:, :5]
        right = best == labels.astype(int)[:, None]
        return np.array([len(labels), right[:, 0].sum(), right.sum(), loss])

    def metrics(self, sums):
        """Accuracy, top-5 accuracy where there are more than five classes, and the loss of an image."""
        images, first, five, loss = map(float, sums)
        metrics = {'accuracy': first / images, 'top5_accuracy': five / images, 'val_loss': loss / images}
        if self.classes <= 5:
            del metrics['top5_accuracy']
        return metrics


class Segmentation(Task):
    """One class for each pixel, by softmax cross entropy; pixels labelled IGNORED (-1) do not count.

    Parameters
    ----------
    classes : int
        Including the background, 0.
    """

    main_metric, train_score = 'miou', 'train_pixel_accuracy'

    def __init__(self, classes: int):
        self.classes = classes

    def encode(self, labels):
        """Masks (N, H, W), as they are, if their labels are classes or IGNORED."""
        check_labels(labels, self.classes, IGNORED)
        return labels

    def loss(self, output, target, data=None):
        """The mean loss of each image's labelled pixels, (N,), float32; 0 for an image without one."""
        # Not GluonCV's loss: its gradient is divided by the labelled pixels of the whole batch, and its value by all
        # pixels; the loop divides by the number of images, and an image should count alike in every batch.
        return self._mean(-mx.nd.pick(mx.nd.log_softmax(output.astype('float32'), axis=1), target, axis=1), target)

    def score(self, output, target):
        """The sum over the images of the share of labelled pixels that are right, and the number of images."""
        return self._mean(output.argmax(axis=1).astype('float32') == target, target).sum(), len(output)

    def _mean(self, values, target):
        labelled = target != IGNORED
        return (values * labelled).sum((1, 2)) / mx.nd.maximum(labelled.sum((1, 2)), 1)

    def batch_sums(self, output, labels):
        """The number of images, the sum of the loss, and the number of pixels by label and by guess."""
        loss = self.loss(output, mx.nd.array(labels, ctx=output.context)).sum().asscalar()
        guess, truth = output.argmax(axis=1).asnumpy().astype(int), check_labels(labels, self.classes, IGNORED)
        labelled = truth != IGNORED
        pixels = np.bincount(self.classes * truth[labelled] + guess[labelled], minlength=self.classes**2)
        return np.array([len(truth), loss, *pixels], np.float64)

    def metrics(self, sums):
        """Mean IoU and pixel accuracy as in GluonCV's SegmentationMetric, and the loss; a class nowhere has IoU 0."""
        images, loss, *pixels = sums
        pixels = np.reshape(pixels, (self.classes, self.classes))
        right, union = np.diag(pixels), pixels.sum(0) + pixels.sum(1) - np.diag(pixels)
        return {
            'miou': float((right / np.maximum(union, 1)).mean()),
            'pixel_accuracy': float(right.sum() / max(pixels.sum(), 1)),
            'val_loss': float(loss / images),
        }
