"""Images in a folder for each class.

The folders in a tree, sorted by name, are its classes 0, 1, ...; images lie in them or in folders within. Images are
found by :func:`gluon_aff.data.walk.find_images`. Files beside the class folders, files that are not images, and images
that cannot be decoded are left out, and listed in `skipped`.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from typing import ContextManager, Iterable

import numpy as np
from PIL import Image

from .._deprecated import deprecated_names, renamed, renamed_arguments
from ..errors import positive
from .check import unreadable
from .images import opened
from .walk import IMAGE_SUFFIXES, find_images

__all__ = ['ImageFiles', 'ImageFolders', 'class_tree', 'image_folders', 'readable_images']

# Names of the folders of splits.
TRAIN, HELD_OUT = {'train', 'training'}, {'dev', 'eval', 'test', 'testing', 'val', 'valid', 'validation'}


@renamed_arguments(labels='class_names')
@dataclass(frozen=True)
class ImageFiles:
    """Labelled image files.

    Attributes
    ----------
    class_names : tuple of str
    paths : tuple of str
    target : numpy.ndarray, int, (N,)
    """

    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    target: np.ndarray

    labels = renamed('class_names')

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, index: int) -> ContextManager[Image.Image]:
        """Context manager of an image, see :func:`gluon_aff.data.images.opened`."""
        return opened(self.paths[index])


@renamed_arguments(labels='class_names')
@dataclass(frozen=True)
class ImageFolders:
    """The training and the held-out images of one tree or of two.

    Attributes
    ----------
    class_names : tuple of str
    train, val : ImageFiles
    skipped : dict of str: str
        A sentence for each file that was left out, by path.
    """

    class_names: tuple[str, ...]
    train: ImageFiles
    val: ImageFiles
    skipped: dict[str, str]

    labels = renamed('class_names')


def image_folders(
    data_dir: str | os.PathLike, val_fraction: float | None = None, *, seed: int = 0, workers: int = 4
) -> ImageFolders:
    """Find the images in class folders; each is decoded once, to leave out unreadable ones.

    Parameters
    ----------
    data_dir : str
        Folder of two trees, train/ and val/; with `val_fraction`, one tree.
    val_fraction : float, optional
        Share of each class to hold out, rounded, but at least one image and not all; none of a class with one image.
        The seed and the names of the images alone decide which.
    seed : int, default 0
    workers : int, default 4
        Number of decoding threads.

    Returns
    -------
    ImageFolders

    Raises
    ------
    FileNotFoundError
        If a folder is missing.
    ValueError
        If a tree has fewer than two classes, or splits as classes (train/ beside test/), a class has no readable image
        or a name with control characters, val/ has a class that train/ lacks, or `val_fraction` is out of range or does
        not fit the folders.
    """
    positive('workers', workers)
    data_dir = os.fspath(data_dir)
    roots = [os.path.join(data_dir, 'train'), os.path.join(data_dir, 'val')]
    both = all(map(os.path.isdir, roots))
    if val_fraction is None and not both:
        raise FileNotFoundError(
            f'There is no folder {roots[os.path.isdir(roots[0])]}; {data_dir} needs train/ and '
            'val/ with a folder for each class, or set val_fraction, such as 0.1, to split one tree.'
        )
    if val_fraction is not None:
        if not 0 < val_fraction < 1:
            raise ValueError(f'val_fraction must lie between 0 and 1, got {val_fraction!r}.')
        if both:
            raise ValueError(f'{data_dir} has train/ and val/; leave val_fraction out, or name the tree to split.')
        roots = [data_dir]
    skipped: dict[str, str] = {}
    trees = [class_tree(root, skipped) for root in roots]
    unknown = sorted(set(trees[-1]) - set(trees[0]))
    if unknown:
        raise ValueError(
            f'{roots[1]} has class folders that {roots[0]} lacks: {", ".join(unknown)}; both need the same names.'
        )
    trees = [_readable(root, tree, skipped, workers) for root, tree in zip(roots, trees)]
    train, val = trees if val_fraction is None else _split(trees[0], val_fraction, seed)
    if not any(val.values()):
        raise ValueError(f'{data_dir} has one image for each class, so none can be held out; add images.')
    return ImageFolders(tuple(train), _files(train, train), _files(train, val), skipped)


def _files(class_names, tree):
    """The ImageFiles of a tree, {class: paths}; its classes are some of the class_names."""
    class_names = tuple(class_names)
    target = [np.full(len(paths), class_names.index(name), np.int32) for name, paths in tree.items()]
    return ImageFiles(class_names, tuple(path for paths in tree.values() for path in paths), np.concatenate(target))


def _split(tree, val_fraction, seed):
    """Two trees: of the training images, and of those that are held out."""
    train, val = {}, {}
    for number, (name, paths) in enumerate(tree.items()):
        count = min(max(1, round(len(paths) * val_fraction)), len(paths) - 1)
        held_out = set(np.random.RandomState([seed, number]).permutation(len(paths))[:count])
        train[name] = [path for i, path in enumerate(paths) if i not in held_out]
        val[name] = [path for i, path in enumerate(paths) if i in held_out]
    return train, val


def class_tree(root: str, skipped: dict[str, str], *, least: int = 2) -> dict[str, list[str]]:
    """Find the image files of a tree with a folder for each class; none is opened.

    Parameters
    ----------
    root : str
    skipped : dict of str: str
        Gets a sentence for each other file, by path.
    least : int, default 2
        Number of classes.

    Returns
    -------
    dict of str: list of str
        The paths of each class.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`image_folders`.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f'There is no folder {root}; name one that holds a folder of images for each class.')
    entries = {name: os.path.join(root, name) for name in sorted(os.listdir(root)) if name[0] != '.'}
    classes = {name: path for name, path in entries.items() if os.path.isdir(path)}
    if len(classes) < least:
        raise ValueError(
            f'{root} has {"one class folder" if classes else "no class folder"}; it needs a folder of '
            f'images for each {"class" if least == 1 else "of at least two classes"}, named after them.'
        )
    _check_names(root, classes)
    skipped.update(
        {path: f'{path} lies beside the class folders.' for name, path in entries.items() if name not in classes}
    )
    tree = {}
    for name, path in classes.items():
        tree[name], left_out = find_images([path])
        skipped.update(left_out)
        if tree[name] == [path]:
            raise ValueError(
                f'Class {name} of {root} is empty: its folder holds no image file '
                f'({", ".join(IMAGE_SUFFIXES)}); add images or remove the folder.'
            )
    return tree


