"""Write the embeddings of images, the features before a classifier's head, to an .npz file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from gluon_aff.program import progress_bar
from gluon_aff.text import printable

from ._common import IMAGES, add_gpu, add_weights, device, list_images, open_image, report_skipped, say, whole

if TYPE_CHECKING:
    from ..loading import LoadedModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', metavar='NAME', help="a network's name, or a training run's folder")
    parser.add_argument('images', nargs='+', metavar='IMAGE', help=IMAGES)
    parser.add_argument(
        '-o',
        '--output',
        required=True,
        metavar='FILE',
        help='.npz file to write: names (N,), the paths, and embeddings (N, D), float32',
    )
    add_weights(parser)
    parser.add_argument('--batch-size', type=whole(1), default=8, metavar='N', help='images at once, default: 8')
    add_gpu(parser)


def run(args: argparse.Namespace) -> int:
    from gluon_aff.files import atomic
    from gluon_aff.train.npz_file import write_npz

    from ..hosts.features import Embedder
    from ..loading import load_model

    context = device(args.gpu)
    images, skipped = list_images(args.images)
    model = load_model(args.name, args.weights, ctx=context)
    net = Embedder(model.net)
    net.hybridize()
    # Opened first, so that a file that cannot be written is no surprise at the end.
    with atomic(args.output) as partial:
        names, embeddings = _embed(model, net, images, args.batch_size, context)
        if not names:
            raise ValueError(f'None of the {len(images)} images could be read; {args.output} was not written.')
        write_npz(partial, {'names': np.array(names), 'embeddings': embeddings})
    print(f'{printable(args.output)}: {len(names)} embeddings of {embeddings.shape[1]} numbers')
    unreadable = len(images) - len(names)
    if unreadable:
        say(f'{unreadable} of {len(images)} images could not be read.')
    return report_skipped(skipped) or (1 if unreadable else 0)


def _embed(
    model: LoadedModel, net: HybridBlock, images: list[str], batch_size: int, context: mx.Context
) -> tuple[list[str], np.ndarray]:
    """(paths of the images that can be read, their embeddings); a line on standard error for each of the others."""
    names, embeddings = [], []
    with progress_bar(total=len(images), unit='image') as progress:
        for start in range(0, len(images), batch_size):
            paths, crops = images[start : start + batch_size], []
            for path in paths:
                try:
                    crops.append(model.spec.prepare(open_image(path)))
                    names.append(path)
                except ValueError as error:
                    if len(images) == 1:
                        raise
                    say(error)
            if crops:
                batch = mx.nd.array(model.spec.feed(np.stack(crops)), ctx=context)
                embeddings.append(net(batch).asnumpy().astype(np.float32))
            progress.update(len(paths))
    return names, np.concatenate(embeddings) if embeddings else np.empty((0, 0), np.float32)
