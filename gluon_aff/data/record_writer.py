"""Packing folders of images into RecordIO files."""

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
from .record_file import write_record

__all__ = ['write_records']

LONGEST = 65500  # side of a JPEG in pixels
AHEAD = 4  # images encoded in advance per thread


def write_records(
    data_dir: str | os.PathLike,
    output: str | os.PathLike,
    *,
    val_fraction: float | None = None,
    resize: int = 256,
    quality: int = 95,
    workers: int = 4,
    seed: int = 0,
) -> dict[str, str]:
    """Pack folders of images into train.rec and val.rec, each with its .idx, and classes.txt.

    Images are packed as upright RGB JPEG, so that every reader of RecordIO sees the same.

    Parameters
    ----------
    data_dir, val_fraction, seed
        See :func:`gluon_aff.data.class_folders.image_folders`. The seed also shuffles the training images.
    output : str
        Folder to write to, made if missing. A file is written whole or not at all.
    resize : int, default 256
        Short side in pixels; 0 keeps the size.
    quality : int, default 95
        Of the JPEG, 1 to 100.
    workers : int, default 4
        Number of threads.

    Returns
    -------
    dict of str: str
        A sentence for each file that was left out, by path: unreadable ones, and those whose long side would exceed
        JPEG's 65,500 pixels.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`gluon_aff.data.class_folders.image_folders`, or if all images of a split are left out.
    OSError
        If the files cannot be written.
    """
    positive('resize', resize, or_zero=True)
    if not 1 <= positive('quality', quality) <= 100:
        raise ValueError(f'quality must be 1 to 100, got {quality}.')
    output = os.fspath(output)
    folders = image_folders(data_dir, val_fraction, seed=seed, workers=workers)
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
    """Write prefix.rec and prefix.idx; returns a sentence for each image that was left out, by path."""
    skipped, waiting = {}, deque()
    with open(prefix + '.rec', 'wb') as record, open(prefix + '.idx', 'w') as offsets, ThreadPoolExecutor(
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
                print(key, record.tell(), sep='\t', file=offsets)
                write_record(record, files.target[index], key, content)
            bar.update()

        for key, index in enumerate(order):
            # Only a few in advance: with a slow disk, all encoded images would wait in memory.
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
    """The image file at `path`, encoded as JPEG."""
    image, size = read_image(path), None
    if resize:
        size = tuple(side * resize // min(image.size) for side in image.size)
    if max(size or image.size) > LONGEST:
        width, height = size or image.size
        raise ValueError(
            f'{path} would be {width} x {height} pixels, and a JPEG has at most {LONGEST} to a side; crop it.'
        )
    if size and size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    content = io.BytesIO()
    image.save(content, 'JPEG', quality=quality)
    return content.getvalue()
