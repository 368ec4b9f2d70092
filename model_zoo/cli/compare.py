"""Compare networks: published errors, parameters, multiply-adds, speed, weights and their licence."""

from __future__ import annotations

import argparse
import os
import sys

from gluon_aff.files import atomic

from ._common import add_gpu, device, say, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'names',
        nargs='*',
        metavar='NAME',
        help="networks, with another fusion as in 'se_resnet50+aff'; default: those of the AFF slides, and more",
    )
    parser.add_argument('--batch', type=whole(1), metavar='N', help='batch size for the speed, default: 1')
    parser.add_argument('--no-speed', action='store_true', help='do not measure the speed')
    add_gpu(parser)
    parser.add_argument('--format', choices=('markdown', 'csv'), default='markdown', help='default: markdown')
    parser.add_argument(
        '--plot',
        metavar='FILE',
        help='draw the published error against parameters and multiply-adds, as .png, .pdf or .svg; default: none',
    )


def run(args: argparse.Namespace) -> int:
    from ..pictures import comparison

    for flag, value in (('--batch', args.batch), ('--gpu', args.gpu)):
        if args.no_speed and value is not None:
            raise ValueError(f'{flag} is for the speed, which --no-speed leaves out; leave one of them out.')
    ctx, batch = device(args.gpu), args.batch or 1
    rows = comparison.sort_rows(comparison.compare(args.names or comparison.TABLE))
    if args.plot:
        comparison.check_plot(args.plot, rows)
    if not args.no_speed:
        comparison.measure(rows, batch, ctx=ctx)
    if args.format == 'csv':
        comparison.write_csv(rows, sys.stdout)
    else:
        how = f'inference in float32 at batch {batch} on {ctx}, median of {comparison.RUNS} runs in turns'
        comparison.write_markdown(rows, sys.stdout, how='' if args.no_speed else how)
    if args.plot:
        with atomic(args.plot) as partial:
            comparison.figure(rows).savefig(partial, dpi=150, format=os.path.splitext(args.plot)[1][1:].lower())
        for name, reason in comparison.left_out(rows).items():
            say(f'{args.plot} leaves out {name}: {reason}.')
    return 0
