"""The training loop of all recipes."""

from __future__ import annotations

import math
import os
import signal
import time
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Sequence

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from .._mxnet import devices, has_norm_without_gradient, mxnet_variable
from ..data.fingerprint import identity
from ..program import progress_bar
from ..validation import shown
from .checkpoint import (
    SUMS,
    Progress,
    checkpoints,
    read_checkpoint,
    restore_average,
    restore_optimizer,
    restore_parameters,
)
from .config import TrainConfig
from .ema import WeightAverage
from .evaluation import evaluate, split
from .mixed_precision import bfloat16_network, check_bfloat16
from .optimizer import clip_factor, make_optimizer, no_weight_decay
from .resume import check_checkpoint, run_arguments
from .run import RunFolder
from .schedule import make_schedule
from .settings_file import settings_text
from .stop import Stopped, StopSignals, Watchdog
from .task import Task
from .workers import Workers

__all__ = ['fit']


def fit(
    net: gluon.Block,
    train: Any,
    test: Any,
    config: TrainConfig,
    run: RunFolder,
    *,
    task: Task,
    ctx: mx.Context | Sequence[mx.Context] | None = None,
    workers: Workers | None = None,
    save_seconds: float = 600.0,
) -> dict[str, Any]:
    """Train a network; keep the epoch that is best on `test`, and checkpoints to go on from.

    The network itself is trained, hybridized or not as it comes; float16 casts it, and bfloat16 trains its float32
    parameters through :func:`gluon_aff.train.mixed_precision.bfloat16_network`, and evaluates it in float32. `no_wd`
    sets wd_mult of its parameters, and `accumulate` above 1 their grad_req to 'add'. MXNet's random generators are
    seeded for each batch.

    A progress bar goes to standard error, a line for each epoch to standard output and the run's log. Where the loaders
    keep to it, everything random in an epoch is a function of the seed, the epoch and the image or batch, so a resumed
    run ends as one that was never stopped.

    Parameters
    ----------
    net : Block
        Initialised on all of `ctx`.
    train, test : loader
        Such as :class:`gluon_aff.data.cifar.Batches`: of `len()` batches, which `epoch(number, start)` yields from
        batch `start` on as (images, labels); numpy arrays, or NDArrays for the images.
    config : TrainConfig
    run : RunFolder
    task : Task
    ctx : mxnet.Context or list of it, default mxnet.cpu()
        A batch is split among them.
    workers : Workers, default one
    save_seconds : float, default 600
        How often a checkpoint is written within an epoch; one is always written at its end.

    Returns
    -------
    dict
        The record of the best epoch: 'epoch', 'lr', 'loss', the metrics, times.

    Raises
    ------
    FileNotFoundError
        If the checkpoint to resume from is missing.
    ValueError
        If another run is in the way, a checkpoint does not belong to this run, an epoch has no update, a value is out
        of its range, or bfloat16 is asked for where it does not work.
    FloatingPointError
        If the loss or a parameter is no longer finite; the last checkpoint is from before.
    Stopped
        On SIGTERM or Ctrl-C, with a checkpoint written.
    """
    ctx = [ctx] if isinstance(ctx, mx.Context) else list(ctx or [mx.cpu()])
    workers = workers or Workers()
    _check_types(train, test, config, run, task, save_seconds)
    _check_devices(net, ctx)
    if config.dtype == 'bfloat16':
        check_bfloat16(ctx)
    trained = bfloat16_network(net) if config.dtype == 'bfloat16' else net
    batches = len(train) // config.accumulate * config.accumulate
    if not batches:
        raise ValueError(
            f'--accumulate must be at most {len(train)}, the batches of an epoch, got {config.accumulate}; '
            'accumulate fewer, or take smaller batches.'
        )
    if not len(test):
        raise ValueError(f'There is no held-out image for worker {workers.rank} of {workers.size}; hold out more.')
    schedule = make_schedule(config, batches // config.accumulate, workers)
    arguments = run_arguments(config, workers, identity(run.description.get('class_names', ()), train, test))
    path = config.resume
    if path and path != 'auto':
        read_checkpoint(path)[0].close()  # before a folder is made
    with closing(run):
        if workers.rank == 0:
            run.prepare(config.resume, config.overwrite)
        if path == 'auto':
            path = next(iter(checkpoints(run.path)), None)
        progress = Progress(arguments=arguments)
        if config.dtype == 'float16':
            net.cast('float16')
        if path:
            arrays, progress = read_checkpoint(path)
            check_checkpoint(progress, path, arguments, run, task=task, config=config, batches=batches)
            progress.arguments = arguments
            restore_parameters(net, arrays, path)
        parameters = net.collect_params()
        for parameter in parameters.values():
            if config.accumulate > 1 and parameter.grad_req == 'write':
                parameter.grad_req = 'add'
        if config.no_wd:
            no_weight_decay(net)
        trainer = workers.trainer(parameters, make_optimizer(config, schedule, updates=progress.updates))
        average = WeightAverage(net, config.ema) if config.ema else None
        if path:
            restore_optimizer(net, trainer, arrays)
            if average:
                restore_average(average, arrays)
            arrays.close()
        if workers.rank == 0:
            run.begin(fresh=not path, settings=settings_text(config))
            if path:
                run.log(f'Resuming from {path}.')
        loop = _Loop(net, trained, trainer, task, run, progress, config, ctx, workers, batches, save_seconds, average)
        return loop.run_epochs(train, test)


def _check_types(train, test, config, run, task, save_seconds):
    """Raise a ValueError for an argument of fit of a wrong type."""
    for name, good, expected, value in (
        ('train', callable(getattr(train, 'epoch', None)), 'a loader, such as gluon_aff.data.cifar.Batches', train),
        ('test', callable(getattr(test, 'epoch', None)), 'a loader, such as gluon_aff.data.cifar.Batches', test),
        ('config', isinstance(config, TrainConfig), 'a TrainConfig', config),
        ('run', isinstance(run, RunFolder), 'a RunFolder', run),
        ('task', isinstance(task, Task), 'a Task, such as Classification(10)', task),
        ('save_seconds', isinstance(save_seconds, (int, float)) and save_seconds >= 0, 'seconds', save_seconds),
    ):
        if not good:
            raise ValueError(f'{name} must be {expected}, got {shown(value)}.')


def _check_devices(net, ctx):
    """Raise a ValueError if a parameter is not initialised on every device."""
    for name, parameter in net.collect_params().items():
        if not set(ctx) <= set(devices(parameter)):
            raise ValueError(
                f'{name} is not initialised on {", ".join(map(str, ctx))}; call net.initialize with this ctx.'
            )


class _Meter:
    """An epoch's sums so far; a batch's losses are waited for when the next batch is on its way."""

    def __init__(self, sums):
        self.sums, self.pending = sums, None
        self.started = time.time()

    def settle(self):
        """Add what is pending: the number of images, and the losses and scores of a batch."""
        if self.pending:
            images, losses, scores = self.pending
            self.sums['images'] += images
            self.sums['loss'] += sum(float(loss.asscalar()) for loss in losses)
            for score, number in scores:
                self.sums['score'] += float(score.asscalar())
                self.sums['scores'] += number
            self.pending = None

    def add_time(self):
        """Add the time since this was last called."""
        now = time.time()
        self.sums['time'] += now - self.started
        self.started = now


@dataclass
class _Loop:
    """The epochs of a run."""

    net: gluon.Block
    trained: gluon.Block  # on the parameters of net, which is evaluated and saved
    trainer: gluon.Trainer
    task: Task
    run: RunFolder
    progress: Progress
    config: TrainConfig
    ctx: list
    workers: Workers
    batches: int
    save_seconds: float
    average: WeightAverage | None

    def run_epochs(self, train: Any, test: Any) -> Any:
        """Train to the last epoch, and return the record of the best."""
        self.signals, self.heartbeat = StopSignals(), lambda: None
        # MXNet updates statistics in the backward pass, which by itself does not reach a norm with nothing to learn
        # on the images.
        self.input_gradients = has_norm_without_gradient(self.net)
        with ExitStack() as stack:
            stack.enter_context(self.signals)
            if self.config.dtype == 'float16':
                # Long sums of float16 numbers lose their small terms unless they are of float32.
                stack.enter_context(mxnet_variable('MXNET_SAFE_ACCUMULATION', '1'))
            if self.workers.size > 1:
                watchdog = Watchdog(self.config.worker_timeout, self.lost_worker_message)
                self.heartbeat = stack.enter_context(watchdog).heartbeat
            for epoch in range(self.progress.epoch, self.config.num_epochs + 1):
                if self.ends_early():
                    break
                self.train_epoch(train, epoch)
                self.end_epoch(test, epoch)
        return self.progress.best

    def ends_early(self):
        """Whether --early-stopping ends the run before the next epoch."""
        epochs, best = self.config.early_stopping, self.progress.best
        if not (epochs and best and len(self.progress.history) - best['epoch'] >= epochs):
            return False
        if self.workers.rank == 0:
            self.run.log(
                f'Stopped early after epoch {len(self.progress.history)}: {self.task.main_metric} '
                f'has not been better for {epochs} epochs.'
            )
        return True

    def train_epoch(self, train, epoch):
        """Train on the batches of an epoch that are left."""
        progress, saved = self.progress, time.time()
        progress.sums = progress.sums or dict.fromkeys(SUMS, 0)
        meter = _Meter(progress.sums)

        def account():
            meter.settle()
            if not math.isfinite(meter.sums['loss']):
                raise self.diverged(f'The loss is no longer finite in epoch {epoch}')

        def save():
            account()
            meter.add_time()
            self.save(epoch, batch + 1)

        with closing(train.epoch(epoch, progress.batch)) as source, self.progress_bar(epoch) as bar:
            for batch in range(progress.batch, self.batches):
                asked = time.time()
                data, labels = next(source)
                meter.sums['waiting'] += time.time() - asked
                losses, scores = self.step(data, labels, epoch, batch)
                account()  # for the batch before: this one's data were read meanwhile
                meter.pending = len(data), losses, scores
                bar.update()
                bar.set_postfix(loss=f'{meter.sums["loss"] / max(meter.sums["images"], 1):.3f}')
                self.heartbeat()
                if (batch + 1) % self.config.accumulate == 0:
                    self.stop_if_signalled(save)
                    if time.time() - saved > self.save_seconds:
                        save()
                        saved = time.time()
        account()
        meter.add_time()

    def step(self, data, labels, epoch, batch):
        """Train on a batch; the losses and scores of the devices are still being computed."""
        seed = [self.config.seed, epoch, batch]
        mx.random.seed(int(np.random.RandomState([*seed, self.workers.rank]).randint(2**31)))
        # A generator for each device, so that all mix by the same share.
        dtype = self.config.storage_dtype
        shares = [
            self.task.mix(images.astype(dtype, copy=False), target, epoch, np.random.RandomState(seed))
            for images, target in zip(split(data, self.ctx), split(self.task.encode(labels), self.ctx))
        ]
        if self.input_gradients:
            for images, _ in shares:
                images.attach_grad()
        with autograd.record():
            outputs = [self.trained(images) for images, _ in shares]
            losses = [self.task.loss(output, target, images) for output, (images, target) in zip(outputs, shares)]
        autograd.backward(losses)
        if (batch + 1) % self.config.accumulate == 0:
            images = len(data) * self.config.accumulate
            self.trainer.allreduce_grads()
            if self.config.clip_gradient:
                images *= clip_factor(self.trainer, self.config.clip_gradient, images * self.workers.size)
            self.trainer.update(self.workers.images(images))
            self.progress.updates += 1
            if self.average:
                self.average.update()
            if self.config.accumulate > 1:
                self.net.collect_params().zero_grad()
        scores = [self.task.score(output, target) for output, (_, target) in zip(outputs, shares)]
        return [loss.sum() for loss in losses], scores

    def end_epoch(self, test, epoch):
        """Evaluate, write the record, keep the parameters if they are the best, and save a checkpoint."""
        progress, task = self.progress, self.task
        if epoch == 1:
            self.save(epoch, self.batches)  # a run that is killed during the evaluation goes on from here
        self.workers.average(list(self.net.collect_params('.*running_').values()))
        sums = dict(zip(progress.sums, self.workers.total(list(progress.sums.values())).tolist()))
        with self.averaged():
            metrics = evaluate(
                self.net,
                test,
                task=task,
                ctx=self.ctx,
                workers=self.workers,
                dtype=self.config.storage_dtype,
                heartbeat=self.heartbeat,
            )
        record = {
            'epoch': epoch,
            'lr': self.trainer.learning_rate,
            'loss': sums['loss'] / sums['images'],
            task.train_score: sums['score'] / sums['scores'],
            **metrics,
            'time': sums['time'] / self.workers.size,
            'waiting': sums['waiting'] / sums['time'],
        }
        record['images_per_second'] = sums['images'] / record['time']
        progress.history.append(record)
        progress.sums = {}
        better = not progress.best or record[task.main_metric] > progress.best[task.main_metric]
        if better:
            progress.best = record
        if self.workers.rank == 0:
            self.run.log(
                f'[Epoch {epoch}] {task.train_score.replace("_accuracy", "")}={record[task.train_score]:.4f} '
                f'val={record[task.main_metric]:.4f} loss={record["loss"]:.4f} lr: {record["lr"]:.5f} '
                f'time: {record["time"]:.1f} ({record["images_per_second"]:.0f} images/s, {record["waiting"]:.0%} of '
                'the time waiting for data)'
            )
            self.run.save_epoch(progress.history, task.main_metric)
        if better:
            with self.averaged():
                if self.workers.rank == 0:
                    self.run.save_best(self.net, record)
        self.save(epoch + 1, 0)
        if epoch < self.config.num_epochs:
            self.stop_if_signalled()

    @contextmanager
    def averaged(self):
        """While it is open, the network has the parameters that --ema averages, if it does."""
        with self.average.applied() if self.average else nullcontext():
            if self.average:  # each worker averages its own statistics
                self.workers.average(list(self.net.collect_params('.*running_').values()))
            yield

    def save(self, epoch, batch):
        """Write a checkpoint from which the next batch is `batch` of `epoch`."""
        self.progress.epoch, self.progress.batch = epoch, batch
        if self.workers.rank == 0:
            try:
                self.run.save_checkpoint(self.net, self.trainer, self.progress, average=self.average)
            except FloatingPointError as error:
                raise self.diverged(str(error).rstrip('.')) from None

    def diverged(self, what):
        """The error for a run that has diverged; it names the last checkpoint."""
        saved = checkpoints(self.run.path)
        left = f'{os.path.basename(saved[0])} in {self.run.path} is from before' if saved else 'nothing was saved yet'
        return FloatingPointError(f'{what}; {left}. Try a lower --lr, or more --warmup-epochs.')

    def stop_if_signalled(self, save=None):
        """Save and raise Stopped if any worker has received a signal."""
        number = self.signals.number
        if self.workers.size > 1:  # all of them have to stop after the same update
            signalled = self.workers.total([number]).item()
            number = number or (signalled and signal.SIGTERM)
        if number:
            if save:
                save()
            raise Stopped(
                f'Stopped after {self.progress.updates} updates, in epoch {self.progress.epoch} of '
                f'{self.config.num_epochs}; a checkpoint is in {self.run.path}.',
                number,
            )

    def progress_bar(self, epoch):
        return progress_bar(
            total=self.batches,
            initial=self.progress.batch,
            desc=f'epoch {epoch}/{self.config.num_epochs}',
            disable=None if self.workers.rank == 0 else True,
        )

    def lost_worker_message(self):
        return (
            f'Worker {self.workers.rank} has waited too long for the others, or was told to stop while it waited: '
            f'one of them is lost. Start all of them again with --resume; the checkpoints are in {self.run.path}.'
        )
