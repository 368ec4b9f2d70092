"""Pack folders of images, one for each class, into train.rec and val.rec, with their .idx and classes.txt."""

from __future__ import annotations

import argparse
import os

from gluon_aff.errors import in_words
from gluon_aff.text import printable

from ._common import report_skipped, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('tree', metavar='TREE', help='folder of train/ and val/, or of the classes')
    parser.add_argument('-o', '--output', required=True, metavar='DIR', help='folder for the files')
    parser.add_argument(
        '--val-fraction', type=_fraction, metavar='F', help='share of one tree that is held out; default: that in val/'
    )
    parser.add_argument(
        '--resize', type=whole(0), default=256, metavar='N', help='pixels of the short side, 0: as it is; default: 256'
    )
    parser.add_argument('--quality', type=whole(1, 100), default=95, metavar='Q', help='of the JPEG, default: 95')
    parser.add_argument('--workers', type=whole(1), default=4, metavar='N', help='threads, default: 4')


def run(args: argparse.Namespace) -> int:
    from gluon_aff.data.record_file import RecordFile
    from gluon_aff.data.record_writer import write_records

    try:
        skipped = write_records(
            args.tree,
            args.output,
            val_fraction=args.val_fraction,
            resize=args.resize,
            quality=args.quality,
            workers=args.workers,
        )
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(in_words(error).replace('val_fraction', '--val-fraction')) from None
    for name in ('train.rec', 'val.rec'):
        records = RecordFile(os.path.join(args.output, name))
        print(f'{printable(records.path)}: {len(records)} images of {len(records.class_names)} classes')
    return report_skipped(skipped)


def _fraction(text):
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f'must be a number between 0 and 1, got {text}')
    return value
