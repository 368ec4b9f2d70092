"""Labelled images to evaluate a model on: folders, RecordIO files and data sets, labelled by the model's classes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np
from PIL import Image

from .cifar import cifar10, cifar100
from .class_folders import HELD_OUT, TRAIN, class_tree
from .class_names import CIFAR100_COARSE, match_class_names, numbered
from .ground_truth import read_ground_truth
from .image_sets import digits, fashion_mnist
from .images import read_image, upright
from .record_file import RecordFile
from .walk import find_images

__all__ = ['DATASETS', 'LabelledImages', 'class_folders', 'flat_folder', 'held_out_images', 'record_images']

# By name: what opens a data set, by its folder, for a model of such classes.
DATASETS: dict[str, Callable] = {
    'cifar10': lambda data_dir, class_names: cifar10(data_dir),
    'cifar100': lambda data_dir, class_names: cifar100(data_dir, fine=not set(CIFAR100_COARSE) <= set(class_names)),
    'digits': lambda data_dir, class_names: digits(),
    'fashion_mnist': lambda data_dir, class_names: fashion_mnist(data_dir),
}


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels.

    Attributes
    ----------
    source : str
        Where they are from.
    labels : numpy.ndarray, int, (N,)
        Indices of the model's classes.
    names : sequence of N str
        For listings.
    read : callable
        (index) -> upright RGB PIL.Image; a ValueError if it cannot be read.
    skipped : dict of str: str
        A sentence for each file that was left out, by path.
    """

    source: str
    labels: np.ndarray
    names: Sequence[str]
    read: Callable[[int], Image.Image]
    skipped: dict[str, str]

    def __len__(self) -> int:
        return len(self.labels)


def class_folders(root: str, class_names: Sequence[str]) -> LabelledImages:
    """Images in a folder for each class, or for some.

    Parameters
    ----------
    root : str
        Of a tree as in :mod:`gluon_aff.data.class_folders`; images are opened only when they are read.
    class_names : sequence of str
        The model's, which the folders are named after, see :func:`gluon_aff.data.class_names.match_class_names`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it has no class folders, an empty one, one of no class of the model's, or train/ and val/.
    """
    if os.path.isdir(root):
        folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != '.')
        splits = [name for name in folders if name.lower() in TRAIN | HELD_OUT]
        if splits and len(splits) == len(folders):
            held_out = [name for name in splits if name.lower() in HELD_OUT] or splits
            raise ValueError(
                f'{root} has the folders {", ".join(splits)}, which are parts of a data set, not classes; name one '
                f'of them, such as {os.path.join(root, held_out[0])}.'
            )
        if not folders:
            raise ValueError(
                f'{root} has no class folders; name a folder that holds one for each class, or give a ground-truth '
                'file with the labels of its images.'
            )
    skipped: dict[str, str] = {}
    tree = class_tree(root, skipped, least=1)
    indices = match_class_names(list(tree), class_names, source=root)
    paths = [path for files in tree.values() for path in files]
    labels = np.repeat(indices, [len(files) for files in tree.values()])
    return LabelledImages(root, labels, paths, lambda index: read_image(paths[index]), skipped)


def flat_folder(root: str, ground_truth: str, class_names: Sequence[str]) -> LabelledImages:
    """Images in one folder whose labels are in a file, as ImageNet's validation images are.

    Parameters
    ----------
    root : str
    ground_truth : str
        See :mod:`gluon_aff.data.ground_truth`.
    class_names : sequence of str
        The model's.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file.
    ValueError
        If the folder holds no image, or as :func:`gluon_aff.data.ground_truth.read_ground_truth`.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f'There is no folder {root}; name the folder of the images.')
    paths, skipped = find_images([root])
    if paths == [root]:
        raise ValueError(f'{root} holds no image file; name the folder of the images.')
    skipped.pop(ground_truth, None)  # where it lies in the folder itself
    names = [os.path.relpath(path, root).replace(os.sep, '/') for path in paths]
    labels, missing = read_ground_truth(ground_truth, names, len(class_names))
    if missing:
        skipped[missing[0]] = (
            f'{ground_truth} names {len(missing)} images that {root} does not have, such as {missing[0]}.'
        )
    return LabelledImages(root, labels, paths, lambda index: read_image(paths[index]), skipped)


def record_images(path: str, class_names: Sequence[str], *, workers: int = 4) -> LabelledImages:
    """Images in a RecordIO file.

    Parameters
    ----------
    path : str
        See :class:`gluon_aff.data.record_file.RecordFile`.
    class_names : sequence of str
        The model's: those of classes.txt beside the file are found among them; without one, labels are their indices.
    workers : int, default 4
        Number of decoding threads.

    Raises
    ------
    FileNotFoundError, ValueError
        As the RecordFile, or if its classes are not the model's.
    """
    records = RecordFile(path, workers=workers)
    classes, labels = len(records.class_names), records.target
    if records.class_names != numbered(classes):
        labels = match_class_names(records.class_names, class_names, source=path)[labels]
    elif classes > len(class_names):
        raise ValueError(
            f'{path} has images of class {classes - 1}, and the model has the classes 0 to {len(class_names) - 1}.'
        )

    def read(index):
        with records.open(index) as image:
            return upright(image)

    names = [f'image {number} of {path}' for number in records.records]
    return LabelledImages(path, labels, names, read, {f'image {key}': why for key, why in records.skipped.items()})


def held_out_images(name: str, class_names: Sequence[str], data_dir: str | None = None) -> LabelledImages:
    """All held-out images of a data set.

    Parameters
    ----------
    name : {'cifar10', 'cifar100', 'digits', 'fashion_mnist'}
        CIFAR-100 has its 20 superclasses for a model of those, else its 100 classes.
    class_names : sequence of str
        The model's.
    data_dir : str, optional
        Folder of the data set's files.

    Raises
    ------
    ValueError
        If the data set's classes are not the model's, or for a folder with the digits, which need none.
    FileNotFoundError, DownloadError, ImportError
        As the function that opens the data set does.
    """
    if name == 'digits' and data_dir:
        raise ValueError('The digits come with scikit-learn, without a data folder; leave it out.')
    data = DATASETS[name](data_dir, class_names)
    pixels, target = data.test

    def read(index):
        image = pixels[index]
        return Image.fromarray(np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))))

    labels = match_class_names(data.class_names, class_names, source=data.name)[target]
    return LabelledImages(name, labels, [f'{name} {index}' for index in range(len(labels))], read, {})
