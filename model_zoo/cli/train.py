"""Train a network: `train cifar`, `train imagenet` and `train stopsign` take the flags of these scripts."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'script',
        choices=('cifar', 'imagenet', 'stopsign'),
        help='small images; photographs in class folders or RecordIO files; pixels of one category of COCO',
    )
    parser.add_argument('flags', nargs=argparse.REMAINDER, metavar='...', help='see train SCRIPT --help')


def run(args: argparse.Namespace) -> int:
    from functools import partial
    from importlib import import_module

    from gluon_aff.program import command_line
    from gluon_aff.train import run_script

    command = command_line(['train', args.script])
    main = partial(import_module(f'train_{args.script}').main, command=command)
    run_script(f'gluon-aff train {args.script}', main, argv=args.flags, command=command)
    return 0
