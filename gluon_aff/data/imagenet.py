"""Batches of labelled images that are too many for the memory, of ImageNet's recipe."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import positive
from .augmentation import random_resized_crop, write_training
from .images import evaluation_array, upright
from .sharding import batches_of, check_training, checked_part, number_of_batches

__all__ = ['Images']


class Images:
    """Batches (N, 3, H, W) float32 and (N,) float32 labels, as numpy arrays, of images decoded by threads.

    An image is, in training, cropped at random, mirrored or not, and recoloured (:mod:`gluon_aff.data.augmentation`);
    else resized and cropped in the middle (:func:`gluon_aff.data.images.evaluation_array`). The order of an epoch, and
    what becomes of each image, depend on seed and epoch alone: neither the threads nor the batch size matter, and
    several processes together see what one would with all of their batches in one.

    Parameters
    ----------
    source : gluon_aff.data.class_folders.ImageFiles or gluon_aff.data.records.RecordFile
    size : int
        Pixels of the side of what the network takes.
    batch_size : int
        Images of one process's batch.
    mean, std : three floats each
        Of RGB values in 0..1.
    train : bool, default False
        Shuffle, change the images, and leave out the last, incomplete batch of all processes.
    augment : callable, optional
        In training, such as :class:`gluon_aff.data.autoaugment.AutoAugment`; it takes the place of the change of
        colours, see :func:`gluon_aff.data.augmentation.write_training`.
    crop_ratio : float, default 0.875
        Held-out images are resized to a short side of ceil(size / crop_ratio).
    workers : int, default 4
        Threads.
    seed : int, default 0
    part : (int, int), default (0, 1)
        This process's rank and how many there are. In training it gets its slice of every batch of all of them, else
        the images rank, rank + size, ...

    Raises
    ------
    ValueError
        If there are fewer images than a training batch of all processes has, or one's has one image: the global
        context's normalisation then gives a constant. While iterating: if an image cannot be read.
    """

    AHEAD, TASK = 2, 4  # batches in advance, images that a thread takes at once

    def __init__(
        self,
        source,
        size,
        batch_size,
        mean,
        std,
        train=False,
        augment=None,
        crop_ratio=0.875,
        workers=4,
        seed=0,
        part=(0, 1),
    ):
        self.source, self.size, self.mean, self.std = source, positive('size', size), mean, std
        self.batch_size, self.train, self.augment = positive('batch_size', batch_size), train, augment
        self.crop_ratio, self.workers, self.seed = crop_ratio, positive('workers', workers), seed
        self.part = checked_part(part)
        if train:
            check_training(batch_size, len(source), self.part)

    def __len__(self):
        return number_of_batches(len(self.source), self.batch_size, self.part, self.train)

    def _chosen(self, number):
        """Indices of the images of each batch of an epoch."""
        order = np.arange(len(self.source))
        if self.train:
            order = np.random.RandomState([self.seed, number]).permutation(order)
        return batches_of(order, self.batch_size, self.part, self.train)

    def epoch(self, number=0, start=0):
        """Iterate over the batches of epoch `number` from batch `start` on; images before that are not read."""
        with ThreadPoolExecutor(self.workers) as pool:
            waiting = deque()
            try:
                for chosen in self._chosen(number)[start:]:
                    data = np.empty((len(chosen), 3, self.size, self.size), np.float32)
                    waiting.append(
                        (
                            data,
                            chosen,
                            [
                                pool.submit(self._read, data[i : i + self.TASK], chosen[i : i + self.TASK], number)
                                for i in range(0, len(chosen), self.TASK)
                            ],
                        )
                    )
                    if len(waiting) > self.AHEAD:
                        yield self._finished(waiting)
                while waiting:
                    yield self._finished(waiting)
            finally:
                for _, _, reading in waiting:
                    for each in reading:
                        each.cancel()

    def _finished(self, waiting):
        data, chosen, reading = waiting[0]
        for each in reading:
            each.result()
        waiting.popleft()
        return data, self.source.target[chosen].astype(np.float32)

    def _read(self, data, chosen, number):
        random = np.random.RandomState()
        for out, index in zip(data, chosen):
            # Anew for each image, so that it does not matter who reads it, nor after which.
            random.seed([self.seed, number, index])
            with self.source.open(index) as image:
                image = random_resized_crop(image, self.size, random) if self.train else upright(image)
            if self.train:
                write_training(out, image, self.mean, self.std, random, self.augment)
            else:
                out[:] = evaluation_array(image, out.shape, self.mean, self.std, self.crop_ratio)
