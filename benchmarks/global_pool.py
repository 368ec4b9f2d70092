"""Training throughput of a CIFAR AFF network with either global pooling in its contexts and head.

    python benchmarks/global_pool.py [--width 1] [--rounds 8]

Both networks train on the same random batch, a step each in turn, in one process.
"""

import argparse
import statistics

import mxnet as mx
from mxnet.gluon import nn
from timing import interleaved, training_step

import gluon_aff.layers.context
import model_zoo.hosts.cifar_resnet

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--width', type=int, default=1)
parser.add_argument('--batch-size', type=int, default=64)
parser.add_argument('--rounds', type=int, default=8, help='steps of each network, after two to warm up')
args = parser.parse_args()

data = mx.nd.random.uniform(shape=(args.batch_size, 3, 32, 32))
label = mx.nd.array([i % 10 for i in range(args.batch_size)])


def stepper(pool):
    """A function that trains a network with this pooling for one step."""
    adaptive = gluon_aff.layers.context.GlobalAvgPool
    gluon_aff.layers.context.GlobalAvgPool = model_zoo.hosts.cifar_resnet.GlobalAvgPool = pool or adaptive
    net = model_zoo.get_model('cifar_aff_resnet8', width=args.width, classes=10)
    gluon_aff.layers.context.GlobalAvgPool = model_zoo.hosts.cifar_resnet.GlobalAvgPool = adaptive
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True, static_shape=True)
    return training_step(net, data, label)


seconds = interleaved({'nn.GlobalAvgPool2D': stepper(nn.GlobalAvgPool2D), 'GlobalAvgPool': stepper(None)}, args.rounds)
for name, times in seconds.items():
    print(f'{name:20s} {args.batch_size / statistics.median(times):7.1f} images/s')
ratios = [old / new for old, new in zip(*seconds.values())]
print(
    f'GlobalAvgPool is {statistics.median(ratios):.2f} times as fast (median of {args.rounds} paired steps, '
    f'{min(ratios):.2f} to {max(ratios):.2f})'
)
