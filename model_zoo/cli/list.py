"""List networks: name, trainable parameters, multiply-adds for one image, input, released weights."""

from __future__ import annotations

import argparse

from ..registry import list_models, model_info
from ._common import print_table, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('pattern', nargs='?', default='*', metavar='PATTERN', help="wildcards, such as 'iaff_*'")


def run(args: argparse.Namespace) -> int:
    names = list_models(args.pattern)
    if not names:
        raise ValueError(f'No network fits {args.pattern!r}; try a wildcard such as "*resnext*".')
    rows = [('name', 'params', 'multiply-adds', 'input', 'weights')]
    for card in map(model_info, names):
        rows.append(
            (
                card.name,
                f'{card.parameters / 1e6:.2f} M',
                f'{card.multiply_adds / 1e9:.2f} G',
                size(card.spec.input_size),
                ', '.join(card.weights) or '-',
            )
        )
    print_table(rows)
    return 0
