"""The metrics of a network on images that it was not trained on."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from .._deprecated import renamed_arguments
from .task import Task
from .workers import Workers

__all__ = ['evaluate', 'split']


@renamed_arguments(alive='heartbeat', batches='test')
def evaluate(
    net: Callable,
    test: Any,
    *,
    task: Task,
    ctx: Sequence[mx.Context] | None = None,
    workers: Workers | None = None,
    dtype: str = 'float32',
    heartbeat: Callable[[], None] | None = None,
) -> dict[str, float]:
    """A network's metrics on images that it was not trained on.

    Parameters
    ----------
    net : callable
        (N, C, H, W) -> outputs.
    test : loader
        Of this worker's shard of the images.
    task : Task
    ctx : list of mxnet.Context, default [mxnet.cpu()]
    workers : Workers, default one
        Whose images are counted together.
    dtype : str, default 'float32'
        Of the network's input.
    heartbeat : callable, optional
        Called after each batch.

    Returns
    -------
    dict of str to float
        See :meth:`Task.metrics`.
    """
    sums = 0
    for data, labels in test.epoch():
        shares = split(data, ctx or [mx.cpu()])
        outputs = [net(share.astype(dtype, copy=False)) for share in shares]
        ends = np.cumsum([len(share) for share in shares])[:-1]
        for output, truth in zip(outputs, np.split(labels, ends)):
            sums = sums + task.batch_sums(output, truth)
        if heartbeat:
            heartbeat()
    return task.metrics((workers or Workers()).total(sums))


def split(array: np.ndarray | mx.nd.NDArray, ctx: Sequence[mx.Context]) -> list[mx.nd.NDArray]:
    """A batch as one NDArray on each device; on fewer devices if there are more of them than images."""
    array = array if isinstance(array, mx.nd.NDArray) else mx.nd.array(array)
    return gluon.utils.split_and_load(array, ctx[: len(array)], even_split=False)
