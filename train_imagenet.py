"""Train or fine-tune a network of the zoo on photographs: RecordIO files, or a folder of images for each class.

    python train_imagenet.py --use-rec --rec-train train.rec --rec-val val.rec --model iaff_resnet50 --num-gpus 4
    python train_imagenet.py --data-dir my_photos --val-fraction 0.1 --model iaff_resnet50 --pretrained --lr 0.01

Flags are named as in GluonCV's and the paper authors' scripts. The run's folder (--save-dir) gets best.params and
model.json, with the names of the classes, which `python -m model_zoo predict RUN_FOLDER IMAGE...` uses, checkpoints to
--resume from, and the log.
"""

import os

import mxnet as mx

from gluon_aff.data.autoaugment import AutoAugment
from gluon_aff.data.class_folders import image_folders
from gluon_aff.data.imagenet import Images
from gluon_aff.data.record_file import RecordFile
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
    number,
    run_script,
    train,
    whole,
)
from model_zoo.from_flags import check_task, open_teacher, start_network


def parse_args(argv):
    parser = ScriptParser(__doc__, __file__)
    parser.add_argument('--data-dir', help='train/ and val/ with a folder for each class, or one tree to split')
    parser.add_argument('--val-fraction', type=number(0, 1, '()'), help='of each class of one tree that is held out')
    parser.add_argument('--use-rec', action='store_true', help='read RecordIO files (see gluon-aff records)')
    parser.add_argument('--rec-train', metavar='FILE')
    parser.add_argument('--rec-train-idx', metavar='FILE', help='default beside --rec-train')
    parser.add_argument('--rec-val', metavar='FILE')
    parser.add_argument('--rec-val-idx', metavar='FILE', help='default beside --rec-val')
    parser.add_argument(
        '-j',
        '--num-data-workers',
        dest='num_workers',
        type=whole(1),
        default=os.cpu_count() or 1,
        help='threads that read images',
    )
    parser.add_argument('--input-size', type=whole(1), help="side of the images, default the model's")
    parser.add_argument('--crop-ratio', type=number(0, 1, '(]'), default=0.875, help='of the held-out images')
    parser.add_argument('--model', default='iaff_resnet50', help='a name of python -m model_zoo list')
    add_classification_flags(
        parser, mixup_alpha=0.2, auto_aug='AutoAugment, the ImageNet policy, in place of jitter and lighting'
    )
    add_flags(parser, save_dir='runs/imagenet')
    parser.idle += [
        ('rec_train rec_train_idx rec_val rec_val_idx', 'without --use-rec', lambda args: not args.use_rec),
        ('data_dir val_fraction', 'with --use-rec', lambda args: args.use_rec),
    ]
    return parser.parse(argv)


def read_data(args):
    """Sources of training and of held-out images, their loader, and sentences on the images that were left out."""
    if args.use_rec:
        if not args.rec_train or not args.rec_val:
            raise ValueError('--use-rec needs --rec-train and --rec-val.')
        sources = [
            RecordFile(args.rec_train, args.rec_train_idx, workers=args.num_workers),
            RecordFile(args.rec_val, args.rec_val_idx, workers=args.num_workers),
        ]
        if len(sources[1].class_names) > len(sources[0].class_names):
            raise ValueError(
                f'{args.rec_val} has {len(sources[1].class_names)} classes and {args.rec_train} '
                f'{len(sources[0].class_names)}; both need the same.'
            )
        return sources, Images, [sentence for source in sources for sentence in source.skipped.values()]
    if not args.data_dir:
        raise ValueError('Give --data-dir, a folder of images for each class, or --use-rec with RecordIO files.')
    folders = image_folders(args.data_dir, args.val_fraction, seed=args.seed, workers=args.num_workers)
    return [folders.train, folders.val], Images, folders.skipped.values()


@naming_flags
def main(argv):
    args = parse_args(argv)
    card = check_task(args.model, 'classification')
    workers = get_workers(args.kvstore)
    ctx = devices(args, workers)
    mx.random.seed(args.seed)

    sources, loader, skipped = read_data(args)
    class_names, size = sources[0].class_names, args.input_size or card.spec.input_size[1]
    common = {
        'size': size,
        'batch_size': batch_size(args, len(sources[0]), ctx, workers),
        'mean': card.spec.mean,
        'std': card.spec.std,
        'crop_ratio': args.crop_ratio,
        'workers': args.num_workers,
        'seed': args.seed,
        'shard': (workers.rank, workers.size),
    }
    train_data = loader(sources[0], train=True, augment=AutoAugment('imagenet') if args.auto_aug else None, **common)
    test_data = loader(sources[1], **common)

    net, options = start_network(args, class_names, ctx)
    task = classification_task(args, net, open_teacher(args, class_names, ctx))
    spec = ModelSpec(
        args.model,
        'classification',
        class_names,
        (3, size, size),
        net.min_size,
        card.spec.mean,
        card.spec.std,
        args.crop_ratio,
    )
    run = RunFolder(
        args.save_dir,
        {
            **spec.to_json(),
            'model': args.model,
            'options': options,
            'dataset': args.data_dir or args.rec_train,
            'command': args.command,
        },
        args.keep,
        args.tensorboard,
        skipped,
    )
    return train(args, net, task, train_data, test_data, run, ctx, workers)


if __name__ == '__main__':
    run_script('train_imagenet.py', main)
