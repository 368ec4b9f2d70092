"""Folders of images packed into RecordIO files."""

from __future__ import annotations

import io
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import positive
from ..files import temporary_folder
from .class_folders import image_folders
from .class_names import write_class_names
from .images import read_image
from .records import write_record

__all__ = ['write_records']

LONGEST = 65500  # pixels of a JPEG's side
AHEAD = 4  # images in advance for each thread


def write_records(data_dir, output, val_fraction=None, resize=256, quality=95, workers=4, seed=0):
    """Pack folders of images into train.rec and val.rec, each with its .idx, and classes.txt.

    Images are packed as JPEG, RGB and upright, as :func:`gluon_aff.data.images.read_image` gives them, so every reader
    of RecordIO sees the same.

    Parameters
    ----------
    data_dir, val_fraction, seed
        See :func:`gluon_aff.data.class_folders.image_folders`. The training images are shuffled by the seed.
    output : str
        The folder they go to, made if missing. Each file is written whole or not at all.
    resize : int, default 256
        Pixels of the short side; 0 leaves the size.
    quality : int, default 95
        Of the JPEG, 1 to 100.
    workers : int, default 4
        Threads that check, resize and encode the images.

    Returns
    -------
    dict of str: str
        Of the files that were left out, by path: a sentence that says why. An image is left out, too, whose long side
        would exceed JPEG's 65,500 pixels.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`gluon_aff.data.class_folders.image_folders`, or if all images of a part are left out.
    OSError
        If the files cannot be written.
    """
    positive('resize', resize, or_zero=True)
    if not 1 <= positive('quality', quality) <= 100:
        raise ValueError(f'quality must be 1 to 100, got {quality}.')
    folders = image_folders(data_dir, val_fraction, seed, workers)
    skipped = dict(folders.skipped)
    os.makedirs(output, exist_ok=True)
    with temporary_folder(output, '.records-') as folder:
        try:
            write_class_names(os.path.join(folder, 'classes.txt'), folders.class_names)
            for name, files in (('train', folders.train), ('val', folders.val)):
                order = np.arange(len(files))
                if name == 'train':
                    order = np.random.RandomState(seed).permutation(order)
                skipped.update(_pack(files, order, os.path.join(folder, name), resize, quality, workers))
        except OSError as error:
            raise OSError(error.errno, error.strerror, output) from None
        for name in ('train.rec', 'train.idx', 'val.rec', 'val.idx', 'classes.txt'):
            os.replace(os.path.join(folder, name), os.path.join(output, name))
    return skipped


def _pack(files, order, prefix, resize, quality, workers):
    """Write prefix.rec and prefix.idx; returns why images were left out, by path."""
    skipped, waiting = {}, deque()
    with open(prefix + '.rec', 'wb') as record, open(prefix + '.idx', 'w') as places, ThreadPoolExecutor(
        workers
    ) as pool, tqdm(
        total=len(order), desc=f'pack {os.path.basename(prefix)}', unit='image', leave=False, disable=None
    ) as bar:

        def write_next():
            key, index, encoding = waiting.popleft()
            try:
                content = encoding.result()
            except ValueError as error:
                skipped[files.paths[index]] = str(error)
            else:
                print(key, record.tell(), sep='\t', file=places)
                write_record(record, files.target[index], key, content)
            bar.update()

        for key, index in enumerate(order):
            # Only a few in advance: with a slow disk all encoded images would wait in memory.
            if len(waiting) == AHEAD * workers:
                write_next()
            waiting.append((key, index, pool.submit(_encoded, files.paths[index], resize, quality)))
        while waiting:
            write_next()
    if len(skipped) == len(order):
        raise ValueError(
            f'None of the {len(order)} images for {os.path.basename(prefix)}.rec can be packed: '
            f'{next(iter(skipped.values()))}'
        )
    return skipped


def _encoded(path, resize, quality):
    """The image file at `path` as a JPEG's bytes."""
    image, size = read_image(path), None
    if resize:
        size = tuple(side * resize // min(image.size) for side in image.size)
    if max(size or image.size) > LONGEST:
        width, height = size or image.size
        raise ValueError(
            f'{path} would be {width} x {height} pixels, and a JPEG has at most {LONGEST} to a side; crop it.'
        )
    if size and size != image.size:
        image = image.resize(size, Image.BILINEAR)
    content = io.BytesIO()
    image.save(content, 'JPEG', quality=quality)
    return content.getvalue()
