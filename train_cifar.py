"""Train a network of the zoo on small images.

    python train_cifar.py --dataset digits --model cifar_aff_resnet8 --width 1
    python train_cifar.py --dataset fashion_mnist --data-dir DIR --model cifar_iaff_resnet8 --width 1

Flags are named as in GluonCV's and the paper authors' scripts. The run's folder (--save-dir) gets best.params,
model.json and log.txt; `python -m model_zoo predict RUN_FOLDER IMAGE...` uses it.
"""
import argparse
import random
import shlex
import sys

import mxnet as mx
import numpy as np

from gluon_aff.data.autoaugment import AutoAugment
from gluon_aff.data.cifar import Batches, cifar10, cifar100, digits, fashion_mnist
from gluon_aff.train import SCHEDULES, RunFolder, fit, learning_rate
from model_zoo import get_model


def _epochs(text):
    return [int(epoch) for epoch in text.split(',')]


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--dataset', choices=['digits', 'fashion_mnist', 'cifar10', 'cifar100'], default='digits')
    parser.add_argument('--labels', choices=['fine', 'coarse'], default='fine', help="CIFAR-100's 100 or 20 classes")
    parser.add_argument('--data-dir', help='folder of the data files; digits need none')
    parser.add_argument('--model', default='cifar_aff_resnet8', help='a cifar_* name of python -m model_zoo list')
    parser.add_argument('--width', type=int, help="channels of the first stage are 16 x width, default the model's")
    parser.add_argument('--use-pretrained', metavar='WEIGHTS', nargs='?', const=True, default=False,
                        help='start from the released parameters, or from this tag or file; the head is fresh where '
                             'the classes are others')
    parser.add_argument('--fusion', help="a fusion other than the model's, such as ms_se")
    parser.add_argument('--drop-rate', type=float, default=0.0, help='dropout in front of the classifier')
    parser.add_argument('--num-epochs', type=int, default=15)
    parser.add_argument('--batch-size', type=int, default=32, help='for each device')
    parser.add_argument('--num-gpus', type=int, default=0)
    parser.add_argument('--lr', type=float, default=0.1)
    parser.add_argument('--lr-mode', choices=SCHEDULES, default='cosine')
    parser.add_argument('--lr-decay', type=float, default=0.1, help='factor of --lr-mode step')
    parser.add_argument('--lr-decay-epoch', type=_epochs, default='300,350', help='epochs where --lr-mode step decays')
    parser.add_argument('--warmup-lr', type=float, default=0.0)
    parser.add_argument('--warmup-epochs', type=int, default=1)
    parser.add_argument('--label-smoothing', action='store_true', help='by 0.1')
    parser.add_argument('--auto_aug', '--auto-aug', action='store_true', help='AutoAugment, the CIFAR-10 policy')
    parser.add_argument('--mixup', action='store_true')
    parser.add_argument('--mixup-alpha', type=float, default=1.0)
    parser.add_argument('--mixup-off-epoch', type=int, default=0, help='how many of the last epochs are not mixed')
    parser.add_argument('--momentum', type=float, default=0.9)
    parser.add_argument('--wd', type=float, default=1e-4)
    parser.add_argument('--no-wd', action='store_true', help='no weight decay on biases, beta and gamma')
    parser.add_argument('--mode', choices=['hybrid', 'imperative'], default='hybrid')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--save-dir', default='runs/cifar', help="the run's folder")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    random.seed(args.seed)
    np.random.seed(args.seed)
    mx.random.seed(args.seed)

    if args.dataset != 'digits' and not args.data_dir:
        raise ValueError(f'--dataset {args.dataset} needs --data-dir, the folder of its files.')
    data = {'digits': digits, 'fashion_mnist': lambda: fashion_mnist(args.data_dir),
            'cifar10': lambda: cifar10(args.data_dir),
            'cifar100': lambda: cifar100(args.data_dir, args.labels == 'fine')}[args.dataset]()
    ctx = [mx.gpu(i) for i in range(args.num_gpus)] or [mx.cpu()]
    batch_size = args.batch_size * len(ctx)
    train = Batches(*data.train, batch_size, data.mean, data.std, train=True, flip=data.flip,
                    augment=AutoAugment('cifar10') if args.auto_aug else None, seed=args.seed)
    test = Batches(*data.test, batch_size, data.mean, data.std)

    options = {'classes': len(data.labels), 'final_drop': args.drop_rate}
    asked = {'width': args.width, 'fusion': args.fusion}
    options.update({name: value for name, value in asked.items() if value is not None})
    net = get_model(args.model, pretrained=args.use_pretrained, ctx=ctx, **options)
    if args.use_pretrained:
        if net.labels != data.labels:
            net.reset_classifier(len(data.labels))
    else:
        net.initialize(mx.init.Xavier(), ctx=ctx)
    if args.mode == 'hybrid':
        net.hybridize(static_alloc=True, static_shape=True)

    schedule = learning_rate(args.lr_mode, args.lr, args.num_epochs, len(train), args.warmup_epochs, args.warmup_lr,
                             args.lr_decay_epoch, args.lr_decay)
    run = RunFolder(args.save_dir, {
        'model': args.model, 'options': options, 'labels': data.labels, 'input_size': [3, 32, 32],
        'mean': data.mean, 'std': data.std, 'crop_ratio': 1.0, 'dataset': data.name,
        'command': shlex.join(['python', 'train_cifar.py', *(sys.argv[1:] if argv is None else argv)])})
    best = fit(net, train, test, run, args.num_epochs, schedule, ctx=ctx, momentum=args.momentum, wd=args.wd,
               no_wd=args.no_wd, smoothing=0.1 * args.label_smoothing,
               mixup_alpha=args.mixup_alpha * args.mixup, mixup_off_epochs=args.mixup_off_epoch)
    print(f'Best accuracy {best:.4f}; {run.path}/best.params and model.json hold it.')
    return best


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        sys.exit(f'train_cifar.py: {error}')
