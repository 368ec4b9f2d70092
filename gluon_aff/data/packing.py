"""Folders of images packed into RecordIO files."""
from __future__ import annotations

import os
import re
import subprocess
import sys

import mxnet as mx
import numpy as np
from tqdm import tqdm

from ..errors import positive
from ..files import temporary_folder
from .folders import image_folders

__all__ = ['write_records']

IM2REC = os.path.join(os.path.dirname(mx.__file__), 'tools', 'im2rec.py')


def write_records(data_dir, output, val_fraction=None, resize=256, quality=95, workers=4, seed=0):
    """Pack folders of images into train.rec and val.rec, each with its .idx, and classes.txt, by MXNet's im2rec.

    Parameters
    ----------
    data_dir, val_fraction, seed
        See :func:`gluon_aff.data.folders.image_folders`. The training images are shuffled by the seed.
    output : str
        The folder they go to, made if missing. Each file is written whole or not at all.
    resize : int, default 256
        Pixels of the short side; 0 leaves the size.
    quality : int, default 95
        Of the JPEG, 1 to 100.
    workers : int, default 4
        Threads that check the images, and processes that encode them.

    Returns
    -------
    dict of str: str
        Of the files that were left out, by path: a sentence that says why.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`gluon_aff.data.folders.image_folders`, or if im2rec fails.
    """
    positive('resize', resize, or_zero=True)
    if not 1 <= positive('quality', quality) <= 100:
        raise ValueError(f'quality must be 1 to 100, got {quality}.')
    folders = image_folders(data_dir, val_fraction, seed, workers)
    skipped = dict(folders.skipped)
    os.makedirs(output, exist_ok=True)
    with temporary_folder(output, '.records-') as folder:
        with open(os.path.join(folder, 'classes.txt'), 'w', encoding='utf-8') as file:
            file.writelines(f'{label}\n' for label in folders.labels)
        for name, files in (('train', folders.train), ('val', folders.val)):
            order = np.arange(len(files))
            if name == 'train':
                order = np.random.RandomState(seed).permutation(order)
            skipped.update(_pack(files, order, os.path.join(folder, name), resize, quality, workers))
        for name in ('train.rec', 'train.idx', 'val.rec', 'val.idx', 'classes.txt'):
            os.replace(os.path.join(folder, name), os.path.join(output, name))
    return skipped


def _pack(files, order, prefix, resize, quality, workers):
    """Write prefix.rec and prefix.idx; returns why images were left out, by path."""
    import cv2  # Here, as its system libraries are missing where nobody packs.
    with open(prefix + '.lst', 'w', encoding='utf-8') as file:
        for key, index in enumerate(order):
            path = os.path.abspath(files.paths[index])
            if not path.isprintable():
                # A tab or a line's end would break the list.
                path, original = f'{prefix}-{key}{os.path.splitext(path)[1]}', path
                os.symlink(original, path)
            print(key, files.target[index], path, sep='\t', file=file)
    # With one process im2rec ends at the first image that it cannot read.
    command = [sys.executable, '-u', IM2REC, prefix, os.sep, '--resize', resize, '--quality', quality,
               '--num-thread', max(2, workers)]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          encoding='utf-8', errors='replace', env={**os.environ, 'PYTHONUTF8': '1'}) as packing, \
            tqdm(total=len(order), desc=f'pack {os.path.basename(prefix)}', unit='image', leave=False,
                 disable=None) as bar:
        said = ''
        for line in packing.stdout:
            said = line.strip() or said
            done = re.search(r'count: (\d+)$', said)
            if done:
                bar.update(int(done.group(1)) - bar.n)
    packed = set()
    if packing.returncode == 0:
        with open(prefix + '.idx') as file:
            packed.update(int(line.split('\t')[0]) for line in file)
    missing = [files.paths[index] for key, index in enumerate(order) if key not in packed]
    if any(cv2.imread(path) is not None for path in missing):
        raise ValueError(f'im2rec ended before its work was done, with {said!r}; is the disk full?')
    return {path: f'{path} is not an image that OpenCV reads.' for path in missing}
