"""Train a network of the zoo to find the pixels of one category in photographs with COCO's annotations.

    python train_stopsign.py --data-dir ~/.mxnet/datasets/coco --model fpn_aff_resnet20 --num-gpus 1
    python train_stopsign.py --data-dir coco --category bicycle --model unet_aff_resnet20 --num-gpus 1

Flags are named as in GluonCV's scripts; the defaults are the paper's settings for StopSign, and GluonCV's sizes. The
run's folder (--save-dir) gets best.params and model.json, which `python -m model_zoo predict RUN_FOLDER IMAGE... -o
DIR` uses, checkpoints to --resume from, the log, held-out images with the predicted masks laid over them (overlays/),
and a list of the images that could not be used (skipped.txt).
"""

from __future__ import annotations

if __name__ == '__main__':  # Ctrl-C during the imports, too, ends it with one line
    from gluon_aff_start import end_on_interrupt

    end_on_interrupt()

import os
from dataclasses import dataclass, replace

from gluon_aff.data.coco import CocoSegmentation
from gluon_aff.data.masks import SegmentationBatches, overlay, overlay_names
from gluon_aff.files import atomic
from gluon_aff.train import (
    Segmentation,
    TrainConfig,
    batch_size,
    flag,
    initialize,
    number,
    open_run,
    run_script,
    script,
    start,
    train_network,
    whole,
)
from model_zoo.from_flags import build_network, check_task
from model_zoo.loading import load_model

OVERLAYS = 12  # of the first held-out images


@dataclass(frozen=True)
class Config(TrainConfig):
    """Train a network of the zoo to find the pixels of one category in photographs with COCO's annotations."""

    data_dir: str | None = flag(
        help='folder that the four below are in', required=True, group='data and network', affects_results=False
    )
    train_image_dir: str = flag('train2017', names=('--train-images',), metavar='DIR', affects_results=False)
    train_annotations: str = flag('annotations/instances_train2017.json', metavar='FILE', affects_results=False)
    val_image_dir: str = flag('val2017', names=('--val-images',), metavar='DIR', affects_results=False)
    val_annotations: str = flag('annotations/instances_val2017.json', metavar='FILE', affects_results=False)
    category: str = flag('stop sign', help='its name in the annotations')
    base_size: int = flag(520, whole(1), "pixels; an image's long side is trained on at 0.5 to 2 times this")
    input_size: int = flag(480, whole(1, 2048), 'side of the crops that are trained on')
    model: str = flag('fpn_aff_resnet20', help='fpn_* or unet_*, see python -m model_zoo list')
    width: float | None = flag(None, number(1), "channels of the first stage are 16 x width, default the model's")
    fusion: str | None = flag(help="a fusion other than the model's, such as ms_se")
    reduction: int | None = flag(
        None, whole(1), "of the fusion's contexts, default the model's, 4", names=('--reduction', '--r')
    )
    drop_rate: float = flag(0.0, number(0, 1, ends='[)'), 'dropout in front of the last convolution')

    save_dir: str = 'runs/stopsign'
    num_epochs: int = 300
    batch_size: int = 32
    optimizer: str = 'adagrad'
    lr: float = 0.01
    lr_mode: str = 'poly'
    warmup_epochs: int = 0
    init: str = 'kaiming'


def read_data(config, split):
    """The training or held-out images ('train' or 'val') that can be used."""
    annotations, images = (getattr(config, f'{split}_{name}') for name in ('annotations', 'image_dir'))
    return CocoSegmentation(
        os.path.join(config.data_dir, annotations), os.path.join(config.data_dir, images), config.category
    )


@script(Config)
def main(config):
    spec = check_task(config.model, 'segmentation').spec
    workers, ctx = start(config)

    train_images, val_images = read_data(config, 'train'), read_data(config, 'val')
    train = SegmentationBatches(
        train_images,
        batch_size(config, len(train_images), devices=len(ctx), workers=workers),
        spec.mean,
        spec.std,
        train=True,
        base_size=config.base_size,
        crop_size=config.input_size,
        seed=config.seed,
        shard=workers.shard,
    )
    test = SegmentationBatches(val_images, 1, spec.mean, spec.std, shard=workers.shard)

    names, size = train_images.class_names, (3, config.input_size, config.input_size)
    net, options = build_network(config, len(names))
    initialize(net, config.init, ctx, seed=config.seed if config.init_by_name else None)
    run = open_run(
        config,
        replace(spec, class_names=names, input_size=size, min_size=net.min_size, crop_ratio=1.0),
        skipped=[*train_images.report, *val_images.report],
        options=options,
        dataset=config.data_dir,
        train_images=len(train_images),
        test_images=len(val_images),
    )
    task = Segmentation(len(names))
    best = train_network(net, train, test, config, run, task=task, ctx=ctx, workers=workers)
    if workers.rank == 0:
        save_overlays(config.save_dir, val_images, ctx)
    return best


def save_overlays(folder, images, ctx):
    """Write the first held-out images with the masks that the best epoch's network predicts."""
    model = load_model(folder, ctx=ctx)
    names = overlay_names(images.paths[:OVERLAYS], '.png')
    for path, (image, _) in zip(images.paths[:OVERLAYS], images):
        with atomic(os.path.join(folder, 'overlays', names[path])) as partial:
            overlay(image, model.segment(image)).save(partial, format='png')


if __name__ == '__main__':
    run_script('train_stopsign.py', main)
