"""Write the embeddings of images, the features before a classifier's head, to an .npz file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import mxnet as mx

from gluon_aff.program import progress_bar
from gluon_aff.text import printable

from ._common import IMAGES, add_gpu, add_weights, device, list_images, open_image, report_skipped, say, whole

if TYPE_CHECKING:
    import numpy as np

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
    import numpy as np

    from gluon_aff.files import atomic
    from gluon_aff.train.npz_file import write_npz

    from ..hosts.features import Embedder
    from ..loading import load_model

    images, skipped = list_images(args.images)
    context = device(args.gpu)
    model = load_model(args.name, args.weights, ctx=context)
    net = Embedder(model.net)
    net.hybridize()
    names, embeddings = [], []
    with progress_bar(total=len(images), unit='image') as progress:
        for start in range(0, len(images), args.batch_size):
            paths = images[start : start + args.batch_size]
            crops = _crops(model, paths)
            if crops:
                batch = mx.nd.array(model.spec.feed(np.stack([crop for _, crop in crops])), ctx=context)
                embeddings.append(net(batch).asnumpy().astype(np.float32))
                names += [path for path, _ in crops]
            progress.update(len(paths))
    if not names:
        raise ValueError(f'None of the {len(images)} images could be read; {args.output} was not written.')
    with atomic(args.output) as partial:
        write_npz(partial, {'names': np.array(names), 'embeddings': np.concatenate(embeddings)})
    print(f'{printable(args.output)}: {len(names)} embeddings of {embeddings[0].shape[1]} numbers')
    unreadable = len(images) - len(names)
    if unreadable:
        say(f'{unreadable} of {len(images)} images could not be read.')
    return report_skipped(skipped) or (1 if unreadable else 0)


def _crops(model: LoadedModel, paths: list[str]) -> list[tuple[str, np.ndarray]]:
    """(path, what the network sees of it) for each image; one line on standard error for one that cannot be read."""
    crops = []
    for path in paths:
        try:
            crops.append((path, model.spec.prepare(open_image(path))))
        except ValueError as error:
            say(error)
    return crops
