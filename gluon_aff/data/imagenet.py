"""Batches of image files, prepared by the ImageNet recipe."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Sequence

import numpy as np

from .._deprecated import renamed_arguments
from ..errors import positive
from .augmentation import random_resized_crop, write_training
from .erasing import random_erasing
from .images import upright
from .loader import Loader
from .preprocessing import evaluation_array

__all__ = ['Images']


@renamed_arguments(part='shard')
class Images(Loader):
    """Batches (N, 3, H, W) float32 and (N,) float32 labels of images that threads decode.

    In training, an image is cropped at random, mirrored or not, and its colours changed
    (:mod:`gluon_aff.data.augmentation`); in evaluation, it is resized and its centre cropped
    (:func:`gluon_aff.data.preprocessing.evaluation_array`).

    Parameters
    ----------
    source : gluon_aff.data.class_folders.ImageFiles or gluon_aff.data.record_file.RecordFile
    size : int
        H and W.
    batch_size : int
    mean, std : three floats each
        Of RGB values in 0..1.
    train : bool, default False
        Shuffle and change the images.
    augment : callable, optional
        In training, in place of the colour changes: (RGB PIL.Image, numpy.random.RandomState) -> PIL.Image, such as
        :class:`gluon_aff.data.autoaugment.AutoAugment`.
    erasing : float, default 0
        In training, the share of images that get a rectangle of noise, see :mod:`gluon_aff.data.erasing`.
    balanced : bool, default False
        In training, draw each class alike, see :class:`gluon_aff.data.loader.Loader`.
    crop_ratio : float, default 0.875
        In evaluation, the short side is resized to ceil(size / crop_ratio).
    workers : int, default 4
        Threads.
    seed, shard
        See :class:`gluon_aff.data.loader.Loader`.

    Raises
    ------
    ValueError
        As :class:`gluon_aff.data.loader.Loader`; while iterating, if an image cannot be read.
    """

    AHEAD, TASK = 2, 4  # batches loaded in advance, images in a thread's task

    def __init__(
        self,
        source: Any,
        size: int,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        train: bool = False,
        augment: Callable | None = None,
        erasing: float = 0.0,
        balanced: bool = False,
        crop_ratio: float = 0.875,
        workers: int = 4,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
    ):
        balance = source.target if balanced else None
        super().__init__(len(source), batch_size, train=train, balance=balance, seed=seed, shard=shard)
        self.source, self.size, self.mean, self.std = source, positive('size', size), mean, std
        self.augment, self.erasing, self.crop_ratio = augment, erasing, crop_ratio
        self.workers = positive('workers', workers)

    def epoch(self, number=0, start=0):
        with ThreadPoolExecutor(self.workers) as pool:
            waiting = deque()
            try:
                for indices, keys in self._batches(self._random(number))[start:]:
                    data = np.empty((len(indices), 3, self.size, self.size), np.float32)
                    tasks = [
                        pool.submit(self._read, data[part], indices[part], keys[part], number)
                        for part in (slice(i, i + self.TASK) for i in range(0, len(indices), self.TASK))
                    ]
                    waiting.append((data, indices, tasks))
                    if len(waiting) > self.AHEAD:
                        yield self._finished(waiting)
                while waiting:
                    yield self._finished(waiting)
            finally:
                for _, _, tasks in waiting:
                    for task in tasks:
                        task.cancel()

    def _finished(self, waiting):
        data, indices, tasks = waiting[0]
        for task in tasks:
            task.result()
        waiting.popleft()
        return data, self.source.target[indices].astype(np.float32)

    def _read(self, data, indices, keys, number):
        for out, index, key in zip(data, indices, keys):
            random = self._random(number, key)
            with self.source.open(index) as image:
                image = random_resized_crop(image, self.size, random) if self.train else upright(image)
            if self.train:
                write_training(out, image, self.mean, self.std, random, self.augment)
                if self.erasing:
                    random_erasing(out, self.erasing, random)
            else:
                out[:] = evaluation_array(image, out.shape, self.mean, self.std, self.crop_ratio)
