"""Small labelled images in memory, 32x32, and batches of them."""
from __future__ import annotations

import gzip
import os
import struct
import tarfile
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import positive
from . import labels
from .images import normalise

__all__ = ['Batches', 'ImageSet', 'cifar10', 'cifar100', 'digits', 'fashion_mnist', 'resize']

SIZE = 32
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)       # the released recipe's
FASHION_MNIST_MEAN, FASHION_MNIST_STD = (0.2856,) * 3, (0.3385,) * 3      # of the training images, resized


@dataclass(frozen=True)
class ImageSet:
    """A data set: images uint8 (N, 32, 32, C) and labels int (N,), for training and held out.

    Attributes
    ----------
    name : str
    labels : tuple of str
        Name of each class.
    mean, std : tuple of float
        Of RGB values in 0..1.
    train, test : (images, labels)
    flip : bool
        Whether a mirrored image still belongs to its class.
    """

    name: str
    labels: tuple
    mean: tuple
    std: tuple
    train: tuple
    test: tuple
    flip: bool


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
    return ImageSet('digits', labels.DIGITS, (0.3057,) * 3, (0.3235,) * 3, (images[train], target[train]),
                    (images[held_out], target[held_out]), flip=False)


def _read_idx(path, dimensions):
    """The array of an IDX file of bytes, gzipped or not."""
    try:
        with open(path, 'rb') as file:
            content = file.read()
        if content[:2] == b'\x1f\x8b':
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise ValueError(f'{path} cannot be read: {error}.') from None
    header = 4 * (1 + dimensions)
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError(f'{path} is not an IDX file of bytes with {dimensions} dimensions.')
    shape = struct.unpack(f'>{dimensions}I', content[4:header])
    if len(content) - header != np.prod(shape, dtype=np.int64):
        raise ValueError(f'{path} says it holds {" x ".join(map(str, shape))} bytes, but has {len(content) - header}; '
                         'fetch it again.')
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def fashion_mnist(data_dir):
    """Fashion-MNIST (Xiao et al., 2017), 60,000 + 10,000 images of 28x28, resized to 32x32.

    Parameters
    ----------
    data_dir : str
        Folder of the four IDX files (train-images-idx3-ubyte and so on), gzipped or not.

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
    def split(prefix):
        arrays = []
        for kind, dimensions in (('images-idx3', 3), ('labels-idx1', 1)):
            path = os.path.join(data_dir, f'{prefix}-{kind}-ubyte')
            for candidate in (path, path + '.gz'):
                if os.path.isfile(candidate):
                    arrays.append(_read_idx(candidate, dimensions))
                    break
            else:
                raise FileNotFoundError(f'Fashion-MNIST needs {path} (or .gz); get the four IDX files from the '
                                        'data set\'s home page or your package manager and name their folder.')
        images, target = arrays
        if images.shape[1:] != (28, 28) or len(images) != len(target) or not len(target) or target.max() > 9:
            raise ValueError(f'{prefix} of {data_dir} is not Fashion-MNIST: images {images.shape}, '
                             f'labels {target.shape}.')
        return resize(images), target.astype(np.int32)

    return ImageSet('fashion_mnist', labels.FASHION_MNIST, FASHION_MNIST_MEAN, FASHION_MNIST_STD,
                    split('train'), split('t10k'), flip=True)


def _read_records(data_dir, archive, folder, file, label_bytes, column, classes):
    """Images and labels of one file of CIFAR's binary version: label bytes, then 1,024 of red, of green, of blue."""
    loose = [os.path.join(data_dir, folder, file), os.path.join(data_dir, file)]
    packed = os.path.join(data_dir, archive)
    for path in loose:
        if os.path.isfile(path):
            with open(path, 'rb') as opened:
                content = opened.read()
            break
    else:
        path = packed
        if not os.path.isfile(path):
            raise FileNotFoundError(f'CIFAR needs {packed}, or {loose[0]} out of it; get the binary version from the '
                                    "data set's home page and name its folder.")
        try:
            with tarfile.open(path) as opened:
                content = opened.extractfile(f'{folder}/{file}').read()
        except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error):
            raise ValueError(f'{path} is damaged, or holds no {folder}/{file}; fetch it again.') from None
    record = label_bytes + 3 * SIZE * SIZE
    if not content or len(content) % record:
        raise ValueError(f"{path}: {file} has {len(content)} bytes, no whole number of CIFAR's {record}.")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    target = records[:, column].astype(np.int32)
    if target.max() >= classes:
        raise ValueError(f'{path}: {file} has label {target.max()}, of {classes} classes.')
    return records[:, label_bytes:].reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1), target


