"""Train a network of the zoo on small images.

    python train_cifar.py --dataset digits --model cifar_aff_resnet8 --width 1
    python train_cifar.py --dataset fashion_mnist --data-dir DIR --model cifar_iaff_resnet8 --width 1

Flags are named as in GluonCV's and the paper authors' scripts. The run's folder (--save-dir) gets best.params and
model.json, which `python -m model_zoo predict RUN_FOLDER IMAGE...` uses, checkpoints to --resume from, and the log.
"""
import argparse
import shlex

import mxnet as mx

from gluon_aff.data.autoaugment import AutoAugment
from gluon_aff.data.cifar import Batches, cifar10, cifar100, digits, fashion_mnist, fewer
from gluon_aff.spec import ModelSpec
from gluon_aff.train import (Classification, RunFolder, add_flags, devices, get_workers, initialize, run_script,
                             train)
from model_zoo import get_model


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--dataset', choices=['digits', 'fashion_mnist', 'cifar10', 'cifar100'], default='digits')
    parser.add_argument('--labels', choices=['fine', 'coarse'], default='fine', help="CIFAR-100's 100 or 20 classes")
    parser.add_argument('--data-dir', help="folder of the data files, default MXNet's; CIFAR is downloaded there")
    parser.add_argument('--train-images', type=int, metavar='N', help='train on so many, each class in its share')
    parser.add_argument('--test-images', type=int, metavar='N', help='evaluate on so many, likewise')
    parser.add_argument('--model', default='cifar_aff_resnet8', help='a cifar_* name of python -m model_zoo list')
    parser.add_argument('--width', type=int, help="channels of the first stage are 16 x width, default the model's")
    parser.add_argument('--use-pretrained', metavar='WEIGHTS', nargs='?', const=True, default=False,
                        help='start from the released parameters, or from this tag or file; the head is fresh where '
                             'the classes are others')
    parser.add_argument('--fusion', help="a fusion other than the model's, such as ms_se")
    parser.add_argument('--reduction', type=int, help="of the fusion's contexts, default the model's")
    parser.add_argument('--start-layer', type=int, metavar='STAGE', help='where fusion by attention begins')
    parser.add_argument('--drop-rate', type=float, default=0.0, help='dropout in front of the classifier')
    parser.add_argument('--label-smoothing', action='store_true', help='by 0.1')
    parser.add_argument('--auto_aug', '--auto-aug', action='store_true', help='AutoAugment, the CIFAR-10 policy')
    parser.add_argument('--mixup', action='store_true')
    parser.add_argument('--mixup-alpha', type=float, default=1.0)
    parser.add_argument('--mixup-off-epoch', type=int, default=0, help='how many of the last epochs are not mixed')
    add_flags(parser, save_dir='runs/cifar')
    args = parser.parse_args(argv)
    args.command = shlex.join(['python', 'train_cifar.py', *argv])
    return args


def main(argv):
    args = parse_args(argv)
    workers = get_workers(args.kvstore)
    ctx = devices(args, workers)
    mx.random.seed(args.seed)

    data = {'digits': digits, 'fashion_mnist': lambda: fashion_mnist(args.data_dir),
            'cifar10': lambda: cifar10(args.data_dir),
            'cifar100': lambda: cifar100(args.data_dir, args.labels == 'fine')}[args.dataset]()
    batch_size, part = args.batch_size * len(ctx), (workers.rank, workers.size)
    train_set, test_set = fewer(*data.train, args.train_images), fewer(*data.test, args.test_images)
    train_data = Batches(*train_set, batch_size, data.mean, data.std, train=True, flip=data.flip,
                         augment=AutoAugment('cifar10') if args.auto_aug else None, seed=args.seed, part=part)
    test_data = Batches(*test_set, batch_size, data.mean, data.std, part=part)

    asked = {'width': args.width, 'fusion': args.fusion, 'reduction': args.reduction, 'start_stage': args.start_layer}
    options = {'classes': len(data.labels), 'final_drop': args.drop_rate,
               **{name: value for name, value in asked.items() if value is not None}}
    net = get_model(args.model, pretrained=args.use_pretrained, ctx=ctx, **options)
    if not args.use_pretrained:
        initialize(net, args.init, ctx)
    elif net.labels != data.labels:
        net.reset_classifier(len(data.labels))

    task = Classification(net.classes, 0.1 * args.label_smoothing, args.mixup_alpha * args.mixup,
                          args.num_epochs - args.mixup_off_epoch)
    spec = ModelSpec(args.model, 'classification', data.labels, (3, 32, 32), net.min_size, data.mean, data.std, 1.0)
    run = RunFolder(args.save_dir, {
        **spec.to_json(), 'model': args.model, 'options': options, 'dataset': data.name,
        'train_images': len(train_set[1]), 'test_images': len(test_set[1]), 'command': args.command},
        args.keep, args.tensorboard)
    return train(args, net, task, train_data, test_data, run, ctx, workers)


if __name__ == '__main__':
    run_script('train_cifar.py', main)
