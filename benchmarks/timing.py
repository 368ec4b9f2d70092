"""What the benchmarks share: the processor, taking turns in one process, peak memory, figures of a training step."""

import re
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import mxnet as mx
from mxnet import autograd, gluon

CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
CLOCK_HELP = (
    'wall-clock time, or the processor time of this process, which other processes disturb less; '
    'use cpu with OMP_NUM_THREADS=1 only, as threads that wait count'
)


def processor():
    """The processor's name, as Linux states it."""
    with suppress(OSError, StopIteration):
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        return next(line.partition(': ')[2] for line in lines if line.startswith('model name'))
    return 'unknown processor'


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


def peak_memory():
    """MiB, the largest resident size of this process; getrusage's may be that of the process that started it."""
    return int(re.search(r'VmHWM:\s+(\d+) kB', Path('/proc/self/status').read_text()).group(1)) / 1024


def memory_of(make, calls=3):
    """MiB that what make() gives takes at most, in its first calls, above what the process took before."""
    Path('/proc/self/clear_refs').write_text('5')  # the peak is now what is resident
    before, step = peak_memory(), make()
    for _ in range(calls):
        step()
        mx.nd.waitall()
    return peak_memory() - before


def in_a_process(*command, **kwargs):
    """The number that a benchmark prints last in a process of its own."""
    out = subprocess.run(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=600,
        check=True,
        **kwargs,
    )
    return float(out.stdout.split()[-1])
