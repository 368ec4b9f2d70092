"""Check that a parameter file is whole, whether it is a released one, and whether it fits a network."""

from __future__ import annotations

import argparse

from gluon_aff.text import printable

from ..registry import get_model, model_info
from ..weights.catalog import identify
from ..weights.parameters import read_arrays


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('file', metavar='FILE', help='a parameter file: .params, .safetensors or .pth')
    parser.add_argument('--model', metavar='NAME', help='the network that it should fit; default: any')


def run(args: argparse.Namespace) -> int:
    if args.model:
        model_info(args.model)  # which refuses an unknown name
    arrays = read_arrays(args.file)
    values = sum(array.size for array in arrays.values())
    print(f'{printable(args.file)}: {len(arrays)} arrays, {values:,} values, whole')
    released = identify(args.file)
    for record in released:
        print(f'it is the released file of {record.model}, {record.tag}')
    if not released:
        print('it is not one of the released files')
    if args.model:
        get_model(args.model, pretrained=args.file)
        print(f'it fits {args.model}')
    return 0
