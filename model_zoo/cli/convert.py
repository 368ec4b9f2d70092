"""Convert parameters to a PyTorch state dict (.safetensors, .pth), with timm's names where timm has them, and back."""

from __future__ import annotations

import argparse
import os

from gluon_aff.text import printable

from ..weights.parameters import save_parameters
from ..weights.torch_files import SUFFIXES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'source', metavar='SOURCE', help="a network's name, a training run's folder, or a parameter file"
    )
    parser.add_argument(
        '-o', '--output', required=True, metavar='FILE', help='file to write: .safetensors, .pth or .params'
    )
    parser.add_argument('--model', metavar='NAME', help="the parameter file's network; default: that of its model.json")
    parser.add_argument('--weights', metavar='FILE', help="a named network's tag or parameter file; default: the first")


def run(args: argparse.Namespace) -> int:
    from ..loading import load_model

    formats = ('.params', *SUFFIXES)
    if not args.output.lower().endswith(formats):
        raise ValueError(f'-o {args.output} must end in one of {", ".join(formats)}.')
    name, weights = args.source, args.weights
    if os.path.isfile(args.source):
        if weights:
            raise ValueError(f'--weights is of no use with the parameter file {args.source}; leave it out.')
        folder = os.path.dirname(os.path.abspath(args.source))
        if not args.model and not os.path.isfile(os.path.join(folder, 'model.json')):
            raise ValueError(f'{args.source} is a parameter file; name its network by --model.')
        name, weights = args.model or folder, args.source
    elif args.model:
        raise ValueError(f'--model is for a parameter file, and {args.source} is not a file; leave it out.')
    save_parameters(load_model(name, weights).net, args.output)
    print(printable(args.output))
    return 0
