"""Learning rates over a run, put together from GluonCV's schedulers."""
from __future__ import annotations

from gluoncv.utils import LRScheduler, LRSequential

__all__ = ['warmup_cosine']


def warmup_cosine(lr, epochs, batches, warmup_epochs=0):
    """Linear warm-up from 0 to lr, then half a cosine down to 0 (the released recipes, and He et al., CVPR 2019).

    Parameters
    ----------
    lr : float
    epochs, warmup_epochs : int
        Of the whole run, and of the warm-up in it.
    batches : int
        In an epoch.

    Returns
    -------
    mxnet.lr_scheduler.LRScheduler
        For gluon.Trainer, by the number of updates.

    Raises
    ------
    ValueError
        If the warm-up takes the whole run or more.
    """
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f'The warm-up must be shorter than the run, got {warmup_epochs} of {epochs} epochs.')
    cosine = LRScheduler('cosine', base_lr=lr, target_lr=0, nepochs=epochs - warmup_epochs, iters_per_epoch=batches)
    if not warmup_epochs:
        return LRSequential([cosine])
    warmup = LRScheduler('linear', base_lr=0, target_lr=lr, nepochs=warmup_epochs, iters_per_epoch=batches)
    return LRSequential([warmup, cosine])
