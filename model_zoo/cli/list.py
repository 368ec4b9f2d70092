"""List networks: published accuracy, size, speed, released weights and their licence."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from ..baselines import BASELINES, SOURCES
from ..registry import list_models
from ..summary import SORT_KEYS, sort_summaries, speed_conditions, summaries
from ._common import print_table, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'pattern',
        nargs='?',
        default='*',
        metavar='PATTERN',
        help="a part of the name, such as resnet50, or wildcards, such as 'iaff_*'; default: all",
    )
    parser.add_argument('--pretrained', action='store_true', help='only networks with released weights')
    parser.add_argument(
        '--task', choices=('classification', 'segmentation'), help='only networks for this task; default: both'
    )
    parser.add_argument(
        '--sort',
        choices=tuple(SORT_KEYS),
        default='name',
        help='order within each data set, the best first; default: name',
    )
    parser.add_argument(
        '--baselines', action='store_true', help="add published results of GluonCV's, timm's and torchvision's networks"
    )
    parser.add_argument('--json', action='store_true', help='print a JSON array, with all digits and sources')


def run(args: argparse.Namespace) -> int:
    wild = any(character in args.pattern for character in '*?[')
    names = list_models(args.pattern if wild else f'*{args.pattern}*', pretrained=args.pretrained)
    rows = [row for row in summaries(names, baselines=args.baselines) if args.task in (None, row.task)]
    if not names or not rows:
        left = [f'--task {args.task}'] * bool(args.task) + ['--pretrained'] * args.pretrained
        raise ValueError(
            f'No network fits {args.pattern!r}{" with " + " and ".join(left) if left else ""}; '
            'gluon-aff list without a pattern shows all.'
        )
    rows = sort_summaries(rows, args.sort)
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))
        return 0
    _print(rows)
    return 0


def _print(rows):
    """The table, and below it the sources of the accuracies and how the speeds were measured."""
    library = {baseline.source: f'{baseline.library}: {SOURCES[baseline.library]}' for baseline in BASELINES}
    notes = {}
    for row in rows:
        if row.source:
            notes.setdefault(library[row.source] if row.name in library else row.source, len(notes) + 1)
    head = (
        'name',
        'data',
        'accuracy',
        'top-5',
        'params',
        'multiply-adds',
        'images/s',
        'input',
        'weights',
        'file',
        'licence',
    )
    lines = []
    for row in rows:
        note = notes.get(library.get(row.source) if row.name in library else row.source)
        lines.append(
            (
                row.name,
                row.data,
                '-' if row.accuracy is None else f'{row.accuracy:.2f} % [{note}]',
                '-' if row.top5 is None else f'{row.top5:.2f} %',
                f'{row.parameters / 1e6:.2f} M',
                '-' if row.multiply_adds is None else f'{row.multiply_adds / 1e9:.2f} G',
                '-' if row.images_per_second is None else f'{row.images_per_second:.1f}',
                size(row.input_size),
                row.weights or '-',
                '-' if row.file_size is None else f'{row.file_size / 1e6:.1f} MB',
                row.license.split(':')[0] or '-',
            )
        )
    print_table([head, *lines])
    if notes:
        mean = ', mIoU in segmentation' if any(row.task == 'segmentation' and row.source for row in rows) else ''
        print(f'\naccuracy: top-1{mean}; results on different data do not compare, nor do those of different recipes')
    for source, number in notes.items():
        print(f'[{number}] {source}')
    if any(row.images_per_second for row in rows):
        print(f'images/s: {speed_conditions()}')
