r"""Segmentation of small and large objects: mIoU and Grad-CAM's pointing game by the size of the object.

    pip install --no-deps scikit-image==0.21.0 foolbox==3.3.4       # for their photographs
    python examples/stopsign_data.py runs/signs --train 400 --val 60
    python -m benchmarks.segmentation --data-dir runs/signs --train-images train --val-images val \
        --train-annotations instances_train.json --val-annotations instances_val.json \
        --base-size 160 --input-size 64 --batch-size 8 --num-epochs 40 --init-by-name --equal-parameters --widen \
        --csv docs/segmentation.csv --picture docs/segmentation.png --show 1 2 11 12

The runs are those of `python -m benchmarks.ablation --hosts fpn` and its flags: a run that was cut goes on; a finished
one is only evaluated, after its last epoch. Differences are between runs of the same seed.

An object's pixels are counted in its box, widened by half its longer side all around, without those of other objects;
they are added up over the objects of a size, and their mIoU is the mean of background and object. In the pointing game
an image is a hit if the maximum of its Grad-CAM map, for the category's scores at all pixels, lies in the box of an
object; it counts for the size of its largest one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
from collections import defaultdict
from pathlib import Path

import mxnet as mx
import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as run_lengths

import train_stopsign
from benchmarks import ablation, paired
from gluon_aff.data.coco import CocoSegmentation
from gluon_aff.data.masks import IGNORED, overlay
from gluon_aff.inspect.grad_cam import grad_cam
from gluon_aff.train import Segmentation, Stopped, parse, run_script

BOUNDS = (16, 32, 64, 128)  # between the sizes: pixels of the longer side of an object's box
SIZES = ('< 16', '16-32', '32-64', '64-128', '>= 128')
SIDE, LINE = 192, 16  # pixels of an image and of a title in the picture


def objects(path, category):
    """The objects of each image, crowds left out: its id to a list of (box, mask)."""
    content = json.loads(Path(path).read_text(encoding='utf-8'))
    shapes = {image['id']: (image['height'], image['width']) for image in content['images']}
    number = next(row['id'] for row in content['categories'] if row['name'] == category)
    boxes_and_masks = defaultdict(list)
    for annotation in content['annotations']:
        if annotation['category_id'] == number and not annotation.get('iscrowd'):
            encoded = run_lengths.frPyObjects(annotation['segmentation'], *shapes[annotation['image_id']])
            encoded = run_lengths.merge(encoded) if isinstance(encoded, list) else encoded
            mask = run_lengths.decode(encoded).astype(bool)
            boxes_and_masks[annotation['image_id']].append((annotation['bbox'], mask))
    return boxes_and_masks


def count(truth, guess):
    """The number of pixels by label and by guess, without ignored ones."""
    labelled = truth != IGNORED
    return np.bincount(2 * truth[labelled] + guess[labelled], minlength=4)


def count_object(box, mask, truth, guess):
    """The same, around one object."""
    left, top, wide, high = box
    margin = max(wide, high) / 2
    window = (
        slice(max(int(top - margin), 0), int(np.ceil(top + high + margin))),
        slice(max(int(left - margin), 0), int(np.ceil(left + wide + margin))),
    )
    others = (truth == 1) & ~mask
    return count(np.where(others, IGNORED, truth)[window], guess[window])


def miou(pixels):
    return Segmentation(2).metrics([1, 0, *pixels])['miou']


def evaluate(model, data, annotated):
    """The counts over whole images, and around the objects of each size."""
    whole, sizes = np.zeros(4), np.zeros((len(SIZES), 4))
    for number, (image, truth) in zip(data.ids, data):
        guess = model.segment(image)
        whole += count(truth, guess)
        for box, mask in annotated[number]:
            sizes[np.digitize(max(box[2:]), BOUNDS)] += count_object(box, mask, truth, guess)
    return whole, sizes


def picture(models, data, shown):
    """The masks that were drawn, and those of each network, laid over some of the images."""
    drawn = Image.new('RGB', (SIDE * (1 + len(models)), LINE + SIDE * len(shown)), 'white')
    for column, name in enumerate(['truth', *models]):
        ImageDraw.Draw(drawn).text((column * SIDE + 4, 2), name, fill='black')
        for row, number in enumerate(shown):
            image, mask = data[data.ids.index(number)]
            mask = models[name].segment(image) if name in models else mask
            drawn.paste(overlay(image, mask).resize((SIDE, SIDE), Image.LANCZOS), (column * SIDE, LINE + row * SIDE))
    return drawn.quantize(256)  # a third of the bytes


def hits(model, data, annotated):
    """How many images of each size the pointing game hits, and how many there are: (len(SIZES), 2)."""
    counts = np.zeros((len(SIZES), 2), int)
    for number, (image, _) in zip(data.ids, data):
        boxes = np.array([box for box, _ in annotated[number]])
        if not len(boxes):
            continue
        pixels = mx.nd.array(model.spec.transform()(image)[None])
        (heat,) = grad_cam(model.net, pixels, 1, region=np.ones(pixels.shape[2:])).maps
        row, column = np.add(np.unravel_index(heat.argmax(), heat.shape), 0.5)
        left, top, wide, high = boxes.T
        inside = (left <= column) & (column < left + wide) & (top <= row) & (row < top + high)
        # A map of zeros points nowhere.
        counts[np.digitize(boxes[:, 2:].max(), BOUNDS)] += inside.any() and heat.max() > 0, 1
    return counts


def measure(model, data, annotated):
    """The mIoU over whole images and around the objects of each size, and the share of hits: numbers by title."""
    whole, sizes = evaluate(model, data, annotated)
    points = hits(model, data, annotated)
    numbers = np.bincount(
        [np.digitize(max(box[2:]), BOUNDS) for boxes in annotated.values() for box, _ in boxes], minlength=len(SIZES)
    )
    return {
        'mIoU': miou(whole),
        **{f'{size} px ({n})': miou(pixels) for size, n, pixels in zip(SIZES, numbers, sizes) if n},
        'pointing': points[:, 0].sum() / points[:, 1].sum(),
        **{f'pointing, {size} px ({n})': hit / n for size, (hit, n) in zip(SIZES, points) if n},
    }


def tables(rows, titles):
    """In Markdown: each network's mean over the seeds, and its differences from the first.

    One table is of the mIoU and one of the pointing game, by size. Differences have 95 % intervals, p after Holm's
    correction over those of both tables, and what would be found with a chance of 80 %.
    """
    networks = list(dict.fromkeys(row['network'] for row in rows))
    values = {name: {row['seed']: row for row in rows if row['network'] == name} for name in networks}
    first, *others = networks
    pairs = {name: sorted(values[first].keys() & values[name].keys()) for name in others}
    differences = {
        (name, title): [values[name][seed][title] - values[first][seed][title] for seed in seeds]
        for name, seeds in pairs.items()
        if len(seeds) > 1
        for title in titles
    }
    adjusted = dict(zip(differences, paired.holm([*map(paired.p_value, differences.values())])))
    kinds = ([title for title in titles if title.startswith('pointing') == game] for game in (False, True))
    return '\n\n'.join(_table(values, differences, adjusted, columns) for columns in kinds if columns)


def _table(values, differences, adjusted, columns):
    """The lines of one of them."""
    short = [title.replace('pointing, ', '') for title in columns]
    lines = [f'| network | parameters | seeds | {" | ".join(short)} |', '|' + '---|' * (3 + len(columns))]
    for name, own in values.items():
        means = [f'{statistics.mean(row[title] for row in own.values()):.3f}' for title in columns]
        lines.append(f'| {name} | {next(iter(own.values()))["parameters"]:,} | {len(own)} | {" | ".join(means)} |')
    level, first = paired.LEVEL / max(len(differences), 1), next(iter(values))
    for name in dict.fromkeys(name for name, _ in differences):
        runs = [differences[name, title] for title in columns]
        intervals = ['{:+.3f} ({:+.3f} to {:+.3f})'.format(*paired.interval(run)) for run in runs]
        for what, cells in (
            (f'{name} - {first}', intervals),
            ('p, Holm', [f'{adjusted[name, title]:.3f}' for title in columns]),
            ('detectable', [f'{paired.detectable(statistics.stdev(run), len(run), level):.2f}' for run in runs]),
        ):
            lines.append(f'| {what} | | {len(runs[0])} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
        usage='%(prog)s [-h] [--csv FILE] [--picture FILE.png] [--show ID ...] [flags of benchmarks.ablation, fpn]',
    )
    parser.add_argument('--csv', metavar='FILE', help='write the table to this file as well')
    parser.add_argument('--picture', metavar='FILE.png', help='draw the masks of some images')
    parser.add_argument('--show', nargs='+', type=int, default=[], metavar='ID', help='those images')
    own, rest = parser.parse_known_args(argv)
    defaults = '--hosts fpn --fusions add aff iaff --seeds 0 1 2 --save-dir runs/segmentation'.split()
    args, shared = ablation.parse_args([*defaults, *rest])
    config = parse(train_stopsign.Config, shared)
    path = os.path.join(config.data_dir, config.val_annotations)
    data = CocoSegmentation(path, os.path.join(config.data_dir, config.val_image_dir), config.category)
    annotated = objects(path, config.category)
    annotated = {number: annotated.get(number, []) for number in data.ids}

    models, rows, titles = {}, [], []
    for seed, blocks, fusion in itertools.product(args.seeds, args.blocks, args.fusions):
        folder = args.save_dir / f'fpn-{fusion}-b{blocks}-seed{seed}'
        flags = ablation.cell_flags(
            'fpn', fusion, blocks, seed, equal_parameters=args.equal_parameters, widen=args.widen, shared=shared
        )
        try:
            progress = ablation.cell('fpn', folder, flags)
        except Stopped as stopped:
            ablation.exit_stopped(stopped)
        name, model = f'fpn_{fusion}_resnet{6 * blocks + 2}', ablation.last_epoch(folder)
        models.setdefault(name, model)
        measured = measure(model, data, annotated)
        titles = list(measured)
        rows.append(
            {
                'network': name,
                'parameters': ablation.result(folder, progress, 'fpn', fusion, blocks, seed)['parameters'],
                'seed': seed,
                **{title: round(float(value), 4) for title, value in measured.items()},
                'conditions': f'{config.num_epochs} epochs at {config.input_size} pixels',
            }
        )
        if own.csv:
            ablation.write_csv(rows, own.csv)
    print(tables(rows, titles))
    if own.picture:
        picture(models, data, own.show).save(own.picture, optimize=True)


if __name__ == '__main__':
    run_script('benchmarks/segmentation.py', main)
