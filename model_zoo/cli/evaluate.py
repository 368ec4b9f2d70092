"""Evaluate a network on labelled images: accuracy, calibration, confusion, mistakes, speed; mIoU for segmentation."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace

from gluon_aff.deploy.predictor import BACKENDS
from gluon_aff.text import printable

from ._common import add_gpu, add_weights, device, print_table, report_skipped, whole

LISTED = 20  # classes, all of them or the worst
TITLES = {'top1': 'top-1', 'top5': 'top-5'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'name', metavar='NAME', help="a network's name, or a folder: a training run's, or an exported one"
    )
    parser.add_argument(
        'data',
        metavar='DATA',
        help='a tree with a folder for each class, a folder of images with --ground-truth, a .rec file, or cifar10, '
        'cifar100, digits or fashion_mnist; for segmentation a COCO instances file with --image-dir',
    )
    parser.add_argument(
        '--ground-truth', metavar='FILE', help="the labels of a folder of images, or ImageNet's devkit's; default: none"
    )
    parser.add_argument('--data-dir', metavar='DIR', help="the data set's files, default: MXNet's folder")
    parser.add_argument('--image-dir', metavar='DIR', help='the images of a COCO instances file; default: none')
    parser.add_argument('--category', metavar='NAME', help="of the instances file, default: the network's own")
    add_weights(parser)
    parser.add_argument(
        '--backend',
        metavar='B,B',
        help=f'what computes an exported folder, any of {", ".join(BACKENDS)}; several are compared with the first; '
        'default: onnxruntime, else mxnet',
    )
    parser.add_argument('--batch-size', type=whole(1), default=64, metavar='N', help='images at once, default: 64')
    parser.add_argument('--workers', type=whole(1), default=4, metavar='N', help='threads that read, default: 4')
    add_gpu(parser)
    parser.add_argument('--json', action='store_true', help='print a line of JSON for each backend')
    parser.add_argument(
        '-o', '--output', metavar='DIR', help='folder for the report, the confusion and the mistakes; default: none'
    )


def run(args: argparse.Namespace) -> int:
    from ..evaluate_by_name import evaluate, open_data, released_weights, reported_figures
    from ..loading import open_predictor

    backends = args.backend.split(',') if args.backend else [None]
    folders = _folders(args.output, backends)
    ctx = device(args.gpu)
    predictors = [open_predictor(args.name, args.weights, backend=backend, ctx=ctx) for backend in backends]
    options = {name: getattr(args, name) for name in ('data_dir', 'ground_truth', 'image_dir', 'category')}
    data = open_data(args.data, predictors[0].spec, workers=args.workers, **options)
    record = released_weights(args.name, args.weights)
    evaluations = []
    for predictor in predictors:
        evaluation = evaluate(predictor, data, batch_size=args.batch_size, workers=args.workers)
        evaluations.append(replace(evaluation, reported=reported_figures(evaluation, record)))
    if args.json:
        for evaluation in evaluations:
            print(json.dumps(evaluation.summary()))
    else:
        _print(evaluations)
    for evaluation, folder in zip(evaluations, folders):
        _write(evaluation, folder, data, args.json)
    return report_skipped(evaluations[0].skipped)


def _folders(output, backends):
    """The folder for each backend's files, which may be replaced; none without an output."""
    from ..pictures.evaluation_files import check_replaceable

    if output is None:
        return []
    folders = [output] if len(backends) == 1 else [os.path.join(output, backend) for backend in backends]
    for folder in folders:
        check_replaceable(folder)
    return folders


def _write(evaluation, folder, data, is_quiet):
    from ..pictures.evaluation_files import write_evaluation

    for path in write_evaluation(evaluation, folder, data):
        if not is_quiet:
            print(printable(path))


def _print(evaluations):
    """The figures in a table with a column for each backend, and those of the first one's classes."""
    summaries = [evaluation.summary() for evaluation in evaluations]
    first = summaries[0]
    rows = [('network', first['model']), ('data', f'{first["data"]}, {first["images"]} images')]
    rows.append(('computed by', *(summary['backend'] for summary in summaries)))
    for key, title in (('top1', 'top-1'), ('top5', 'top-5')):
        if key in first:
            rows.append(
                (title, *(_with_interval(summary[key], summary[f'{key}_interval_95']) for summary in summaries))
            )
    for key, title in (
        ('calibration_error', 'calibration error'),
        ('miou', 'mIoU'),
        ('pixel_accuracy', 'pixel accuracy'),
    ):
        if key in first:
            rows.append((title, *(f'{summary[key]:.2%}' for summary in summaries)))
    if 'top1' in first and len(evaluations) > 1:
        predicted = [evaluation.report.predicted for evaluation in evaluations]
        changed = [int((classes != predicted[0]).sum()) for classes in predicted]
        total = len(predicted[0])
        cells = [f'{number} images ({1 - number / total:.2%} the same)' for number in changed[1:]]
        rows.append(('other predictions', '', *cells))
    for key, title in (('images_per_second', 'images a second'), ('network_images_per_second', 'by the network alone')):
        rows.append((title, *(f'{summary[key]:.1f}' for summary in summaries)))
    for number, figure in enumerate(evaluations[0].reported):
        others = [evaluation.reported[number].is_within for evaluation in evaluations]
        title = f'reported {TITLES[figure.metric]}'
        rows.append(
            (title, *(f'{figure.reported:.2%}, {"inside" if inside else "outside"} the interval' for inside in others))
        )
    print_table([*row, *[''] * (1 + len(evaluations) - len(row))] for row in rows)
    for figure in evaluations[0].reported[:1]:
        print(f'reported on {figure.data}: {printable(figure.source)}')
    _print_classes(first['classes'])


def _with_interval(share, interval):
    return f'{share:.2%} ({interval[0]:.2%} to {interval[1]:.2%})'


def _print_classes(classes):
    """The classes that have images, or the worst of many."""
    share = 'iou' if 'iou' in classes[0] else 'accuracy'
    present = [row for row in classes if row[share] is not None]
    title = 'class'
    if len(present) > LISTED:
        title = f'class ({LISTED} worst of {len(present)})'
        present = sorted(present, key=lambda row: row[share])[:LISTED]
    keys = [key for key in classes[0] if key != 'class']
    cells = [[_cell(row[key]) for key in keys] for row in present]
    print()
    print_table([(title, *keys), *((row['class'], *line) for row, line in zip(present, cells))])


def _cell(value):
    return '-' if value is None else f'{value:.2%}' if isinstance(value, float) else str(value)
