r"""mIoU by the size of the object, of segmentation networks trained alike on a data set in COCO's format.

    pip install --no-deps scikit-image==0.21.0 foolbox==3.3.4       # for their photographs
    python examples/stopsign_data.py runs/signs --train 400 --val 60
    python -m benchmarks.segmentation --data-dir runs/signs --train-images train --val-images val \
        --train-annotations instances_train.json --val-annotations instances_val.json \
        --base-size 160 --input-size 64 --batch-size 8 --num-epochs 4 \
        --csv docs/segmentation.csv --picture docs/segmentation.png --show 1 2 11 12

Other flags go to train_stopsign.py. A run that was cut goes on; a finished one is only evaluated.

An object's pixels are counted in its box, widened by half its longer side all around, without those of other objects;
they are added up over the objects of a size, and their mIoU is the mean of background and object.
"""

import argparse
import csv
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as run_lengths

import train_stopsign
from gluon_aff.data.coco import CocoSegmentation
from gluon_aff.data.masks import IGNORED, overlay
from gluon_aff.files import atomic
from gluon_aff.train import Segmentation, parse, run_script
from model_zoo import model_info
from model_zoo.loading import load_model

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


def write_csv(rows, path):
    """Write the rows of the table, dicts with the same keys, whole or not at all."""
    with atomic(path) as partial, open(partial, 'w', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--models', nargs='+', default=['fpn_add_resnet8', 'fpn_aff_resnet8', 'fpn_iaff_resnet8'])
    parser.add_argument('--runs', default='runs/segmentation', metavar='DIR', help='folder of the runs')
    parser.add_argument('--csv', metavar='FILE', help='write the table to this file as well')
    parser.add_argument('--picture', metavar='FILE.png', help='draw the masks of some images')
    parser.add_argument('--show', nargs='+', type=int, default=[], metavar='ID', help='those images')
    args, flags = parser.parse_known_args(argv)
    config = parse(train_stopsign.Config, flags)
    path = os.path.join(config.data_dir, config.val_annotations)
    data = CocoSegmentation(path, os.path.join(config.data_dir, config.val_image_dir), config.category)
    annotated = objects(path, config.category)
    sides = [max(box[2:]) for number in data.ids for box, _ in annotated[number]]
    numbers = np.bincount(np.digitize(sides, BOUNDS), minlength=len(SIZES))

    models, rows = {}, []
    for name in args.models:
        folder = os.path.join(args.runs, name)
        best = train_stopsign.main([*flags, '--model', name, '--save-dir', folder, '--resume'])
        models[name] = load_model(folder)
        whole, sizes = evaluate(models[name], data, annotated)
        rows.append(
            {
                'network': name,
                'parameters': f'{model_info(name).parameters:,}',
                'best epoch': best['epoch'],
                'mIoU': f'{miou(whole):.3f}',
                **{
                    f'{size} px ({n})': f'{miou(pixels):.3f}' if pixels.any() else '-'
                    for size, n, pixels in zip(SIZES, numbers, sizes)
                },
            }
        )
    cells = [list(rows[0]), ['---'] * len(rows[0]), *(map(str, row.values()) for row in rows)]
    print('', *(f'| {" | ".join(row)} |' for row in cells), sep='\n')
    if args.csv:
        conditions = f'{config.num_epochs} epochs at {config.input_size} pixels, one seed'
        write_csv([{**row, 'conditions': conditions} for row in rows], args.csv)
    if args.picture:
        picture(models, data, args.show).save(args.picture, optimize=True)


if __name__ == '__main__':
    run_script('benchmarks/segmentation.py', main)
