"""The pointing game on synthetic images: does the maximum of a Grad-CAM map lie on the object?

    python -m benchmarks.pointing_game

Each image of 32x32 has one object, a disc, square, triangle or cross of 6 to 24 pixels, somewhere on a background of
noise and strokes; its class is its shape, its colour is random. Add, SE and AFF networks are trained on the same
images, and the map of the true class is a hit if its maximum lies in the object's bounding box (Zhang et al., "Top-down
Neural Attention by Excitation Backprop", ECCV 2016). Each run has a folder in --save-dir, and pointing_game.csv has a
row for each network, seed, layer and size of object.
"""

from __future__ import annotations

import argparse
import csv
from functools import partial
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from PIL import Image, ImageDraw

from gluon_aff.data.cifar import Batches
from gluon_aff.data.preprocessing import normalise
from gluon_aff.files import atomic
from gluon_aff.inspect.grad_cam import METHODS, grad_cam
from gluon_aff.layers.comparators import SE
from gluon_aff.train import Classification, RunFolder, TrainConfig, fit, number, run_script, whole
from model_zoo import get_model
from model_zoo.hosts.cifar_resnet import PreActBlock, conv3x3

SIDE, FINE = 32, 4  # pixels of an image's side; points along a pixel's side on which shapes are drawn
SIZES = ((6, 8), (9, 12), (13, 18), (19, 24))
SHAPES = ('disc', 'square', 'triangle', 'cross')
MEAN, STD = (0.5,) * 3, (0.25,) * 3
# The layers whose maps are weighed; after the pool comes only a dense layer.
LAYERS = {'last stage': None, 'before the pool': 'features.6'}


def draw(shape, centre, size):
    """The share of each pixel covered by an object of `size` pixels: (SIDE, SIDE) in 0..1. Pixel i spans i to i + 1."""
    x, y = np.meshgrid(*2 * [(np.arange(SIDE * FINE) + 0.5) / FINE])
    x, y = (2 * (position - middle) / size for position, middle in zip((x, y), centre))
    inside = {
        'disc': x**2 + y**2 < 1,
        'square': np.maximum(abs(x), abs(y)) < 1,
        'triangle': (abs(y) < 1) & (2 * abs(x) < 1 + y),
        'cross': (np.minimum(abs(x), abs(y)) < 1 / 3) & (np.maximum(abs(x), abs(y)) < 1),
    }[shape]
    return inside.reshape(SIDE, FINE, SIDE, FINE).mean((1, 3))


def background(random):
    """Noise of three scales and some strokes, (SIDE, SIDE, 3) in 0..1."""
    pixels = np.zeros((SIDE, SIDE, 3))
    for cells, share in ((4, 0.5), (8, 0.3), (SIDE, 0.2)):
        noise = Image.fromarray(random.randint(0, 256, (cells, cells, 3)).astype(np.uint8))
        pixels += share * np.asarray(noise.resize((SIDE, SIDE), Image.BILINEAR)) / 255
    canvas = Image.fromarray(np.uint8(255 * pixels)).resize((SIDE * FINE,) * 2)
    pen = ImageDraw.Draw(canvas)
    for _ in range(random.randint(4, 9)):
        start = random.uniform(0, SIDE * FINE, 2)
        end = start + random.uniform(-10 * FINE, 10 * FINE, 2)
        pen.line([*start, *end], tuple(random.randint(0, 256, 3)), random.randint(FINE, 3 * FINE))
    return np.asarray(canvas.resize((SIDE, SIDE), Image.BOX)) / 255


def make(number: int, seed: int):
    """Images with objects whose boxes are known.

    Parameters
    ----------
    number, seed : int

    Returns
    -------
    images : numpy.ndarray, uint8, (number, 32, 32, 3)
    target : numpy.ndarray, int32, (number,)
        Numbers of SHAPES, in turn.
    boxes : numpy.ndarray, float, (number, 4)
        Left, top, right, bottom; pixel i spans i to i + 1. The sizes of objects are drawn from SIZES in turn.
    """
    random = np.random.RandomState(seed)
    images, target, boxes = np.empty((number, SIDE, SIDE, 3), np.uint8), np.arange(number) % len(SHAPES), []
    for index in range(number):
        low, high = SIZES[index // len(SHAPES) % len(SIZES)]
        size = random.uniform(low, high)
        centre = random.uniform(size / 2, SIDE - size / 2, 2)
        pixels, share = background(random), draw(SHAPES[target[index]], centre, size)[..., None]
        beneath = (pixels * share).sum((0, 1)) / share.sum()
        # In each channel at least a third of the range away from the background.
        colour = (beneath + random.uniform(1 / 3, 2 / 3, 3)) % 1
        images[index] = np.round(255 * ((1 - share) * pixels + share * colour))
        boxes.append([*(centre - size / 2), *(centre + size / 2)])
    return images, target.astype(np.int32), np.array(boxes)


def gated(channels, in_channels):
    """The second convolution of a block, followed by squeeze-and-excitation, as in SE-ResNet."""
    layers = nn.HybridSequential(prefix='')
    layers.add(conv3x3(channels, in_channels), SE(channels, reduction=4))
    return layers


NETWORKS = {
    'add': {'fusion': 'add'},
    'se': {'fusion': 'add', 'block': partial(PreActBlock, second=gated)},
    'aff': {'fusion': 'aff'},
}


def train(name, seed, images, target, held_out, args):
    """A trained network; `held_out` is (images, target)."""
    folder = args.save_dir / f'{name}-seed{seed}'
    mx.random.seed(seed)
    net = get_model('cifar_add_resnet8', classes=len(SHAPES), width=args.width, **NETWORKS[name])
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True)
    batches = Batches(images, target, args.batch_size, MEAN, STD, train=True, flip=True, seed=seed)
    fit(
        net,
        batches,
        Batches(*held_out, 100, MEAN, STD),
        TrainConfig(num_epochs=args.num_epochs, lr=args.lr, seed=seed, overwrite=True),
        RunFolder(folder, {}, keep=1),
        task=Classification(len(SHAPES)),
    )
    return net


