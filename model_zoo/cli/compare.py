"""Compare networks: published errors, parameters, multiply-adds and speed."""

from __future__ import annotations

import argparse
import sys

from ._common import device, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'names',
        nargs='*',
        metavar='NAME',
        help="networks, with another fusion as in 'se_resnet50+aff'; default: those of the AFF slides, and more",
    )
    parser.add_argument('--batch', type=whole(1), metavar='N', help='batch size for the speed, default: 1')
    parser.add_argument('--no-speed', action='store_true', help='do not measure the speed')
    parser.add_argument('--gpu', type=int, metavar='N', help='measure on this GPU, default: the CPU')
    parser.add_argument('--format', choices=('markdown', 'csv'), default='markdown', help='default: markdown')
    parser.add_argument(
        '--plot', metavar='FILE.png', help='draw the published error against size and multiply-adds; default: none'
    )


def run(args: argparse.Namespace) -> int:
    from ..pictures import comparison

    for flag, value in (('--batch', args.batch), ('--gpu', args.gpu)):
        if args.no_speed and value is not None:
            raise ValueError(f'{flag} is for the speed, which --no-speed leaves out; leave one of them out.')
    ctx, batch = device(args.gpu), args.batch or 1
    rows = comparison.compare(args.names or comparison.TABLE, batch=None if args.no_speed else batch, ctx=ctx)
    if args.format == 'csv':
        comparison.write_csv(rows, sys.stdout)
    else:
        how = f'inference in float32 at batch {batch} on {ctx}, median of {comparison.RUNS} runs in turns'
        comparison.write_markdown(rows, sys.stdout, how='' if args.no_speed else how)
    if args.plot:
        comparison.figure(rows).savefig(args.plot, dpi=150)
    return 0
