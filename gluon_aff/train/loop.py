"""The training loop of all recipes."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from tqdm import tqdm

from .._mxnet import devices
from ..errors import positive
from ..validation import shown
from .arguments import check_arguments
from .checkpoint import SUMS, Progress, checkpoints, read_checkpoint, restore_optimizer, restore_parameters
from .optimizer import Nesterov  # noqa: F401 - registers its name
from .run import RunFolder
from .stop import Stopped, StopSignals, Watchdog
from .workers import Workers

__all__ = ['evaluate', 'fit', 'no_weight_decay']


def _split(array, ctx):
    """A batch (numpy or NDArray) in parts for the devices; no part where there are more devices than images."""
    array = array if isinstance(array, mx.nd.NDArray) else mx.nd.array(array)
    return gluon.utils.split_and_load(array, ctx[: len(array)], even_split=False)


def evaluate(net, batches, ctx, task, workers=None, dtype='float32', alive=None):
    """A network's figures on images it was not trained on.

    Parameters
    ----------
    net : callable
        (N, 3, H, W) -> outputs.
    batches : loader
        The worker's share of the images.
    ctx : list of mxnet.Context
    task : Classification or the like
    workers : Workers, default one
    dtype : str, default 'float32'
    alive : callable, optional
        Called after each batch.

    Returns
    -------
    dict of str to float
        `task.figures`, over all workers' images.
    """
    counters = 0
    for data, label in batches.epoch():
        parts = _split(data, ctx)
        outputs = [net(part.astype(dtype, copy=False)) for part in parts]
        ends = np.cumsum([len(part) for part in parts])[:-1]
        for output, truth in zip(outputs, np.split(label, ends)):
            counters = counters + task.counters(output, truth)
        if alive:
            alive()
    return task.figures((workers or Workers()).total(counters))


def no_weight_decay(net):
    """Spare biases, beta and gamma the weight decay (He et al., "Bag of Tricks", CVPR 2019).

    Parameters
    ----------
    net : HybridBlock
    """
    for parameter in net.collect_params('.*(beta|gamma|bias)').values():
        parameter.wd_mult = 0


def fit(
    net,
    train,
    test,
    run,
    task,
    epochs,
    schedule,
    ctx=None,
    optimizer='nesterov',
    optimizer_options=None,
    accumulate=1,
    dtype='float32',
    workers=None,
    seed=0,
    resume=None,
    arguments=None,
    patience=600.0,
    save_seconds=600.0,
):
    """Train a network; keep the epoch that is best on `test`, and checkpoints to go on from.

    The network itself is trained, hybridized or not as it comes; 'float16' casts it, and with `accumulate` above 1 its
    parameters' grad_req is 'add' afterwards. MXNet's random generators are seeded anew for each batch.

    A progress bar goes to standard error, one line for each epoch to standard output and the run's log. Where the data
    loaders keep to it, everything random in an epoch is a function of the seed, the epoch and the image or batch, so a
    resumed run ends as one that was never stopped.

    Parameters
    ----------
    net : HybridBlock
        Initialised; (N, 3, H, W) -> outputs.
    train, test : loader
        The worker's share of the images: :class:`gluon_aff.data.cifar.Batches` or another with `batch_size`, `len` and
        `epoch(number, start)`.
    run : RunFolder
        Written to by the first worker. Without `resume`, what another run left in it is removed.
    task : Classification or the like
        Loss and figures.
    epochs : int
    schedule : mxnet.lr_scheduler.LRScheduler
        By the number of updates.
    ctx : mxnet.Context or list of it, default mxnet.cpu()
        A batch is split among them.
    optimizer : str, default 'nesterov'
        A name of MXNet's or :class:`Nesterov`'s; StopSign's is 'adagrad'.
    optimizer_options : dict, default {'momentum': 0.9, 'wd': 1e-4} for nesterov
    accumulate : int, default 1
        Batches whose gradients are averaged for an update; the last ones of an epoch that do not make up one are left
        out.
    dtype : {'float32', 'float16'}, default 'float32'
        Of the network, which is cast; with float16, whose forward pass has never been run, the optimizer keeps float32
        copies.
    workers : Workers, default one
    seed : int, default 0
        Of dropout.
    resume : str, optional
        A checkpoint to go on from.
    arguments : dict, optional
        What the run's results depend on: kept in the checkpoints, and a checkpoint with others is refused.
    patience : float, default 600
        Seconds that a worker waits for the others.
    save_seconds : float, default 600
        How often a checkpoint is written within an epoch; one is always written at its end.

    Returns
    -------
    dict
        The record of the best epoch: 'epoch' and figures.

    Raises
    ------
    ValueError
        If a checkpoint does not belong to this network or these arguments, an epoch has no update, or a value is out
        of its range.
    FloatingPointError
        If the loss or a parameter is no longer finite; the last checkpoint is from before.
    Stopped
        On SIGTERM or Ctrl-C, with a checkpoint written.
    """
    ctx = [ctx] if isinstance(ctx, mx.Context) else list(ctx or [mx.cpu()])
    workers, arguments = workers or Workers(), dict(arguments or {})
    positive('epochs', epochs)
    for name, good, wanted, value in (
        ('run', isinstance(run, RunFolder), 'a RunFolder', run),
        ('schedule', isinstance(schedule, mx.lr_scheduler.LRScheduler), 'an LRScheduler', schedule),
        ('optimizer', isinstance(optimizer, str), 'a name', optimizer),
        ('dtype', dtype in ('float32', 'float16'), "'float32' or 'float16'", dtype),
        ('seed', positive('seed', seed, or_zero=True) < 2**32, 'below 2 ** 32', seed),
        ('patience', isinstance(patience, (int, float)) and patience > 0, 'seconds above 0', patience),
        ('save_seconds', isinstance(save_seconds, (int, float)) and save_seconds >= 0, 'seconds', save_seconds),
    ):
        if not good:
            raise ValueError(f'{name} must be {wanted}, got {shown(value)}.')
    _check_devices(net, ctx)
    batches = len(train) // positive('accumulate', accumulate) * accumulate
    if not batches:
        raise ValueError(
            f'An epoch has {len(train)} batches, fewer than the {accumulate} that an update accumulates '
            '(--accumulate); accumulate fewer, or take smaller batches.'
        )
    if not len(test):
        raise ValueError(f'There is no held-out image for worker {workers.rank} of {workers.size}; hold out more.')
    if dtype == 'float16':
        net.cast(dtype)
    arrays, progress = read_checkpoint(resume) if resume else (None, Progress(arguments=arguments))
    if resume:
        check_arguments(progress.arguments, arguments, resume)
        _check_progress(progress, resume, task, epochs, batches, accumulate)
        if progress.best and not run.holds_best():
            raise ValueError(
                f'{resume} is of a run whose best epoch, {progress.best["epoch"]}, is not in {run.path}; '
                'give the --save-dir of that run, or copy its best.params and model.json.'
            )
        progress.arguments = arguments
        restore_parameters(net, arrays, resume)
    parameters = net.collect_params()
    for parameter in parameters.values():
        if accumulate > 1 and parameter.grad_req == 'write':
            parameter.grad_req = 'add'
    if optimizer_options is None:
        optimizer_options = {'momentum': 0.9, 'wd': 1e-4} if optimizer == 'nesterov' else {}
    try:
        rule = mx.optimizer.create(
            optimizer,
            lr_scheduler=schedule,
            begin_num_update=progress.updates,
            multi_precision=dtype == 'float16',
            **optimizer_options,
        )
    except TypeError as error:
        raise ValueError(f'optimizer_options do not fit the optimizer {optimizer} ({error}).') from None
    trainer = workers.trainer(parameters, rule)
    if resume:
        restore_optimizer(net, trainer, arrays)
        arrays.close()
    loop = _Loop(
        net,
        trainer,
        task,
        run,
        progress,
        ctx,
        workers,
        StopSignals(),
        epochs,
        batches,
        accumulate,
        dtype,
        seed,
        save_seconds,
    )
    if loop.first:
        run.begin(fresh=not resume)
        if resume:
            run.log(f'Resuming from {resume}.')
    with ExitStack() as stack:
        stack.callback(run.close)
        stack.enter_context(loop.signals)
        if dtype == 'float16':
            stack.enter_context(_safe_accumulation())
        if workers.size > 1:
            loop.alive = stack.enter_context(Watchdog(patience, loop.last_words)).alive
        for epoch in range(progress.epoch, epochs + 1):
            loop.train_epoch(train, epoch)
            loop.end_epoch(test, epoch)
    return progress.best


def _check_devices(net, ctx):
    """A ValueError where a parameter is not initialised, or not on all devices."""
    for name, parameter in net.collect_params().items():
        if not set(ctx) <= set(devices(parameter)):
            raise ValueError(
                f'{name} is not initialised on {", ".join(map(str, ctx))}; call net.initialize with this ctx.'
            )


@contextmanager
def _safe_accumulation():
    """Let MXNet sum float16 numbers in float32; long sums lose their small terms otherwise."""
    name = 'MXNET_SAFE_ACCUMULATION'
    before = os.environ.get(name)
    os.environ[name] = '1'
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _check_progress(progress, path, task, epochs, batches, accumulate):
    """Raise a ValueError unless a run of these epochs and batches can make a checkpoint's progress."""
    epoch, batch = progress.epoch, progress.batch
    if epoch > epochs + 1:
        raise ValueError(
            f'{path} is of a run that has trained {epoch - 1} epochs, more than the {epochs} asked for; '
            'give --num-epochs as many, or start another run.'
        )
    updates = ((epoch - 1) * batches + batch) // accumulate
    wanted = {'epoch', 'lr', 'loss', task.train_score, task.headline}
    records = progress.history + ([progress.best] if progress.best else [])
    if (
        batch > batches
        or batch % accumulate
        or progress.updates != updates
        or bool(progress.sums) != bool(batch)
        or progress.sums
        and tuple(progress.sums) != SUMS
        or any(not wanted <= set(record) or set(record) != set(records[0]) for record in records)
    ):
        raise ValueError(
            f'{path} is damaged: {progress.updates} updates, batch {batch} of {batches} in epoch {epoch} '
            'and its figures do not fit together; resume from an earlier one.'
        )


