"""The base class of the loaders: an epoch's order, its batches, and the shard of each process."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np

from ..errors import positive

__all__ = ['Loader']


class Loader:
    """Batches of images with labels or masks, as numpy arrays.

    The seed, the epoch and the images alone decide the order of an epoch and the random changes of an image: neither
    the batch size nor the number of processes matters. In training, the batches of all processes, one after the other,
    are those of one process with the batches of all; images that do not fill such a batch are left out. In evaluation,
    the images are dealt out in turn.

    A subclass implements :meth:`_load`, or :meth:`epoch` from :meth:`_batches`, and draws the random changes of an
    image from :meth:`_random`.

    Parameters
    ----------
    total : int
        Number of images.
    batch_size : int
        Of one process.
    train : bool, default False
        Shuffle.
    balance : (N,) int, optional
        Labels of all images; in training, an epoch then draws as many images with replacement, each class alike. An
        image that is drawn again is changed anew.
    seed : int, default 0
    shard : (index, count), default (0, 1)
        Which of how many processes this is.

    Raises
    ------
    ValueError
        If `shard` is out of range, or in training the batches of all processes have more images than there are, or
        those of one process have one: the global context's normalisation would then give a constant.
    """

    def __init__(
        self,
        total: int,
        batch_size: int,
        *,
        train: bool = False,
        balance: np.ndarray | None = None,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
    ):
        self.balance = balance
        self.total, self.batch_size, self.train, self.seed = total, positive('batch_size', batch_size), train, seed
        index, count = self.shard = tuple(shard)
        if not 0 <= index < count:
            raise ValueError(f'shard must be (index, count) with an index of 0 to count - 1, got {self.shard}.')
        if train and not 2 <= batch_size <= total // count:
            share = f' for each of {count} processes' if count > 1 else ''
            raise ValueError(
                f'batch_size must be 2 to {total // count}{share}, as there are {total} training images, '
                f'got {batch_size}.'
            )

    def __len__(self) -> int:
        index, count = self.shard
        if self.train:
            return self.total // (self.batch_size * count)
        return -(-len(range(index, self.total, count)) // self.batch_size)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Iterate over the batches of an epoch.

        Parameters
        ----------
        number : int, default 0
            Of the epoch.
        start : int, default 0
            The first batch; images before it are not loaded.
        """
        for indices, _ in self._batches(self._random(number))[start:]:
            yield self._load(indices, number)

    def _random(self, *key: Any) -> np.random.RandomState:
        """The generator of an epoch (number) or of an image in it (number, key)."""
        return np.random.RandomState([self.seed, *key])

    def _order(self, random: np.random.RandomState) -> np.ndarray:
        """The indices of the images in the order of an epoch; `random` is its generator."""
        if not self.train:
            return np.arange(self.total)
        if self.balance is None:
            return random.permutation(self.total)
        chances = 1 / np.bincount(self.balance)[self.balance]
        return random.choice(self.total, self.total, p=chances / chances.sum())

    def _batches(self, random: np.random.RandomState) -> list[tuple[np.ndarray, np.ndarray]]:
        """The images in each batch of this shard: their indices, and the keys of their random changes.

        A key is the index, or a number from `total` on where an image is drawn again.
        """
        order, (index, count) = self._order(random), self.shard
        keys = order.copy()
        again = np.setdiff1d(np.arange(len(order)), np.unique(order, return_index=True)[1])
        keys[again] = self.total + np.arange(len(again))
        draws = np.stack([order, keys])
        if self.train:
            draws = draws[:, : len(self) * count * self.batch_size]
            return list(draws.reshape(2, -1, count, self.batch_size)[:, :, index].swapaxes(0, 1))
        draws = draws[:, index::count]
        return [draws[:, i : i + self.batch_size] for i in range(0, draws.shape[1], self.batch_size)]

    def _load(self, indices: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of these images in epoch `number`."""
        raise NotImplementedError
