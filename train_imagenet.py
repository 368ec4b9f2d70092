"""Train or fine-tune a network of the zoo on photographs: RecordIO files, or a folder of images for each class.

    python train_imagenet.py --use-rec --rec-train train.rec --rec-val val.rec --model iaff_resnet50 --num-gpus 4
    python train_imagenet.py --data-dir my_photos --val-fraction 0.1 --model iaff_resnet50 --pretrained --lr 0.01

Flags are named as in GluonCV's and the paper authors' scripts. The run's folder (--save-dir) gets best.params and
model.json, with the names of the classes, which `python -m model_zoo predict RUN_FOLDER IMAGE...` uses, checkpoints to
--resume from, and the log.
"""
import argparse
import os
import shlex

import mxnet as mx

from gluon_aff.data.autoaugment import AutoAugment
from gluon_aff.data.folders import image_folders
from gluon_aff.data.imagenet import Images
from gluon_aff.data.records import RecordFile
from gluon_aff.train import (Classification, RunFolder, add_flags, devices, get_workers, initialize, run_script,
                             train, tune_backbone)
from model_zoo import get_model, model_info


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--data-dir', help='train/ and val/ with a folder for each class, or one tree to split')
    parser.add_argument('--val-fraction', type=float, help='of each class of one tree that is held out')
    parser.add_argument('--use-rec', action='store_true', help='read RecordIO files (see gluon-aff records)')
    parser.add_argument('--rec-train', metavar='FILE')
    parser.add_argument('--rec-train-idx', metavar='FILE', help='default beside --rec-train')
    parser.add_argument('--rec-val', metavar='FILE')
    parser.add_argument('--rec-val-idx', metavar='FILE', help='default beside --rec-val')
    parser.add_argument('-j', '--num-data-workers', dest='num_workers', type=int, default=os.cpu_count() or 1,
                        help='threads that read images')
    parser.add_argument('--input-size', type=int, help="side of the images, default the model's")
    parser.add_argument('--crop-ratio', type=float, default=0.875, help='of the held-out images')
    parser.add_argument('--model', default='iaff_resnet50', help='a name of python -m model_zoo list')
    parser.add_argument('--fusion', help="a fusion other than the model's, such as ms_se")
    parser.add_argument('--reduction', type=int, help="of the fusion's contexts, default the model's")
    parser.add_argument('--start-layer', type=int, metavar='STAGE', help='where fusion by attention begins')
    parser.add_argument('--pretrained', '--use-pretrained', metavar='WEIGHTS', nargs='?', const=True, default=False,
                        help='start from the released parameters, or from this tag or file; the head is fresh where '
                             'the classes are others')
    parser.add_argument('--backbone-lr', type=float, default=1.0, metavar='FACTOR',
                        help="of all but the head's learning rate; 0 leaves the backbone as it is")
    parser.add_argument('--last-gamma', action='store_true', help="start each block's last gamma at zero")
    parser.add_argument('--drop-rate', type=float, default=0.0, help='dropout in front of the classifier')
    parser.add_argument('--label-smoothing', action='store_true', help='by 0.1')
    parser.add_argument('--auto_aug', '--auto-aug', action='store_true',
                        help="AutoAugment, the ImageNet policy, in place of jitter and lighting")
    parser.add_argument('--mixup', action='store_true')
    parser.add_argument('--mixup-alpha', type=float, default=0.2)
    parser.add_argument('--mixup-off-epoch', type=int, default=0, help='how many of the last epochs are not mixed')
    parser.add_argument('--teacher', metavar='MODEL', help='a network of the zoo to distil')
    parser.add_argument('--teacher-weights', metavar='WEIGHTS', default=True, help='its tag or file')
    parser.add_argument('--temperature', type=float, default=20.0, help='of the distillation')
    parser.add_argument('--hard-weight', type=float, default=0.5, help="of the labels' share in the distillation")
    add_flags(parser, save_dir='runs/imagenet')
    args = parser.parse_args(argv)
    args.command = shlex.join(['python', 'train_imagenet.py', *argv])
    return args


def read_data(args, card, batch_size, part):
    """Class names, loaders of training and of held-out images, and sentences on what was left out."""
    size = args.input_size or card.input_size[1]
    common = {'size': size, 'batch_size': batch_size, 'mean': card.mean, 'std': card.std,
              'crop_ratio': args.crop_ratio, 'workers': args.num_workers, 'seed': args.seed, 'part': part}
    augment = AutoAugment('imagenet') if args.auto_aug else None
    if args.use_rec:
        if not args.rec_train or not args.rec_val:
            raise ValueError('--use-rec needs --rec-train and --rec-val.')
        sources = [RecordFile(args.rec_train, args.rec_train_idx), RecordFile(args.rec_val, args.rec_val_idx)]
        skipped = [sentence for source in sources for sentence in source.skipped.values()]
        if len(sources[1].labels) > len(sources[0].labels):
            raise ValueError(f'{args.rec_val} has {len(sources[1].labels)} classes and {args.rec_train} '
                             f'{len(sources[0].labels)}; both need the same.')
    else:
        if not args.data_dir:
            raise ValueError('Give --data-dir, a folder of images for each class, or --use-rec with RecordIO files.')
        folders = image_folders(args.data_dir, args.val_fraction, args.seed, args.num_workers)
        sources, skipped = [folders.train, folders.val], folders.skipped.values()
    loaders = [Images(source, train=train, augment=augment if train else None, **common)
               for source, train in zip(sources, (True, False))]
    return sources[0].labels, loaders, skipped


def main(argv):
    args = parse_args(argv)
    card = model_info(args.model)
    workers = get_workers(args.kvstore)
    ctx = devices(args, workers)
    mx.random.seed(args.seed)

    labels, (train_data, test_data), skipped = read_data(args, card, args.batch_size * len(ctx),
                                                         (workers.rank, workers.size))
    asked = {'fusion': args.fusion, 'reduction': args.reduction, 'start_stage': args.start_layer,
             'final_drop': args.drop_rate or None, 'last_gamma': args.last_gamma or None}
    options = {'classes': len(labels), **{name: value for name, value in asked.items() if value is not None}}
    net = get_model(args.model, pretrained=args.pretrained, ctx=ctx, **options)
    if not args.pretrained:
        initialize(net, args.init, ctx)
    elif net.labels != labels:
        net.reset_classifier(len(labels))
    if args.backbone_lr != 1:
        tune_backbone(net, getattr(net, net.head_name), args.backbone_lr)
    teacher = None
    if args.teacher:
        teacher = get_model(args.teacher, pretrained=args.teacher_weights, ctx=ctx)
        if teacher.classes != len(labels):
            raise ValueError(f'--teacher {args.teacher} knows {teacher.classes} classes and the data {len(labels)}; '
                             'give --teacher-weights of one that was trained on the same.')
        teacher.hybridize(static_alloc=True, static_shape=True)

    task = Classification(net.classes, 0.1 * args.label_smoothing, args.mixup_alpha * args.mixup,
                          args.num_epochs - args.mixup_off_epoch, teacher, args.temperature, args.hard_weight)
    size = args.input_size or card.input_size[1]
    run = RunFolder(args.save_dir, {
        'model': args.model, 'options': options, 'labels': labels, 'input_size': [3, size, size], 'mean': card.mean,
        'std': card.std, 'crop_ratio': args.crop_ratio, 'dataset': args.data_dir or args.rec_train,
        'command': args.command}, args.keep, args.tensorboard, skipped)
    return train(args, net, task, train_data, test_data, run, ctx, workers)


if __name__ == '__main__':
    run_script('train_imagenet.py', main)
