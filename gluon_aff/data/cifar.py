"""Small labelled images in memory, 32x32, and batches of them."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .._deprecated import renamed
from ..errors import positive
from . import class_names
from .cifar_archive import BinaryVersion, PythonVersion, default_folder, load_cifar
from .images import normalise
from .sharding import batches_of, check_training, checked_part, number_of_batches

__all__ = ['Batches', 'ImageSet', 'cifar10', 'cifar100', 'digits', 'fashion_mnist', 'fewer', 'resize']

SIZE = 32
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # the released recipe's
FASHION_MNIST_MEAN, FASHION_MNIST_STD = (0.2856,) * 3, (0.3385,) * 3  # of the training images, resized


@dataclass(frozen=True)
class ImageSet:
    """A data set: images uint8 (N, 32, 32, C) and labels int (N,), for training and held out.

    Attributes
    ----------
    name : str
    class_names : tuple of str
        Name of each class.
    mean, std : tuple of float
        Of RGB values in 0..1.
    train, test : (images, labels)
    flip : bool
        Whether a mirrored image still belongs to its class.
    """

    name: str
    class_names: tuple
    mean: tuple
    std: tuple
    train: tuple
    test: tuple
    flip: bool

    labels = renamed('class_names')


def resize(images):
    """Grey images, uint8 (N, H, W), as (N, 32, 32, 1), bilinear."""
    resized = [np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.BILINEAR)) for image in images]
    return np.stack(resized)[..., None]


def digits():
    """scikit-learn's 1,797 handwritten digits (8x8, UCI), resized to 32x32; a fifth of each class is held out.

    Returns
    -------
    ImageSet
        1,437 images to train on and 360 held out, always the same ones.

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
            f'{path} says it holds {" x ".join(map(str, shape))} bytes, but has {len(content) - header}; '
            'fetch it again.'
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def fashion_mnist(data_dir=None):
    """Fashion-MNIST (Xiao et al., 2017), 60,000 + 10,000 images of 28x28, resized to 32x32.

    Parameters
    ----------
    data_dir : str, optional
        Folder of the four IDX files (train-images-idx3-ubyte and so on), gzipped or not. Default
        $MXNET_HOME/datasets/fashion-mnist, where MXNet's own data set puts them.

    Returns
    -------
    ImageSet

    Raises
    ------
    FileNotFoundError
        If one of the files is missing.
    ValueError
        If one is damaged, or images and labels do not agree.
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


def cifar10(data_dir=None):
    """CIFAR-10 (Krizhevsky, 2009), 50,000 + 10,000 images of 32x32.

    Parameters
    ----------
    data_dir : str, optional
        Folder of cifar-10-binary.tar.gz or cifar-10-python.tar.gz, or of what is in one; where there is neither, the
        first is downloaded into it. Default $MXNET_HOME/datasets/cifar10.

    Returns
    -------
    ImageSet

    Raises
    ------
    DownloadError
        If it cannot be downloaded; says which file to put where.
    FileNotFoundError
        If some of its unpacked files are missing.
    ValueError
        If an archive is not the published one, or a file is damaged.
    """
    files = [f'data_batch_{i}' for i in range(1, 6)]
    train, test = load_cifar(
        'cifar10',
        class_names.CIFAR10,
        (
            BinaryVersion(
                'cifar-10-binary.tar.gz',
                'cifar-10-batches-bin',
                tuple(file + '.bin' for file in files),
                ('test_batch.bin',),
                label_bytes=1,
                column=0,
            ),
            PythonVersion(
                'cifar-10-python.tar.gz',
                'cifar-10-batches-py',
                tuple(files),
                ('test_batch',),
                'batches.meta',
                key='label',
            ),
        ),
        data_dir,
    )
    return ImageSet('cifar10', class_names.CIFAR10, CIFAR_MEAN, CIFAR_STD, train, test, flip=True)


def cifar100(data_dir=None, fine=True):
    """CIFAR-100 (Krizhevsky, 2009), 50,000 + 10,000 images of 32x32.

    Parameters
    ----------
    data_dir : str, optional
        Folder of cifar-100-binary.tar.gz or cifar-100-python.tar.gz, or of what is in one; where there is neither, the
        first is downloaded into it. Default $MXNET_HOME/datasets/cifar100.
    fine : bool, default True
        The 100 classes; else the 20 superclasses, which the paper's tables are on.

    Returns
    -------
    ImageSet

    Raises
    ------
    DownloadError, FileNotFoundError, ValueError
        As :func:`cifar10`.
    """
    kind, names = ('fine', class_names.CIFAR100) if fine else ('coarse', class_names.CIFAR100_COARSE)
    train, test = load_cifar(
        'cifar100',
        names,
        (
            BinaryVersion(
                'cifar-100-binary.tar.gz',
                'cifar-100-binary',
                ('train.bin',),
                ('test.bin',),
                label_bytes=2,
                column=int(fine),
            ),
            PythonVersion(
                'cifar-100-python.tar.gz', 'cifar-100-python', ('train',), ('test',), 'meta', key=f'{kind}_label'
            ),
        ),
        data_dir,
    )
    return ImageSet(f'cifar100 {kind}', names, CIFAR_MEAN, CIFAR_STD, train, test, flip=True)


def fewer(images, target, number=None):
    """Some images of a set, each class in its share: always the same ones, and the more hold the fewer.

    Parameters
    ----------
    images, target : (M, H, W, C) uint8, (M,) int
    number : int, default M

    Returns
    -------
    (images, target)

    Raises
    ------
    ValueError
        If number is not 1 to M.
    """
    if number is None:
        return images, target
    if positive('A number of images', number) > len(target):
        raise ValueError(f'The set has {len(target)} images, fewer than the {number} asked for.')
    order = np.random.RandomState(0).permutation(len(target))
    place = np.empty(len(target))  # in its class, as a share of the class
    for label in np.unique(target):
        own = order[target[order] == label]
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    chosen = np.argsort(place, kind='stable')[:number]
    return images[chosen], target[chosen]


class Batches:
    """Batches (N, 3, H, W) float32 and (N,) float32 labels, as numpy arrays, of an image set.

    What an epoch gives depends on seed, epoch and the images alone.

    Parameters
    ----------
    images, target : (M, H, W, C) uint8, (M,) int
    batch_size : int
        Of each worker.
    mean, std : three floats each
    train : bool, default False
        Shuffle, crop at random out of a padding of 4 pixels, and leave out the last, smaller batch.
    flip : bool, default False
        In training, mirror half of the images.
    augment : callable, optional
        In training, what makes another RGB PIL.Image of one, given a numpy.random.RandomState, such as
        :class:`gluon_aff.data.autoaugment.AutoAugment`; before the crop.
    seed : int, default 0
    part : (rank, size), default (0, 1)
        Which of how many workers this is. In training, the batches of all of them make up what one worker would get
        with a batch of size x batch_size; else the images are dealt out in turn.

    Raises
    ------
    ValueError
        If there are fewer images than a training batch has, or it has one image: the global context's
        normalisation then gives a constant.
    """

    PAD = 4

    def __init__(
        self, images, target, batch_size, mean, std, train=False, flip=False, augment=None, seed=0, part=(0, 1)
    ):
        self.images, self.target, self.mean, self.std = images, target, mean, std
        self.batch_size, self.train, self.flip = positive('batch_size', batch_size), train, flip
        self.augment, self.seed, self.part = augment, seed, checked_part(part)
        if train:
            check_training(batch_size, len(images), self.part)

    def __len__(self):
        return number_of_batches(len(self.images), self.batch_size, self.part, self.train)

    def epoch(self, number=0, start=0):
        """Iterate over the batches of an epoch, from batch `start` on."""
        total = len(self.images)
        order = np.arange(total)
        if self.train:
            random = np.random.RandomState((self.seed * 100003 + number) % 2**32)
            order = random.permutation(total)
            offsets = random.randint(0, 2 * self.PAD + 1, (total, 2))
            mirrored = random.rand(total) < 0.5 * self.flip
        for chosen in batches_of(order, self.batch_size, self.part, self.train)[start:]:
            images = self.images[chosen]
            if self.train:
                if self.augment:
                    images = np.stack([self._augmented(image, number, i) for image, i in zip(images, chosen)])
                images = self._crop(images, offsets[chosen], mirrored[chosen])
            yield normalise(images, self.mean, self.std), self.target[chosen].astype(np.float32)

    def _augmented(self, image, number, index):
        # A generator for each image, so that neither the batch size nor who makes the batch matters.
        rgb = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)).copy())
        return np.asarray(self.augment(rgb, np.random.RandomState([self.seed, number, index])))

    def _crop(self, images, offsets, mirrored):
        height, width = images.shape[1:3]
        padded = np.pad(images, ((0, 0), (self.PAD, self.PAD), (self.PAD, self.PAD), (0, 0)))
        out = np.empty_like(images)
        for i, (top, left) in enumerate(offsets):
            crop = padded[i, top : top + height, left : left + width]
            out[i] = crop[:, ::-1] if mirrored[i] else crop
        return out
