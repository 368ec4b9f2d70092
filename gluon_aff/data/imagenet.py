"""Batches of image files, prepared by the ImageNet recipe."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Sequence

import numpy as np

from .._deprecated import renamed_arguments
from ..errors import positive
from .augmentation import random_resized_crop, write_training
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
        crop_ratio: float = 0.875,
        workers: int = 4,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
    ):
        super().__init__(len(source), batch_size, train=train, seed=seed, shard=shard)
        self.source, self.size, self.mean, self.std = source, positive('size', size), mean, std
        self.augment, self.crop_ratio, self.workers = augment, crop_ratio, positive('workers', workers)

    def epoch(self, number=0, start=0):
        with ThreadPoolExecutor(self.workers) as pool:
            waiting = deque()
            try:
                for indices in self._batches(self._random(number))[start:]:
                    data = np.empty((len(indices), 3, self.size, self.size), np.float32)
                    tasks = [
                        pool.submit(self._read, data[i : i + self.TASK], indices[i : i + self.TASK], number)
                        for i in range(0, len(indices), self.TASK)
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

    def _read(self, data, indices, number):
        for out, index in zip(data, indices):
            random = self._random(number, index)
            with self.source.open(index) as image:
                image = random_resized_crop(image, self.size, random) if self.train else upright(image)
            if self.train:
                write_training(out, image, self.mean, self.std, random, self.augment)
            else:
                out[:] = evaluation_array(image, out.shape, self.mean, self.std, self.crop_ratio)
