"""Files with the labels of a folder of images, ImageNet's validation images among them.

A text file has one of three forms:

- the devkit's ILSVRC2012_validation_ground_truth.txt, beside its meta.mat: a line for each image, in the order of the
  images' names, with a number in the devkit's own order, from 1 on, which meta.mat translates to a synset;
- a line for each image, in the order of the images' names: the label, from 0 on;
- lines of an image's file name and its label, from 0 on, in any order.
"""

from __future__ import annotations

import os
import re
from typing import Sequence

import numpy as np

from ..validation import shown
from .class_names import imagenet_synsets

__all__ = ['read_ground_truth']

DEVKIT, META = 'ILSVRC2012_validation_ground_truth.txt', 'meta.mat'
MAX_BYTES = 64 << 20  # of a file, for a million images


def read_ground_truth(path: str, names: Sequence[str], classes: int) -> tuple[np.ndarray, list[str]]:
    """Read the labels of images.

    Parameters
    ----------
    path : str
        Of a file in one of the module's forms.
    names : sequence of str
        The images' file names, sorted.
    classes : int
        Labels are 0 to classes - 1; the devkit's numbers are for the 1000 of ImageNet.

    Returns
    -------
    labels : numpy.ndarray, int, (len(names),)
    missing : list of str
        Images that the file names and `names` lacks.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it has another form, lacks an image, has more or fewer lines than images where it does not name them, or a
        label is out of range; or if meta.mat is not there to translate the devkit's numbers.
    """
    rows = _rows(path)
    if len(rows[0]) == 2:
        labels, missing = _by_name(path, rows, names)
    else:
        if len(rows) != len(names):
            raise ValueError(
                f'{path} has {len(rows)} labels, and there are {len(names)} images; it needs a line for each image, '
                'in the order of their names, or lines of a file name and a label.'
            )
        labels, missing = np.array([_number(path, *line) for line in enumerate((row[0] for row in rows), 1)]), []
    meta = os.path.join(os.path.dirname(path), META)
    if len(rows[0]) == 1 and (os.path.isfile(meta) or os.path.basename(path) == DEVKIT):
        return _translated(path, meta, labels, classes), missing
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise ValueError(
            f'{path} gives {names[wrong[0]]} the label {labels[wrong[0]]}, and labels are 0 to {classes - 1} here; '
            f"if these are the devkit's numbers, put its {META} beside the file."
        )
    return labels, missing


def _rows(path):
    """The lines of a text file, each of one or two words."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f'There is no ground-truth file {path}.')
    if os.path.getsize(path) > MAX_BYTES:
        raise ValueError(f'{path} has more than {MAX_BYTES >> 20} MB, too much for labels; name a text file of them.')
    try:
        with open(path, encoding='utf-8-sig') as file:
            rows = [line.rsplit(None, 1) for line in file.read().rstrip().split('\n')]
    except UnicodeDecodeError:
        raise ValueError(f'{path} is not UTF-8; it needs a label on each line, or a file name and a label.') from None
    for number, row in enumerate(rows, 1):
        if not row or len(row) != len(rows[0]):
            raise ValueError(
                f'Line {number} of {path} is {shown(" ".join(row))}; each line needs a label, or each a file name '
                'and a label.'
            )
    return rows


def _number(path, line, text):
    if not re.fullmatch(r'[+-]?[0-9]{1,9}', text):
        raise ValueError(f'Line {line} of {path} has {shown(text)} for a label; labels are whole numbers.')
    return int(text)


def _by_name(path, rows, names):
    labels = {name.lstrip('./'): _number(path, line, text) for line, (name, text) in enumerate(rows, 1)}
    lacking = [name for name in names if name not in labels]
    if lacking:
        raise ValueError(f'{path} has no line for {len(lacking)} of the {len(names)} images, such as {lacking[0]}.')
    return np.array([labels[name] for name in names]), sorted(labels.keys() - set(names))


def _translated(path, meta, numbers, classes):
    """The labels of the devkit's numbers."""
    synsets = imagenet_synsets()
    if classes != len(synsets):
        raise ValueError(f"{path} has the numbers of ImageNet's {len(synsets)} classes, and the model has {classes}.")
    if not os.path.isfile(meta):
        raise ValueError(
            f"{path} has numbers in the devkit's own order; put the devkit's {META}, which translates them, beside "
            'it, or give a file of names and labels.'
        )
    from scipy.io import loadmat

    try:
        rows = loadmat(meta, squeeze_me=True)['synsets']
        ids = {int(row[0]): synsets.index(row[1]) for row in rows if row[4] == 0}  # number, synset, ..., children
    except Exception:  # scipy raises anything for a damaged file
        raise ValueError(f"{meta} cannot be read as the devkit's; fetch it again.") from None
    wrong = [number for number in numbers.tolist() if number not in ids]
    if wrong:
        raise ValueError(f'{path} has the number {wrong[0]}, which is none of the {len(ids)} of {meta}.')
    return np.array([ids[number] for number in numbers.tolist()])
