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

from gluon_aff.data.cifar import Batches, digits, fashion_mnist
from gluon_aff.train import RunFolder, fit, warmup_cosine
from model_zoo import get_model


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--dataset', choices=['digits', 'fashion_mnist'], default='digits')
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
    parser.add_argument('--warmup-epochs', type=int, default=1)
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

    if args.dataset == 'digits':
        data = digits()
    elif args.data_dir:
        data = fashion_mnist(args.data_dir)
    else:
        raise ValueError('--dataset fashion_mnist needs --data-dir, the folder of its four IDX files.')
    ctx = [mx.gpu(i) for i in range(args.num_gpus)] or [mx.cpu()]
    batch_size = args.batch_size * len(ctx)
    train = Batches(*data.train, batch_size, data.mean, data.std, train=True, flip=data.flip, seed=args.seed)
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

    schedule = warmup_cosine(args.lr, args.num_epochs, len(train), args.warmup_epochs)
    run = RunFolder(args.save_dir, {
        'model': args.model, 'options': options, 'labels': data.labels, 'input_size': [3, 32, 32],
        'mean': data.mean, 'std': data.std, 'crop_ratio': 1.0, 'dataset': data.name,
        'command': shlex.join(['python', 'train_cifar.py', *(sys.argv[1:] if argv is None else argv)])})
    best = fit(net, train, test, run, args.num_epochs, schedule, ctx=ctx, momentum=args.momentum, wd=args.wd,
               no_wd=args.no_wd)
    print(f'Best accuracy {best:.4f}; {run.path}/best.params and model.json hold it.')
    return best


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        sys.exit(f'train_cifar.py: {error}')
