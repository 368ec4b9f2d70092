"""Train a network of the zoo to find the pixels of one category in photographs with COCO's annotations.

    python train_stopsign.py --data-dir ~/.mxnet/datasets/coco --model fpn_aff_resnet20 --num-gpus 1
    python train_stopsign.py --data-dir coco --category bicycle --model unet_aff_resnet20 --num-gpus 1

Flags are named as in GluonCV's scripts; the defaults are the paper's settings for StopSign, and GluonCV's sizes. The
run's folder (--save-dir) gets best.params and model.json, which `python -m model_zoo predict RUN_FOLDER IMAGE... -o
DIR` uses, checkpoints to --resume from, the log, held-out images with the predicted masks laid over them (overlays/),
and a list of the images that could not be used (skipped.txt).
"""

import os

import mxnet as mx

from gluon_aff.data.coco import CocoSegmentation
from gluon_aff.data.masks import SegmentationBatches, overlay, overlay_names
from gluon_aff.files import atomic
from gluon_aff.spec import ModelSpec
from gluon_aff.train import (
    RunFolder,
    ScriptParser,
    Segmentation,
    add_flags,
    batch_size,
    devices,
    get_workers,
    initialize,
    naming_flags,
    number,
    run_script,
    train,
    whole,
)
from model_zoo.from_flags import build_network, check_task
from model_zoo.loading import load_model

OVERLAYS = 12  # of the first held-out images


def parse_args(argv):
    parser = ScriptParser(__doc__, __file__)
    parser.add_argument('--data-dir', required=True, help='folder that the four below are in')
    parser.add_argument('--train-images', dest='train_image_dir', metavar='DIR', default='train2017')
    parser.add_argument('--train-annotations', metavar='FILE', default='annotations/instances_train2017.json')
    parser.add_argument('--val-images', dest='val_image_dir', metavar='DIR', default='val2017')
    parser.add_argument('--val-annotations', metavar='FILE', default='annotations/instances_val2017.json')
    parser.add_argument('--category', default='stop sign', help='its name in the annotations')
    parser.add_argument(
        '--base-size',
        type=whole(1),
        default=520,
        help="pixels; an image's long side is trained on at 0.5 to 2 times this",
    )
    parser.add_argument('--input-size', type=whole(1), default=480, help='side of the crops that are trained on')
    parser.add_argument('--model', default='fpn_aff_resnet20', help='fpn_* or unet_*, see python -m model_zoo list')
    parser.add_argument(
        '--width', type=whole(1), help="channels of the first stage are 16 x width, default the model's"
    )
    parser.add_argument('--fusion', help="a fusion other than the model's, such as ms_se")
    parser.add_argument('--reduction', '--r', type=whole(1), help="of the fusion's contexts, default the model's, 4")
    parser.add_argument(
        '--drop-rate', type=number(0, 1, '[)'), default=0.0, help='dropout in front of the last convolution'
    )
    add_flags(
        parser,
        save_dir='runs/stopsign',
        num_epochs=300,
        batch_size=32,
        optimizer='adagrad',
        lr=0.01,
        lr_mode='poly',
        warmup_epochs=0,
        init='kaiming',
    )
    return parser.parse(argv)


@naming_flags
def main(argv):
    args = parse_args(argv)
    card = check_task(args.model, 'segmentation')
    workers = get_workers(args.kvstore)
    ctx = devices(args, workers)
    mx.random.seed(args.seed)

    sources = [
        CocoSegmentation(os.path.join(args.data_dir, annotations), os.path.join(args.data_dir, images), args.category)
        for annotations, images in (
            (args.train_annotations, args.train_image_dir),
            (args.val_annotations, args.val_image_dir),
        )
    ]
    size, shard = batch_size(args, len(sources[0]), ctx, workers), (workers.rank, workers.size)
    train_data = SegmentationBatches(
        sources[0],
        size,
        card.spec.mean,
        card.spec.std,
        train=True,
        base_size=args.base_size,
        crop_size=args.input_size,
        seed=args.seed,
        shard=shard,
    )
    test_data = SegmentationBatches(sources[1], 1, card.spec.mean, card.spec.std, shard=shard)

    class_names = sources[0].class_names
    net, options = build_network(args, len(class_names))
    initialize(net, args.init, ctx)
    spec = ModelSpec(
        args.model,
        'segmentation',
        class_names,
        (3, args.input_size, args.input_size),
        net.min_size,
        card.spec.mean,
        card.spec.std,
        1.0,
    )
    run = RunFolder(
        args.save_dir,
        {**spec.to_json(), 'model': args.model, 'options': options, 'dataset': args.data_dir, 'command': args.command},
        args.keep,
        args.tensorboard,
        [line for source in sources for line in source.report],
    )
    best = train(args, net, Segmentation(len(class_names)), train_data, test_data, run, ctx, workers)
    if workers.rank == 0:
        model = load_model(run.path, ctx=ctx)
        names = overlay_names(sources[1].paths[:OVERLAYS], '.png')
        for path, (image, _) in zip(sources[1].paths[:OVERLAYS], sources[1]):
            with atomic(run.file(os.path.join('overlays', names[path]))) as partial:
                overlay(image, model.segment(image)).save(partial, format='png')
    return best


if __name__ == '__main__':
    run_script('train_stopsign.py', main)