@dataclass
class _Loop:
    """What the epochs of a run share."""

    net: gluon.Block
    trainer: gluon.Trainer
    task: object
    run: object
    progress: Progress
    ctx: list
    workers: Workers
    signals: StopSignals
    epochs: int
    batches: int
    accumulate: int
    dtype: str
    seed: int
    save_seconds: float

    def alive(self):
        pass

    def last_words(self):
        return (
            f'Worker {self.workers.rank} has waited too long for the others, or was told to stop while it waited: '
            f'one of them is lost. Start all of them again with --resume; the checkpoints are in {self.run.path}.'
        )

    @property
    def first(self):
        return self.workers.rank == 0

    def save(self, epoch, batch):
        """Write a checkpoint from which the next batch is `batch` of `epoch`."""
        self.progress.epoch, self.progress.batch = epoch, batch
        if self.first:
            try:
                self.run.save_checkpoint(self.net, self.trainer, self.progress)
            except FloatingPointError as error:
                raise self.not_finite(str(error).rstrip('.')) from None

    def not_finite(self, what):
        """The error for a run that has diverged; it names the last checkpoint."""
        saved = checkpoints(self.run.path)
        left = f'{os.path.basename(saved[0])} in {self.run.path} is from before' if saved else 'nothing was saved yet'
        return FloatingPointError(f'{what}; {left}. Try a lower --lr, or more --warmup-epochs.')

    def stop_if_told(self, save=None):
        """Raise Stopped, after `save`, where any worker has been sent a signal."""
        number = self.signals.number
        if self.workers.size > 1:  # all of them have to stop after the same update
            told = self.workers.total([number]).item()
            number = number or (told and signal.SIGTERM)
        if number:
            if save:
                save()
            raise Stopped(
                f'Stopped after {self.progress.updates} updates, in epoch {self.progress.epoch} of '
                f'{self.epochs}; a checkpoint is in {self.run.path}.',
                number,
            )

    def train_epoch(self, train, epoch):
        progress = self.progress
        sums = progress.sums = progress.sums or dict.fromkeys(SUMS, 0)
        computed = []  # figures of a batch, not yet waited for
        began = saved = time.time()

        def account():
            while computed:
                images, losses, scores = computed.pop()
                sums['images'] += images
                sums['loss'] += sum(float(loss.asscalar()) for loss in losses)
                for score, number in scores:
                    sums['score'] += float(score.asscalar())
                    sums['scores'] += number
            if not math.isfinite(sums['loss']):
                raise self.not_finite(f'The loss is no longer finite in epoch {epoch}')

        def save_here():
            nonlocal began, saved
            account()
            saved = time.time()
            sums['time'] += saved - began
            began = saved
            self.save(epoch, batch + 1)

        with closing(train.epoch(epoch, progress.batch)) as source, tqdm(
            total=self.batches,
            initial=progress.batch,
            desc=f'epoch {epoch}/{self.epochs}',
            file=sys.stderr,
            leave=False,
            disable=None if self.first else True,
        ) as bar:
            for batch in range(progress.batch, self.batches):
                asked = time.time()
                data, label = next(source)
                sums['waiting'] += time.time() - asked
                figures = self.step(data, label, epoch, batch)
                # The figures of the batch before are waited for now, so that this one's data were made meanwhile.
                account()
                computed.append(figures)
                bar.update()
                bar.set_postfix(loss=f'{sums["loss"] / max(sums["images"], 1):.3f}')
                self.alive()
                if (batch + 1) % self.accumulate == 0:
                    self.stop_if_told(save_here)
                    if time.time() - saved > self.save_seconds:
                        save_here()
        account()
        sums['time'] += time.time() - began

    def step(self, data, label, epoch, batch):
        """Train on a batch; the figures are (images, losses, scores), still being computed."""
        place = [self.seed, epoch, batch]
        mx.random.seed(int(np.random.RandomState([*place, self.workers.rank]).randint(2**31)))
        # A generator for each part, so that all are mixed by the same share.
        parts = [
            self.task.mix(part.astype(self.dtype, copy=False), target, epoch, np.random.RandomState(place))
            for part, target in zip(_split(data, self.ctx), _split(self.task.targets(label), self.ctx))
        ]
        with autograd.record():
            outputs = [self.net(part) for part, _ in parts]
            losses = [self.task.loss(output, target, part) for output, (part, target) in zip(outputs, parts)]
        autograd.backward(losses)
        if (batch + 1) % self.accumulate == 0:
            self.trainer.step(self.workers.images(len(data) * self.accumulate))
            self.progress.updates += 1
            if self.accumulate > 1:
                self.net.collect_params().zero_grad()
        return (
            len(data),
            [loss.sum() for loss in losses],
            [self.task.score(output, target) for output, (_, target) in zip(outputs, parts)],
        )

    def end_epoch(self, test, epoch):
        progress, task = self.progress, self.task
        if epoch == 1:
            self.save(epoch, self.batches)  # what is killed from here on goes on from here
        self.workers.average(list(self.net.collect_params('.*running_').values()))
        sums = dict(zip(progress.sums, self.workers.total(list(progress.sums.values())).tolist()))
        found = evaluate(self.net, test, self.ctx, task, self.workers, self.dtype, self.alive)
        record = {
            'epoch': epoch,
            'lr': self.trainer.learning_rate,
            'loss': sums['loss'] / sums['images'],
            task.train_score: sums['score'] / sums['scores'],
            **found,
            'time': sums['time'] / self.workers.size,
            'waiting': sums['waiting'] / sums['time'],
        }
        record['images_per_second'] = sums['images'] / record['time']
        progress.history.append(record)
        progress.sums = {}
        better = not progress.best or record[task.headline] > progress.best[task.headline]
        if better:
            progress.best = record
        if self.first:
            self.run.log(
                f'[Epoch {epoch}] {task.train_score.replace("_accuracy", "")}={record[task.train_score]:.4f} '
                f'val={record[task.headline]:.4f} loss={record["loss"]:.4f} lr: {record["lr"]:.5f} '
                f'time: {record["time"]:.1f} ({record["images_per_second"]:.0f} images/s, {record["waiting"]:.0%} of '
                'the time waiting for data)'
            )
            self.run.save_epoch(progress.history)
            if better:
                self.run.save_best(self.net, record)
        self.save(epoch + 1, 0)
        if epoch < self.epochs:
            self.stop_if_told()
