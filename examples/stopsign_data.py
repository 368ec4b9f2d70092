"""A small data set in COCO's format: real photographs with drawn octagonal signs of 8 to 200 pixels.

    python examples/stopsign_data.py runs/signs

The photographs are scikit-learn's two and, where they are installed, seven of scikit-image's and twenty of foolbox's
(``pip install --no-deps scikit-image==0.21.0 foolbox==3.3.4`` suffices); or those of --photographs.
Training and validation images show different photographs. Red discs and squares are drawn, too, which are no signs.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gluon_aff.data.class_folders import readable_images
from gluon_aff.data.images import read_image
from gluon_aff.errors import in_words, positive
from gluon_aff.text import printable

SIZE = (256, 256)  # width, height of an image
SMALLEST, LARGEST = 8, 200  # of the signs' height, in pixels
FINE = 4  # points of a pixel, to the side, at which a shape's edge is counted
CATEGORIES = [{'id': 1, 'name': 'person'}, {'id': 13, 'name': 'stop sign'}]  # COCO's ids
PACKAGES = (
    ('sklearn', 'datasets/images', ('china.jpg', 'flower.jpg')),
    (
        'skimage',
        'data',
        ('astronaut.png', 'chelsea.png', 'coffee.png', 'motorcycle_left.png', 'rocket.jpg', 'brick.png', 'gravel.png'),
    ),
    ('foolbox', 'data', ('imagenet_*.jpg',)),
)


def photographs():
    """Paths of the photographs that installed packages have: scikit-learn's first, then scikit-image's, foolbox's."""
    paths = []
    for package, folder, patterns in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec:
            top = Path(spec.submodule_search_locations[0], folder)
            paths += [path for pattern in patterns for path in sorted(top.glob(pattern))]
    return paths


def background(photograph, random):
    """A random part of a photograph, in SIZE."""
    width, height = SIZE
    scale = random.uniform(1, 2) * max(width / photograph.width, height / photograph.height)
    wide, tall = (max(new, round(scale * old)) for new, old in zip(SIZE, photograph.size))
    left, top = random.randint(0, wide - width + 1), random.randint(0, tall - height + 1)
    return photograph.resize((wide, tall), Image.BILINEAR).crop((left, top, left + width, top + height))


def regular(sides, centre, height, turn):
    """Corners of a regular polygon of this height, lying on a side if not turned: (sides, 2), x and y."""
    angles = turn + np.pi * (2 * np.arange(sides) + 1) / sides
    radius = height / 2 / np.cos(np.pi / sides)
    return np.asarray(centre) + radius * np.stack([np.sin(angles), np.cos(angles)], 1)


def coverage(corners):
    """Which share of each pixel a convex polygon covers, in 1/255: a grey image in SIZE. Pixel i spans i to i + 1."""
    # Counted at FINE x FINE points of a pixel: Pillow's own polygons are half a pixel too wide.
    x, y = ((np.arange(FINE * side) + 0.5) / FINE for side in SIZE)
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    columns, rows = np.flatnonzero((x > left) & (x < right)), np.flatnonzero((y > top) & (y < bottom))
    inside = np.ones((len(rows), len(columns)), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, 1, 0)):
        inside &= (x1 - x0) * (y[rows, None] - y0) > (y1 - y0) * (x[columns] - x0)
    points = np.zeros((len(y), len(x)), np.uint8)
    points[np.ix_(rows, columns)] = 255 * inside
    return Image.fromarray(points).resize(SIZE, Image.BOX)


def paint(image, corners, colour):
    image.paste(Image.new('RGB', SIZE, colour), mask=coverage(corners))


