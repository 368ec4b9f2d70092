"""Small labelled images in memory, 32 x 32: handwritten digits, Fashion-MNIST, and subsets of any set."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .._deprecated import renamed, renamed_arguments
from ..errors import positive
from . import class_names
from .cifar_archive import default_folder

__all__ = ['ImageSet', 'digits', 'fashion_mnist', 'hold_out', 'resize', 'subset']

SIZE = 32
FASHION_MNIST_MEAN, FASHION_MNIST_STD = (0.2856,) * 3, (0.3385,) * 3  # of the training images, resized


@renamed_arguments(labels='class_names')
@dataclass(frozen=True)
class ImageSet:
    """A data set with a training and a held-out split.

    Attributes
    ----------
    name : str
    class_names : tuple of str
    mean, std : tuple of float
        Of RGB values in 0..1.
    train, test : (images, labels)
        uint8 (N, 32, 32, C) and int (N,).
    flip : bool
        Whether a mirrored image still belongs to its class.
    """

    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    flip: bool

    labels = renamed('class_names')


def resize(images: np.ndarray) -> np.ndarray:
    """Resize grey images, uint8 (N, H, W) to (N, 32, 32, 1), bilinear."""
    resized = [np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for image in images]
    return np.stack(resized)[..., None]


def digits() -> ImageSet:
    """scikit-learn's 1,797 handwritten digits (8x8, UCI), resized to 32x32; a fifth of each class is held out.

    Returns
    -------
    ImageSet
        1,437 training and 360 held-out images, always the same ones.

    Raises
    ------
    ImportError
        If scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError:
        raise ImportError("The digits come with scikit-learn; run: pip install 'gluon_aff[train]'") from None
    data = load_digits()
    images = resize((data.images * (255 / 16)).round().astype(np.uint8))
    train, held_out = train_test_split(np.arange(len(images)), test_size=360, stratify=data.target, random_state=0)
    target = data.target.astype(np.int32)
    return ImageSet(
        'digits',
        class_names.DIGITS,
        (0.3057,) * 3,
        (0.3235,) * 3,
        (images[train], target[train]),
        (images[held_out], target[held_out]),
        flip=False,
    )


def _read_idx(path, dimensions):
    """The array of an IDX file of bytes, gzipped or not."""
    try:
        with open(path, 'rb') as file:
            content = file.read()
        if content[:2] == b'\x1f\x8b':
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f'{path} cannot be read: {error}.') from None
    header = 4 * (1 + dimensions)
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError(f'{path} is not an IDX file of bytes with {dimensions} dimensions.')
    shape = struct.unpack(f'>{dimensions}I', content[4:header])
    if len(content) - header != np.prod(shape, dtype=np.int64):
        raise ValueError(
            f'{path} should hold {" x ".join(map(str, shape))} bytes, but has {len(content) - header}; fetch it again.'
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def fashion_mnist(data_dir: str | None = None) -> ImageSet:
    """Fashion-MNIST (Xiao et al., 2017), 60,000 + 10,000 images of 28x28, resized to 32x32.

    Parameters
    ----------
    data_dir : str, optional
        Folder of the four IDX files (train-images-idx3-ubyte and so on), gzipped or not. Default
        $MXNET_HOME/datasets/fashion-mnist, where MXNet's own data set stores them.

    Returns
    -------
    ImageSet

    Raises
    ------
    FileNotFoundError
        If one of the files is missing.
    ValueError
        If one is damaged, or images and labels do not match.
    """
    data_dir = os.path.expanduser(data_dir or default_folder('fashion-mnist'))

    def split(prefix):
        arrays = []
        for kind, dimensions in (('images-idx3', 3), ('labels-idx1', 1)):
            path = os.path.join(data_dir, f'{prefix}-{kind}-ubyte')
            for candidate in (path, path + '.gz'):
                if os.path.isfile(candidate):
                    arrays.append(_read_idx(candidate, dimensions))
                    break
            else:
                raise FileNotFoundError(
                    f'Fashion-MNIST needs {path} (or .gz); get the four IDX files from the '
                    "data set's home page or your package manager and name their folder."
                )
        images, target = arrays
        if images.shape[1:] != (28, 28) or len(images) != len(target) or not len(target) or target.max() > 9:
            raise ValueError(
                f'{prefix} of {data_dir} is not Fashion-MNIST: images {images.shape}, labels {target.shape}.'
            )
        return resize(images), target.astype(np.int32)

    return ImageSet(
        'fashion_mnist',
        class_names.FASHION_MNIST,
        FASHION_MNIST_MEAN,
        FASHION_MNIST_STD,
        split('train'),
        split('t10k'),
        flip=True,
    )


@renamed_arguments(number='size')
def subset(images: np.ndarray, target: np.ndarray, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A subset that keeps the share of each class; the same call gives the same one, and larger ones contain it.

    Parameters
    ----------
    images, target : (M, H, W, C) uint8, (M,) int
    size : int, default M
        Number of images.

    Returns
    -------
    (images, target)

    Raises
    ------
    ValueError
        If `size` is not 1 to M.
    """
    if size is None:
        return images, target
    if positive('A number of images', size) > len(target):
        raise ValueError(f'The set has {len(target)} images, fewer than the {size} asked for.')
    chosen = _mixed_order(target)[:size]
    return images[chosen], target[chosen]


def hold_out(
    images: np.ndarray, target: np.ndarray, size: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Split a set in two, each with the share of each class; the same call gives the same two.

    Parameters
    ----------
    images, target : (M, H, W, C) uint8, (M,) int
    size : int
        Number of images in the second.

    Returns
    -------
    (images, target), (images, target)

    Raises
    ------
    ValueError
        If `size` is not 1 to M - 1.
    """
    if positive('A number of images', size) >= len(target):
        raise ValueError(f'The set has {len(target)} images, of which {size} cannot be held out.')
    first, second = np.split(_mixed_order(target), [len(target) - size])
    return (images[first], target[first]), (images[second], target[second])


def _mixed_order(target):
    """The indices of images in an order of which each part has the share of each class, always the same."""
    order = np.random.RandomState(0).permutation(len(target))
    rank = np.empty(len(target))  # within its class, as a share of the class
    for label in np.unique(target):
        members = order[target[order] == label]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(rank, kind='stable')
