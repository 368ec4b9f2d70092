"""What the norms' statistics of training cost: accuracy with them, and with those of images without augmentation.

    python -m benchmarks.norm_statistics RUN [RUN...]

RUN is a folder of train_cifar.py; its network has the parameters of the last epoch. The statistics are recomputed on
12,800 of its training images, as they are, in batches of 128 that are normalised by their own. No parameter changes.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import mxnet as mx
from mxnet.gluon import Block

import train_cifar
from benchmarks.ablation import last_epoch
from gluon_aff.data.cifar import Batches
from gluon_aff.data.image_sets import subset
from gluon_aff.train import Classification, evaluate, parse, run_script

IMAGES, BATCH = 12_800, 128


def recompute(net: Block, images: Batches) -> None:
    """Set the statistics of all norms to the mean and variance of their inputs."""
    sums, blocks = defaultdict(lambda: [0, 0, 0]), []

    def add(layer, inputs):
        x = inputs[0].reshape((0, 0, -1))
        sums[layer] = [total + value for total, value in zip(sums[layer], (1, x.mean((0, 2)), x.square().mean((0, 2))))]

    net.hybridize(False)
    net.apply(blocks.append)
    hooks = [block.register_forward_pre_hook(add) for block in blocks if hasattr(block, 'running_var')]
    for data, _ in images.epoch():
        with mx.autograd.train_mode():
            net(mx.nd.array(data)).wait_to_read()
    for hook in hooks:
        hook.detach()
    for layer, (count, mean, square) in sums.items():
        layer.running_mean.set_data(mean / count)
        layer.running_var.set_data(square / count - (mean / count).square())


def accuracies(folder: Path) -> tuple[float, float]:
    """Of a run after its last epoch, on the images that it was evaluated on: as it is, and with new statistics."""
    config = parse(train_cifar.Config, ['--config', str(folder / 'run.yaml')])
    data, train, test = train_cifar.read_data(config)
    net = last_epoch(folder).net
    test, task = Batches(*test, BATCH, data.mean, data.std), Classification(len(data.class_names))
    before = evaluate(net, test, task=task)['accuracy']
    recompute(net, Batches(*subset(*train, min(IMAGES, len(train[1]))), BATCH, data.mean, data.std))
    return before, evaluate(net, test, task=task)['accuracy']


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('folders', nargs='+', type=Path, metavar='RUN', help='folder of train_cifar.py')
    print('| run | accuracy, % | recomputed | points |\n|---|---|---|---|')
    for folder in parser.parse_args(argv).folders:
        before, after = accuracies(folder)
        print(f'| {folder.name} | {100 * before:.2f} | {100 * after:.2f} | {100 * (after - before):+.2f} |', flush=True)


if __name__ == '__main__':
    run_script('benchmarks/norm_statistics.py', main)
