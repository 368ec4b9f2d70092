"""A short training run as a program, for tests that stop it or start several of it."""

import argparse
import time

import mxnet as mx
import numpy as np

from gluon_aff.data.autoaugment import AutoAugment
from gluon_aff.data.cifar import Batches
from gluon_aff.data.image_sets import digits
from gluon_aff.train import Classification, RunFolder, TrainConfig, fit, get_workers, run_script
from model_zoo import get_model


class Slow:
    """A loader that takes `seconds` for each batch, so that there is time to interrupt it."""

    def __init__(self, batches, seconds):
        self.batches, self.seconds, self.batch_size = batches, seconds, batches.batch_size

    def __len__(self):
        return len(self.batches)

    def epoch(self, number=0, start=0):
        for batch in self.batches.epoch(number, start):
            time.sleep(self.seconds)
            yield batch


def main(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument('folder')
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--slow', type=float, default=0.0)
    parser.add_argument('--save-seconds', type=float, default=600.0)
    parser.add_argument('--kvstore', default='device')
    parser.add_argument('--frozen', action='store_true', help='normalise by the running statistics; nothing random')
    parser.add_argument('--recipe', action='store_true', help='with average, clipping, erasing and a balanced sampler')
    args = parser.parse_args(argv)

    workers = get_workers(args.kvstore)
    mx.random.seed(0)
    data = digits()
    train = Batches(
        data.train[0][:96],
        data.train[1][:96],
        args.batch_size,
        data.mean,
        data.std,
        train=True,
        augment=AutoAugment('cifar10'),
        erasing=0.5 * args.recipe,
        balanced=args.recipe,
        seed=1,
        shard=workers.shard,
    )
    test = Batches(data.test[0][:50], data.test[1][:50], 50, data.mean, data.std, shard=workers.shard)
    net = get_model(
        'cifar_aff_resnet8', classes=10, width=1, final_drop=0.3 * (not args.frozen), use_global_stats=args.frozen
    )
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True)
    fit(
        net,
        Slow(train, args.slow),
        test,
        TrainConfig(
            num_epochs=args.epochs,
            lr=0.05,
            resume='auto',
            ema=0.8 * args.recipe,
            clip_gradient=0.7 if args.recipe else None,
        ),
        RunFolder(args.folder, {}),
        task=Classification(10, 0.1, mixup_alpha=0 if args.frozen else 1.0, mixup_epochs=args.epochs - 1),
        workers=workers,
        save_seconds=args.save_seconds,
    )
    np.savez(
        f'{args.folder}/rank-{workers.rank}.npz',
        **{name: value.data().asnumpy() for name, value in net._collect_params_with_prefix().items()},
    )


if __name__ == '__main__':
    run_script('short_run.py', main)
