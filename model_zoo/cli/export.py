"""Export a network: MXNet's symbol and parameters, ONNX, INT8, with model.json beside them."""

from __future__ import annotations

import argparse
import os

from gluon_aff.text import printable

from ._common import add_weights, report_skipped, say, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', metavar='NAME', help="a network's name, or a training run's folder")
    parser.add_argument('-o', '--output', required=True, metavar='DIR', help='folder for the files')
    add_weights(parser)
    parser.add_argument(
        '--format',
        default='symbol',
        metavar='F,F',
        help='any of symbol, symbol-bf16, symbol-int8, onnx and int8; default: symbol',
    )
    parser.add_argument(
        '--calibrate', metavar='FOLDER', help='folder of representative images, for INT8; default: none'
    )
    parser.add_argument(
        '--float-nodes',
        type=_count_or_auto,
        default=0,
        metavar='N',
        help='keep the N nodes that lose most by INT8, as measured, in float32, or with auto as many as 99 %% the same '
        'class as float32 takes; default: 0',
    )
    parser.add_argument(
        '--ranges',
        choices=('percentile', 'naive', 'entropy'),
        help='where the ranges of INT8 end; default: percentile or naive, whichever changes the output less',
    )
    parser.add_argument('--preprocess', action='store_true', help='let the network take uint8 images (N, H, W, 3)')
    parser.add_argument(
        '--fixed-size', action='store_true', help='fix the input size; by default height and width may vary'
    )


def _count_or_auto(text):
    if text == 'auto':
        return text
    try:
        return whole(0)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(str(error).replace(', 0 or more', ', 0 or more, or auto')) from None


def run(args: argparse.Namespace) -> int:
    from gluon_aff.data.class_folders import readable_images
    from gluon_aff.deploy import export

    from ..loading import load_or_initialize

    formats = args.format.split(',')
    int8 = [kind for kind in ('symbol-int8', 'int8') if kind in formats]
    flags = {'--calibrate': args.calibrate, '--float-nodes': args.float_nodes or None, '--ranges': args.ranges}
    for flag, value in flags.items():
        if value is not None and not int8:
            raise ValueError(f'{flag} is for INT8; add int8 or symbol-int8 to --format, or leave {flag} out.')
    model, is_random = load_or_initialize(args.name, args.weights)
    if is_random:
        say(
            f'{model.spec.name} has no released weights and --weights is not given; the exported parameters are random.'
        )
    calibration, skipped = readable_images([args.calibrate]) if args.calibrate else (None, {})
    if args.calibrate and not calibration:
        raise ValueError(f'--calibrate {args.calibrate} holds no image that can be read; name a folder of images.')
    before = set(os.listdir(args.output)) if os.path.isdir(args.output) else set()
    description = export(
        model,
        args.output,
        formats,
        calibration,
        args.preprocess,
        not args.fixed_size,
        args.float_nodes,
        ranges=args.ranges,
    )
    for file in [*(record['file'] for record in description['files'].values()), 'model.json']:
        print(printable(os.path.join(args.output, file)))
    removed = sorted(name for name in before if not os.path.exists(os.path.join(args.output, name)))
    if removed:
        say(f'removed {", ".join(removed)} of the earlier export, which had other parameters or another description.')
    for kind in int8:
        report = description[kind]
        say(
            f'on the {report["images"]} images INT8 predicts the same class as float32 for '
            f'{report["top1_agreement"]:.2%}; the logits differ by {report["mean_absolute_difference"]:.3g} '
            f'on average, at a mean magnitude of {report["mean_absolute_logit"]:.3g}.'
        )
    return report_skipped(skipped)
