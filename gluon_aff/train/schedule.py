"""Learning rates over a run, made of GluonCV's schedulers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Sequence

from gluoncv.utils import LRScheduler, LRSequential

if TYPE_CHECKING:
    from .config import TrainConfig
    from .workers import Workers

__all__ = ['SCHEDULES', 'learning_rate', 'make_schedule']

SCHEDULES = ('cosine', 'step', 'poly', 'constant')


def learning_rate(
    mode: str,
    lr: float,
    *,
    epochs: int,
    batches: int,
    warmup_epochs: int = 0,
    warmup_lr: float = 0.0,
    decay_epochs: Sequence[int] = (),
    decay: float = 0.1,
    power: float = 2,
) -> LRSequential:
    """A linear warm-up from warmup_lr to lr, then a schedule of GluonCV's from lr down.

    Parameters
    ----------
    mode : {'cosine', 'step', 'poly', 'constant'}
        Half a cosine to 0 (the released recipes; He et al., CVPR 2019), times `decay` at each of `decay_epochs` (the
        paper's CIFAR runs), or (1 - t)^power to 0.
    lr, warmup_lr : float
    epochs, warmup_epochs : int
        Of the whole run, and how many of them warm up.
    batches : int
        Updates in an epoch.
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
    phases = [(warmup_epochs, 'linear', warmup_lr, lr), (epochs - warmup_epochs, mode, lr, 0)]
    phases = [phase for phase in phases if phase[0]]
    if min(length * batches for length, *_ in phases) < 2:
        raise ValueError('The warm-up and what follows need two batches each; take more epochs or smaller batches.')
    return LRSequential(
        [
            LRScheduler(
                kind,
                base_lr=start,
                target_lr=end,
                nepochs=length,
                iters_per_epoch=batches,
                power=power,
                step_epoch=[epoch - warmup_epochs for epoch in decay_epochs],
                step_factor=decay,
            )
            for length, kind, start, end in phases
        ]
    )


def make_schedule(config: TrainConfig, updates: int, workers: Workers) -> LRSequential:
    """The learning rates of a run with `updates` in an epoch; a warm-up that does not fit is shortened."""
    warmup = min(config.warmup_epochs, config.num_epochs - 1)
    if warmup * updates < 2:
        warmup = 0
    if warmup < config.warmup_epochs and workers.rank == 0:
        print(
            f'--warmup-epochs is {warmup} instead of {config.warmup_epochs}, as --num-epochs is {config.num_epochs} '
            f'and an epoch has {updates} updates.',
            file=sys.stderr,
        )
    scale = workers.size if config.scale_lr else 1
    period = config.lr_decay_period
    return learning_rate(
        config.lr_mode,
        config.lr * scale,
        epochs=config.num_epochs,
        batches=updates,
        warmup_epochs=warmup,
        warmup_lr=config.warmup_lr * scale,
        decay_epochs=range(period, config.num_epochs, period) if period else config.lr_decay_epoch,
        decay=config.lr_decay,
    )
