"""Download the released parameters of networks into the cache folder, and verify them."""

from __future__ import annotations

import argparse

from gluon_aff.text import printable

from ..registry import list_models
from ..weights import list_weights
from ._common import add_root, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'pattern', metavar='PATTERN', help="a name, wildcards such as 'iaff_*', or timm's name 'resnet50.gluon_in1k'"
    )
    add_root(parser)


def run(args: argparse.Namespace) -> int:
    records = _records(args.pattern)
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


def _records(pattern):
    """The released weights of that alias, or of the networks that fit: the authors' and ours, else the default."""
    named = [record for record in list_weights() if '.' in pattern and pattern in record.aliases]
    records = list(named)
    for name in [] if named else list_models(pattern):
        released = list_weights(name)
        records += [record for record in released if not record.preprocessing] or released[:1]
    return records
