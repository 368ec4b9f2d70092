"""What the benchmarks share: taking turns in one process, and the figures of a training step."""
import statistics
import time

import mxnet as mx
from mxnet import autograd, gluon

CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
CLOCK_HELP = ('wall-clock time, or the processor time of this process, which other processes disturb less; '
              'use cpu with OMP_NUM_THREADS=1 only, as threads that wait count')


def interleaved(steps, rounds, warm_up=2, clock='wall'):
    """Seconds of every call, by name: all steps take turns, so that what disturbs the machine disturbs each alike."""
    now, seconds = CLOCKS[clock], {name: [] for name in steps}
    for turn in range(rounds + warm_up):
        for name, step in steps.items():
            mx.nd.waitall()
            start = now()
            step()
            mx.nd.waitall()
            if turn >= warm_up:
                seconds[name].append(now() - start)
    return seconds


def times_as_fast(seconds, name, than):
    """Median over the rounds of how many times as fast one is than another."""
    return statistics.median(slow / fast for fast, slow in zip(seconds[name], seconds[than]))


def training_step(net, data, label):
    """A function that takes one step of training: forward, backward and update."""
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), 'nag', {'learning_rate': 0.01, 'momentum': 0.9, 'wd': 1e-4})

    def step():
        with autograd.record():
            value = loss(net(data), label)
        value.backward()
        trainer.step(data.shape[0])
    return step
