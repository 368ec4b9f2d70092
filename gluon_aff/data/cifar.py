"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), and batches of small images, prepared as the released runs were."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
from PIL import Image

from .._deprecated import deprecated_names, renamed_arguments
from . import class_names
from .cifar_archive import load_cifar
from .erasing import random_erasing
from .image_sets import ImageSet
from .loader import Loader
from .preprocessing import normalise

__all__ = ['Batches', 'cifar10', 'cifar100']

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # the released recipe's


def cifar10(data_dir: str | None = None) -> ImageSet:
    """CIFAR-10, 50,000 + 10,000 images of 32x32.

    Parameters
    ----------
    data_dir : str, optional
        Folder of cifar-10-binary.tar.gz or cifar-10-python.tar.gz, packed or unpacked; without either, the first is
        downloaded there. Default $MXNET_HOME/datasets/cifar10.

    Returns
    -------
    ImageSet

    Raises
    ------
    DownloadError
        If it cannot be downloaded; the message says which file to save where.
    FileNotFoundError
        If some of the unpacked files are missing.
    ValueError
        If an archive is not the published one, or a file is damaged.
    """
    train, test = load_cifar('cifar10', 'label', class_names=class_names.CIFAR10, data_dir=data_dir)
    return ImageSet('cifar10', class_names.CIFAR10, CIFAR_MEAN, CIFAR_STD, train, test, flip=True)


def cifar100(data_dir: str | None = None, fine: bool = True) -> ImageSet:
    """CIFAR-100, 50,000 + 10,000 images of 32x32.

    Parameters
    ----------
    data_dir : str, optional
        As in :func:`cifar10`. Default $MXNET_HOME/datasets/cifar100.
    fine : bool, default True
        Use the 100 classes; otherwise the 20 superclasses, as the paper's tables do.

    Returns
    -------
    ImageSet

    Raises
    ------
    DownloadError, FileNotFoundError, ValueError
        As :func:`cifar10`.
    """
    kind, names = ('fine', class_names.CIFAR100) if fine else ('coarse', class_names.CIFAR100_COARSE)
    train, test = load_cifar('cifar100', f'{kind}_label', class_names=names, data_dir=data_dir)
    return ImageSet(f'cifar100 {kind}', names, CIFAR_MEAN, CIFAR_STD, train, test, flip=True)


@renamed_arguments(part='shard')
class Batches(Loader):
    """Batches (N, 3, 32, 32) float32 and (N,) float32 labels of images in memory, prepared by the CIFAR recipe.

    Parameters
    ----------
    images, target : (M, H, W, C) uint8, (M,) int
    batch_size : int
    mean, std : three floats each
        Of RGB values in 0..1.
    train : bool, default False
        Shuffle, and crop at random from the image padded by 4 pixels.
    flip : bool, default False
        In training, mirror half of the images.
    augment : callable, optional
        In training, before the crop: (RGB PIL.Image, numpy.random.RandomState) -> PIL.Image, such as
        :class:`gluon_aff.data.autoaugment.AutoAugment`.
    erasing : float, default 0
        In training, the share of images that get a rectangle of noise, see :mod:`gluon_aff.data.erasing`.
    balanced : bool, default False
        In training, draw each class alike.
    seed, shard
        See :class:`gluon_aff.data.loader.Loader`, as for the errors raised.
    """

    PAD = 4

    def __init__(
        self,
        images: np.ndarray,
        target: np.ndarray,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        train: bool = False,
        flip: bool = False,
        augment: Callable | None = None,
        erasing: float = 0.0,
        balanced: bool = False,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
    ):
        balance = target if balanced else None
        super().__init__(len(images), batch_size, train=train, balance=balance, seed=seed, shard=shard)
        self.images, self.target, self.mean, self.std = images, target, mean, std
        self.flip, self.augment, self.erasing = flip, augment, erasing

    def epoch(self, number=0, start=0):
        # One generator draws the order and all crops: the released runs depend on it.
        random = np.random.RandomState((self.seed * 100003 + number) % 2**32)
        batches = self._batches(random)
        if self.train:
            draws = self.total if self.balance is None else 2 * self.total
            offsets = random.randint(0, 2 * self.PAD + 1, (draws, 2))
            mirrored = random.rand(draws) < 0.5 * self.flip
        for indices, keys in batches[start:]:
            images, target = self.images[indices], self.target[indices].astype(np.float32)
            if not self.train:
                yield normalise(images, self.mean, self.std), target
                continue
            randoms = [self._random(number, key) for key in keys] if self.augment or self.erasing else []
            if self.augment:
                images = np.stack([self._augmented(image, random) for image, random in zip(images, randoms)])
            data = normalise(self._crop(images, offsets[keys], mirrored[keys]), self.mean, self.std)
            if self.erasing:
                for image, random in zip(data, randoms):
                    random_erasing(image, self.erasing, random)
            yield data, target

    def _augmented(self, image, random):
        rgb = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)).copy())
        return np.asarray(self.augment(rgb, random))

    def _crop(self, images, offsets, mirrored):
        height, width = images.shape[1:3]
        padded = np.pad(images, ((0, 0), (self.PAD, self.PAD), (self.PAD, self.PAD), (0, 0)))
        out = np.empty_like(images)
        for i, (top, left) in enumerate(offsets):
            crop = padded[i, top : top + height, left : left + width]
            out[i] = crop[:, ::-1] if mirrored[i] else crop
        return out


__getattr__ = deprecated_names(__name__)
