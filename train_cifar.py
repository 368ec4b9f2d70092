"""Train a network of the zoo on small images.

    python train_cifar.py --dataset digits --model cifar_aff_resnet8 --width 1
    python train_cifar.py --dataset fashion_mnist --data-dir DIR --model cifar_iaff_resnet8 --width 1

Flags are named as in GluonCV's and the paper authors' scripts. The run's folder (--save-dir) gets best.params and
model.json, which `python -m model_zoo predict RUN_FOLDER IMAGE...` uses, checkpoints to --resume from, and the log.
"""

import mxnet as mx

from gluon_aff.data.autoaugment import AutoAugment
from gluon_aff.data.cifar import Batches, cifar10, cifar100
from gluon_aff.data.image_sets import digits, fashion_mnist, subset
from gluon_aff.spec import ModelSpec
from gluon_aff.train import (
    RunFolder,
    ScriptParser,
    add_classification_flags,
    add_flags,
    batch_size,
    classification_task,
    devices,
    get_workers,
    naming_flags,
    run_script,
    train,
    whole,
)
from model_zoo.from_flags import check_task, open_teacher, start_network


def parse_args(argv):
    parser = ScriptParser(__doc__, __file__)
    parser.add_argument('--dataset', choices=['digits', 'fashion_mnist', 'cifar10', 'cifar100'], default='digits')
    parser.add_argument('--labels', choices=['fine', 'coarse'], default='fine', help="CIFAR-100's 100 or 20 classes")
    parser.add_argument('--data-dir', help="folder of the data files, default MXNet's; CIFAR is downloaded there")
    parser.add_argument('--train-images', type=whole(1), metavar='N', help='train on so many, each class in its share')
    parser.add_argument('--test-images', type=whole(1), metavar='N', help='evaluate on so many, likewise')
    parser.add_argument('--model', default='cifar_aff_resnet8', help='a cifar_* name of python -m model_zoo list')
    parser.add_argument(
        '--width', type=whole(1), help="channels of the first stage are 16 x width, default the model's"
    )
    add_classification_flags(parser, mixup_alpha=1.0, auto_aug='AutoAugment, the CIFAR-10 policy')
    add_flags(parser, save_dir='runs/cifar')
    parser.idle += [
        ('labels', 'without --dataset cifar100', lambda args: args.dataset != 'cifar100'),
        ('data_dir', 'with --dataset digits', lambda args: args.dataset == 'digits'),
    ]
    return parser.parse(argv)


@naming_flags
def main(argv):
    args = parse_args(argv)
    check_task(args.model, 'classification')
    workers = get_workers(args.kvstore)
    ctx = devices(args, workers)
    mx.random.seed(args.seed)

    data = {
        'digits': digits,
        'fashion_mnist': lambda: fashion_mnist(args.data_dir),
        'cifar10': lambda: cifar10(args.data_dir),
        'cifar100': lambda: cifar100(args.data_dir, args.labels == 'fine'),
    }[args.dataset]()
    train_set, test_set = subset(*data.train, args.train_images), subset(*data.test, args.test_images)
    size, shard = batch_size(args, len(train_set[1]), ctx, workers), (workers.rank, workers.size)
    train_data = Batches(
        *train_set,
        size,
        data.mean,
        data.std,
        train=True,
        flip=data.flip,
        augment=AutoAugment('cifar10') if args.auto_aug else None,
        seed=args.seed,
        shard=shard,
    )
    test_data = Batches(*test_set, size, data.mean, data.std, shard=shard)

    net, options = start_network(args, data.class_names, ctx)
    task = classification_task(args, net, open_teacher(args, data.class_names, ctx))
    spec = ModelSpec(
        args.model, 'classification', data.class_names, (3, 32, 32), net.min_size, data.mean, data.std, 1.0
    )
    run = RunFolder(
        args.save_dir,
        {
            **spec.to_json(),
            'model': args.model,
            'options': options,
            'dataset': data.name,
            'train_images': len(train_set[1]),
            'test_images': len(test_set[1]),
            'command': args.command,
        },
        args.keep,
        args.tensorboard,
    )
    return train(args, net, task, train_data, test_data, run, ctx, workers)


if __name__ == '__main__':
    run_script('train_cifar.py', main)
