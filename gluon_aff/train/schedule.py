"""Learning rates over a run, put together from GluonCV's schedulers."""

from __future__ import annotations

from gluoncv.utils import LRScheduler, LRSequential

__all__ = ['SCHEDULES', 'learning_rate']

SCHEDULES = ('cosine', 'step', 'poly', 'constant')


def learning_rate(mode, lr, epochs, batches, warmup_epochs=0, warmup_lr=0.0, decay_epochs=(), decay=0.1, power=2):
    """Linear warm-up from warmup_lr to lr, then one of GluonCV's schedules down from there.

    Parameters
    ----------
    mode : {'cosine', 'step', 'poly', 'constant'}
        Half a cosine to 0 (the released recipes; He et al., CVPR 2019), times `decay` at each of `decay_epochs` (the
        paper's CIFAR runs), or (1 - t)^power to 0.
    lr, warmup_lr : float
    epochs, warmup_epochs : int
        Of the whole run, and of the warm-up in it.
    batches : int
        In an epoch.
    decay_epochs : sequence of int, default ()
        Counted from the start of the run, warm-up included.
    decay, power : float, default 0.1, 2

    Returns
    -------
    mxnet.lr_scheduler.LRScheduler
        For gluon.Trainer, by the number of updates.

    Raises
    ------
    ValueError
        For an unknown mode, a warm-up that takes the whole run, or a part of fewer than two updates.
    """
    if mode not in SCHEDULES:
        raise ValueError(f'A schedule is one of {", ".join(SCHEDULES)}, got {mode!r}.')
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f'The warm-up must be shorter than the run, got {warmup_epochs} of {epochs} epochs.')
    parts = [(warmup_epochs, 'linear', warmup_lr, lr), (epochs - warmup_epochs, mode, lr, 0)]
    parts = [part for part in parts if part[0]]
    for part, *_ in parts:
        if part * batches < 2:
            raise ValueError('The warm-up and what follows need two batches each; take more epochs or smaller batches.')
    return LRSequential(
        [
            LRScheduler(
                kind,
                base_lr=start,
                target_lr=end,
                nepochs=part,
                iters_per_epoch=batches,
                power=power,
                step_epoch=[epoch - warmup_epochs for epoch in decay_epochs],
                step_factor=decay,
            )
            for part, kind, start, end in parts
        ]
    )
