"""Fine-tune a network to a folder of images for each class, with settings that fit the images; then evaluate it."""

from __future__ import annotations

import argparse
import os
import shlex
from typing import Any

from gluon_aff.text import printable

PHOTOGRAPHS, SMALL = 'aff_resnet50', 'fashion_mnist_aff_resnet8'  # the latter's weights are part of the package
SMALL_SIDE = 64  # pixels; smaller images have no detail for the former


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('folder', metavar='FOLDER', help='a folder for each class, or train/ and val/ with these')
    parser.add_argument(
        'flags',
        nargs=argparse.REMAINDER,
        metavar='...',
        help='flags of `gluon-aff train imagenet`, such as --model, --save-dir or --config; they win over the choices',
    )


def run(args: argparse.Namespace) -> int:
    from functools import partial

    from gluon_aff.program import command_line
    from gluon_aff.train import run_script

    command = command_line(['finetune', args.folder])
    main = partial(_finetune, folder=args.folder, command=command)
    run_script('gluon-aff finetune', main, argv=args.flags, command=command)
    return 0


def _finetune(flags, *, folder, command):
    from importlib import import_module

    from gluon_aff.train import parse, script

    # By name, as a shell finds it: the scripts are above the packages.
    train_imagenet = import_module('train_imagenet')

    settings = {
        'data_dir': folder,
        'pretrained': True,
        'save_dir': os.path.join('runs', os.path.basename(os.path.abspath(folder))),
    }
    given = parse(train_imagenet.Config, flags, command=command, settings={**settings, 'model': None})
    choices = _choose(given)
    settings.update({name: value for name, (value, _) in choices.items()})

    @script(train_imagenet.Config)
    def main(config):
        for name, (value, reason) in choices.items():
            if getattr(config, name) == value:
                print(printable(f'--{name.replace("_", "-")} {value}: {reason}'))
        evaluates = config.kvstore in ('device', 'local')
        _, held_out = train_imagenet.train(config, print_predict=not evaluates)
        if evaluates:
            _evaluate(config, held_out)

    main(flags, command=command, settings=settings)


def _choose(given):
    """Values of fields for the images of a config, and the reasons: {name: (value, reason)}."""
    from gluon_aff.data.class_folders import class_tree

    from ..registry import model_info

    parts = [os.path.join(given.data_dir, part) for part in ('train', 'val')]
    is_split = all(map(os.path.isdir, parts))
    counts = {name: len(paths) for name, paths in class_tree(parts[0] if is_split else given.data_dir, {}).items()}
    images, choices = sum(counts.values()), {}
    if not is_split:
        share = 0.2 if images < 1000 else 0.1
        choices['val_fraction'] = share, f'of each class is held out, as there are {images} images'
    model = given.model
    if not model:
        model, reason = _choose_network(given.data_dir)
        choices['model'] = model, reason
    side = model_info(model).spec.input_size[1]
    choices['input_size'] = side, 'pixels, what the network was trained on'
    is_small = side < SMALL_SIDE
    choices['batch_size'] = (
        (8, 'for several updates an epoch') if images < 500 else (32, 'as memory allows on most devices')
    )
    epochs = 30 if images < 500 else 15 if images < 5000 else 8
    choices['num_epochs'] = epochs, f'as there are {images} images'
    choices['lr'] = 0.02 if is_small else 0.01, 'low, as the weights are trained already'
    if is_small:
        choices['backbone_lr'] = 1.0, 'the whole network learns, for it is small and was trained on other images'
    elif images < 500:
        choices['backbone_lr'] = 0.0, 'only the head learns; so few images would spoil the rest'
    else:
        choices['backbone_lr'] = 0.1, 'all but the head learns slowly'
    if max(counts.values()) > 2 * min(counts.values()):
        choices['class_weights'] = (
            'balanced',
            f'as the classes have {min(counts.values())} to {max(counts.values())} images',
        )
    return choices


def _choose_network(folder) -> tuple[str, str]:
    """A network whose weights can be had, for the images in a folder, and the reason."""
    from gluon_aff.verified_download import DownloadError

    from ..weights import get_model_file

    side = _median_side(folder)
    if side < SMALL_SIDE:
        return SMALL, f'as the images are small, {side} pixels; its weights come with the package'
    try:
        get_model_file(PHOTOGRAPHS)
    except DownloadError:
        return (
            SMALL,
            f'its weights come with the package; those of {PHOTOGRAPHS}, which suits photographs, are out of reach',
        )
    return PHOTOGRAPHS, 'trained on the photographs of ImageNet'


def _median_side(folder) -> int:
    """The median of the shorter sides of some of the images in a folder."""
    from statistics import median

    from gluon_aff.data.images import opened
    from gluon_aff.data.walk import find_images

    paths, sides = find_images([folder])[0], []
    for path in paths[:: max(len(paths) // 20, 1)]:
        try:
            with opened(path) as image:
                sides.append(min(image.size))
        except ValueError:
            pass  # train_imagenet lists what cannot be read
    return int(median(sides)) if sides else 0


def _evaluate(config: Any, held_out: Any) -> None:
    """Evaluate the best epoch on the held-out images, and say where the mistakes are and what to type next."""
    import mxnet as mx

    from gluon_aff.data.images import upright
    from gluon_aff.data.labelled_images import LabelledImages
    from gluon_aff.program import command_line

    from ..evaluate_by_name import evaluate
    from ..loading import load_model
    from ..pictures.evaluation_files import write_evaluation

    def read(index):
        with held_out.open(index) as image:
            return upright(image)

    names = getattr(held_out, 'paths', None) or [f'record {index}' for index in range(len(held_out))]
    images = LabelledImages(config.data_dir, held_out.target, names, read, {})
    ctx = mx.gpu(0) if config.num_gpus else mx.cpu()
    evaluation = evaluate(load_model(config.save_dir, ctx=ctx), images, ctx=ctx)
    figures = evaluation.summary()
    low, high = figures['top1_interval_95']
    files = write_evaluation(evaluation, os.path.join(config.save_dir, 'evaluation'), images)
    mistakes = [path for path in files if os.path.basename(path) == 'mistakes.png']
    print(
        f'Of the {figures["images"]} held-out images, {figures["top1"]:.1%} are classified correctly (95% interval '
        f'{low:.1%} to {high:.1%}); they also chose the epoch.'
    )
    print(printable(f'The most certain mistakes: {mistakes[0]}' if mistakes else 'There are no mistakes to look at.'))
    print(printable(f'To predict: {shlex.join(command_line(["predict", config.save_dir, names[0]]))}'))
