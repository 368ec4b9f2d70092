"""Train or fine-tune a network of the zoo on photographs: RecordIO files, or a folder of images for each class.

    python train_imagenet.py --use-rec --rec-train train.rec --rec-val val.rec --model iaff_resnet50 --num-gpus 4
    python train_imagenet.py --data-dir my_photos --val-fraction 0.1 --model iaff_resnet50 --pretrained --lr 0.01

Flags are named as in GluonCV's and the paper authors' scripts. The run's folder (--save-dir) gets best.params and
model.json, with the names of the classes, which `python -m model_zoo predict RUN_FOLDER IMAGE...` uses, checkpoints to
--resume from, and the log.
"""

from __future__ import annotations

if __name__ == '__main__':  # Ctrl-C during the imports, too, ends it with one line
    from gluon_aff_start import end_on_interrupt

    end_on_interrupt()

import os
from dataclasses import dataclass, replace

from gluon_aff.data.class_folders import image_folders
from gluon_aff.data.imagenet import Images
from gluon_aff.data.record_file import RecordFile
from gluon_aff.train import (
    ClassificationConfig,
    augmentation,
    batch_size,
    classification_task,
    flag,
    number,
    open_run,
    run_script,
    script,
    start,
    train_network,
    whole,
)
from model_zoo.from_flags import check_task, open_teacher, start_network


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Train or fine-tune a network of the zoo on photographs."""

    data_dir: str | None = flag(
        help='train/ and val/ with a folder for each class, or one tree to split',
        group='data and network',
        affects_results=False,
    )
    val_fraction: float | None = flag(None, number(0, 1, ends='()'), 'of each class of one tree that is held out')
    use_rec: bool = flag(False, help='read RecordIO files (see gluon-aff records)')
    rec_train: str | None = flag(metavar='FILE', affects_results=False)
    rec_train_idx: str | None = flag(help='default beside --rec-train', metavar='FILE', affects_results=False)
    rec_val: str | None = flag(metavar='FILE', affects_results=False)
    rec_val_idx: str | None = flag(help='default beside --rec-val', metavar='FILE', affects_results=False)
    num_workers: int = flag(
        os.cpu_count() or 1,
        whole(1),
        'threads that read images',
        names=('-j', '--num-data-workers'),
        metavar='N',
        affects_results=False,
    )
    input_size: int | None = flag(None, whole(1, 2048), "side of the images, default the model's")
    crop_ratio: float = flag(0.875, number(0, 1, ends='(]'), 'of the held-out images')
    model: str = flag('iaff_resnet50', help='a name of python -m model_zoo list')
    mixup_alpha: float = 0.2
    save_dir: str = 'runs/imagenet'

    USELESS = (
        ('rec_train rec_train_idx rec_val rec_val_idx', 'without --use-rec', lambda config: not config.use_rec),
        ('data_dir val_fraction', 'with --use-rec', lambda config: config.use_rec),
    )


def read_data(config):
    """Sources of training and of held-out images, and sentences on the images that were left out."""
    if not config.use_rec:
        if not config.data_dir:
            raise ValueError('Give --data-dir, a folder of images for each class, or --use-rec with RecordIO files.')
        folders = image_folders(config.data_dir, config.val_fraction, seed=config.seed, workers=config.num_workers)
        return folders.train, folders.val, folders.skipped.values()
    if not config.rec_train or not config.rec_val:
        raise ValueError('--use-rec needs --rec-train and --rec-val.')
    train = RecordFile(config.rec_train, config.rec_train_idx, workers=config.num_workers)
    val = RecordFile(config.rec_val, config.rec_val_idx, workers=config.num_workers)
    if len(val.class_names) > len(train.class_names):
        raise ValueError(
            f'{config.rec_val} has {len(val.class_names)} classes and {config.rec_train} {len(train.class_names)}; '
            'both need the same.'
        )
    return train, val, [*train.skipped.values(), *val.skipped.values()]


def train(config, **options):
    """Train by a config and the further options of train_network; the record of the best epoch, the held-out images."""
    spec = check_task(config.model, 'classification').spec
    workers, ctx = start(config)

    train_images, val_images, skipped = read_data(config)
    size = config.input_size or spec.input_size[1]
    batch = batch_size(config, len(train_images), devices=len(ctx), workers=workers)
    common = {
        'crop_ratio': config.crop_ratio,
        'workers': config.num_workers,
        'seed': config.seed,
        'shard': workers.shard,
    }
    changes = augmentation(config, 'imagenet')
    train_set = Images(train_images, size, batch, spec.mean, spec.std, train=True, **changes, **common)
    test_set = Images(val_images, size, batch, spec.mean, spec.std, **common)

    names = train_images.class_names
    net, net_options = start_network(config, names, ctx=ctx)
    teacher = open_teacher(config, net.classes, ctx=ctx)
    task = classification_task(config, net.classes, train_images.target, teacher=teacher)
    run = open_run(
        config,
        replace(
            spec, class_names=names, input_size=(3, size, size), min_size=net.min_size, crop_ratio=config.crop_ratio
        ),
        skipped=skipped,
        options=net_options,
        dataset=config.data_dir or config.rec_train,
        train_images=len(train_images),
        test_images=len(val_images),
    )
    best = train_network(net, train_set, test_set, config, run, task=task, ctx=ctx, workers=workers, **options)
    return best, val_images


@script(Config)
def main(config):
    return train(config)[0]


if __name__ == '__main__':
    run_script('train_imagenet.py', main)
