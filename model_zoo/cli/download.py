"""Download the released parameters of networks into the cache folder, and verify them."""

from __future__ import annotations

import argparse

from gluon_aff.text import printable

from ..registry import list_models
from ..weights import list_weights
from ._common import add_root, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('pattern', metavar='PATTERN', help="a name, or wildcards such as 'iaff_*'")
    add_root(parser)


def run(args: argparse.Namespace) -> int:
    records = [record for name in list_models(args.pattern) for record in list_weights(name)]
    if not records:
        raise ValueError(
            f'No network with released parameters fits {args.pattern!r}; '
            f'there are: {", ".join(list_models(pretrained=True))}.'
        )
    status = 0
    for record in records:
        try:
            print(printable(record.get(args.root)), flush=True)
        except (ValueError, OSError) as error:
            say(error)
            status = 1
    return status