def _inside(x, y, boxes):
    left, top, right, bottom = boxes.T
    return (left <= x) & (x < right) & (top <= y) & (y < bottom)


def hits(net, images, target, boxes, layer, method):
    """Whether the maximum of the true class's map lies in the object's box: bool (N,)."""
    results = []
    for batch in np.array_split(np.arange(len(images)), max(1, len(images) // 100)):
        data = mx.nd.array(normalise(images[batch], MEAN, STD))
        maps = grad_cam(net, data, target[batch], layer=layer, method=method).maps
        rows, columns = np.unravel_index(maps.reshape(len(batch), -1).argmax(1), maps.shape[1:])
        # A map of zeros points nowhere.
        results.append(_inside(columns + 0.5, rows + 0.5, boxes[batch]) & (maps.max((1, 2)) > 0))
    return np.concatenate(results)


def play(net, images, target, boxes, method):
    """Rows of the table for a network: by layer and size of object."""
    batches = np.array_split(images, max(1, len(images) // 100))
    scores = [net(mx.nd.array(normalise(batch, MEAN, STD))).asnumpy() for batch in batches]
    correct = np.concatenate(scores).argmax(1) == target
    sizes = boxes[:, 2] - boxes[:, 0]
    rows = []
    for layer_name, layer in LAYERS.items():
        hit = hits(net, images, target, boxes, layer, method)
        for low, high in SIZES:
            chosen = (low <= sizes) & (sizes <= high)
            rows.append(
                {
                    'layer': layer_name,
                    'from': low,
                    'to': high,
                    'images': int(chosen.sum()),
                    'accuracy': round(float(correct[chosen].mean()), 4),
                    'pointing': round(float(hit[chosen].mean()), 4),
                    'area': round(float((sizes[chosen] ** 2).mean() / SIDE**2), 4),
                    'centre': round(float(_inside(*2 * [SIDE / 2], boxes[chosen]).mean()), 4),
                }
            )
    return rows


def table(rows):
    """The rows in Markdown: pointing-game accuracy by size, the mean over the seeds, each seed's in parentheses."""

    def mean_of(chosen, key):
        values = [100 * row[key] for row in chosen]
        by_seed = f' ({", ".join(f"{value:.0f}" for value in values)})' if len(values) > 1 else ''
        return f'{np.mean(values):.1f}{by_seed}'

    heads = [f'{low} to {high}' for low, high in SIZES]
    lines = [f'| network | layer | {" | ".join(heads)} |', '|' + '---|' * (2 + len(heads))]
    for name in dict.fromkeys(row['network'] for row in rows):
        own = [row for row in rows if row['network'] == name]
        by_size = [[row for row in own if row['from'] == low] for low, _ in SIZES]
        first = next(iter(LAYERS))
        cells = [mean_of([row for row in some if row['layer'] == first], 'accuracy') for some in by_size]
        lines.append(f'| {name} | (accuracy) | {" | ".join(cells)} |')
        for layer in LAYERS:
            cells = [mean_of([row for row in some if row['layer'] == layer], 'pointing') for some in by_size]
            lines.append(f'| {name} | {layer} | {" | ".join(cells)} |')
    for key, title in (('area', 'any pixel, by chance'), ('centre', "always the image's centre")):
        cells = [f'{100 * next(row[key] for row in rows if row["from"] == low):.1f}' for low, _ in SIZES]
        lines.append(f'| ({title}) | | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument('--seeds', nargs='+', type=whole(0), default=[0, 1, 2])
    parser.add_argument('--train-images', type=whole(8), default=4000)
    parser.add_argument('--test-images', type=whole(16), default=800)
    parser.add_argument('--num-epochs', type=whole(1), default=20)
    parser.add_argument('--batch-size', type=whole(2), default=64)
    parser.add_argument('--width', type=whole(1), default=1)
    parser.add_argument('--lr', type=number(0, ends='(]'), default=0.1)
    parser.add_argument('--method', choices=METHODS, default='grad_cam')
    parser.add_argument('--save-dir', type=Path, default=Path('runs/pointing_game'))
    args = parser.parse_args(argv)

    images, target, _ = make(args.train_images, seed=0)
    test_images, test_target, boxes = make(args.test_images, seed=1)
    rows = []
    for seed in args.seeds:
        for name in args.networks:
            net = train(name, seed, images, target, (test_images, test_target), args)
            rows += [
                {'network': name, 'seed': seed, 'method': args.method, **row}
                for row in play(net, test_images, test_target, boxes, args.method)
            ]
            with atomic(args.save_dir / 'pointing_game.csv') as partial_path, open(
                partial_path, 'w', encoding='utf-8', newline=''
            ) as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
    print(table(rows))
    return rows


if __name__ == '__main__':
    run_script('benchmarks/pointing_game.py', main)
