"""Classify images: the most probable classes of each. A segmentation network writes overlays (-o)."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys

from tqdm import tqdm

from gluon_aff.deploy.predictor import BACKENDS
from gluon_aff.program import progress_bar
from gluon_aff.text import printable

from ._common import (
    IMAGES,
    add_gpu,
    add_weights,
    device,
    list_images,
    open_image,
    print_table,
    report_skipped,
    say,
    whole,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'name', metavar='NAME', help="a network's name, or a folder: a training run's, or an exported one"
    )
    parser.add_argument('images', nargs='+', metavar='IMAGE', help=IMAGES)
    add_weights(parser)
    parser.add_argument('--top-k', type=whole(1), metavar='K', help='how many classes of each image, default: 5')
    parser.add_argument('--format', choices=('table', 'jsonl', 'csv'), help='default: table')
    parser.add_argument('--batch-size', type=whole(1), metavar='N', help='images computed at once, default: 8')
    add_gpu(parser)
    parser.add_argument(
        '--backend', choices=BACKENDS, help='what computes an exported folder, default: onnxruntime, else mxnet'
    )
    parser.add_argument(
        '-o', '--output', metavar='DIR', help="folder for a segmentation network's overlays; default: none"
    )


def run(args: argparse.Namespace) -> int:
    from ..loading import open_predictor

    if args.gpu is not None and args.backend not in (None, 'mxnet'):
        raise ValueError(
            f'--gpu is for MXNet, and --backend {args.backend} computes on the CPU; leave one of them out.'
        )
    images, skipped = list_images(args.images)
    predictor = open_predictor(args.name, args.weights, backend=args.backend, ctx=device(args.gpu))
    segments = predictor.spec.task == 'segmentation'
    read, write = _segmentation(predictor, images, args) if segments else _classification(predictor, args)
    batch_size, unreadable = 1 if segments else args.batch_size or 8, 0
    with progress_bar(total=len(images), unit='image') as progress:
        for start in range(0, len(images), batch_size):
            paths, batch = images[start : start + batch_size], []
            for path in paths:
                try:
                    batch.append((path, read(path)))
                except ValueError as error:
                    say(error)
                    unreadable += 1
            if batch:
                write(batch)
            progress.update(len(paths))
    if unreadable and len(images) > 1:
        say(f'{unreadable} of {len(images)} images could not be read.')
    status = report_skipped(skipped) or (1 if unreadable else 0)
    return 2 if unreadable == len(images) else status


def _classification(predictor, args):
    """A reader (path) -> crop, and a writer of the classes of a batch [(path, crop), ...]."""
    if args.output is not None:
        raise ValueError(
            f'-o is for segmentation networks; the classes from {predictor.spec.name} go to standard output.'
        )
    write_image = _csv_writer() if args.format == 'csv' else {'jsonl': _write_json}.get(args.format, _write_table)

    def write(batch):
        ranked = predictor.rank([crop for _, crop in batch], args.top_k or 5)
        names = predictor.spec.class_names
        with tqdm.external_write_mode():
            for (path, _), classes in zip(batch, ranked):
                write_image(path, [(names[index], probability, index) for index, probability in classes])

    return lambda path: predictor.prepare(open_image(path)), write


def _csv_writer():
    writer = csv.writer(sys.stdout)
    writer.writerow(('image', 'rank', 'label', 'probability', 'index'))
    return lambda path, classes: writer.writerows(
        (printable(path), rank, printable(name), f'{probability:.6f}', index)
        for rank, (name, probability, index) in enumerate(classes, start=1)
    )


def _write_json(path, classes):
    predictions = [
        {'label': name, 'probability': round(probability, 6), 'index': index} for name, probability, index in classes
    ]
    print(json.dumps({'image': path, 'predictions': predictions}))


def _write_table(path, classes):
    print_table(
        (path if rank == 0 else '', f'{probability:7.2%}', name) for rank, (name, probability, _) in enumerate(classes)
    )


def _segmentation(predictor, images, args):
    """A reader (path) -> image, and a writer of the overlays of a batch [(path, image), ...]."""
    from gluon_aff.data.masks import overlay, overlay_names
    from gluon_aff.files import atomic, remove_abandoned

    for flag, value in (('--top-k', args.top_k), ('--format', args.format), ('--batch-size', args.batch_size)):
        if value is not None:
            raise ValueError(
                f'{flag} is for classification networks; {predictor.spec.name} segments images, one by one.'
            )
    if args.output is None:
        raise ValueError(
            f'{predictor.spec.name} is a segmentation network: give -o, a folder for the images with their masks '
            'overlaid.'
        )
    titles = {path: 'stdin' if path == '-' else path for path in images}
    names = overlay_names(list(titles.values()), '-overlay.png')
    overlays = {path: os.path.join(args.output, names[title]) for path, title in titles.items()}
    if os.path.isdir(args.output):
        remove_abandoned(args.output)
    if not predictor.spec.dynamic:
        _, height, width = predictor.spec.input_size
        say(
            f'{predictor.spec.name} takes images of {width} x {height} only; others are scaled to fit into that, '
            'and their masks scaled back.'
        )

    def read(path):
        image = open_image(path)
        if predictor.spec.dynamic and min(image.size) < predictor.spec.min_size:
            raise ValueError(
                f'{path} is {image.width} x {image.height}, smaller than the '
                f'{predictor.spec.min_size} pixels that {predictor.spec.name} needs.'
            )
        return image

    def write(batch):
        for path, image in batch:
            with atomic(overlays[path]) as partial:
                overlay(image, predictor.segment(image)).save(partial, format='png')
            with tqdm.external_write_mode():
                print(printable(overlays[path]))

    return read, write
