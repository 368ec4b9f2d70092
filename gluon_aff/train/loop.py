"""The training loop of the classification recipes."""
from __future__ import annotations

import math
import sys
import time

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from tqdm import tqdm

from ..errors import positive
from .targets import mixup, smooth

__all__ = ['evaluate', 'fit']


def evaluate(net, batches, ctx):
    """Top-1 accuracy, 0..1, of a network on batches.

    Parameters
    ----------
    net : callable
        (N, 3, H, W) -> (N, classes).
    batches : gluon_aff.data.Batches
    ctx : list of mxnet.Context
    """
    right = total = 0
    for data, label in batches.epoch():
        outputs = [net(part) for part in _split(data, ctx)]
        predicted = np.concatenate([output.argmax(axis=1).asnumpy() for output in outputs])
        right += int((predicted == label).sum())
        total += len(label)
    return right / total


def _split(array, ctx):
    return gluon.utils.split_and_load(mx.nd.array(array), ctx, even_split=False)


def fit(net, train, test, run, epochs, schedule, ctx=None, momentum=0.9, wd=1e-4, no_wd=False, smoothing=0.0,
        mixup_alpha=0.0, mixup_off_epochs=0):
    """Train a classifier by Nesterov's momentum on softmax cross entropy; keep the epoch that is best on `test`.

    A progress bar goes to standard error, one line for each epoch to standard output and the run's log.

    Parameters
    ----------
    net : model_zoo.Network or a HybridBlock with `classes`
        Initialised; (N, 3, H, W) -> (N, classes).
    train, test : gluon_aff.data.Batches
    run : RunFolder
        Where the parameters of the best epoch go.
    epochs : int
    schedule : mxnet.lr_scheduler.LRScheduler
    ctx : list of mxnet.Context, default [mxnet.cpu()]
        A batch is split among them.
    momentum, wd : float, default 0.9, 1e-4
    no_wd : bool, default False
        No weight decay on biases, beta and gamma.
    smoothing : float, default 0
        Of the labels, see :func:`smooth`.
    mixup_alpha : float, default 0
        Batches are mixed with a share drawn from Beta(alpha, alpha), see :func:`mixup`; 0 mixes none. The training
        accuracy is then that of naming the larger share.
    mixup_off_epochs : int, default 0
        How many of the last epochs are not mixed.

    Returns
    -------
    float
        The best accuracy on `test`, 0..1.

    Raises
    ------
    FloatingPointError
        If the loss is no longer a finite number.
    """
    ctx = ctx or [mx.cpu()]
    positive('epochs', epochs)
    if no_wd:
        for parameter in net.collect_params('.*(beta|gamma|bias)').values():
            parameter.wd_mult = 0
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
    trainer = gluon.Trainer(net.collect_params(), 'nag',
                            {'lr_scheduler': schedule, 'momentum': momentum, 'wd': wd})
    best = 0.0
    for epoch in range(1, epochs + 1):
        start, total, loss, right = time.time(), 0, 0.0, 0
        random = np.random.RandomState([train.seed, epoch])
        with tqdm(total=len(train), desc=f'epoch {epoch}/{epochs}', file=sys.stderr, leave=False, disable=None) as bar:
            for data, label in train.epoch(epoch):
                target = smooth(label, net.classes, smoothing)
                if mixup_alpha and epoch <= epochs - mixup_off_epochs:
                    data, target = mixup(data, target, random.beta(mixup_alpha, mixup_alpha))
                parts, targets = _split(data, ctx), _split(target, ctx)
                with autograd.record():
                    outputs = [net(part) for part in parts]
                    losses = [loss_of(output, target) for output, target in zip(outputs, targets)]
                autograd.backward(losses)
                trainer.step(len(data))
                total += len(data)
                loss += sum(part.sum().asscalar() for part in losses)
                right += sum(int((output.argmax(axis=1) == target.argmax(axis=1)).sum().asscalar())
                             for output, target in zip(outputs, targets))
                bar.update()
                bar.set_postfix(loss=f'{loss / total:.3f}')
        if not math.isfinite(loss):
            raise FloatingPointError(f'The loss is no longer finite in epoch {epoch}; the best parameters so far '
                                     f'are in {run.path}. Try a lower --lr.')
        accuracy = evaluate(net, test, ctx)
        line = (f'[Epoch {epoch}] train={right / total:.4f} val={accuracy:.4f} loss={loss / total:.4f} '
                f'lr: {trainer.learning_rate:.5f} time: {time.time() - start:.1f}')
        print(line, flush=True)
        run.log(line)
        if accuracy > best or epoch == 1:
            best = accuracy
            run.save_best(net, epoch, accuracy)
    return best