def draw_sign(image, centre, height, turn, random):
    """Draw a stop sign: red octagon, white rim, white letters where there is room. Returns its corners."""
    light = random.uniform(0.5, 1)
    red, white = (tuple(int(light * value) for value in colour) for colour in ((190, 25, 40), (245, 245, 240)))
    corners = regular(8, centre, height, turn)
    paint(image, corners, white)
    paint(image, regular(8, centre, 0.9 * height, turn), red)
    if height >= 24:
        letters = Image.new('L', (28, 11))
        ImageDraw.Draw(letters).text((2, 0), 'STOP', fill=255, font=ImageFont.load_default())
        letters = letters.resize((int(0.75 * height), int(0.3 * height)), Image.BILINEAR)
        letters = letters.rotate(np.degrees(turn), expand=True)
        corner = tuple(int(round(c - side / 2)) for c, side in zip(centre, letters.size))
        image.paste(Image.new('RGB', letters.size, white), corner, letters)
    return corners


def draw_other(image, centre, height, random):
    """Draw a red disc or square, which is no stop sign."""
    light = random.uniform(0.5, 1)
    sides, turn = ((64, 0), (4, random.uniform(-0.3, 0.3)))[random.randint(2)]
    paint(image, regular(sides, centre, height, turn), tuple(int(light * value) for value in (190, 25, 40)))


def make(folder, split, photos, count, seed):
    """Write `count` images of a split into folder/split, and folder/instances_<split>.json.

    Parameters
    ----------
    folder, split : str
    photos : sequence of PIL.Image
        The backgrounds, taken in turn.
    count, seed : int

    Returns
    -------
    str
        Path of the annotation file.
    """
    random = np.random.RandomState([seed, sum(split.encode())])
    images, annotations = [], []
    (Path(folder) / split).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = background(photos[number % len(photos)], random)
        taken = []
        for kind in ['sign'] * random.randint(1, 4) + ['other'] * random.randint(0, 3):
            height = np.exp(random.uniform(np.log(SMALLEST), np.log(LARGEST)))
            reach = 0.75 * height  # a square's corners, and some room
            centre = [random.uniform(min(reach, side / 2), max(side - reach, side / 2)) for side in SIZE]
            if any(np.hypot(*np.subtract(centre, other)) < reach + space for other, space in taken):
                continue
            taken.append((centre, reach))
            if kind == 'other':
                draw_other(image, centre, height, random)
                continue
            corners = draw_sign(image, centre, height, random.uniform(-0.15, 0.15), random)
            low, high = corners.min(0), corners.max(0)
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': number + 1,
                    'category_id': 13,
                    'iscrowd': 0,
                    'segmentation': [[round(float(v), 3) for v in corners.ravel()]],
                    'bbox': [float(v) for v in (*low, *(high - low))],
                    'area': float(2 * (np.sqrt(2) - 1) * height**2),
                }
            )
        name = f'{number + 1:06d}.png'
        image.save(Path(folder) / split / name)
        images.append({'id': number + 1, 'file_name': name, 'width': SIZE[0], 'height': SIZE[1]})
    path = Path(folder) / f'instances_{split}.json'
    path.write_text(json.dumps({'images': images, 'annotations': annotations, 'categories': CATEGORIES}))
    return str(path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('folder')
    parser.add_argument('--photographs', metavar='DIR', help="folder of photographs in place of the packages' own")
    parser.add_argument('--train', type=int, default=160, metavar='N', help='training images')
    parser.add_argument('--val', type=int, default=60, metavar='N', help='validation images')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    for flag in ('train', 'val'):
        positive(f'--{flag}', getattr(args, flag))
    paths, skipped = readable_images([args.photographs]) if args.photographs else (photographs(), {})
    for sentence in skipped.values():
        print(printable(sentence), file=sys.stderr)
    photos = [read_image(path) for path in paths]
    if len(photos) < 2:
        raise ValueError('At least two photographs are needed, one to train on and one to validate on.')
    # Every third one, and at least one, is kept for validation.
    val = photos[1::3]
    train = [photo for photo in photos if not any(photo is other for other in val)]
    print(printable(make(args.folder, 'train', train, args.train, args.seed)))
    print(printable(make(args.folder, 'val', val, args.val, args.seed)))


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f'stopsign_data.py: {printable(in_words(error))}')