def _readable(root, tree, skipped, workers):
    """A tree without unreadable images, which are added to `skipped`."""
    broken = unreadable([path for paths in tree.values() for path in paths], opened, f'check {root}', workers)
    skipped.update(broken)
    readable = {name: [path for path in paths if path not in broken] for name, paths in tree.items()}
    for name, paths in readable.items():
        if not paths:
            raise ValueError(
                f'Class {name} of {root} is empty: none of its {len(tree[name])} image files can be read, '
                f'of which the first is {tree[name][0]}; add images or remove the folder.'
            )
    return readable


def _check_names(root, classes):
    held_out = [name for name in classes if name.lower() in HELD_OUT]
    for name in classes:
        if name.lower() in TRAIN and held_out:
            raise ValueError(
                f'{root} has the folders {name} and {", ".join(held_out)}, which are parts of a data set, '
                f'not classes; name {os.path.join(root, name)} as the tree to split, or call the '
                'held-out part val and leave val_fraction out.'
            )
        if any(unicodedata.category(character) in ('Cc', 'Cs', 'Zl', 'Zp') for character in name):
            raise ValueError(
                f'The class folder {name!r} of {root} has a name with control characters or that is not '
                'UTF-8, and classes are named after their folders; rename it.'
            )


def readable_images(paths: Iterable[str | os.PathLike], *, workers: int = 4) -> tuple[list[str], dict[str, str]]:
    """Find image files; each is decoded once, to leave out unreadable ones.

    Parameters
    ----------
    paths : iterable of str
        Of files and folders, see :func:`gluon_aff.data.walk.find_images`.
    workers : int, default 4
        Number of decoding threads.

    Returns
    -------
    images : list of str
    skipped : dict of str: str
        A sentence for each file that is left out, by path.
    """
    images, skipped = find_images(paths)
    skipped.update(unreadable(images, opened, 'check images', workers))
    return [path for path in images if path not in skipped], skipped


__getattr__ = deprecated_names(__name__)
