"""Draw the evidence for predictions (Grad-CAM), a row for each network and a column for each image, as PNG or PDF."""

from __future__ import annotations

import argparse
import os

from gluon_aff.inspect.grad_cam import METHODS
from gluon_aff.text import distinct_names, printable

from ._common import IMAGES, add_gpu, device, list_images, open_image, report_skipped, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('images', nargs='+', metavar='IMAGE', help=IMAGES)
    parser.add_argument(
        '--models',
        nargs='+',
        required=True,
        metavar='NAME',
        help="networks: a name, NAME=FILE (parameters, or a released file's tag), or a run's folder",
    )
    parser.add_argument('-o', '--output', required=True, metavar='FILE', help='figure.png or figure.pdf')
    parser.add_argument(
        '--label', nargs='+', metavar='CLASS', help='what the images show, one for all or for each; default: unknown'
    )
    parser.add_argument('--method', choices=METHODS, default='grad_cam', help='default: grad_cam')
    parser.add_argument('--fusion-weights', action='store_true', help='add rows that show M, where there are any')
    add_gpu(parser)


def run(args: argparse.Namespace) -> int:
    from ..pictures.figure import FORMATS, pages, save
    from ..pictures.heatmaps import check_class_names, image_row, network_rows, open_model

    if os.path.splitext(args.output)[1].lower() not in FORMATS:
        raise ValueError(f'-o names a {" or ".join(FORMATS)} file, got {args.output!r}.')
    paths, skipped = list_images(args.images)
    if args.label and len(args.label) not in (1, len(paths)):
        raise ValueError(
            f'--label takes one class for all images, or {len(paths)}, one for each; got {len(args.label)}.'
        )
    truths = args.label and (args.label * len(paths) if len(args.label) == 1 else args.label)
    ctx = device(args.gpu)
    opened = [(name, *open_model(name, ctx)) for name in args.models]
    models = [model for _, model, _ in opened]
    check_class_names(truths or (), models)
    crops = {}  # by the image's number; of a large image these alone stay in memory
    for number, path in enumerate(paths):
        try:
            image = open_image(path)
            crops[number] = [model.spec.prepare(image) for model in models]
        except ValueError as error:
            if len(paths) == 1:
                raise
            say(error)
    if not crops:
        raise ValueError(f'None of the {len(paths)} images could be read; there is nothing to draw.')
    truths = truths and [truths[number] for number in crops]
    names = list(map(printable, distinct_names(paths[number] for number in crops)))
    captions = [f'{name}\n{truth}' for name, truth in zip(names, truths)] if truths else names
    crops_of_models = list(zip(*crops.values()))
    rows = [image_row(crops_of_models[0], captions)]
    folders = [name for name in args.models if os.path.isdir(name)]
    short = dict(zip(folders, distinct_names(map(os.path.normpath, folders))))
    for (name, model, _), model_crops in zip(opened, crops_of_models):
        title = f'{model.spec.name} ({short[name]})' if name in short else name
        rows += network_rows(
            model,
            model_crops,
            title=printable(title),
            truths=truths,
            method=args.method,
            with_fusion=args.fusion_weights,
        )
    banner = _banner([name for name, _, is_random in opened if is_random])
    if banner:
        say(banner)
    for file in save(pages(rows, note=_note(truths, args.fusion_weights), banner=banner), args.output):
        print(printable(file))
    return report_skipped(skipped) or (1 if len(crops) < len(paths) else 0)


def _banner(names):
    if not names:
        return ''
    return (
        f'Random weights: {", ".join(names)}. None are released and no NAME=FILE gives any, so these rows show '
        'nothing that was learned.'
    )


def _note(truths, fusion_weights):
    note = (
        'Grad-CAM of the class that the network predicts; below it the softmax score of the class, or in segmentation '
        'its share of the pixels.'
    )
    if truths:
        note += ' A star: it is not the class asked for.'
    if fusion_weights:
        note += (
            ' Fusion is M x + (1 - M) y: orange where the first input, x, counts more (the learned branch of a '
            'residual block, the low-level map in a decoder), blue where y does, white where both count alike; each '
            'row has its own scale.'
        )
    return note