def cifar10(data_dir):
    """CIFAR-10 (Krizhevsky, 2009), 50,000 + 10,000 images of 32x32, from its official binary version.

    Parameters
    ----------
    data_dir : str
        Folder of cifar-10-binary.tar.gz, or of what is in it.

    Returns
    -------
    ImageSet

    Raises
    ------
    FileNotFoundError
        If neither is there.
    ValueError
        If a file is damaged.
    """
    def read(*files):
        parts = [_read_records(data_dir, 'cifar-10-binary.tar.gz', 'cifar-10-batches-bin', file, 1, 0, 10)
                 for file in files]
        return tuple(np.concatenate(arrays) for arrays in zip(*parts))
    return ImageSet('cifar10', labels.CIFAR10, CIFAR_MEAN, CIFAR_STD,
                    read(*(f'data_batch_{i}.bin' for i in range(1, 6))), read('test_batch.bin'), flip=True)


def cifar100(data_dir, fine=True):
    """CIFAR-100 (Krizhevsky, 2009), 50,000 + 10,000 images of 32x32, from its official binary version.

    Parameters
    ----------
    data_dir : str
        Folder of cifar-100-binary.tar.gz, or of what is in it.
    fine : bool, default True
        The 100 classes; else the 20 superclasses, which the paper's tables are on.

    Returns
    -------
    ImageSet

    Raises
    ------
    FileNotFoundError
        If neither is there.
    ValueError
        If a file is damaged.
    """
    names = labels.CIFAR100 if fine else labels.CIFAR100_COARSE
    train, test = (_read_records(data_dir, 'cifar-100-binary.tar.gz', 'cifar-100-binary', file, 2, int(fine),
                                 len(names)) for file in ('train.bin', 'test.bin'))
    return ImageSet(f'cifar100 {"fine" if fine else "coarse"}', names, CIFAR_MEAN, CIFAR_STD, train, test, flip=True)


class Batches:
    """Batches (N, 3, H, W) float32 and (N,) float32 labels, as numpy arrays, of an image set.

    What an epoch gives depends on seed, epoch and the images alone.

    Parameters
    ----------
    images, target : (M, H, W, C) uint8, (M,) int
    batch_size : int
    mean, std : three floats each
    train : bool, default False
        Shuffle, crop at random out of a padding of 4 pixels, and leave out the last, smaller batch.
    flip : bool, default False
        In training, mirror half of the images.
    augment : callable, optional
        In training, what makes another RGB PIL.Image of one, given a numpy.random.RandomState, such as
        :class:`gluon_aff.data.autoaugment.AutoAugment`; before the crop.
    seed : int, default 0

    Raises
    ------
    ValueError
        If there are fewer images than a training batch has, or it has one image: the global context's
        normalisation then gives a constant.
    """

    PAD = 4

    def __init__(self, images, target, batch_size, mean, std, train=False, flip=False, augment=None, seed=0):
        self.images, self.target, self.mean, self.std = images, target, mean, std
        self.batch_size, self.train, self.flip = positive('batch_size', batch_size), train, flip
        self.augment, self.seed = augment, seed
        if train and not 2 <= batch_size <= len(images):
            raise ValueError(f'batch_size must be 2 to {len(images)}, the number of training images, '
                             f'got {batch_size}.')

    def __len__(self):
        full, rest = divmod(len(self.images), self.batch_size)
        return full if self.train else full + bool(rest)

    def epoch(self, number=0):
        """Iterate over the batches of an epoch."""
        total = len(self.images)
        order = np.arange(total)
        if self.train:
            random = np.random.RandomState((self.seed * 100003 + number) % 2 ** 32)
            order = random.permutation(total)
            offsets = random.randint(0, 2 * self.PAD + 1, (total, 2))
            mirrored = random.rand(total) < 0.5 * self.flip
        for batch in range(len(self)):
            chosen = order[batch * self.batch_size:(batch + 1) * self.batch_size]
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
            crop = padded[i, top:top + height, left:left + width]
            out[i] = crop[:, ::-1] if mirrored[i] else crop
        return out
