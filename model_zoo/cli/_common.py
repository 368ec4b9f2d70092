"""What the commands share: argument types, the device, and printing."""

from __future__ import annotations

import argparse
import glob
import io
import os
import re
import sys
from typing import Callable, Iterable, Mapping, Sequence

import mxnet as mx
from PIL import Image
from tqdm import tqdm

from gluon_aff.data.images import MAX_BYTES, opened, read_image, upright
from gluon_aff.data.walk import find_images
from gluon_aff.text import printable

__all__ = [
    'IMAGES',
    'add_gpu',
    'add_root',
    'add_weights',
    'device',
    'list_images',
    'open_image',
    'print_table',
    'report_skipped',
    'say',
    'size',
    'whole',
]

IMAGES = "image files, folders of them, wildcards in quotes such as 'x/*.jpg', or - for an image on standard input"


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """The argparse type of whole numbers from `least` to `most`."""

    def convert(text):
        if not re.fullmatch(r'[+-]?\d{1,9}', text) or int(text) < least or (most is not None and int(text) > most):
            limits = f'{least} or more' if most is None else f'{least} to {most}'
            raise argparse.ArgumentTypeError(f'must be a whole number, {limits}, got {text}')
        return int(text)

    return convert


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add --root, the cache folder of the released parameters."""
    parser.add_argument('--root', metavar='DIR', help='cache folder, default: $MXNET_HOME/models or ~/.mxnet/models')


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add --weights, a parameter file or a tag."""
    parser.add_argument(
        '--weights', metavar='FILE', help='parameter file, or tag of a released one; default: the first released one'
    )


def add_gpu(parser: argparse.ArgumentParser) -> None:
    """Add --gpu, for :func:`device`."""
    parser.add_argument('--gpu', type=int, metavar='N', help='number of the GPU to run on, by MXNet; default: the CPU')


def device(gpu: int | None) -> mx.Context:
    """MXNet's device for --gpu; a ValueError where there is no such GPU."""
    if gpu is None:
        return mx.cpu()
    try:
        count = mx.context.num_gpus()
    except mx.MXNetError:  # its driver is missing
        count = 0
    if not 0 <= gpu < count:
        raise ValueError(
            f'--gpu {gpu} is not there: MXNet finds {count} GPU{"" if count == 1 else "s"} on this machine'
            f'{", counted from 0" if count else "; leave --gpu out"}.'
        )
    return mx.gpu(gpu)


def list_images(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The images that the arguments of a command mean, see `IMAGES`.

    Returns
    -------
    images : list of str
        Paths for :func:`open_image`.
    skipped : dict of str: str
        A sentence for each file or wildcard that is left out, by path.

    Raises
    ------
    ValueError
        If no image is left.
    """
    paths, skipped = [], {}
    for argument in arguments:
        fitting = [argument]
        if glob.has_magic(argument) and not os.path.lexists(argument):
            fitting = sorted(glob.glob(argument, recursive=True))
            if not fitting:
                skipped[argument] = f'No file fits {argument}.'
        paths += fitting
    images, unread = find_images(paths)
    skipped.update(unread)
    if not images:
        raise ValueError(' '.join(skipped.values()))
    return images, skipped


def open_image(path: str) -> Image.Image:
    """An upright RGB image, '-' from standard input; a ValueError where it cannot be read."""
    if path != '-':
        return read_image(path)
    with opened(io.BytesIO(sys.stdin.buffer.read(MAX_BYTES + 1)), 'Standard input') as image:
        return upright(image)


def size(input_size: Iterable[int]) -> str:
    """A shape in words, such as '3x224x224'."""
    return 'x'.join(map(str, input_size))


def say(message: object) -> None:
    """Print one line of this program's own to standard error."""
    tqdm.write(f'gluon-aff: {printable(message)}', file=sys.stderr)


def print_table(rows: Iterable[Iterable[object]]) -> None:
    """Print rows of cells, the columns aligned, to standard output."""
    lines = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def report_skipped(skipped: Mapping[str, str]) -> int:
    """Name the files that were left out, {path: sentence}, on standard error; returns the exit status."""
    for sentence in skipped.values():
        say(sentence)
    if skipped:
        say(f'{len(skipped)} files were left out.')
    return 1 if skipped else 0
