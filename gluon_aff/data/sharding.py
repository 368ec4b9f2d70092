"""How an epoch's images are shared out: among batches, and among the processes of a run."""

from __future__ import annotations

import numpy as np

from ..errors import positive


def checked_part(part):
    """`part` if it is (rank, size), or a ValueError."""
    rank, parts = part
    if not positive('rank', rank, or_zero=True) < positive('number of processes', parts):
        raise ValueError(f'The rank of one of {parts} processes is 0 to {parts - 1}, got {rank}.')
    return rank, parts


def check_training(batch_size, images, part):
    """A ValueError if the processes' training batches are too large for so many images, or too small to train on."""
    if not 2 <= batch_size <= images // part[1]:
        each = f' for each of {part[1]} processes' if part[1] > 1 else ''
        raise ValueError(
            f'batch_size must be 2 to {images // part[1]}{each}, as there are {images} training '
            f'images, got {batch_size}.'
        )


def number_of_batches(images, batch_size, part, train):
    """How many batches an epoch has: of training full ones alone, the same number for each process."""
    rank, parts = part
    return images // (batch_size * parts) if train else -(-len(range(rank, images, parts)) // batch_size)


def batches_of(order, batch_size, part, train):
    """What each batch of a process holds of `order`, the images of an epoch.

    In training the batches of all processes, one behind the other, are those of a single one with batches as large as
    all of theirs, and what does not make up such a batch is left out; else the images are dealt out in turn.
    """
    rank, parts = part
    if train:
        count = number_of_batches(len(order), batch_size, part, train)
        return list(order[: count * parts * batch_size].reshape(-1, parts, batch_size)[:, rank])
    own = order[rank::parts]
    return np.split(own, range(batch_size, len(own), batch_size)) if len(own) else []
